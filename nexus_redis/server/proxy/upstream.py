"""The upstream: one session of aiohttp that sends each request once, and says what went wrong and how far it came.

aiohttp would send a request again where a kept connection turns out to be closed. Nobody but the client knows whether
a request may be repeated, so each failure leaves the session as `Broken`, which aiohttp does not retry.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from nexus_redis.extending import log, log_fields
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.credentials import authorization_of
from nexus_redis.server.proxy.failures import FAILURES, Broken, cause_of
from nexus_redis.server.proxy.options import ProxyOptions
from nexus_redis.server.proxy.outage import Outage
from nexus_redis.server.proxy.problems import ProxyProblem
from nexus_redis.server.proxy.seldom import Seldom

KEPT_S: Final = 4.0  # seconds that an idle connection is kept: many servers close theirs after 5 s
FIELD_BYTES: Final = 65_536  # the longest header of a response
NO_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


class Passage:
    """How far one request has come: `is_begun` says whether something of it may have been sent to the upstream."""

    def __init__(self) -> None:
        self.has_body = self.is_begun = False


def _passages() -> aiohttp.TraceConfig:
    """Return what notes in the `Passage` of a request that aiohttp sends something of it.

    aiohttp sends the header of a request with the first part of its body, or at once where there is no body.
    """

    async def note_header(_: object, trace: Any, __: object) -> None:
        passage = trace.trace_request_ctx
        if passage is not None and not passage.has_body:
            passage.is_begun = True

    async def note_part(_: object, trace: Any, __: object) -> None:
        if trace.trace_request_ctx is not None:
            trace.trace_request_ctx.is_begun = True

    passages = aiohttp.TraceConfig()
    passages.on_request_headers_sent.append(note_header)
    passages.on_request_chunk_sent.append(note_part)
    return passages


class Upstream:
    """The server behind the proxy."""

    def __init__(self, options: ProxyOptions, budget: str) -> None:
        self.url, self._options, self._budget = options.url, options, budget
        self.name = str(self.url)
        self._session: aiohttp.ClientSession | None = None
        self._outage, self._cuts = Outage(), Seldom()

    async def open(self) -> None:
        """Open the session. No connection is made."""
        options = self._options
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
            timeout=aiohttp.ClientTimeout(total=None, connect=options.connect_s, sock_read=options.silence_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=NO_AUTOMATIC,
            max_line_size=FIELD_BYTES,
            max_field_size=FIELD_BYTES,
            middlewares=(self._once,),
            trace_configs=[_passages()],
        )

    async def close(self) -> None:
        """Close the session, and with it all connections."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self, method: str, url: URL, headers: CIMultiDict[str], data: bytes | AsyncIterator[bytes] | None,
        passage: Passage,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        """Send a request once, and return the response when its headers have come. Raise a problem without one."""
        passage.has_body = data is not None
        try:
            return await self._opened.request(
                method, url, headers=headers, data=data, allow_redirects=False, trace_request_ctx=passage
            )
        except Broken as broken:
            raise broken.problem(self.name, self._options.silence_s, is_begun=passage.is_begun) from None

    async def get_json(self, path: str) -> Any:
        """Return the JSON document at a path, for what the proxy asks by itself."""
        url = URL(f"{self.url}{path}", encoded=True)
        path_of_credentials = self._options.stats_credentials
        headers = {"Authorization": authorization_of(path_of_credentials)} if path_of_credentials is not None else None
        async with self._opened.get(url, headers=headers, allow_redirects=False, auto_decompress=True) as found:
            if found.status != HTTPStatus.OK:
                raise ValueError(texts.status(found.status))
            return await found.json(content_type=None)

    async def parts(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """Yield the body as it comes. Raise a problem where the upstream breaks it off."""
        try:
            async for part in response.content.iter_any():
                yield part
        except FAILURES as error:
            cause = cause_of(error)
            if count := self._cuts.note():
                about = self._about("response_cut", cause=cause, count=count)
                log.warning(texts.RESPONSE_CUT, self._budget, self.name, cause, count, extra=about)
            raise ProxyProblem(HTTPStatus.BAD_GATEWAY, texts.broken(self.name, cause), "maybe") from None

    def _about(self, event: str, **more: Any) -> dict[str, object]:
        return log_fields(event=event, budget=self._budget, upstream=self.name, **more)

    @property
    def _opened(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the proxy has not started"
        return self._session

    async def _once(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            response = await handler(request)
        except FAILURES as error:
            broken = Broken(error)
            if self._outage.fail(is_connected=broken.is_connected):
                about = self._about("upstream_away", cause=broken.cause)
                log.warning(texts.UPSTREAM_AWAY, self._budget, self.name, broken.cause, extra=about)
            raise broken from None
        if self._outage.answer():
            log.info(texts.UPSTREAM_BACK, self._budget, self.name, extra=self._about("upstream_back"))
        return response

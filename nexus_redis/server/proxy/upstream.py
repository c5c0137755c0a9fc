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
from nexus_redis.server.proxy.options import ProxyOptions
from nexus_redis.server.proxy.problems import ProxyProblem

KEPT_S: Final = 4.0  # seconds that an idle connection is kept: many servers close theirs after 5 s
FIELD_BYTES: Final = 65_536  # the longest header of a response
NO_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)


class Broken(Exception):
    """A request that got no response. `problem` is what the client is told."""

    def __init__(self, problem: ProxyProblem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Upstream:
    """The server behind the proxy."""

    def __init__(self, options: ProxyOptions, budget: str) -> None:
        self.url, self._options, self._budget = options.url, options, budget
        self.name = str(self.url)
        self._session: aiohttp.ClientSession | None = None
        self._is_away = False

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
        )

    async def close(self) -> None:
        """Close the session, and with it all connections."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self, method: str, url: URL, headers: CIMultiDict[str], data: bytes | AsyncIterator[bytes] | None
    ) -> aiohttp.ClientResponse:
        """Send a request once, and return the response when its headers have come. Raise `Broken`."""
        return await self._opened.request(method, url, headers=headers, data=data, allow_redirects=False)

    async def get_json(self, path: str) -> Any:
        """Return the JSON document at a path, for what the proxy asks by itself."""
        url = URL(f"{self.url}{path}", encoded=True)
        async with self._opened.get(url, raise_for_status=True, allow_redirects=False, auto_decompress=True) as found:
            return await found.json(content_type=None)

    async def parts(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """Yield the body as it comes. Raise a problem where the upstream breaks it off."""
        try:
            async for part in response.content.iter_any():
                yield part
        except FAILURES as error:
            log.warning(
                texts.RESPONSE_CUT, self._budget, self.name, _shown(error), extra=self._about("response_cut", error)
            )
            raise ProxyProblem(HTTPStatus.BAD_GATEWAY, texts.broken(self.name, _shown(error)), "maybe") from None

    def _about(self, event: str, error: Exception | None = None) -> dict[str, object]:
        cause = log_fields(cause=_shown(error)) if error is not None else {}
        return log_fields(event=event, budget=self._budget, upstream=self.name) | cause

    @property
    def _opened(self) -> aiohttp.ClientSession:
        assert self._session is not None, "the proxy has not started"
        return self._session

    async def _once(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            response = await handler(request)
        except FAILURES as error:
            problem = self._problem(error)
            if not self._is_away:
                self._is_away = True
                about = self._about("upstream_away", error)
                log.warning(texts.UPSTREAM_AWAY, self._budget, self.name, _shown(error), extra=about)
            raise Broken(problem) from error
        if self._is_away:
            self._is_away = False
            log.info(texts.UPSTREAM_BACK, self._budget, self.name, extra=self._about("upstream_back"))
        return response

    def _problem(self, error: Exception) -> ProxyProblem:
        match error:
            case aiohttp.ConnectionTimeoutError():
                return ProxyProblem(HTTPStatus.GATEWAY_TIMEOUT, texts.unreachable(self.name, _shown(error)))
            case aiohttp.ClientConnectorError():
                return ProxyProblem(HTTPStatus.BAD_GATEWAY, texts.unreachable(self.name, _shown(error)))
            case TimeoutError():
                detail = texts.silent(self.name, self._options.silence_s)
                return ProxyProblem(HTTPStatus.GATEWAY_TIMEOUT, detail, "maybe")
        return ProxyProblem(HTTPStatus.BAD_GATEWAY, texts.broken(self.name, _shown(error)), "maybe")


def _shown(error: BaseException) -> str:
    return str(error) or type(error).__name__

"""One request through the proxy: check it, wait for its tokens, send it once, and stream the response back.

    checked --> measured --> tokens taken --> sent --> response begun --> response ended
       '-- 400, 501   '-- 408     '-- 429, 503    '-- 502, 504    '-- cut, so that the client sees that it is not whole

The task of the request is cancelled when the client goes away, in whatever state it is: a place in the line is given
up, tokens of a request that was not sent go back, and a request that was sent is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientResponse
from multidict import CIMultiDict
from yarl import URL

from nexus_redis.asyncio import Reservation
from nexus_redis.server.call import Receive, Send
from nexus_redis.server.problems import AWAY_RETRY, Problem
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.client_body import ClientBody
from nexus_redis.server.proxy.cost import price_of_parts
from nexus_redis.server.proxy.headers import Framing, framing_of, request_headers, response_headers, target_of
from nexus_redis.server.proxy.pacing import Attempt
from nexus_redis.server.proxy.problems import ProxyProblem
from nexus_redis.server.proxy.upload import Upload
from nexus_redis.server.proxy.upstream import Passage
from nexus_redis.server.sending import send_problem

if TYPE_CHECKING:
    from nexus_redis.server.proxy.application import Proxy

LAST: Final = {"type": "http.response.body", "body": b""}


class State(Enum):
    """How far a request has come."""

    WAITING = auto()  # nothing of it has been sent to the upstream
    SENT = auto()
    ANSWERED = auto()  # the client has got the beginning of the response


class Exchange:
    """One request and its response."""

    def __init__(self, proxy: Proxy, scope: Any, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._proxy, self._scope, self._send, self._task = proxy, scope, send, task
        self._body = ClientBody(receive, proxy.options.silence_s, task)
        self._is_stopped = False
        self._passage = Passage()
        self.state = State.WAITING

    def stop(self) -> None:
        """End the request because the proxy stops."""
        if not self._is_stopped and not self._body.is_gone:
            self._is_stopped = True
            self._task.cancel()

    async def run(self) -> None:
        """Pass the request on, or answer it with a problem."""
        try:
            await self._pass_on()
        except asyncio.CancelledError:
            if not (self._is_stopped or self._body.is_gone):
                raise  # by the server
            self._task.uncancel()
            if self._is_stopped and self.state is not State.ANSWERED:
                await self._answer(self._stopping())
        except Problem as problem:
            if self.state is not State.ANSWERED:  # else the server closes the connection: the response is not whole
                await self._answer(problem)
        finally:
            self._body.close()

    async def _answer(self, problem: Problem) -> None:
        self.state = State.ANSWERED
        await send_problem(self._send, problem)

    def _stopping(self) -> Problem:
        if self.state is State.WAITING or not self._passage.is_begun:
            return self._proxy.pacer.refused("stopping", AWAY_RETRY, texts.STOPPING)
        return ProxyProblem(HTTPStatus.SERVICE_UNAVAILABLE, texts.CUT_AT_STOP, "maybe")

    async def _pass_on(self) -> None:
        scope, options = self._scope, self._proxy.options
        framing = framing_of(scope["method"], scope["headers"])
        url = target_of(scope, self._proxy.upstream.url)
        headers = request_headers(scope, framing, keep_host=options.keep_host)
        price = price_of_parts(options.cost, scope["raw_path"], scope["headers"]) if framing.has_body else None
        upload = Upload(self._body, framing, price, options.whole_bytes, self._passage, self._proxy.memory)
        try:
            await self._pay_and_send(framing, upload, url, headers)
        finally:
            upload.release()

    async def _pay_and_send(self, framing: Framing, upload: Upload, url: URL, headers: CIMultiDict[str]) -> None:
        method = self._scope["method"]
        taken = await self._take_tokens(framing, upload)
        attempt = self._proxy.pacer.attempt(upload.tokens)
        self.state = State.SENT
        try:
            data = (upload.whole() or upload.parts(self._proxy.pacer, attempt)) if framing.has_body else None
            response = await self._send_once(method, url, headers, data, upload, attempt)
            try:
                attempt.answered(response.status)
                await self._pass_back(response)
            finally:
                if upload.is_over and response.status >= HTTPStatus.OK:
                    response.release()
                else:  # an early answer, so the upstream does not want the rest, or no longer HTTP
                    response.close()
        except asyncio.CancelledError:
            attempt.cancelled()
            raise
        finally:
            if upload.used != upload.tokens:
                taken.settle(upload.used)

    async def _take_tokens(self, framing: Framing, upload: Upload) -> Reservation:
        """Take the tokens to begin with. Where the client has gone meanwhile, they go back."""
        with self._proxy.place():
            self._body.listen(is_expected=framing.is_expected)
            await upload.measure(self._proxy.pacer)
            taken = await self._proxy.pacer.take(upload.tokens)
        if self._body.is_gone or self._is_stopped:
            taken.settle(0)
            await asyncio.sleep(0)  # the cancellation comes here, unless the wait for tokens has swallowed it
            raise asyncio.CancelledError
        return taken

    async def _send_once(
        self, method: str, url: URL, headers: CIMultiDict[str], data: bytes | AsyncIterator[bytes] | None,
        upload: Upload, attempt: Attempt,
    ) -> ClientResponse:  # fmt: skip
        if upload.is_over:
            attempt.begin()
        upstream = self._proxy.upstream
        try:
            return await upstream.send(method, url, headers, data, upload.passage)
        except ProxyProblem:
            if upload.failure is not None:  # the client's part of the request is what failed
                attempt.cancelled()
                raise _whole_or_cut(upload) from None
            attempt.failed()
            raise

    async def _pass_back(self, response: ClientResponse) -> None:
        """Stream the response to the client, which slows the upstream down where it reads slowly."""
        upstream, host = self._proxy.upstream, response.url.host or ""
        headers = response_headers(response.status, response.raw_headers)
        if headers is None or not HTTPStatus.OK <= response.status <= 599:  # 101 was not asked for
            detail = texts.with_received(texts.broken(upstream.name, texts.BAD_HEADERS), is_begun=True)
            raise ProxyProblem(HTTPStatus.BAD_GATEWAY, detail, "maybe")
        await self._proxy.pacer.pause_if_asked(response.status, response.headers, host)
        self.state = State.ANSWERED
        await self._send({"type": "http.response.start", "status": response.status, "headers": headers})
        async with aclosing(upstream.parts(response)) as parts:
            async for part in parts:
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
        self._body.close()  # a server tells "disconnect" at the end of a response, too
        await self._send(LAST)


def _whole_or_cut(upload: Upload) -> Problem:
    """Return the problem of a body that was cut, perhaps after its beginning was passed on."""
    failure = upload.failure
    assert failure is not None
    if not isinstance(failure, Problem):
        raise failure
    if "upstream_received" in failure.members and upload.passage.is_begun:
        failure.members["upstream_received"] = "maybe"
    return failure

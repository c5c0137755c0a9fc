"""httpx: a transport that takes its tokens before each request, sync and async.

    stripe = nexus.budget("stripe", rate="100/s")
    client = httpx.Client(transport=Transport(stripe))                                      # every request
    client = httpx.Client(mounts={"https://api.stripe.com": Transport(stripe)})             # those to one host

Each request that goes out costs one token (redirects go out too), or what `cost` says. It waits at most the request's
*pool* timeout, which is httpx's word for how long a request may wait before it begins (5 s unless you say otherwise),
then it raises `httpx.PoolTimeout` and nothing was taken. A 429 or 503 that says when to come back pauses the budget
for the whole fleet (`docs/contrib/httpx.md`); the response is yours as it came, and nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis import client
from nexus_redis.contrib import need
from nexus_redis.contrib._gates import AsyncGate, AsyncReport, Gate, Report
from nexus_redis.errors import AcquireTimeout

need("httpx")

import httpx  # noqa: E402  # what it is called when it is missing must be said first

__all__ = ["AsyncTransport", "Transport"]

Cost = float | Callable[[httpx.Request], float]


class Transport(httpx.BaseTransport):
    """Tokens first, then `inner` (an `httpx.HTTPTransport()` unless given) sends the request.

    With 100/s shared by 20 processes, each sends its part of 100 requests a second, and after one `Retry-After: 7`
    none sends any for 7 s. `cost` is a number or a function of the request, 0 for those that are free. `producer`
    claims instead of the process' shared one: `stripe.producer(weight=3)`. `report=True` makes this process a consumer
    of the budget, so that the rate follows what the server can take (`docs/how-to/observed-downstream.md`); a consumer
    that was made with `observe=True` reports through that one. Raises `httpx.PoolTimeout` (its `__cause__` is the
    `AcquireTimeout`), and `nexus_redis.Unavailable` as `acquire` does.
    """

    def __init__(
        self,
        budget: client.Budget,
        inner: httpx.BaseTransport | None = None,
        *,
        cost: Cost = 1,
        producer: client.Producer | None = None,
        report: Report = False,
    ) -> None:
        self._inner = httpx.HTTPTransport() if inner is None else inner
        self._gate = Gate(budget, cost, producer, report)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Called by the client, once per request that goes out."""
        try:
            attempt = self._gate.enter(request, _patience(request))
        except AcquireTimeout as error:
            raise httpx.PoolTimeout(str(error), request=request) from error
        with attempt:
            response = self._inner.handle_request(request)
            attempt.answered(response.status_code)
        self._gate.hear(response.status_code, response.headers, request.url.host)
        return response

    def close(self) -> None:
        """Close the inner transport; the budget stays open, others use it."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)


class AsyncTransport(httpx.AsyncBaseTransport):
    """The same for `httpx.AsyncClient`, with a budget of `nexus_redis.asyncio`; `inner` is an `AsyncHTTPTransport`."""

    def __init__(
        self,
        budget: nexus_asyncio.Budget,
        inner: httpx.AsyncBaseTransport | None = None,
        *,
        cost: Cost = 1,
        producer: nexus_asyncio.Producer | None = None,
        report: AsyncReport = False,
    ) -> None:
        self._inner = httpx.AsyncHTTPTransport() if inner is None else inner
        self._gate = AsyncGate(budget, cost, producer, report)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Called by the client, once per request that goes out."""
        try:
            attempt = await self._gate.enter(request, _patience(request))
        except AcquireTimeout as error:
            raise httpx.PoolTimeout(str(error), request=request) from error
        with attempt:
            response = await self._inner.handle_async_request(request)
            attempt.answered(response.status_code)
        try:
            await self._gate.hear(response.status_code, response.headers, request.url.host)
        except BaseException:  # cancelled: nobody will get the response, so nobody would close it
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        """Close the inner transport; the budget stays open, others use it."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)


def _patience(request: httpx.Request) -> float | None:
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeouts.get("pool")

"""aiohttp: a client middleware that takes its tokens before each request.

    async with aiohttp.ClientSession(middlewares=[Middleware(nexus.budget("stripe", rate="100/s"))]) as session: ...

Each request that goes out costs one token (redirects go out too), or what `cost` says; `hosts` leaves all others
alone. aiohttp's own `total` timeout runs while it waits (5 minutes unless you say otherwise) and cancels the wait;
nothing was taken then. A 429 or 503 that says when to come back pauses the budget for the whole fleet
(`docs/contrib/aiohttp.md`); the response is yours as it came, and nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis.contrib import need
from nexus_redis.contrib._gates import AsyncGate, AsyncReport

need("aiohttp")

import aiohttp  # noqa: E402  # what it is called when it is missing must be said first

__all__ = ["Middleware"]

Cost = float | Callable[[aiohttp.ClientRequest], float]


class Middleware:
    """Tokens first, then the handler sends the request.

    With 100/s shared by 20 processes, each sends its part of 100 requests a second, and after one `Retry-After: 7`
    none sends any for 7 s. `cost` is a number or a function of the request, 0 for those that are free. `producer`
    claims instead of the process' shared one. Its place among several middlewares matters: one that retries goes
    before it, so that each attempt takes a token. `report=True` makes this process a consumer of the budget, so that
    the rate follows what the server can take (`docs/how-to/observed-downstream.md`). Raises `TimeoutError` as aiohttp
    does, and `nexus_redis.Unavailable` and (with a producer that has a timeout) `nexus_redis.AcquireTimeout` as
    `acquire` does.
    """

    def __init__(
        self,
        budget: nexus_asyncio.Budget,
        *,
        cost: Cost = 1,
        producer: nexus_asyncio.Producer | None = None,
        hosts: Collection[str] | None = None,
        report: AsyncReport = False,
    ) -> None:
        self._gate = AsyncGate(budget, cost, producer, report)
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Called by the session, once per request that goes out."""
        host = (request.url.host or "").lower()
        if self._hosts is not None and host not in self._hosts:
            return await handler(request)
        attempt = await self._gate.enter(request, None)
        with attempt:
            response = await handler(request)
            attempt.answered(response.status)
        try:
            await self._gate.hear(response.status, response.headers, host)
        except BaseException:  # cancelled: nobody will get the response, so nobody would close it
            response.close()
            raise
        return response

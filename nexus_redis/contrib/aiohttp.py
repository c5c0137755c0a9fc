"""aiohttp: a client middleware that acquires tokens before each request.

    async with aiohttp.ClientSession(middlewares=[Middleware(nexus.budget("stripe", rate="100/s"))]) as session: ...

Each request that goes out costs one token or what `cost` says, and a redirect goes out too. With `hosts`, requests to
other hosts need no token. aiohttp's own `total` timeout (5 minutes if you set none) also runs while a request waits,
and cancels the wait; no token was taken then. A 429 or 503 that says when to come back pauses the budget for the whole
fleet (`docs/contrib/aiohttp.md`). The response reaches the caller as it came, and nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis.contrib import need
from nexus_redis.contrib._http import AsyncLimiter, AsyncReport

need("aiohttp")

import aiohttp  # noqa: E402  # `need` must be able to say first what to install

__all__ = ["Middleware"]

Cost = float | Callable[[aiohttp.ClientRequest], float]


class Middleware:
    """A client middleware: it acquires tokens, and then the handler sends the request.

    With 100/s shared by 20 processes, each process sends its part of 100 requests a second, and after one
    `Retry-After: 7` no process sends any for 7 s. `cost` is a number or a function of the request, 0 for requests that
    are free. `producer` claims instead of the process' shared producer. A middleware that retries goes before this one
    in the list, so that each attempt acquires its tokens. `report=True` makes this process a consumer of the budget, so
    that the rate follows what the server can take (`docs/how-to/observed-downstream.md`). Raises `TimeoutError` as
    aiohttp does, and `nexus_redis.Unavailable` and (with a producer that has a timeout) `nexus_redis.AcquireTimeout` as
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
        self._limiter = AsyncLimiter(budget, cost, producer, report)
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Acquire the tokens and send the request. The session calls this once for each request that goes out."""
        host = (request.url.host or "").lower()
        if self._hosts is not None and host not in self._hosts:
            return await handler(request)
        attempt = await self._limiter.acquire(request, None)
        with attempt:
            response = await handler(request)
            attempt.answered(response.status)
        try:
            await self._limiter.pause_if_asked(response.status, response.headers, host)
        except BaseException:  # cancelled: the caller does not get the response, so the caller does not close it
            response.close()
            raise
        return response

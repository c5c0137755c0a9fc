"""The ASGI application of the proxy: its session, its places, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nexus_redis.asyncio import Nexus
from nexus_redis.server.call import Receive, Send
from nexus_redis.server.connection import STOP, Stopping
from nexus_redis.server.problems import AWAY_RETRY
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.elasticsearch import WriteQueues
from nexus_redis.server.proxy.exchange import Exchange, State
from nexus_redis.server.proxy.options import ProxyOptions
from nexus_redis.server.proxy.pacing import Pacer
from nexus_redis.server.proxy.upload import Memory
from nexus_redis.server.proxy.upstream import Upstream
from nexus_redis.server.sending import send_problem


class Proxy:
    """An application that passes each request on to the upstream when its tokens are there.

    `nexus` is used, and not closed. The server that runs it must leave `Date` and `Server` to the upstream
    (`date_header=False, server_header=False` of uvicorn), and should use `nexus_redis.server.connection.Connection`,
    which says when the server begins to stop. With a budget of 100/s and `cost="requests"`, 100 requests a second go
    on, over all processes, and a request that has waited for `wait_s` is answered with 429.
    """

    def __init__(self, nexus: Nexus, options: ProxyOptions) -> None:
        self.options, self.limits = options, options.limits
        budget = nexus.budget(options.budget, key=options.key, rate=options.rate)
        self.upstream = Upstream(options, budget.name)
        # A fixed rate needs no observer, and a queue that is read would be counted beside the observer's finding.
        is_observed = options.rate is None and options.stats is None
        self.pacer = Pacer(budget, budget.observer() if is_observed else None, options.wait_s)
        has_rate = options.rate is not None
        self._queues = None if options.stats is None else WriteQueues(budget, self.upstream, has_rate=has_rate)
        self._exchanges: set[Exchange] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting = 0
        self.memory = Memory(options.held_bytes)
        self._is_stopping = False
        self._grace: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan of the server. Websockets are refused."""
        match scope["type"]:
            case "http":
                await self._exchange(scope, receive, send)
            case "lifespan":
                await self._live(scope, receive, send)
            case _:
                await receive()
                await send({"type": "websocket.close"})

    async def start(self) -> None:
        """Open the session, and begin to report. Raises nothing where the upstream or Redis is away."""
        await self.upstream.open()
        self.pacer.start()
        if self._queues is not None:
            self._queues.start()

    def drain(self) -> None:
        """Answer all requests that wait, and those that come from now on. Those in progress get `stop_s`."""
        if self._is_stopping:
            return
        self._is_stopping = True
        for exchange in list(self._exchanges):
            if exchange.state is State.WAITING:
                exchange.stop()
        self._grace = asyncio.get_running_loop().call_later(self.options.stop_s, self._cut)

    async def stop(self) -> None:
        """End all requests as `drain` does, wait until they have ended, and close the session."""
        self.drain()
        await self._idle.wait()
        if self._grace is not None:
            self._grace.cancel()
        if self._queues is not None:
            await self._queues.stop()
        await self.upstream.close()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count a request that waits. Raise a problem where too many do, or the proxy stops."""
        most = self.options.limits.waiters
        if self._waiting >= most:
            raise self.pacer.refused("waiters", AWAY_RETRY, texts.too_many_waiters(most))
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def _cut(self) -> None:
        for exchange in list(self._exchanges):
            exchange.stop()

    async def _exchange(self, scope: Any, receive: Receive, send: Send) -> None:
        if self._is_stopping:
            await send_problem(send, self.pacer.refused("stopping", AWAY_RETRY, texts.STOPPING))
            return
        exchange = Exchange(self, scope, receive, send)
        self._exchanges.add(exchange)
        self._idle.clear()
        try:
            await exchange.run()
        finally:
            self._exchanges.discard(exchange)
            if not self._exchanges:
                self._idle.set()

    async def _live(self, scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        if "state" in scope:
            scope["state"][STOP] = Stopping(self.drain)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

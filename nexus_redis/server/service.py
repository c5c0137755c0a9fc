"""The open server of one process: its Nexus, and the handlers of all operations."""

from __future__ import annotations

import asyncio

from nexus_redis.asyncio import Nexus
from nexus_redis.server.access import Access
from nexus_redis.server.batch import Batch
from nexus_redis.server.budgets import Budgets
from nexus_redis.server.gate import Gate
from nexus_redis.server.health import LOOK_EACH, Health
from nexus_redis.server.idempotency import Idempotency
from nexus_redis.server.known_budgets import KnownBudgets
from nexus_redis.server.live.repeated import Bell, Repeated
from nexus_redis.server.live.watcher import PART, Watcher
from nexus_redis.server.options import ServerOptions
from nexus_redis.server.protocol import Protocol
from nexus_redis.server.tokens import Tokens
from nexus_redis.server.waiting import Waiting


class Service:
    """The parts of a server, and one handler for each operation of the table, by its name there."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.access, self.gate = Access(options.tokens), Gate(options)
        self.nexus = Nexus.from_url(options.url, namespace=options.namespace)
        self.waiting = Waiting(options.limits)
        batch = Batch(self.nexus)
        namespace, clock = self.nexus.namespace, self.nexus._scheduler.clock
        known = KnownBudgets(batch, namespace)
        self.tokens = tokens = Tokens(self.nexus, options, known, self.waiting, Idempotency(batch, namespace))
        protocol = Protocol(batch, namespace, known, clock)
        self.watcher = Watcher(self.nexus, denials=tokens.denials.of, waiting=tokens.waiting)
        self._ending: asyncio.Future[None] | None = None
        budgets = Budgets(self.nexus, batch, known, self.watcher.changed)
        self.health, self.denials = Health(batch), tokens.denials
        self._checks = Repeated(self.health.look, Bell(), LOOK_EACH, PART)
        self.acquire, self.try_ = tokens.acquire, tokens.try_
        self.signal, self.report, self.leave = protocol.signal, protocol.report, protocol.leave
        self.list_budgets, self.get_budget = budgets.list, budgets.get
        self.put_budget, self.delete_budget = budgets.put, budgets.delete
        self.pause, self.resume = budgets.pause, budgets.resume
        self.explain, self.history = budgets.explain, budgets.history

    async def start(self) -> None:
        """Begin to look at Redis and at the budgets."""
        self._checks.start()
        await self.watcher.start()

    def stop(self) -> None:
        """Answer all that wait, end all streams, and let nobody wait any more."""
        self.waiting.stop()
        self._ending = asyncio.ensure_future(self.watcher.stop())

    async def close(self) -> None:
        """Hand all tokens back, and end."""
        if self._ending is None:
            self.stop()
        assert self._ending is not None
        await self._ending
        await self._checks.stop()
        await self.nexus.close()

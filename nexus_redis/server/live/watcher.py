"""The watcher of a process: it looks at all budgets once a second, and at the members of those that somebody opens."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from nexus_redis._core.producer import ProducerSession
from nexus_redis._protocol.all_budgets import DamagedBudget, snapshots
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Plan
from nexus_redis._values.parse import is_budget
from nexus_redis.asyncio import Nexus
from nexus_redis.errors import NexusError
from nexus_redis.server.live.events import stream
from nexus_redis.server.live.looks import Detail, Here, Look, detail
from nexus_redis.server.live.repeated import INTERVAL, Bell, Repeated
from nexus_redis.server.live.rows import Row, budget_row, has_load
from nexus_redis.server.live.series import Series, SeriesJson

PART: Final = 0.05  # of the time, at most, for looks at all budgets
DETAIL_PART: Final = 0.15  # and for those at one budget that somebody watches


class Watcher:
    """What the page shows, read once for all subscribers of a process.

    `look` is the newest look at all budgets, and None before the first. `stream` is what one subscriber gets. The
    server calls `changed` after it has changed a budget, so that the page shows the change at once. `denials` returns
    the producers of a budget that this process denied most often, and `waiting` how many of its callers wait, by the
    producer that they gave.

        watcher = Watcher(nexus)
        await watcher.start()
        async for part in watcher.stream("elasticsearch", allowed=lambda name: True): await send(part)
    """

    def __init__(
        self,
        nexus: Nexus,
        *,
        denials: Callable[[str], Sequence[Mapping[str, Any]]] = lambda _: (),
        waiting: Callable[[str], Mapping[str, int]] = lambda _: {},
        interval: float = INTERVAL,
    ) -> None:
        self._nexus, self._denials, self._waiting, self._interval = nexus, denials, waiting, interval
        self._bell = Bell()
        self._series: dict[str, Series] = {}
        self._looks = Repeated(self._look_at_all, self._bell, interval, PART)
        self._details: dict[str, Repeated[Detail]] = {}
        self._subscribers: dict[str, int] = {}
        self._is_stopped = False

    @property
    def look(self) -> Look | None:
        """Return the newest look at all budgets, None before the first."""
        return self._looks.newest

    @property
    def trouble(self) -> str:
        """Return why the last look failed, "" if it did not."""
        return self._looks.trouble

    async def start(self) -> None:
        """Begin to look."""
        self._looks.start()

    async def stop(self) -> None:
        """End all looks and all streams."""
        self._is_stopped = True
        self._bell.ring()
        for each in self._all():
            await each.stop()

    def changed(self) -> None:
        """Look again at once, because a budget was changed."""
        for each in self._all():
            each.nudge()

    async def stream(self, budget: str | None, allowed: Callable[[str], bool]) -> AsyncGenerator[bytes]:
        """Yield server-sent events for one subscriber: of the budgets that are `allowed`, and of one with its members.

        Close it when the subscriber is gone: a budget that nobody watches any more is not read.
        """
        if budget is None or not is_budget(budget) or not allowed(budget):
            async for part in self._events(allowed, None, ""):
                yield part
            return
        details = self._watched(budget)
        try:
            async for part in self._events(allowed, details, budget):
                yield part
        finally:
            await self._unwatch(budget)

    def _all(self) -> list[Repeated[Any]]:
        return [self._looks, *self._details.values()]

    def _events(
        self, allowed: Callable[[str], bool], details: Repeated[Detail] | None, budget: str
    ) -> AsyncIterator[bytes]:
        def series() -> SeriesJson:
            return self._series.get(budget, Series()).json()

        return stream(self._bell, allowed, self._looks, details, series, lambda: self._is_stopped)

    def _watched(self, name: str) -> Repeated[Detail]:
        self._subscribers[name] = self._subscribers.get(name, 0) + 1
        if name not in self._details:
            details = Repeated(lambda: self._look_at(name), self._bell, self._interval, DETAIL_PART)
            self._details[name] = details
            details.start()
        return self._details[name]

    async def _unwatch(self, name: str) -> None:
        self._subscribers[name] -= 1
        if not self._subscribers[name]:
            del self._subscribers[name]
            await self._details.pop(name).stop()

    async def _look_at_all(self) -> Look:
        plan: Plan[Any] = snapshots(self._nexus.namespace, self._nexus._scheduler.address)
        try:
            found, others = await self._nexus._drive(plan)
        except NexusError:
            for each in self._series.values():
                each.interrupt(time.time())
            raise
        at, before = time.time(), self.look.rows if self.look is not None else {}
        budgets = (*found, *others)
        rows: dict[str, Row] = {}
        for each in budgets:
            series = None if isinstance(each, DamagedBudget) else self._sampled(each.name, each, at)
            granted = None if series is None else series.granted_per_s
            rows[each.name] = budget_row(each, granted, at, before.get(each.name))
        self._series = {name: series for name, series in self._series.items() if name in rows}
        return Look(at, budgets, rows)

    def _sampled(self, name: str, seen: Any, at: float) -> Series:
        """Return the series of a budget, with a new sample unless the last one is newer than an interval."""
        series = self._series.setdefault(name, Series())
        if at - series.newest >= 0.8 * self._interval:  # a nudge has it look earlier
            load = seen.load if has_load(seen) else None
            series.add(at, seen.rate, load, seen.level, seen.granted_total, seen.birth)
        return series

    async def _look_at(self, name: str) -> Detail:
        nexus, series = self._nexus, self._series.get(name)
        last = self._details[name].newest if name in self._details else None
        granted = None if series is None else series.granted_per_s
        here = Here(granted, self._producers(name), self._waiting(name), self._denials(name))
        keys, row = BudgetKeys(nexus.namespace, name), None if last is None else last.budget
        return await nexus._drive(detail(keys, nexus._scheduler.address, time.time(), here, row))

    def _producers(self, name: str) -> frozenset[str]:
        """Return the ids that this process has in Redis as a producer of a budget."""
        sessions = self._nexus._scheduler.sessions
        return frozenset(each.id for each in sessions if isinstance(each, ProducerSession) and each.keys.name == name)

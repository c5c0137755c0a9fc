"""What this process has done, read from the tallies and ledgers of its Nexus. No lock is taken, and no caller waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import reduce
from typing import Any

from nexus_redis._api.nexus import NexusBase
from nexus_redis._core.ledger import Ledger
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.tally import Sums, Tally
from nexus_redis._values.parse import MICRO
from nexus_redis.metrics import catalogue as c
from nexus_redis.metrics.values import Histogram, Values


class ClientCounts:
    """The counts of one Nexus. A counter never falls, though tokens that were used or handed back may be corrected."""

    def __init__(self, nexus: NexusBase[Any]) -> None:
        self._nexus = nexus
        self._highest: dict[tuple[str, str], float] = {}

    @property
    def is_up(self) -> bool:
        """Return whether Redis answers, as far as this process knows: it has not failed twice in a row."""
        return not self._nexus._is_closed and not any(
            server.is_out for server in list(self._nexus._scheduler._servers.values())
        )

    def read(self, values: Values) -> None:
        """Add the samples of this process."""
        # Tallies before ledgers: a ledger that is added up between the two is missed once, and never counted twice.
        found = [(name, tally, tally.sums) for name, tally in self._tallies()]
        ledgers: defaultdict[Tally, list[Ledger]] = defaultdict(list)
        for session in list(self._nexus._scheduler.sessions):
            if isinstance(session, ProducerSession):
                ledgers[session.ledger.tally].append(session.ledger)
        for name, tally, sums in found:
            at_work = ledgers.get(tally, [])
            if name.endswith(c.ALL_KEYS) and not at_work and not tally.is_used:
                continue
            new = [ledger.sums.minus(ledger.counted) for ledger in at_work]
            self._count(values, name, tally, reduce(Sums.plus, new, sums))
            values.add(c.CLIENT_HELD, sum(ledger.held for ledger in at_work) / MICRO, name)
            values.add(c.CLIENT_WAITING, sum(ledger.waiting for ledger in at_work) + tally.ahead, name)
        subscriptions = self._nexus._scheduler.subscriptions
        values.add(c.CLIENT_PUSHES, subscriptions.heard)
        if subscriptions.lag is not None:
            values.add(c.CLIENT_PUSH_LAG, subscriptions.lag)

    def _tallies(self) -> Iterator[tuple[str, Tally]]:
        for name, registration in list(self._nexus._registrations.items()):
            own, of_keys = registration.tallies or (NOTHING, NOTHING)
            yield name, own
            yield name + c.ALL_KEYS, of_keys

    def _count(self, values: Values, name: str, tally: Tally, sums: Sums) -> None:
        waits = Histogram(tuple(tally.waits), tally.waited)
        counts = {
            c.CLIENT_GRANTED: sums.granted / MICRO, c.CLIENT_USED: sums.used / MICRO,
            c.CLIENT_RETURNED: sums.returned / MICRO, c.CLIENT_BURNED: sums.burned / MICRO,
            c.CLIENT_LOCAL: sums.local, c.CLIENT_ACQUIRES: sums.local + sum(waits.counts),
        }  # fmt: skip
        for metric, count in counts.items():
            key = metric.name, name
            self._highest[key] = max(count, self._highest.get(key, 0.0))
            values.add(metric, self._highest[key], name)
        values.add(c.CLIENT_DEGRADED, tally.degraded, name)
        for reason, denied in list(tally.denied.items()):
            values.add(c.CLIENT_DENIED, denied, name, reason)
        values.add(c.CLIENT_WAIT, waits, name)


NOTHING = Tally()

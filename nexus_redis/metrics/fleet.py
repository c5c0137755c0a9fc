"""What the whole fleet does, from one look at all budgets in Redis.

Per-key budgets are added up under their parent, since their keys may be secrets and are many:

    stripe            rate 100      the budget itself
    stripe/cust-1     rate  20  \\
    stripe/cust-2     rate  30   >  stripe/*   rate 60, as one series
    stripe/cust-3     rate  10  /

A key's budget expires a week after its last call, and its count of grants with it. A sum of such counts would fall, and
Prometheus takes a counter that falls for one that has begun again, so it would count all grants of all keys once more.
So the count of all keys is made of what has been added between two looks, and begins with the first look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from nexus_redis._core.tally import OTHER, REASONS
from nexus_redis._protocol.all_budgets import BATCH, DamagedBudget, snapshots
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command, Failed, Plan
from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._values.parse import SEPARATOR
from nexus_redis.metrics import catalogue as c
from nexus_redis.metrics.values import Values


class Look(NamedTuple):
    """All budgets at one instant: those that can be read, the names of the others, and the live consumers of each."""

    budgets: list[BudgetSnapshot]
    damaged: list[str]
    live: dict[str, int]


def look(namespace: str, server: str) -> Plan[Look]:
    """Return the plan that looks at all budgets. It takes a few round trips, however many budgets there are."""
    found, others = yield from snapshots(namespace, server)
    budgets = [each for each in found if isinstance(each, BudgetSnapshot)]
    damaged = [each.name for each in (*found, *others) if isinstance(each, DamagedBudget)]
    names = [each.name for each in budgets if each.consumer_count]
    live: dict[str, int] = {}
    for at in range(0, len(names), BATCH):
        batch = names[at : at + BATCH]
        outcomes = yield [Command(("ZCARD", f"{BudgetKeys(namespace, name).budget}:rates"), int) for name in batch]
        live |= {name: count for name, count in zip(batch, outcomes, strict=True) if not isinstance(count, Failed)}
    return Look(budgets, damaged, live)


class FleetCounts:
    """The samples of looks, one after the other. With `keys`, each key has series of its own."""

    def __init__(self, *, keys: bool = False) -> None:
        self._keys = keys
        self._seen: dict[str, BudgetSnapshot] | None = None  # the keys at the last look
        self._granted: Counter[str] = Counter()  # to the keys of each parent, since the first look

    def read(self, seen: Look, values: Values) -> None:
        """Add the samples of a look."""
        values.add(c.BUDGETS, len(seen.budgets) + len(seen.damaged))
        values.add(c.DAMAGED, len(seen.damaged))
        keyed: dict[str, list[BudgetSnapshot]] = {}
        for each in seen.budgets:
            parent, separator, _ = each.name.partition(SEPARATOR)
            if separator and not self._keys:
                keyed.setdefault(parent, []).append(each)
            else:
                values.add(c.GRANTED, each.granted_total, each.name)
                _add(values, each.name, [each], seen.live)
        self._follow(keyed, seen.damaged)
        for parent, granted in self._granted.items():
            values.add(c.GRANTED, granted, parent + c.ALL_KEYS)
        for parent, budgets in keyed.items():
            values.add(c.KEYS, len(budgets), parent + c.ALL_KEYS)
            _add(values, parent + c.ALL_KEYS, budgets, seen.live)

    def _follow(self, keyed: dict[str, list[BudgetSnapshot]], damaged: Iterable[str]) -> None:
        """Count what keys were granted since the last look."""
        before, now = self._seen, {each.name: each for budgets in keyed.values() for each in budgets}
        for parent, budgets in keyed.items():
            new = [] if before is None else [_gain(each, before.get(each.name)) for each in budgets]
            self._granted[parent] += sum(new)
        # What a damaged one was granted before is not counted again when it can be read again.
        self._seen = now | {name: before[name] for name in damaged if before and name in before and name not in now}


def _gain(now: BudgetSnapshot, before: BudgetSnapshot | None) -> int:
    if before is None or before.birth != now.birth:
        return now.granted_total
    return max(0, now.granted_total - before.granted_total)


def _add(values: Values, name: str, budgets: list[BudgetSnapshot], live: dict[str, int]) -> None:
    values.add(c.RATE, sum(each.rate for each in budgets), name)
    values.add(c.TOKENS, sum(each.tokens for each in budgets), name)
    values.add(c.LOAD, max(each.load for each in budgets) / 100, name)
    values.add(c.LEVEL, max(each.level for each in budgets), name)
    values.add(c.PAUSED, sum(each.paused_for is not None for each in budgets), name)
    for reason, count in Counter(_reason(each) for each in budgets).items():
        values.add(c.REASON, count, name, reason)
    known = [each for each in budgets if not each.consumer_count or each.name in live]
    alive = sum(min(live.get(each.name, 0), each.consumer_count) for each in known)
    values.add(c.CONSUMERS, alive, name, "live")
    values.add(c.CONSUMERS, sum(each.consumer_count for each in known) - alive, name, "stale")
    values.add(c.PRODUCERS, sum(each.producer_count for each in budgets), name)


def _reason(budget: BudgetSnapshot) -> str:
    return budget.reason if budget.reason in REASONS else OTHER

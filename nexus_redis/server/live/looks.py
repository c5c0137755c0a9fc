"""The two looks: at all budgets without their members, and at one budget with its members, its reasons and its past."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.damage import is_damage, read_keys
from nexus_redis._protocol.explain import explained
from nexus_redis._protocol.history import Event, event_of, events
from nexus_redis._protocol.json_forms import event_of as event_json
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command, Plan
from nexus_redis._protocol.snapshot import BudgetSnapshot, snapshot
from nexus_redis.errors import ServerRefused
from nexus_redis.server.live.rows import Row, Rows, budget_row, consumer_row, producer_row, with_stepped_ages

MEMBERS: Final = 5_000  # producers of one budget that are read
MOST_WAITING: Final = 100  # callers that wait, by producer: those with the most are shown


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """All budgets at one instant, `at` in seconds since 1970: as read, and as rows by name."""

    at: float
    budgets: tuple[BudgetSnapshot | DamagedBudget, ...] = ()
    rows: Rows = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Detail:
    """One budget at one instant. `budget` is None if Redis does not know it."""

    at: float
    budget: Row | None
    consumers: Rows = field(default_factory=dict)
    producers: Rows = field(default_factory=dict)
    because: tuple[str, ...] = ()
    remedies: tuple[str, ...] = ()
    history: tuple[Row, ...] = ()
    waiting: tuple[Row, ...] = ()
    denials: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Here:
    """What this process knows of a budget: its own producers in Redis, who waits for them, and who was denied.

    `waiting` counts callers by the producer that they gave to the server. Redis does not know those ids: for it, all
    callers are one of `producers`. With `{"web-1": 3, "web-2": 4}`, 7 callers wait for the producer of this process.
    """

    granted_per_s: float | None
    producers: frozenset[str]
    waiting: Mapping[str, int]
    denials: Sequence[Mapping[str, Any]]


def detail(keys: BudgetKeys, server: str, at: float, here: Here, last: Row | None) -> Plan[Detail]:
    """Return the plan that reads one budget. A budget that a person has damaged is a result like any other."""
    try:
        seen: BudgetSnapshot = yield from snapshot(keys, server, MEMBERS)
        time = Command(("TIME",), lambda reply: int(reply[0]) + int(reply[1]) / 1e6)
        now, found = yield from read_keys(keys, [time, events(keys)], server)
        why = explained(with_stepped_ages(seen), tuple(event_of(keys, entry, now) for entry in found), now)
    except ServerRefused as error:
        if not is_damage(error):
            raise
        return Detail(at, budget_row(DamagedBudget(keys.name, error), None, at, last))
    if not seen.exists:
        return Detail(at, None, because=why.because, remedies=why.remedies)
    waiting, own = sum(here.waiting.values()), here.producers
    return Detail(
        at,
        budget_row(seen, here.granted_per_s, at, last),
        {each.id: consumer_row(each) for each in seen.consumers},
        {each.id: producer_row(each, waiting if each.id in own else None) for each in seen.producers},
        why.because,
        why.remedies,
        tuple(_past(each) for each in why.history),
        tuple(_most_waiting(here.waiting)),
        tuple(here.denials),
    )


def _most_waiting(waiting: Mapping[str, int]) -> Iterator[Row]:
    for who, count in sorted(waiting.items(), key=lambda each: (-each[1], each[0]))[:MOST_WAITING]:
        yield {"producer_id": who, "count": count}


def _past(event: Event) -> Row:
    """Return an entry of the history, with a `text` for people, and without its age, which changes with each look."""
    return {**{name: value for name, value in event_json(event).items() if name != "age"}, "text": str(event)}

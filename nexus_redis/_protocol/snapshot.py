"""The present state of a budget, for people and programs: `budget.snapshot()`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from nexus_redis import errors
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import unlist
from nexus_redis._protocol.calls import DEFAULT_BURST, REFRESH, Inspection
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command, Job, Outcome, Pause, ask
from nexus_redis._values.parse import is_budget

SETTINGS: Final = errors.SETTINGS  # by its name here until `cli` takes it from there
_PAGE: Final = 500
FIRST_TOKENS: Final = 1.02  # as in lua/lib/rest.lua: one token, and a margin for callers on a timer, which is not shown
Plan = Generator[list[Job] | Pause, list[Outcome], Any]


@dataclass(frozen=True, slots=True)
class ConsumerSnapshot:
    """One consumer: the rate that it can take (tokens/s), its load in percent, its law, and whether it still reports.

    `capacity` is in tokens/s, and None while it is not known. `fields` is its hash in Redis as text, with `age_s`, the
    seconds since its last report. A consumer of capacity 400 at load 95 under "range" has a rate of 100.
    """

    id: str
    rate: float
    capacity: float | None
    load: float
    law: str
    is_live: bool
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class ProducerSnapshot:
    """One producer: demand and share in tokens/s, the tokens that it may hold, and the seconds since its last claim."""

    id: str
    weight: float
    priority: str
    demand: float
    share: float
    held: float
    age: float


class SetBy(NamedTuple):
    """The operator who set a setting, the reason, and the seconds since then: ("anna@ops1", "maintenance", 90.0)."""

    who: str
    why: str
    age: float


@dataclass(frozen=True, slots=True)
class BudgetSnapshot:
    """A budget at one instant. Rates are in tokens/s, load in percent, and `settings` maps names to (value, source).

    `exists` is False if Redis does not know the budget. Then all numbers are zero, and the reason is "unset". `tokens`
    are in the bucket now, and negative if some are owed. `burst` is in seconds of the rate. `granted_total` counts
    since `birth`, the instant when this life of the budget's state began. `paused_for` is in seconds, infinite until
    the budget is resumed, and None if it is not paused. `last_consumer_end` says how the last consumer ended (left,
    silent, forgotten, overruled), "" if none did. `consumers` and `producers` hold the first 500 of each, and the
    counts are of all. Nobody has called the budget for `age` seconds. A producer waits `refresh` seconds between two
    claims, more than 0.1 in a crowd of a thousand and more. `set_by` says who set each setting of an operator.
    `pause_by` is the source of a pause, code or operator, `pause_who` the user and host, and `pause_reason` the reason.
    At rate 100, `settings["rate"]` may be ("100", "operator"), and `set_by["rate"].who` "anna@ops1".
    """

    name: str
    exists: bool
    rate: float
    level: int
    load: float
    reason: str
    tokens: float
    burst: float
    granted_total: int
    birth: str
    settings: dict[str, tuple[str, str]]
    paused_for: float | None
    pause_reason: str
    last_consumer_end: str
    consumers: tuple[ConsumerSnapshot, ...]
    producers: tuple[ProducerSnapshot, ...]
    consumer_count: int
    producer_count: int
    age: float
    refresh: float
    set_by: dict[str, SetBy] = field(default_factory=dict)
    pause_by: str = ""
    pause_who: str = ""


def snapshot(keys: BudgetKeys, server: str) -> Plan:
    """Return the plan that reads a budget: one script, then the hashes of its members in one pipeline."""
    inspection: Inspection = (yield from ask([calls.inspect(keys, count=_PAGE)], server))[0]
    due = due_of(inspection.fields)
    if due and due <= inspection.now:
        # A deadline has passed and nobody has called since. A script settles the budget, so that we do not show the
        # past.
        yield from ask([calls.configure(keys)], server)
        inspection = (yield from ask([calls.inspect(keys, count=_PAGE)], server))[0]
    consumers, producers = list(inspection.consumers), list(inspection.producers)
    wanted: list[Job] = [Command(("HGETALL", keys.consumer(i)), _hash) for i in consumers]
    wanted += [Command(("HGETALL", keys.producer(i)), _hash) for i in producers]
    hashes = (yield from ask(wanted, server)) if wanted else []
    return assembled(keys.name, inspection, consumers, producers, hashes)


def budget_names(namespace: str, server: str) -> Plan:
    """Return the plan that lists the existing budgets, and takes the names of others off the list.

    The list is only a hint. Names on it that are not ours, and keys of another type in a budget's place, are skipped.
    """
    hint = budgets_key(namespace)
    found: list[str] = (yield from ask([Command(("ZRANGE", hint, 0, -1), _texts)], server))[0]
    names = [name for name in found if is_budget(name)]
    if not names:
        return []
    keys = [BudgetKeys(namespace, name).budget for name in names]
    kinds: list[str] = yield from ask([Command(("TYPE", key), calls.text) for key in keys], server)
    kind_of = dict(zip(names, kinds, strict=True))
    gone = [name for name, kind in kind_of.items() if kind == "none"]
    if gone:
        yield from unlist(namespace, gone)
    return sorted(name for name, kind in kind_of.items() if kind == "hash")


def due_of(fields: dict[str, str]) -> float:
    """Return when a deadline of a budget passes next, in seconds of the server's clock; 0 if there is none."""
    return _seconds(fields, "due_us")


def _texts(reply: Any) -> list[str]:
    return [calls.text(word) for word in reply]


def _hash(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {calls.text(field): calls.text(value) for field, value in reply.items()}
    words = _texts(reply)
    return dict(zip(words[::2], words[1::2], strict=True))


def assembled(
    name: str, at: Inspection, consumers: list[str], producers: list[str], hashes: list[dict[str, str]]
) -> BudgetSnapshot:
    f = at.fields
    settings = {}
    for setting in SETTINGS:
        for source in ("operator", "code"):
            if f"{setting}_by_{source}" in f:
                settings[setting] = (f[f"{setting}_by_{source}"], source)
                break
    paused_until = int(f.get("paused_until_us", 0)) / 1e6
    is_paused = paused_until > at.now
    tokens = float(f.get("tokens", 0))
    return BudgetSnapshot(
        name=name,
        exists="birth" in f,
        rate=float(f.get("rate_per_s", 0)),
        level=int(f.get("level", 3)),
        load=float(f.get("load_percent", 0)),
        reason=f.get("reason", "unset"),
        tokens=min(1.0, tokens) if tokens <= FIRST_TOKENS else tokens,
        burst=float(f.get("burst_s", DEFAULT_BURST)),
        granted_total=int(f.get("granted_total", 0)),
        birth=f.get("birth", ""),
        settings=settings,
        set_by={name: _set_by(f[f"{name}_set_by"], at.now) for name in settings if f"{name}_set_by" in f},
        paused_for=None if not is_paused else float("inf") if paused_until >= 9e9 else paused_until - at.now,
        pause_reason=f.get("pause_reason", "") if is_paused else "",
        pause_by=f.get("pause_by", "") if is_paused else "",
        pause_who=f.get("pause_who", "") if is_paused else "",
        last_consumer_end=f.get("last_consumer_end", ""),
        consumers=tuple(
            _consumer(i, at, h) for i, h in zip(consumers, hashes[: len(consumers)], strict=True)
        ),
        producers=tuple(
            _producer(i, at, h) for i, h in zip(producers, hashes[len(consumers) :], strict=True) if h
        ),
        consumer_count=at.consumer_count,
        producer_count=at.producer_count,
        age=max(0.0, at.now - _seconds(f, "called_at_us", at.now)),
        refresh=_seconds(f, "refresh_us", REFRESH),
    )  # fmt: skip


def _set_by(said: str, now: float) -> SetBy:
    """Take `2026-11-29T09:53:20.000Z anna@ops1: maintenance` apart. A text of another form stays whole, as `who`."""
    at, _, rest = said.partition(" ")
    who, _, why = rest.partition(": ")
    try:
        return SetBy(who, why, max(0.0, now - instant(at)))
    except ValueError:
        return SetBy(said, "", 0.0)


def instant(date: str) -> float:
    """Return a date of the scripts as seconds since 1970: 0.25 for `1970-01-01T00:00:00.250Z`."""
    return datetime.fromisoformat(date).timestamp()


def _seconds(fields: dict[str, str], name: str, otherwise: float = 0.0) -> float:
    return float(fields[name]) / 1e6 if name in fields else otherwise


def _consumer(consumer_id: str, at: Inspection, fields: dict[str, str]) -> ConsumerSnapshot:
    age = max(0.0, at.now - instant(fields["reported_at"])) if "reported_at" in fields else 0.0
    return ConsumerSnapshot(
        id=consumer_id,
        rate=float(fields.get("rate_per_s", 0)),
        capacity=float(fields.get("capacity_per_s", 0)) or None,
        load=float(fields.get("load_percent", 0)),
        law=fields.get("law", ""),
        is_live=consumer_id in at.live,
        fields={**fields, "age_s": f"{age:.3f}"},
    )


def _producer(producer_id: str, at: Inspection, fields: dict[str, str]) -> ProducerSnapshot:
    return ProducerSnapshot(
        id=producer_id,
        weight=float(fields.get("weight", 1)),
        priority=fields.get("priority", "normal"),
        demand=float(fields.get("demand_per_s", 0)),
        share=float(fields.get("share_per_s", 0)),
        held=float(fields.get("held", 0)),
        age=max(0.0, at.now - at.producers[producer_id]),
    )

"""The present state of a budget, for people and programs: `budget.snapshot()`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from nexus_redis import errors
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import unlist
from nexus_redis._protocol.calls import DEFAULT_BURST, REFRESH, Inspection
from nexus_redis._protocol.damage import read_keys
from nexus_redis._protocol.fields import CONSUMER, INSPECTED, PRODUCER, SOURCES, Fields, instant
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command, Job, Outcome, Pause, ask
from nexus_redis._values.parse import is_budget

SETTINGS: Final = errors.SETTINGS  # by its name here until `cli` takes it from there
_PAGE: Final = 500
_MOST: Final = 1000  # members that the script `inspect` gives at once
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


def snapshot(keys: BudgetKeys, server: str, count: int = _PAGE) -> Plan:
    """Return the plan that reads a budget: one script, then the hashes of its members in pipelines of 500.

    The result has the first `count` producers, and the first `count` consumers, of which it reads at most 1,000.
    """
    page = min(count, _MOST)
    inspection: Inspection = (yield from ask([calls.inspect(keys, count=page)], server))[0]
    if is_overdue(keys, inspection):
        # A deadline has passed and nobody has called since. A script settles the budget, so that we do not show the
        # past.
        yield from ask([calls.configure(keys)], server)
        inspection = (yield from ask([calls.inspect(keys, count=page)], server))[0]
    if count > page and inspection.producer_count > page:
        # One command: between two pages, producers that claim would move to a page that was read before.
        all_of_them = Command(("ZRANGE", keys.producers, 0, count - 1, "WITHSCORES"), _scores)
        inspection = inspection._replace(producers=(yield from ask([all_of_them], server))[0])
    consumers, producers = list(inspection.consumers), list(inspection.producers)
    reads = [read_hash(keys.consumer(i)) for i in consumers] + [_read_producer(keys.producer(i)) for i in producers]
    hashes: list[dict[str, str]] = []
    for at in range(0, len(reads), _PAGE):
        hashes += yield from read_keys(keys, reads[at : at + _PAGE], server)
    return assembled(keys, inspection, consumers, producers, hashes)


def budget_names(namespace: str, server: str) -> Plan:
    """Return the plan that lists the existing budgets, and takes the names of others off the list.

    The list is only a hint. Names on it that are not ours, and keys of another type in a budget's place, are skipped.
    """
    types: dict[str, str] = yield from types_of_budgets(namespace, server)
    return [name for name, kind in types.items() if kind == "hash"]


def types_of_budgets(namespace: str, server: str) -> Plan:
    """Return the plan that gives the type of the key of each budget that is listed and not gone, sorted by name."""
    hint = budgets_key(namespace)
    found: list[str] = (yield from ask([Command(("ZRANGE", hint, 0, -1), _texts)], server))[0]
    names = [name for name in found if is_budget(name)]
    if not names:
        return {}
    keys = [BudgetKeys(namespace, name).budget for name in names]
    kinds: list[str] = yield from ask([Command(("TYPE", key), calls.text) for key in keys], server)
    kind_of = dict(zip(names, kinds, strict=True))
    gone = [name for name, kind in kind_of.items() if kind == "none"]
    if gone:
        yield from unlist(namespace, gone)
    return {name: kind_of[name] for name in sorted(kind_of) if kind_of[name] != "none"}


def is_overdue(keys: BudgetKeys, at: Inspection) -> bool:
    """Return whether a deadline of a budget has passed, so that a call would change the budget."""
    due: float = Fields(keys, keys.budget, INSPECTED, at.fields).get("due_us", 0) / 1e6
    return 0 < due <= at.now


def read_hash(key: str) -> Command[dict[str, str]]:
    """Return the command that reads a hash as text."""
    return Command(("HGETALL", key), _hash)


def _texts(reply: Any) -> list[str]:
    return [calls.text(word) for word in reply]


def _read_producer(key: str) -> Command[dict[str, str]]:
    """Return the command that reads the hash of a producer without the names of its fields: half of the work."""

    def decode(reply: Any) -> dict[str, str]:
        fields = zip(PRODUCER, reply, strict=True)
        return {field: calls.text(value) for field, value in fields if value is not None}

    return Command(("HMGET", key, *PRODUCER), decode)


def _scores(reply: Any) -> dict[str, float]:
    """Return the members of a sorted set with their scores, in seconds. With RESP3, each is a pair."""
    flat = [word for pair in reply for word in pair] if reply and isinstance(reply[0], list | tuple) else reply
    return {calls.text(flat[i]): float(flat[i + 1]) / 1e6 for i in range(0, len(flat), 2)}


def _hash(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return {calls.text(field): calls.text(value) for field, value in reply.items()}
    words = _texts(reply)
    return dict(zip(words[::2], words[1::2], strict=True))


def assembled(
    keys: BudgetKeys, at: Inspection, consumers: list[str], producers: list[str], hashes: list[dict[str, str]]
) -> BudgetSnapshot:
    """Return the snapshot of an inspection and the hashes of its members, consumers first. Raise `damaged`."""
    f = Fields(keys, keys.budget, INSPECTED, at.fields)
    settings = {}
    for setting in SETTINGS:
        for source in SOURCES:
            if f"{setting}_by_{source}" in f:
                settings[setting] = (f.text(f"{setting}_by_{source}"), source)
                break
    paused_until = f.get("paused_until_us", 0) / 1e6
    is_paused = paused_until > at.now
    tokens = f.get("tokens", 0.0)
    return BudgetSnapshot(
        name=keys.name,
        exists="birth" in f,
        rate=f.get("rate_per_s", 0.0),
        level=f.get("level", 3),
        load=f.get("load_percent", 0.0),
        reason=f.text("reason", "unset"),
        tokens=min(1.0, tokens) if tokens <= FIRST_TOKENS else tokens,
        burst=f.get("burst_s", DEFAULT_BURST),
        granted_total=f.get("granted_total", 0),
        birth=f.text("birth"),
        settings=settings,
        set_by={
            name: _set_by(f.text(f"{name}_set_by"), at.now)
            for name, (_, source) in settings.items()
            if source == "operator" and f"{name}_set_by" in f
        },
        paused_for=None if not is_paused else float("inf") if paused_until >= 9e9 else paused_until - at.now,
        pause_reason=f.text("pause_reason") if is_paused else "",
        pause_by=f.text("pause_by") if is_paused else "",
        pause_who=f.text("pause_who") if is_paused else "",
        last_consumer_end=f.text("last_consumer_end"),
        consumers=tuple(
            _consumer(i, at, Fields(keys, keys.consumer(i), CONSUMER, h))
            for i, h in zip(consumers, hashes[: len(consumers)], strict=True)
        ),
        producers=tuple(
            _producer(i, at, Fields(keys, keys.producer(i), PRODUCER, h))
            for i, h in zip(producers, hashes[len(consumers) :], strict=True)
            if h
        ),
        consumer_count=at.consumer_count,
        producer_count=at.producer_count,
        age=max(0.0, at.now - f.get("called_at_us", at.now * 1e6) / 1e6),
        refresh=f.get("refresh_us", REFRESH * 1e6) / 1e6,
    )


def _set_by(said: str, now: float) -> SetBy:
    """Take `2026-11-29T09:53:20.000Z anna@ops1: maintenance` apart. A text of another form stays whole, as `who`."""
    at, _, rest = said.partition(" ")
    who, _, why = rest.partition(": ")
    try:
        return SetBy(who, why, max(0.0, now - instant(at)))
    except ValueError:
        return SetBy(said, "", 0.0)


def _consumer(consumer_id: str, at: Inspection, f: Fields) -> ConsumerSnapshot:
    for name in CONSUMER:  # `explain` reads them from `fields`
        f.get(name)
    age = max(0.0, at.now - f.get("reported_at", at.now))
    return ConsumerSnapshot(
        id=consumer_id,
        rate=f.get("rate_per_s", 0.0),
        capacity=f.get("capacity_per_s", 0.0) or None,
        load=f.get("load_percent", 0.0),
        law=f.text("law"),
        is_live=consumer_id in at.live,
        fields={**f.texts, "age_s": f"{age:.3f}"},
    )


def _producer(producer_id: str, at: Inspection, f: Fields) -> ProducerSnapshot:
    return ProducerSnapshot(
        id=producer_id,
        weight=f.get("weight", 1.0),
        priority=f.text("priority", "normal"),
        demand=f.get("demand_per_s", 0.0),
        share=f.get("share_per_s", 0.0),
        held=f.get("held", 0.0),
        age=max(0.0, at.now - max(0.0, at.producers[producer_id])),  # a person may have written -inf
    )

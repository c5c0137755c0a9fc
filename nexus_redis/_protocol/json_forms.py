"""What programs read of a budget, as JSON: the verbs with `--json`, and the server, answer with the same fields.

Rates are in tokens per second, loads in percent, and ages in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.calls import Standing
from nexus_redis._protocol.explain import Explanation
from nexus_redis._protocol.history import Event
from nexus_redis._protocol.snapshot import BudgetSnapshot

if TYPE_CHECKING:
    from nexus_redis.messages import LoadReport


class SettingJson(TypedDict, total=False):
    """A setting in force, with its value and its source; `who`, `why` and `age` only if an operator has set it."""

    value: float | str
    source: str
    who: str
    why: str
    age: float


class BudgetSummaryJson(TypedDict):
    """One budget of all: rates in tokens per second, loads in percent, ages in seconds."""

    name: str
    rate: float
    level: int
    load: float
    reason: str
    tokens: float
    burst: float
    granted_total: int
    birth: str
    settings: dict[str, SettingJson]
    is_paused: bool
    paused_for: float | None  # None if it is not paused, or paused until it is resumed
    pause_reason: str
    pause_by: str
    pause_who: str
    last_consumer_end: str
    consumer_count: int
    producer_count: int
    age: float
    refresh: float


class ConsumerJson(TypedDict):
    """One consumer of a budget."""

    id: str
    rate: float
    capacity: float | None
    load: float
    law: str
    age: float
    is_live: bool


class ProducerJson(TypedDict):
    """One producer of a budget."""

    id: str
    share: float
    demand: float
    held: float
    weight: float
    priority: str
    age: float


class BudgetJson(BudgetSummaryJson):
    """A budget with its members."""

    consumers: list[ConsumerJson]
    producers: list[ProducerJson]


class RulingConsumerJson(TypedDict):
    """The consumer that limits the rate."""

    id: str
    law: str
    rate: float
    capacity: float | None
    load: float
    age: float


class EventJson(TypedDict):
    """One entry of the history: `at` in seconds since 1970, `who` did `what`, and `why`."""

    at: float
    age: float
    rate: float
    level: int
    load: float
    reason: str
    by: str
    who: str
    what: str
    why: str


class ExplanationJson(TypedDict):
    """Why the rate is what it is: `because` and `remedies` are sentences, `settings` maps a field to its source."""

    name: str
    rate: float
    level: int
    load: float
    reason: str
    since_s: float | None  # None if the history does not reach back to the beginning of the reason
    because: list[str]
    remedies: list[str]
    consumer: RulingConsumerJson | None
    settings: dict[str, str]
    history: list[EventJson]  # the newest first


class ReportJson(TypedDict):
    """The consumer's rate and the budget's state after the report; the report counts for `lives_s` seconds."""

    consumer_id: str  # the budget
    instance_id: str  # the consumer
    rate: float
    capacity: float | None
    law: str
    budget_rate: float
    backpressure_level: int
    current_load: float
    reason: str
    birth: str
    lives_s: float


def summary_of(budget: BudgetSnapshot | DamagedBudget) -> Mapping[str, object]:
    """Return a budget without its members.

    Of a damaged one, all fields are null but `name` and `damaged`, which says what cannot be read.
    """
    if isinstance(budget, DamagedBudget):
        return {**dict.fromkeys(BudgetSummaryJson.__annotations__), "name": budget.name, "damaged": [str(budget.error)]}
    return _summary(budget)


def _summary(budget: BudgetSnapshot) -> BudgetSummaryJson:
    settings: dict[str, SettingJson] = {}
    for field, (value, source) in budget.settings.items():
        settings[field] = {"value": _number_or_word(value), "source": source}
        by = budget.set_by.get(field)
        if by is not None:
            settings[field] |= {"who": by.who, "why": by.why, "age": by.age}
    return {
        "name": budget.name, "rate": budget.rate, "level": budget.level, "load": budget.load, "reason": budget.reason,
        "tokens": budget.tokens, "burst": budget.burst, "granted_total": budget.granted_total, "birth": budget.birth,
        "settings": settings, "is_paused": budget.paused_for is not None,
        "paused_for": None if budget.paused_for == float("inf") else budget.paused_for,
        "pause_reason": budget.pause_reason, "pause_by": budget.pause_by, "pause_who": budget.pause_who,
        "last_consumer_end": budget.last_consumer_end, "consumer_count": budget.consumer_count,
        "producer_count": budget.producer_count, "age": budget.age, "refresh": budget.refresh,
    }  # fmt: skip


def with_members(budget: BudgetSnapshot) -> BudgetJson:
    """Return a budget with its members."""
    consumers: list[ConsumerJson] = [
        {"id": each.id, "rate": each.rate, "capacity": each.capacity, "load": each.load, "law": each.law,
         "age": float(each.fields["age_s"]), "is_live": each.is_live}
        for each in budget.consumers
    ]  # fmt: skip
    producers: list[ProducerJson] = [
        {"id": each.id, "share": each.share, "demand": each.demand, "held": each.held, "weight": each.weight,
         "priority": each.priority, "age": each.age}
        for each in budget.producers
    ]  # fmt: skip
    return {**_summary(budget), "consumers": consumers, "producers": producers}


def _number_or_word(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def explanation_of(why: Explanation, history: int) -> ExplanationJson:
    """Return an explanation with the newest `history` entries of the history."""
    seen, ruler = why.budget, why.consumer
    consumer: RulingConsumerJson | None = None
    if ruler is not None:
        consumer = {
            "id": ruler.id, "law": ruler.law, "rate": ruler.rate, "capacity": ruler.capacity, "load": ruler.load,
            "age": float(ruler.fields["age_s"]),
        }  # fmt: skip
    return {
        "name": seen.name, "rate": seen.rate, "level": seen.level, "load": seen.load, "reason": seen.reason,
        "since_s": why.since, "because": list(why.because), "remedies": list(why.remedies), "consumer": consumer,
        "settings": {field: source for field, (_, source) in seen.settings.items()},
        "history": [event_of(each) for each in why.history[:history]],
    }  # fmt: skip


def event_of(event: Event) -> EventJson:
    """Return one entry of the history."""
    return {
        "at": event.at, "age": event.age, "rate": event.rate, "level": event.level, "load": event.load,
        "reason": event.reason, "by": event.by, "who": event.who, "what": event.what, "why": event.why,
    }  # fmt: skip


def report_of(message: LoadReport, now: Standing, lives: float) -> ReportJson:
    """Return the answer to a report that counts for `lives` seconds."""
    return {
        "consumer_id": message.consumer_id, "instance_id": message.instance_id, "rate": now.rate,
        "capacity": now.capacity, "law": now.law, "budget_rate": now.budget_rate, "backpressure_level": now.level,
        "current_load": now.load, "reason": now.reason, "birth": now.birth, "lives_s": lives,
    }  # fmt: skip

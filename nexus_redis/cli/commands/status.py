"""status: all budgets or one budget, as tables (`cli/tables.py`) or as JSON.

`--json` prints a `BudgetJson`, or a list of `BudgetSummaryJson` without a NAME. Both are below.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Json, Key, Namespace, Url, target_of
from nexus_redis.cli.exit_codes import Misuse, end_with_damage
from nexus_redis.cli.output import as_json

if TYPE_CHECKING:
    from nexus_redis._protocol.snapshot import BudgetSnapshot
    from nexus_redis.cli.all_budgets import DamagedBudget


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


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show this budget with its settings, consumers and producers.",
            show_default="all budgets",
        ),
    ] = None,
    *,
    key: Key = None,
    json: Json = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show all budgets, or one budget with all its members.

    If a budget cannot be read because somebody has edited its keys, the verb shows the others, names the damage on
    stderr, and ends with exit code 1.

    \b
    Examples:
      nexus-redis status
      nexus-redis status elasticsearch --json
    """
    from nexus_redis._protocol.snapshot import snapshot
    from nexus_redis.cli import tables
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.unknown_budgets import unknown

    if name is None and key is not None:
        raise Misuse(texts.key_without_name("status NAME --key KEY"))
    target = target_of(name, key) if name is not None else None
    with open_context(url, namespace) as context:
        if target is None:
            from nexus_redis.cli.all_budgets import DamagedBudget, snapshots

            budgets, others = context.run(snapshots(context.namespace, context.server))
            if json:
                print(as_json([summary_of(each) for each in budgets]))
            elif budgets:
                tables.budgets(budgets)
            else:
                print(f"no budgets {context.where}")
            unread = [each for each in budgets if isinstance(each, DamagedBudget)]
            end_with_damage([str(each.error) for each in unread + others])
            return
        budget = context.run(snapshot(context.keys(target.name), context.server))
        if not budget.exists:
            raise unknown(context, *target)
    if json:
        print(as_json(with_members(budget)))
    else:
        tables.budget(budget)


def summary_of(budget: "BudgetSnapshot | DamagedBudget") -> Mapping[str, object]:
    """Return a budget without its members.

    Of a damaged one, all fields are null but `name` and `damaged`, which says what cannot be read.
    """
    from nexus_redis.cli.all_budgets import DamagedBudget

    if isinstance(budget, DamagedBudget):
        return {**dict.fromkeys(BudgetSummaryJson.__annotations__), "name": budget.name, "damaged": [str(budget.error)]}
    return _summary(budget)


def _summary(budget: "BudgetSnapshot") -> BudgetSummaryJson:
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


def with_members(budget: "BudgetSnapshot") -> BudgetJson:
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

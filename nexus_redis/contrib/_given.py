"""What a helper is made with, checked where it is made: a budget of the wrong kind would let everything through."""

from __future__ import annotations

from typing import Any, TypeVar

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis._api.budget import BudgetBase
from nexus_redis._api.consumer import ConsumerBase
from nexus_redis._api.producer import ProducerBase
from nexus_redis.errors import InvalidSetting

G = TypeVar("G")
C = TypeVar("C", bound=ConsumerBase)
B = TypeVar("B", bound=ProducerBase)
P = TypeVar("P", bound=ProducerBase)


def given(field: str, value: object, kind: type[G]) -> G:
    """`value` if it is a `kind` (`Budget`, `Producer` or `Consumer`, of the one shell or of the other).

    >>> given("budget", "stripe", nexus_asyncio.Budget)
    InvalidSetting: budget="stripe": give a Budget of `nexus_redis.asyncio`
    """
    if not isinstance(value, kind):
        module = nexus_asyncio.__name__ if kind.__module__ == nexus_asyncio.__name__ else nexus_asyncio.__package__
        raise InvalidSetting(field, value, f"give a {kind.__name__} of `{module}`")
    return value


def spender(budget: B, producer: P | None, kind: type[P]) -> B | P:
    """Who takes the tokens: the budget's shared producer, or one of its own that was given."""
    if producer is None:
        return budget
    given("producer", producer, kind)
    if producer.name != budget.name:
        raise InvalidSetting("producer", producer, f"it is of {producer.name}: give one of {budget.name}")
    return producer


def observer(budget: BudgetBase[Any, C], report: bool | C, kind: type[C]) -> C | None:
    """Return who reports how requests end: the budget's shared observer, one that was given, or nobody."""
    if isinstance(report, bool):
        return budget._observer() if report else None
    if not isinstance(report, kind):
        raise InvalidSetting("report", report, "use True, or a consumer: budget.consumer(observe=True)")
    if report.name != budget.name:
        raise InvalidSetting("report", report, f"it is of {report.name}: give one of {budget.name}")
    return report

"""Checks of what a helper is made with, where it is made: a budget of the wrong kind would let everything through."""

from __future__ import annotations

from typing import Protocol, TypeVar

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis.contrib import _texts
from nexus_redis.errors import InvalidSetting


class Named(Protocol):
    """A budget, or a producer or a consumer of one. `name` is the name of the budget."""

    @property
    def name(self) -> str: ...


T = TypeVar("T")
B = TypeVar("B", bound=Named)
P = TypeVar("P", bound=Named)
C_co = TypeVar("C_co", bound=Named, covariant=True)


class Observable(Named, Protocol[C_co]):
    """A budget whose observer is a `C_co`."""

    def observer(self) -> C_co: ...


def require(field: str, value: object, kind: type[T]) -> T:
    """Return `value` if it is a `kind`: a `Budget`, `Producer` or `Consumer` of one of the two faces.

    >>> require("budget", "stripe", nexus_asyncio.Budget)
    InvalidSetting: budget='stripe': pass a Budget of `nexus_redis.asyncio`
    """
    if not isinstance(value, kind):
        module = nexus_asyncio.__name__ if kind.__module__ == nexus_asyncio.__name__ else nexus_asyncio.__package__
        raise InvalidSetting(field, value, _texts.wrong_kind(kind.__name__, str(module)))
    return value


def token_source(budget: B, producer: P | None, kind: type[P]) -> B | P:
    """Return what tokens are acquired from: the given producer of this budget, else the budget itself."""
    if producer is None:
        return budget
    require("producer", producer, kind)
    _require_same_budget("producer", producer, budget)
    return producer


def chosen_observer(budget: Observable[C_co], report: bool | C_co, kind: type[C_co]) -> C_co | None:
    """Return the consumer that reports how requests end: the budget's observer, the given one, or None."""
    if isinstance(report, bool):
        return budget.observer() if report else None
    if not isinstance(report, kind):
        raise InvalidSetting("report", report, _texts.WRONG_REPORT)
    _require_same_budget("report", report, budget)
    return report


def _require_same_budget(field: str, value: Named, budget: Named) -> None:
    if value.name != budget.name:
        raise InvalidSetting(field, value, _texts.other_budget(value.name, budget.name))

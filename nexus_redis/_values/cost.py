"""The cost of a unit of work: a number of tokens, or a function of the work. A cost of 0 takes no tokens.

price = price_of(2)                                  price("anything") -> 2
price = price_of(len)                                price([1, 2, 3]) -> 3
price = price_of(lambda path: path != "/health")     price("/cart") -> 1;  price("/health") -> 0

A function is the caller's own code. Here, and so in `limited` and `pace`, its errors reach the caller, and a value that
is not a valid cost raises `InvalidSetting`. The helpers in `contrib` stand between two libraries and must not break a
request. So they use `contrib._open.open_price`, which logs the error and lets the work pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nexus_redis._values import error_texts
from nexus_redis._values.parse import parse_cost
from nexus_redis.errors import InvalidSetting

Cost = float | Callable[..., float]


def price_of(cost: Cost) -> Callable[..., float]:
    """Return a function that gives the tokens of a unit of work.

    A fixed cost is checked at once, and the result of a function at each call. A function may return a boolean, which
    costs 1 or 0. Raises `InvalidSetting` for a value that is neither 0 nor a cost within its range, and for an async
    function, since no code here could await it.
    """
    if callable(cost):
        if is_async(cost):
            raise InvalidSetting("cost", cost, error_texts.COST_IS_ASYNC)
        ask = cost
        return lambda *args, **given: parse_price(_counted(ask(*args, **given)))
    fixed = parse_price(cost)
    return lambda *_args, **_given: fixed


def parse_price(value: Any) -> float:
    """Check a cost, which may be 0, and return the same object.

    Tokens for the same *object* as the last cost are already laid out, so the object must not be replaced.
    """
    if isinstance(value, bool) or value != 0:
        parse_cost(value)
    price: float = value
    return price


def is_async(function: Any) -> bool:
    """Return whether a call gives a result to await or to iterate with `async for`; an object's `__call__` counts."""
    return any(
        inspect.iscoroutinefunction(it) or inspect.isasyncgenfunction(it)
        for it in (function, getattr(function, "__call__", None))  # noqa: B004  # we ask for its kind, not for its presence
    )


def _counted(answer: Any) -> Any:
    return int(answer) if isinstance(answer, bool) else answer

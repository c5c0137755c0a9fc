"""What a unit of work costs: a number of tokens, or a function of the work. A cost of 0 takes no tokens. No I/O.

price = price_of(2)                                  price("anything") -> 2
price = price_of(len)                                price([1, 2, 3]) -> 3
price = price_of(lambda path: path != "/health")     price("/cart") -> 1;  price("/health") -> 0

A function is the caller's own code. Here, and so in `limited` and `pace`, what it raises reaches the caller, and a
value that is no cost raises `InvalidSetting`. The helpers in `contrib` stand between two libraries and may not break a
request: they use `contrib._open.open_price`, which logs the error and lets the work pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from nexus_redis._values.parse import parse_cost
from nexus_redis.errors import InvalidSetting

Cost = float | Callable[..., float]


def price_of(cost: Cost) -> Callable[..., float]:
    """Return a function that gives the tokens, checked: a fixed cost at once, a function's answer at each call.

    A function may answer with a boolean, which costs 1 or 0. Raises `InvalidSetting` for anything else but 0 or a cost
    within its range, and for an async function: nothing here could wait for it.
    """
    if callable(cost):
        if is_async(cost):
            raise InvalidSetting("cost", cost, "give a def: an async def cannot be awaited here")
        ask = cost
        return lambda *args, **given: parse_price(_counted(ask(*args, **given)))
    fixed = parse_price(cost)
    return lambda *_args, **_given: fixed


def parse_price(value: Any) -> float:
    """A cost, or 0; as it came, since what costs the same *object* as the last one is laid out already."""
    if isinstance(value, bool) or value != 0:
        parse_cost(value)
    price: float = value
    return price


def is_async(function: Any) -> bool:
    """Whether a call gives something to await or to iterate with `async for`; an object's `__call__` counts."""
    return any(
        inspect.iscoroutinefunction(it) or inspect.isasyncgenfunction(it)
        for it in (function, getattr(function, "__call__", None))  # noqa: B004  # its kind, not whether there is one
    )


def _counted(answer: Any) -> Any:
    return int(answer) if isinstance(answer, bool) else answer

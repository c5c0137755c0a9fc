"""What a unit of work costs: a number of tokens, or a function of the work. Of 0 nothing is taken. No I/O.

price = price_of(2)                      price("anything") -> 2
price = price_of(len)                    price([1, 2, 3]) -> 3;  price([]) -> 0, and nobody waits
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nexus_redis.values import parse_cost

Cost = float | Callable[..., float]


def price_of(cost: Cost) -> Callable[..., float]:
    """A function that gives the tokens, checked: a fixed cost here and now, what a function says with each call.

    Raises `InvalidSetting` for anything but 0 or a cost within its range.
    """
    if callable(cost):
        ask = cost
        return lambda *args, **given: parse_price(ask(*args, **given))
    fixed = parse_price(cost)
    return lambda *_args, **_given: fixed


def parse_price(value: Any) -> float:
    """A cost, or 0; as it came, since what costs the same *object* as the last one is laid out already."""
    if isinstance(value, bool) or value != 0:
        parse_cost(value)
    price: float = value
    return price

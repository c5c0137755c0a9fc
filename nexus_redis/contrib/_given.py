"""What a helper is made with, checked where it is made: a budget of the wrong kind would let everything through."""

from __future__ import annotations

from typing import TypeVar

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis.errors import InvalidSetting

G = TypeVar("G")


def given(field: str, value: object, kind: type[G]) -> G:
    """`value` if it is a `kind` (`Budget`, `Producer` or `Consumer`, of the one shell or of the other).

    >>> given("budget", "stripe", nexus_asyncio.Budget)
    InvalidSetting: budget="stripe": give a Budget of `nexus_redis.asyncio`
    """
    if not isinstance(value, kind):
        module = nexus_asyncio.__name__ if kind.__module__ == nexus_asyncio.__name__ else nexus_asyncio.__package__
        raise InvalidSetting(field, value, f"give a {kind.__name__} of `{module}`")
    return value

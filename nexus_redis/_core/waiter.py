"""A caller that waits, in the line of one budget or in several lines at once; and the step of its plan that waits."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

NEVER: Final = math.inf

T = TypeVar("T")


def do_nothing() -> None:
    """Do nothing: no driver waits yet."""


class Settled(Protocol):
    """A thing that a caller may wait for."""

    wake: Callable[[], None]

    @property
    def is_settled(self) -> bool:
        """Return whether the wait is over."""


class Await(NamedTuple):
    """The step of a caller's plan that waits until `waiter` is settled, for `seconds` at most (None: no limit)."""

    waiter: Settled
    seconds: float | None


# A plan on a caller's behalf. A driver runs it under the lock of the loop, and gives the lock away while it waits.
CallerPlan = Generator[Await, None, T]


class Waiter:
    """One caller in line: it wants `cost` micro-tokens, with `whole` all of them at once or none.

    `wake` is called once `is_served`, `denied` or `error` is set. The driver that runs the caller's plan sets it.
    """

    __slots__ = (
        "age", "asked", "came", "cost", "denied", "error", "expires", "is_degraded", "is_served", "since", "wake",
        "whole",
    )  # fmt: skip

    def __init__(self, cost: int, since: float, *, whole: bool = False) -> None:
        self.cost, self.since, self.whole = cost, since, whole
        self.came = since  # earlier if it has waited before it came to this line
        self.wake: Callable[[], None] = do_nothing
        self.age = 0  # its number in the order of arrival
        self.is_served = self.is_degraded = False
        self.asked = 0  # the number of the claim that was made on its behalf
        self.denied: float | None = None
        self.error: Exception | None = None
        self.expires = NEVER  # when the tokens that served it expire: if it gives up after all, they go back with that

    @property
    def is_settled(self) -> bool:
        """Return whether nothing more will happen to it."""
        return self.is_served or self.denied is not None or self.error is not None

    # A caller that wants several budgets at once has a part in each line, which overrides these.

    is_part = False

    def stays(self, now: float) -> bool:  # noqa: ARG002  # for the part that overrides it
        """Return whether it stays first, and does not let those behind it go before it."""
        return True

    def is_ready(self, now: float) -> bool:  # noqa: ARG002  # likewise
        """Return whether its tokens may be taken: they are there in all its lines."""
        return True

    def take(self, ledger: Any, now: float) -> None:
        """Take its tokens from a ledger."""
        ledger.hand_over(self, now)

    def parts(self, owner: Any) -> Sequence[tuple[Any, Waiter]]:
        """Return all its parts, as pairs of a producer and a waiter. `owner` is the producer that asks."""
        return ((owner, self),)

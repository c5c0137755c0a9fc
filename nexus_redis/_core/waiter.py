"""One caller in line: a thread, a task, or a part of one that wants several budgets at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

NEVER: Final = math.inf


class Waiter:
    """One caller in line: `cost` micro-tokens, all of them at once if `whole`.

    A shell derives from it and overrides `wake`, which is called once `is_served` or `denied` is set.
    """

    __slots__ = ("age", "asked", "cost", "denied", "error", "expires", "is_degraded", "is_served", "since", "whole")

    def __init__(self, cost: int, since: float, *, whole: bool = False) -> None:
        self.cost, self.since, self.whole = cost, since, whole
        self.age = 0  # its number in its line, which who is older has a smaller one of
        self.is_served = self.is_degraded = False
        self.asked = 0  # the number of the claim that was made on its behalf
        self.denied: float | None = None
        self.error: Exception | None = None
        self.expires = NEVER  # of the tokens it was served with: should it give up after all, they are no younger

    @property
    def is_settled(self) -> bool:
        """Nothing more will happen to it."""
        return self.is_served or self.denied is not None or self.error is not None

    def wake(self) -> None:
        """Tell the caller."""

    # One that wants several budgets at once has a part in each line, which overrides these.

    is_part = False

    def stays(self, now: float) -> bool:  # noqa: ARG002  # for the one that overrides it
        """It is first, and does not let those behind it go before it."""
        return True

    def is_ready(self, now: float) -> bool:  # noqa: ARG002  # for the one that overrides it
        """Its tokens may be taken here: they are there everywhere."""
        return True

    def take(self, ledger: Any, now: float) -> None:
        """Take them."""
        ledger.hand_over(self, now)

    def parts(self, owner: Any) -> Sequence[tuple[Any, Waiter]]:
        """All of it, as (account, waiter); `owner` is the account that asks."""
        return ((owner, self),)

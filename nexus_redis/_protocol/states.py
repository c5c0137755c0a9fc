"""The state of a budget in a word or two, as the live page, `top` and `status` show it, with the most urgent first."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.snapshot import BudgetSnapshot


class State(StrEnum):
    """How a budget does. The members stand in the order of their urgency, as docs/page.md explains them.

    A budget at level 2 is `State.NEARLY_FULL`; its value is "Nearly full", its `place` 7, and it is not in trouble.
    """

    DAMAGED = "Damaged"
    NO_CONSUMERS = "No consumers"
    NO_RATE = "No rate"
    BLOCKED = "Blocked"
    RATE_0 = "Rate 0"
    FULL = "Full"
    PAUSED = "Paused"
    NEARLY_FULL = "Nearly full"
    BUSY = "Busy"
    NOT_SET = "Not set"
    OK = "OK"

    @property
    def place(self) -> int:
        """Return the place of this state in the order of urgency, 0 for the most urgent."""
        return _PLACES[self]

    @property
    def is_trouble(self) -> bool:
        """Tell whether producers get nothing, or next to nothing."""
        return self.place <= State.PAUSED.place


_PLACES: Final = {state: place for place, state in enumerate(State)}
_LEVELS: Final = (State.OK, State.BUSY, State.NEARLY_FULL, State.FULL)


def state_of(seen: BudgetSnapshot | DamagedBudget) -> State:
    """Return the state of a budget. A rate of 0 that somebody has set is `RATE_0`, whatever the level."""
    if isinstance(seen, DamagedBudget):
        return State.DAMAGED
    if seen.paused_for is not None:
        return State.PAUSED
    match seen.reason:
        case "paused":  # all consumers have paused
            return State.PAUSED
        case "no_consumers":
            return State.NO_CONSUMERS
        case "unset":
            return State.NO_RATE if seen.producer_count else State.NOT_SET
        case "window":
            return State.BLOCKED
    return State.RATE_0 if seen.rate == 0 else _LEVELS[min(seen.level, 3)]

"""The state of a budget in a word, which the page, `top` and `status` share."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._protocol.states import State, state_of

FOREVER = float("inf")


def seen(**fields: Any) -> BudgetSnapshot:
    """A budget of 100/s that a ceiling rules, with these fields."""
    usual: dict[str, Any] = {
        "name": "api", "exists": True, "rate": 100.0, "level": 0, "load": 0.0, "reason": "rate", "tokens": 0.0,
        "burst": 0.1, "granted_total": 0, "birth": "1", "settings": {}, "paused_for": None, "pause_reason": "",
        "last_consumer_end": "", "consumers": (), "producers": (), "consumer_count": 0, "producer_count": 1,
        "age": 0.0, "refresh": 0.1,
    }  # fmt: skip
    return BudgetSnapshot(**{**usual, **fields})


@pytest.mark.parametrize(
    ("budget", "state"),
    [
        (DamagedBudget("api", ValueError()), State.DAMAGED),
        (seen(paused_for=FOREVER, rate=0.0, level=3, reason="paused"), State.PAUSED),
        (seen(rate=0.0, level=3, reason="paused"), State.PAUSED),
        (seen(rate=0.0, level=3, reason="no_consumers"), State.NO_CONSUMERS),
        (seen(rate=0.0, level=3, reason="unset"), State.NO_RATE),
        (seen(rate=0.0, level=3, reason="unset", producer_count=0), State.NOT_SET),
        (seen(rate=0.0, level=3, reason="window"), State.BLOCKED),
        (seen(rate=0.0), State.RATE_0),
        (seen(rate=0.0, level=3), State.RATE_0),
        (seen(level=3, reason="load"), State.FULL),
        (seen(level=2, reason="load"), State.NEARLY_FULL),
        (seen(level=1, reason="load"), State.BUSY),
        (seen(), State.OK),
    ],
)
def test_each_state(budget: BudgetSnapshot | DamagedBudget, state: State) -> None:
    """The reason says the state, then a rate of 0, then the level."""
    assert state_of(budget) is state


def test_trouble_comes_first() -> None:
    """In the order of urgency, all states without tokens stand before all others."""
    assert [state.is_trouble for state in State] == [True] * 7 + [False] * 4
    assert [state.place for state in State] == list(range(11))

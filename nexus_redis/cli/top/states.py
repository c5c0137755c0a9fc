"""The style of a budget's state. `_protocol/states.py` has the words, so a colour only repeats what the word says."""

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._protocol.states import State, state_of

Seen = BudgetSnapshot | DamagedBudget


def kind_of(seen: Seen) -> str:
    """Return the style of `top.tcss` for the state of a budget: serious, busy, calm or dim."""
    state = state_of(seen)
    if state.is_trouble:
        return "serious"
    return {State.OK: "calm", State.NOT_SET: "dim"}.get(state, "busy")

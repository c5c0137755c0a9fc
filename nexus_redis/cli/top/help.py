"""The keys, in a window over the screen."""

from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from nexus_redis._protocol.states import State

KEYS: Final = """\
All budgets
  arrows, page up, page down, home, end   move
  Enter    open the budget under the cursor
  /        filter by a part of a name, a state or a reason; Escape ends the filter
  s, S     sort by the next column; sort the other way round
  p, r     pause or resume the budget, after a question
One budget
  1 to 5   why, consumers, producers, history, settings
  Escape   back to all budgets
q          quit, on both screens

The most urgent state comes first:
  {urgency}
GRANTED is what was granted per second between two looks. UNMET is the
demand of a producer that its share does not cover. A stale consumer
no longer reports.
"""
MEANINGS: Final = {
    State.DAMAGED: "somebody has changed its keys by hand",
    State.NO_CONSUMERS: "the consumers that were there are gone",
    State.NO_RATE: "producers ask, and nothing gives a rate",
    State.BLOCKED: "it is lossless, and no consumer says what fits",
    State.RATE_0: "somebody has set a rate of 0",
    State.FULL: "level 3, a load of 100 %",
    State.PAUSED: "an operator, code or all consumers stopped it",
    State.NEARLY_FULL: "level 2, a load of 90 % or more",
    State.BUSY: "level 1, a load of 70 % or more",
    State.NOT_SET: "no rate is set, and nobody asks",
    State.OK: "none of these",
}


def _urgency() -> str:
    return "\n".join(f"  {state:14}{MEANINGS[state]}" for state in State).strip()


class Help(ModalScreen[None]):
    """All keys, and what the words mean."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss(None)", "Close", show=False)
    ]

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        with VerticalScroll(id="help"):
            yield Static(Text(KEYS.format(urgency=_urgency())))

"""The keys, in a window over the screen."""

from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: Final = """\
All budgets
  arrows, page up, page down, home, end   move
  Enter    open the budget under the cursor
  /        filter by a part of the name; Escape ends the filter
  s, S     sort by the next column; sort the other way round
  p, r     pause or resume the budget, after a question
One budget
  1 to 5   why, consumers, producers, history, settings
  Escape   back to all budgets
q          quit, on both screens

The most urgent state comes first: damaged, paused, no consumers,
unset (it has no rate), no reports (it is lossless, and no consumer
reports), level 3, level 2, level 1, ok. GRANTED is what was granted
per second between two looks. A stale consumer no longer reports.
"""


class Help(ModalScreen[None]):
    """All keys, and what the words mean."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss(None)", "Close", show=False)
    ]

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        with VerticalScroll(id="help"):
            yield Static(Text(KEYS))

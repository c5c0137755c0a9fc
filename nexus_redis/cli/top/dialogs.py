"""The questions before a change: which budget, what will happen, and why. Escape and `Cancel` change nothing."""

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._values.formatting import counted, rate
from nexus_redis.cli.common_options import Attribution, attribution
from nexus_redis.cli.operator_change import pause_length, paused
from nexus_redis.cli.tables import pause_of
from nexus_redis.errors import InvalidSetting


@dataclass(frozen=True)
class Change:
    """A pause of so many seconds, or with 0 the end of one; `done` says in words what it does."""

    budget: str
    pause: float
    done: str
    act: Attribution


class Dialog(ModalScreen[Change | None]):
    """A question about one budget, with a line for each answer, and two buttons."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel", show=False)]
    AUTO_FOCUS = "Input"
    verb = ""

    def __init__(self, budget: BudgetSnapshot) -> None:
        super().__init__()
        self.budget = budget

    def effect(self) -> str:
        """Return what will happen."""
        raise NotImplementedError

    def change(self, act: Attribution) -> Change:
        """Return what the person has typed as a change, or raise `InvalidSetting`."""
        raise NotImplementedError

    def fields(self) -> ComposeResult:
        """Make the lines before the reason."""
        yield from ()

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        with VerticalScroll(id="dialog", can_focus=False):
            yield Static(Text(f"{self.verb} {self.budget.name}?", style="bold"), id="question")
            yield Static(Text(self.effect()), id="effect")
            yield from self.fields()
            yield Static(Text("Reason, for the history:"), classes="label")
            yield Input(id="reason", compact=True)
            yield Static(id="refused")
            with Horizontal(id="buttons"):
                yield Button(self.verb, id="yes", variant="warning", compact=True)
                yield Button("Cancel", id="no", compact=True)

    def on_mount(self) -> None:
        """Begin without a refusal."""
        self.query_one("#refused").display = False

    def on_input_submitted(self) -> None:
        """Go on to the next line; only the button makes the change."""
        self.focus_next()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Make the change, or nothing."""
        if event.button.id == "no":
            self.dismiss(None)
            return
        try:
            change = self.change(attribution(None, self.query_one("#reason", Input).value))
        except InvalidSetting as error:
            line = self.query_one("#refused", Static)
            line.display = True
            line.update(Text(f"! {error}"))
            self.query_one("#dialog").add_class("-refused")
            self.query_one("Input", Input).focus()
        else:
            self.dismiss(change)


class PauseDialog(Dialog):
    """How long to pause a budget, and why."""

    verb = "Pause"

    def effect(self) -> str:
        """Return who stops."""
        who = counted(self.budget.producer_count, "producer")
        return f"No process on any host gets a token from it. Now {who} may use {rate(self.budget.rate)} in all."

    def fields(self) -> ComposeResult:
        """Ask for the time."""
        yield Static(Text("Time, as 30, 5m or 2h:"), classes="label")
        yield Input(id="time", compact=True, placeholder="Without a time, it has no end.")

    def change(self, act: Attribution) -> Change:
        """Return the pause."""
        duration = self.query_one("#time", Input).value.strip() or None
        return Change(self.budget.name, pause_length(duration), paused(duration, act["note"]), act)


class ResumeDialog(Dialog):
    """Why to end a pause."""

    verb = "Resume"

    def __init__(self, budget: BudgetSnapshot, left: float) -> None:
        super().__init__(budget)
        self._left = left

    def effect(self) -> str:
        """Return what ends, and who goes on."""
        who = counted(self.budget.producer_count, "producer")
        return f"It is paused {pause_of(self.budget, self._left)}. Without the pause, {who} go on at once."

    def change(self, act: Attribution) -> Change:
        """Return the end of the pause."""
        return Change(self.budget.name, 0.0, "resumed; ", act)

"""What both screens share: a line for what is wrong, and the keys that pause and resume a budget."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis.cli.top.dialogs import Change, PauseDialog, ResumeDialog
from nexus_redis.cli.top.looks import Look
from nexus_redis.cli.top.past import Past
from nexus_redis.cli.top.states import Seen

if TYPE_CHECKING:
    from nexus_redis.cli.top.application import Top


@dataclass(frozen=True)
class Reading:
    """The last look that Redis answered, None before the first, and what has been wrong since then."""

    where: str
    look: Look | None
    trouble: str


class BudgetScreen(Screen[None]):
    """A screen on which one budget is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "Pause"),
        Binding("r", "resume", "Resume"),
    ]

    @property
    @abstractmethod
    def budget(self) -> Seen | None:
        """The budget that the keys are about."""

    @abstractmethod
    def show(self, reading: Reading) -> None:
        """Show what was read last."""

    @property
    def top(self) -> "Top":
        """The application."""
        return cast("Top", self.app)

    @property
    def past(self) -> Past:
        """The samples of all budgets."""
        return self.top.past

    @property
    def reading(self) -> Reading:
        """What was read last."""
        return self.top.reading

    def on_mount(self) -> None:
        """Show the newest state."""
        self.show(self.reading)

    def show_trouble(self, reading: Reading) -> None:
        """Show what is wrong in a line of its own, which takes no room otherwise."""
        lines = [reading.trouble] if reading.trouble else reading.look.problems if reading.look is not None else []
        line = self.query_one("#trouble", Static)
        line.display = bool(lines)
        line.update(Text("\n".join(f"! {each}" for each in lines)))

    def action_pause(self) -> None:
        """Ask how long to pause the budget and why, and pause it."""
        budget = self.budget
        if isinstance(budget, BudgetSnapshot):
            self.app.push_screen(PauseDialog(budget), self._change)

    def action_resume(self) -> None:
        """Ask why to end the pause, and end it."""
        budget = self.budget
        if isinstance(budget, BudgetSnapshot):
            if budget.paused_for is None:
                self.app.notify(f"{budget.name} is not paused", markup=False)
            else:
                self.app.push_screen(ResumeDialog(budget, budget.paused_for), self._change)

    def _change(self, change: Change | None) -> None:
        if change is not None:
            self.top.make(change)

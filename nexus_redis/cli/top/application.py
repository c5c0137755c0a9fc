"""The application: it looks at Redis again and again, makes changes, and holds the screens."""

import asyncio
import signal
import time
from contextlib import suppress
from typing import ClassVar, Final

from textual.app import App
from textual.binding import Binding, BindingType

from nexus_redis._values.formatting import seconds
from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Target
from nexus_redis.cli.context import Context
from nexus_redis.cli.exit_codes import SIGNALLED, Finding
from nexus_redis.cli.operator_change import changed
from nexus_redis.cli.top.budget_screen import BudgetScreen, Reading
from nexus_redis.cli.top.detail import Detail
from nexus_redis.cli.top.dialogs import Change
from nexus_redis.cli.top.help import Help
from nexus_redis.cli.top.looks import Look, look
from nexus_redis.cli.top.overview import Overview
from nexus_redis.cli.top.past import Past
from nexus_redis.cli.top.rows import Rows
from nexus_redis.errors import NexusError

ENDING: Final = (signal.SIGTERM, signal.SIGHUP) if hasattr(signal, "SIGHUP") else (signal.SIGTERM,)


class Top(App[None]):
    """All budgets of a namespace, live. `every` is the time between two looks in seconds."""

    CSS_PATH = "top.tcss"
    ENABLE_COMMAND_PALETTE = False
    VERTICAL_BREAKPOINTS = [(0, "-short"), (18, "-tall")]  # noqa: RUF012  # textual declares it without ClassVar
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
    ]

    def __init__(self, context: Context, every: float) -> None:
        super().__init__()
        self.past = Past()
        self.reading = Reading(context.where, None, "")
        self._redis, self._every = context, every
        self._opened: str | None = None
        self._is_looking = False

    def on_mount(self) -> None:
        """Begin to look."""
        self._end_by_signals()
        self.push_screen(Overview())
        self.set_interval(self._every, self.look_again)
        self.look_again()

    # --- looks

    def look_again(self) -> None:
        """Begin a look, unless the one before has not ended."""
        if not self._is_looking:
            self._is_looking = True
            self.run_worker(self._look(), group="look")

    async def _look(self) -> None:
        opened = self._opened
        try:
            seen = await asyncio.to_thread(look, self._redis, opened)
        except NexusError as error:
            self._show(self.reading.look, str(error))
        else:
            self.past.add(seen.budgets, seen.at)
            self._show(seen, "")
        finally:
            self._is_looking = False
        if self._opened != opened:  # a budget was opened meanwhile
            self.look_again()

    def _show(self, seen: Look | None, trouble: str) -> None:
        if trouble and seen is not None:
            trouble = texts.watch_shows_old(trouble, seconds(time.monotonic() - seen.at))
        elif trouble:
            trouble = texts.watch_goes_on(trouble)
        self.reading = Reading(self.reading.where, seen, trouble)
        for screen in self.screen_stack:
            if isinstance(screen, BudgetScreen) and screen.query("#trouble"):  # it has its widgets
                screen.show(self.reading)

    # --- one budget

    def on_rows_opened(self, event: Rows.Opened) -> None:
        """Show the budget that was opened on the first screen."""
        if self._opened is None:
            self._opened = event.name
            self.push_screen(Detail(event.name))
            self.look_again()

    def action_close_budget(self) -> None:
        """Go back to all budgets."""
        self._opened = None
        self.pop_screen()

    # --- changes

    def make(self, change: Change) -> None:
        """Make a change that a person has confirmed."""
        self.run_worker(self._make(change), group="change")

    async def _make(self, change: Change) -> None:
        def send() -> str:
            target = Target(change.budget)
            return changed(
                self._redis, target, creates=False, done=change.done, pause=change.pause, **change.act
            )  # fmt: skip

        try:
            done = await asyncio.to_thread(send)
        except (Finding, NexusError) as error:
            self.notify(f"Nothing was changed: {error}", severity="error", markup=False)
        else:
            self.notify(done, markup=False)
        self.look_again()

    # --- help, and the end

    def action_help(self) -> None:
        """Show the keys."""
        if isinstance(self.screen, BudgetScreen):
            self.push_screen(Help())

    def _end_by_signals(self) -> None:
        """Leave the terminal as it was, also at a signal that ends the process."""
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not on Windows, nor outside of the main thread
            for number in ENDING:
                asyncio.get_running_loop().add_signal_handler(number, self.exit, None, SIGNALLED + number)

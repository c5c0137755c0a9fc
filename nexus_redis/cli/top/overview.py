"""The first screen: all budgets, those in trouble first, with a filter."""

from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._protocol.states import state_of
from nexus_redis._values.formatting import counted, number, percent, rate
from nexus_redis.cli.natural import natural
from nexus_redis.cli.top.budget_screen import BudgetScreen, Reading
from nexus_redis.cli.top.rows import Column, Rows
from nexus_redis.cli.top.states import Seen, kind_of

UNKNOWN: Final = "-"  # nothing is known of a damaged budget


def _of(seen: Seen, field: str, otherwise: float = -1.0) -> float:
    """Return a number of a budget to sort by; damaged budgets come last."""
    return getattr(seen, field) if isinstance(seen, BudgetSnapshot) else otherwise


def _reason(seen: Seen) -> str:
    """Return the reason of the rate, and of a pause what somebody has said about it."""
    if not isinstance(seen, BudgetSnapshot):
        return str(seen.error)
    return f"{seen.reason}: {seen.pause_reason}" if seen.pause_reason else seen.reason


def _words(seen: Seen) -> str:
    """Return what the filter looks for its text in."""
    return "\n".join((seen.name, state_of(seen), _reason(seen)))


class Overview(BudgetScreen):
    """All budgets."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter"),
        Binding("escape", "end_filter", "All budgets", show=False),
    ]

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(id="head")
        yield Static(id="trouble")
        yield Input(
            placeholder="a name, state or reason, or a part; Enter keeps it, Escape ends it",
            id="filter",
            compact=True,
        )
        yield Rows[Seen](
            self._columns(), lambda seen: seen.name, words_of=_words, sort="STATE", nothing="no budgets", id="budgets"
        )
        yield Footer()

    def _columns(self) -> list[Column[Seen]]:
        def cell(make: Any) -> Any:
            return lambda seen: make(seen) if isinstance(seen, BudgetSnapshot) else UNKNOWN

        def granted(seen: Seen) -> float:
            return self.past.granted(seen.name)

        return [
            Column("BUDGET", lambda seen: seen.name, lambda seen: natural(seen.name), 0, is_left=True),
            Column("STATE", state_of, lambda seen: state_of(seen).place, 12, is_left=True, kind=kind_of),
            Column("RATE", cell(lambda seen: rate(seen.rate)), lambda seen: _of(seen, "rate"), 10),
            Column("GRANTED", cell(lambda seen: rate(granted(seen))), granted, 10, spare=2),
            Column("LEVEL", cell(lambda seen: str(seen.level)), lambda seen: _of(seen, "level"), 6, spare=4,
                   kind=kind_of),
            Column("LOAD", cell(_load), lambda seen: _of(seen, "load"), 7, spare=1),
            Column("CONSUMERS", cell(lambda seen: number(seen.consumer_count)),
                   lambda seen: _of(seen, "consumer_count"), 10, spare=5),
            Column("PRODUCERS", cell(lambda seen: number(seen.producer_count)),
                   lambda seen: _of(seen, "producer_count"), 10, spare=3),
            Column("REASON", _reason, _reason, 20, is_left=True, spare=6, is_elastic=True),
        ]  # fmt: skip

    @property
    def rows(self) -> Rows[Seen]:
        """The table."""
        return self.query_one("#budgets", Rows)

    @property
    def budget(self) -> Seen | None:
        """The budget under the cursor."""
        return self.rows.selected

    def on_mount(self) -> None:
        """Begin without a filter."""
        self.query_one("#filter").display = False
        self.rows.focus()

    def show(self, reading: Reading) -> None:
        """Show what was read last."""
        self.show_trouble(reading)
        if reading.look is not None:
            self.rows.show(reading.look.budgets)
        self._show_head(reading)

    def _show_head(self, reading: Reading) -> None:
        head = Text(no_wrap=True, overflow="ellipsis")
        if reading.look is not None:
            found = reading.look.budgets
            bad = sum(state_of(each).is_trouble for each in found)
            shown = f"{number(self.rows.count)} of " if self.rows.count != len(found) else ""
            head.append(f"{shown}{counted(len(found), 'budget')}, {number(bad)} in trouble, ")
        head.append(reading.where, style="not bold")
        self.query_one("#head", Static).update(head)

    # --- the filter

    def action_filter(self) -> None:
        """Show the line of the filter, and type into it."""
        line = self.query_one("#filter", Input)
        line.display = True
        line.focus()

    def action_end_filter(self) -> None:
        """Show all budgets again."""
        line = self.query_one("#filter", Input)
        line.value = ""
        line.display = False
        self.rows.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the budgets whose name, state or reason has the text in it."""
        self.rows.filter(event.value)
        self._show_head(self.reading)

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the table."""
        self.rows.focus()


def _load(seen: BudgetSnapshot) -> str:
    return percent(seen.load) if seen.consumer_count else UNKNOWN

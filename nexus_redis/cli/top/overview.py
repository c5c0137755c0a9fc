"""The first screen: all budgets, those in trouble first, with a filter."""

from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._values.formatting import counted, number, percent, rate
from nexus_redis.cli.top.budget_screen import BudgetScreen, Reading
from nexus_redis.cli.top.rows import Column, Rows
from nexus_redis.cli.top.states import Seen, Trouble, rank, state, trouble

UNKNOWN: Final = "-"  # nothing is known of a damaged budget


def _of(seen: Seen, field: str, otherwise: float = -1.0) -> float:
    """Return a number of a budget to sort by; damaged budgets come last."""
    return getattr(seen, field) if isinstance(seen, BudgetSnapshot) else otherwise


def _kind(seen: Seen) -> str:
    return trouble(seen).name.lower()


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
        yield Input(placeholder="a part of the name; Enter keeps the filter, Escape ends it", id="filter", compact=True)
        yield Rows[Seen](
            self._columns(), lambda seen: seen.name, sort="STATE", nothing="no budgets", id="budgets"
        )  # fmt: skip
        yield Footer()

    def _columns(self) -> list[Column[Seen]]:
        def cell(make: Any) -> Any:
            return lambda seen: make(seen) if isinstance(seen, BudgetSnapshot) else UNKNOWN

        def granted(seen: Seen) -> float:
            return self.past.granted(seen.name)

        return [
            Column("BUDGET", lambda seen: seen.name, lambda seen: seen.name, 0, is_left=True),
            Column("STATE", state, rank, 12, is_left=True, kind=_kind),
            Column("RATE", cell(lambda seen: rate(seen.rate)), lambda seen: _of(seen, "rate"), 10),
            Column("GRANTED", cell(lambda seen: rate(granted(seen))), granted, 10, spare=1),
            Column("LEVEL", cell(lambda seen: str(seen.level)), lambda seen: _of(seen, "level"), 6, spare=3,
                   kind=_kind),
            Column("LOAD", cell(_load), lambda seen: _of(seen, "load"), 7),
            Column("CONSUMERS", cell(lambda seen: number(seen.consumer_count)),
                   lambda seen: _of(seen, "consumer_count"), 10, spare=4),
            Column("PRODUCERS", cell(lambda seen: number(seen.producer_count)),
                   lambda seen: _of(seen, "producer_count"), 10, spare=2),
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
            bad = sum(trouble(each) is Trouble.SERIOUS for each in found)
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
        """Show the budgets whose name has the text in it."""
        self.rows.filter(event.value)
        self._show_head(self.reading)

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the table."""
        self.rows.focus()


def _load(seen: BudgetSnapshot) -> str:
    return percent(seen.load) if seen.consumer_count else UNKNOWN

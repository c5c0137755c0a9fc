"""The second screen: one budget with its curves, its reason, its members, its history and its settings."""

from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static, TabbedContent, TabPane

from nexus_redis._protocol.explain import Explanation
from nexus_redis._protocol.snapshot import ConsumerSnapshot, ProducerSnapshot
from nexus_redis._protocol.states import state_of
from nexus_redis._values.formatting import counted, number, percent, printable, rate, seconds
from nexus_redis.cli.natural import natural
from nexus_redis.cli.tables import history, settings
from nexus_redis.cli.top.budget_screen import BudgetScreen, Reading
from nexus_redis.cli.top.past import curve
from nexus_redis.cli.top.rows import Column, Rows
from nexus_redis.cli.top.states import Seen

NO_HISTORY: Final = "Nothing has changed yet, as far as the history reaches back."
NEWEST: Final = 100  # entries of the history that are shown
TABS: Final = ("why", "consumers", "producers", "history", "settings")
NOTICED: Final = 0.001  # of its demand: what a producer misses less of is shown as nothing
BESIDE_CURVE: Final = 42  # columns: a title, two numbers, and what is between them


def _field(field: str) -> Any:
    """Return a function that gives a number that a consumer reports, -1 if it does not report it."""
    return lambda each: float(each.fields.get(field) or -1.0)


def _reported(field: str, unit: str = "") -> Any:
    """Return a function that gives such a number as text."""
    return lambda each: f"{number(float(each.fields[field]))}{unit}" if each.fields.get(field) else "-"


def _unmet(each: ProducerSnapshot) -> float:
    """Return the demand that the share of a producer does not cover."""
    return max(0.0, each.demand - each.share)


def _queue(each: ConsumerSnapshot) -> str:
    limit = each.fields.get("queue_limit")
    return f"{_reported('queue_depth')(each)}{'/' + number(float(limit)) if limit else ''}"


CONSUMERS: Final[list[Column[ConsumerSnapshot]]] = [
    Column("CONSUMER", lambda each: each.id, lambda each: natural(each.id), 0, is_left=True),
    Column("LIVE", lambda each: "live" if each.is_live else "stale", lambda each: each.is_live, 6, is_left=True,
           kind=lambda each: "calm" if each.is_live else "serious"),
    Column("LOAD", lambda each: percent(each.load), lambda each: each.load, 6),
    Column("QUEUE", _queue, _field("queue_depth"), 11, spare=3),
    Column("IN FLIGHT", _reported("in_flight"), _field("in_flight"), 9, spare=6),
    Column("LATENCY", _reported("latency_ms", " ms"), _field("latency_ms"), 9, spare=5),
    Column("ERRORS", _reported("errors"), _field("errors"), 8, spare=7),
    Column("CAPACITY", lambda each: rate(each.capacity) if each.capacity else "-",
           lambda each: each.capacity or -1.0, 9, spare=2),
    Column("LAW", lambda each: each.law, lambda each: each.law, 6, is_left=True, spare=1),
    Column("RATE", lambda each: rate(each.rate), lambda each: each.rate, 9),
    Column("AGE", lambda each: seconds(_field("age_s")(each)), _field("age_s"), 7, spare=4),
]  # fmt: skip
PRODUCERS: Final[list[Column[ProducerSnapshot]]] = [
    Column("PRODUCER", lambda each: each.id, lambda each: natural(each.id), 0, is_left=True),
    Column("DEMAND", lambda each: rate(each.demand), lambda each: each.demand, 9, spare=1),
    Column("SHARE", lambda each: rate(each.share), lambda each: each.share, 9),
    Column("UNMET", lambda each: rate(_unmet(each)) if _unmet(each) > NOTICED * each.demand else "-", _unmet, 9),
    Column("HELD", lambda each: number(each.held), lambda each: each.held, 7, spare=3),
    Column("WEIGHT", lambda each: number(each.weight), lambda each: each.weight, 7, spare=5),
    Column("PRIORITY", lambda each: each.priority, lambda each: each.priority, 9, is_left=True, spare=4),
    Column("AGE", lambda each: seconds(each.age), lambda each: each.age, 7, spare=2),
]  # fmt: skip


class Detail(BudgetScreen):
    """One budget."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace", "app.close_budget", "Back"),
        *(Binding(str(at), f"tab({tab!r})", tab.capitalize(), show=False) for at, tab in enumerate(TABS, 1)),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self.budget_name = name
        self._why: Explanation | None = None

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(id="head")
        yield Static(id="trouble")
        yield Static(id="curves")
        with TabbedContent(initial="why"):
            with TabPane("1 Why", id="why"), VerticalScroll():
                yield Static(id="why-text")
            with TabPane("2 Consumers", id="consumers"):
                nothing = "no consumer has reported in the last ten minutes"
                yield Rows[ConsumerSnapshot](CONSUMERS, lambda each: each.id, sort="CONSUMER", nothing=nothing)
            with TabPane("3 Producers", id="producers"):
                nothing = "no producer has claimed in the last ten minutes"
                yield Rows[ProducerSnapshot](PRODUCERS, lambda each: each.id, sort="UNMET", nothing=nothing)
            with TabPane("4 History", id="history"), VerticalScroll():
                yield Static(id="history-text")
            with TabPane("5 Settings", id="settings"), VerticalScroll():
                yield Static(id="settings-text")
        yield Footer()

    @property
    def budget(self) -> Seen | None:
        """The budget of this screen."""
        return self._why.budget if self._why is not None else None

    def action_tab(self, tab: str) -> None:
        """Show a tab, and give it the keys."""
        self.query_one(TabbedContent).active = tab
        self.query_one(f"#{tab} > *").focus()
        self._show_tab()

    def on_tabbed_content_tab_activated(self) -> None:
        """Fill the tab that is seen now."""
        self._show_tab()

    def on_resize(self) -> None:
        """Draw the curves as wide as the screen is now."""
        self._show_head()

    def show(self, reading: Reading) -> None:
        """Show what was read last."""
        self.show_trouble(reading)
        if reading.look is not None and reading.look.opened_name == self.budget_name:
            self._why = reading.look.opened
            self._show_head(is_known=True)
            self._show_tab()
        else:
            self._show_head()

    # --- above the tabs

    def _show_head(self, *, is_known: bool = False) -> None:
        head = Text(printable(self.budget_name), style="bold", no_wrap=True)
        if self._why is None:
            gone = "is gone: somebody has deleted it, or its state was lost"
            head.append(f"  {gone if is_known else 'is being read'}", style="not bold")
            self.query_one("#curves", Static).update(Text())
        else:
            seen = self._why.budget
            head.append(f"  {state_of(seen)}")
            head.append(
                f"  {rate(seen.rate)}, level {seen.level}, "
                f"{counted(seen.consumer_count, 'consumer')}, {counted(seen.producer_count, 'producer')}",
                style="not bold",
            )
            self.query_one("#curves", Static).update(self._curves())
        self.query_one("#head", Static).update(head)

    def _curves(self) -> Text:
        samples = self.past.of(self.budget_name)
        lines = []
        for title, values, written, most in (
            ("rate", [each.rate for each in samples], rate, 0.0),
            ("granted", [each.granted for each in samples], rate, 0.0),
            ("load", [each.load for each in samples], percent, 100.0),
            ("level", [float(each.level) for each in samples], number, 3.0),
        ):
            if values:
                bars = curve(values, max(1, self.size.width - BESIDE_CURVE), most)
                lines.append(f"{title:8}{written(values[-1]):>10}  {bars}  most {written(max(values))}")
        return Text("\n".join(lines), no_wrap=True)

    # --- the tabs

    def _show_tab(self) -> None:
        """Fill the tab that is seen; the others are filled when they are."""
        why = self._why
        if why is None:
            return
        match self.query_one(TabbedContent).active:
            case "why":
                self.query_one("#why-text", Static).update(_why_text(why))
            case "consumers":
                self.query_one("#consumers Rows", Rows).show(why.budget.consumers)
            case "producers":
                self.query_one("#producers Rows", Rows).show(why.budget.producers)
            case "history":
                events = why.history[:NEWEST]
                self.query_one("#history-text", Static).update(history(events) if events else Text(NO_HISTORY))
            case "settings":
                lines = settings(why.budget)
                self.query_one("#settings-text", Static).update(Text("\n".join(lines) or "nobody has set anything"))


def _why_text(why: Explanation) -> Text:
    seen = why.budget
    since = f", for {seconds(why.since)}" if why.since is not None else ""
    text = Text(f"reason {printable(seen.reason)}{since}\n")
    for sentence in why.because:
        text.append(f"  {sentence}\n")
    if why.remedies:
        text.append("\nTo raise it:\n", style="bold")
        for remedy in why.remedies:
            text.append(f"  {remedy}\n")
    return text

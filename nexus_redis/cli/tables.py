"""The tables of `status` and of the history: as wide as the terminal, and unbounded if there is none."""

from collections.abc import Callable, Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.calls import REFRESH
from nexus_redis._protocol.history import Event
from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._protocol.states import State, state_of
from nexus_redis._values.formatting import counted, number, percent, printable, rate, seconds
from nexus_redis.cli.natural import natural
from nexus_redis.cli.output import setting

GAP = 2  # columns between two cells
ENOUGH_OF_NAME = 16
BOUNDLESS = 10_000  # columns: a pipe has no edge
Row = tuple[str, *tuple[str | Text, ...]]  # the name of a budget or a member, and the other cells
LEVEL_STYLES = ("green", "yellow", "yellow", "red")
REASONS = {
    "rate": "the ceiling that was set",
    "load": "what the consumers can take",
    "paused": "stopped, by an operator, code or all consumers",
    "no_consumers": "the consumers that were there are gone",
    "window": "it is lossless, and no consumer says what it can hold",
    "unset": "no rate is set and no consumer has reported",
}
ENDS = {"silent": "fell silent", "left": "left", "overruled": "fell silent; an operator has set something since"}


def show(view: Callable[[Console], RenderableType]) -> None:
    """Print a view to stdout."""
    console = console_of_stdout()
    _print(console, view(console))


def budgets(console: Console, found: Sequence[BudgetSnapshot | DamagedBudget]) -> Table:
    """Return one line for each budget, the most urgent state first; AGE is the time since the last call.

    Of a damaged budget nothing is known.
    """
    columns = _columns(
        "BUDGET", _left("STATE"), "RATE", "LEVEL", "LOAD", _left("REASON"), "CONSUMERS", "PRODUCERS", "AGE"
    )
    rows: list[Row] = [
        (printable(each.name), _state(each), "-", "-", "-", "-", "-", "-", "-")
        if isinstance(each, DamagedBudget)
        else (
            printable(each.name), _state(each), rate(each.rate), _level(each.level), _load(each),
            printable(each.reason), number(each.consumer_count), number(each.producer_count), seconds(each.age),
        )
        for each in sorted(found, key=lambda each: (state_of(each).place, natural(each.name)))
    ]  # fmt: skip
    return _fitted(console, columns, rows, ("AGE", "LOAD", "PRODUCERS", "CONSUMERS", "REASON"))


def budget(console: Console, seen: BudgetSnapshot) -> Group:
    """Return one budget with its consumers and producers."""
    parts: list[Text | Table] = [Text(printable(seen.name), style="bold"), _facts(seen)]
    if seen.consumers:
        parts += [Text(), _consumers(console, seen), *_rest(len(seen.consumers), seen.consumer_count, "consumer")]
    if seen.producers:
        parts += [Text(), _producers(console, seen), *_rest(len(seen.producers), seen.producer_count, "producer")]
    return Group(*parts)


def history(events: Iterable[Event]) -> Table:
    """Return the history, the newest event first."""
    table = _table(*_columns("AGO", "RATE", "LEVEL", "LOAD", _left("REASON"), Column("WHAT", overflow="fold")))
    for each in events:
        table.add_row(
            seconds(each.age), rate(each.rate), _level(each.level), percent(each.load), printable(each.reason),
            Text(str(each)),
        )  # fmt: skip
    return table


def pause_of(seen: BudgetSnapshot, left: float) -> str:
    """Return how long a pause lasts, who made it, and why: `for 30 s, by anna@ops1: maintenance`."""
    how_long = "until it is resumed" if left == float("inf") else f"for {seconds(left)}"
    why = f": {printable(seen.pause_reason)}" if seen.pause_reason else ""
    who = f", by {printable(seen.pause_who)}" if seen.pause_who else ""
    return f"{how_long}{who}{why}"


def settings(seen: BudgetSnapshot) -> list[str]:
    """Return each setting in force with its source: `rate 100/s (operator anna@ops1, 90 s ago: maintenance)`."""
    found = []
    for field, (value, source) in seen.settings.items():
        by = seen.set_by.get(field)
        whose = f" {printable(by.who)}, {seconds(by.age)} ago" if by is not None else ""
        why = f": {printable(by.why)}" if by is not None and by.why else ""
        found.append(f"{setting(field, value)} ({source}{whose}{why})")
    return found


def _facts(seen: BudgetSnapshot) -> Table:
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("  state", _state(seen))
    facts.add_row("  rate", rate(seen.rate))
    facts.add_row("  level", _level(seen.level))
    if seen.consumers:
        facts.add_row("  load", percent(seen.load))
    meaning = REASONS.get(seen.reason)
    facts.add_row("  reason", f"{printable(seen.reason)}: {meaning}" if meaning else printable(seen.reason))
    if seen.paused_for is not None:
        facts.add_row("  paused", Text(pause_of(seen, seen.paused_for)))
    facts.add_row("  tokens", f"{number(seen.tokens)} at hand, {number(seen.granted_total)} granted so far")
    if seen.refresh > REFRESH:
        facts.add_row(
            "  refresh", f"each of {number(seen.producer_count)} producers claims once in {seconds(seen.refresh)}"
        )
    title = "  settings"
    for line in settings(seen):
        facts.add_row(title, Text(line))
        title = ""
    if seen.last_consumer_end and not seen.consumers:
        facts.add_row("  consumers", f"none; the last one {ENDS.get(seen.last_consumer_end, 'left')}")
    return facts


def _consumers(console: Console, seen: BudgetSnapshot) -> Table:
    columns = _columns("CONSUMER", "RATE", "CAPACITY", "LOAD", _left("LAW"), "AGE", _left("LIVE"))
    rows = [
        (
            printable(each.id), rate(each.rate), rate(each.capacity) if each.capacity else "-",
            percent(each.load), printable(each.law), seconds(float(each.fields["age_s"])),
            Text("yes") if each.is_live else Text("no", style="red"),
        )
        for each in seen.consumers
    ]  # fmt: skip
    return _fitted(console, columns, rows, ("AGE", "LAW", "CAPACITY", "LIVE"))


def _producers(console: Console, seen: BudgetSnapshot) -> Table:
    columns = _columns("PRODUCER", "SHARE", "DEMAND", "HELD", "WEIGHT", _left("PRIORITY"), "AGE")
    rows = [
        (
            printable(each.id), rate(each.share), rate(each.demand), number(each.held), number(each.weight),
            printable(each.priority), seconds(each.age),
        )
        for each in seen.producers
    ]  # fmt: skip
    return _fitted(console, columns, rows, ("PRIORITY", "WEIGHT", "HELD", "AGE"))


def _fitted(console: Console, columns: Sequence[Column], rows: Sequence[Row], spare: Sequence[str]) -> Table:
    """Return a table that fits the terminal: first names are cut to ENOUGH_OF_NAME, then `spare` columns go."""
    enough = min(ENOUGH_OF_NAME, max((len(row[0]) for row in rows), default=0))
    for dropped in range(len(spare) + 1):
        shown = [i for i, column in enumerate(columns) if column.header not in spare[:dropped]]
        bare = _filled([columns[i] for i in shown], [[row[i] if i else "" for i in shown] for row in rows])
        unbound = console.options.update(width=BOUNDLESS)
        room = console.width - console.measure(bare, options=unbound).maximum + len(str(columns[0].header))
        if room >= enough:
            break
    room = max(room, len(str(columns[0].header)))
    return _filled(
        [columns[i] for i in shown], [[row[i] if i else abridged(row[0], room) for i in shown] for row in rows]
    )


def abridged(name: str, room: int) -> str:
    """Return both ends of a name, because the names of a family differ in the last letters."""
    tail = room // 2
    return name if len(name) <= room else f"{name[: room - 1 - tail]}…{name[-tail:]}"


def _filled(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> Table:
    table = _table(*(Column(each.header, justify=each.justify, no_wrap=True) for each in columns))
    for row in rows:
        table.add_row(*row)
    return table


def _columns(name: str, *others: Column | str) -> list[Column]:
    return [_left(name), *(Column(c, justify="right", no_wrap=True) if isinstance(c, str) else c for c in others)]


def _table(*columns: Column) -> Table:
    return Table(*columns, box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")


def _left(title: str) -> Column:
    return Column(title, no_wrap=True)


def _print(console: Console, shown: RenderableType) -> None:
    if console.is_terminal:
        console.print(shown)
        return
    for line in lines(console, shown):
        print(line)


def lines(console: Console, shown: RenderableType) -> list[str]:
    """Return what a console would print, without the spaces at the ends of lines that rich pads a table with."""
    with console.capture() as drawn:
        console.print(shown)
    return [line.rstrip() for line in drawn.get().splitlines()]


def _rest(listed: int, count: int, what: str) -> list[Text]:
    return [Text(f"These are {number(listed)} of {counted(count, what)}", style="dim")] if count > listed else []


def _state(seen: BudgetSnapshot | DamagedBudget) -> Text:
    state = state_of(seen)
    styles = {State.OK: "green", State.NOT_SET: "dim"}
    return Text(state, style="red" if state.is_trouble else styles.get(state, "yellow"))


def _level(level: int) -> Text:
    return Text(str(level), style=LEVEL_STYLES[min(level, len(LEVEL_STYLES) - 1)])


def _load(seen: BudgetSnapshot) -> str:
    return percent(seen.load) if seen.consumer_count else "-"


def console_of_stdout() -> Console:
    """Return a console for stdout that takes no text for markup; without a terminal it is as wide as any line."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = BOUNDLESS
    return console

"""A table of any number of rows, of which only the visible lines are drawn.

`DataTable` of textual keeps each cell, and takes a third of a second for 2,000 rows that change. Here a row is the item
itself, and its cells are made when its line is drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from nexus_redis._values.formatting import printable
from nexus_redis.cli.natural import natural
from nexus_redis.cli.tables import abridged

T = TypeVar("T")
GAP: Final = 2  # cells between two columns
ENOUGH_OF_NAME: Final = 16
BESIDE: Final = 2  # the mark of the sorted column


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column: its text for an item, and the value that it sorts by. The first column of a table is the name.

    A column with a higher `spare` goes sooner where the terminal is narrow, and one with 0 never. An elastic column
    takes the room that the names leave. `kind` names a style of `top.tcss`.
    """

    title: str
    text: Callable[[T], str]
    order: Callable[[T], Any]
    width: int
    is_left: bool = False
    spare: int = 0
    kind: Callable[[T], str] = lambda _: ""
    is_elastic: bool = False


class Rows(ScrollView, Generic[T], can_focus=True):
    """A table with a cursor, sorted by a column. `columns[0]` is the name of a row, and takes the room that is left.

    Rows that are equal in that column stand in the natural order of their names. `words_of` is what the filter looks
    for its text in, the name if it is left out.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rows--head", "rows--cursor", "rows--serious", "rows--busy", "rows--calm", "rows--dim",
    }  # fmt: skip
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
        Binding("enter", "open", "Open", show=False),
        Binding("s", "sort_next", "Sort"),
        Binding("S", "reverse", "Reverse", show=False),
    ]

    class Opened(Message):
        """A row was opened, by Enter or a double click."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(
        self,
        columns: Sequence[Column[T]],
        name_of: Callable[[T], str],
        *,
        sort: str,
        words_of: Callable[[T], str] | None = None,
        nothing: str = "",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.columns, self._name_of, self._nothing = columns, name_of, nothing
        self._words_of = words_of or name_of
        self._sort = next(column for column in columns if column.title == sort)
        self._is_reversed = not self._sort.is_left
        self._items: list[T] = []
        self._all: Sequence[T] = ()
        self._filter = ""
        self._cursor = 0

    # --- what is in it

    def show(self, items: Sequence[T]) -> None:
        """Show these items from now on. The cursor stays on its item."""
        self._all = items
        self._arrange()

    def filter(self, text: str) -> None:
        """Show only the items whose words have this text in them, whatever the case."""
        self._filter = text.casefold()
        self._arrange(otherwise=0)

    @property
    def count(self) -> int:
        """How many items are shown."""
        return len(self._items)

    @property
    def selected(self) -> T | None:
        """The item under the cursor."""
        return self._items[self._cursor] if self._items else None

    @property
    def _area(self) -> Size:
        """The size without the scrollbar."""
        return self.scrollable_content_region.size

    def _arrange(self, *, keeps_item: bool = True, otherwise: int | None = None) -> None:
        """Filter and sort the items. The cursor follows its item; if that is gone, it stays, or goes to `otherwise`."""
        item = self.selected
        name = self._name_of(item) if item is not None and keeps_item else None
        otherwise = self._cursor if otherwise is None else otherwise
        found = [each for each in self._all if self._filter in self._words_of(each).casefold()]
        found.sort(key=lambda each: natural(self._name_of(each)))
        found.sort(key=self._sort.order, reverse=self._is_reversed)
        self._items = found
        names = (at for at, each in enumerate(found) if self._name_of(each) == name) if name is not None else iter(())
        self._cursor = max(0, min(next(names, otherwise), len(found) - 1))
        self.virtual_size = Size(self._area.width, len(found) + 1)
        self.refresh()

    # --- keys and the mouse

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._cursor = max(0, min(self._cursor + by, len(self._items) - 1))
        top = self.scroll_offset.y
        room = max(1, self._area.height - 1)
        if not top <= self._cursor < top + room:
            self.scroll_to(y=self._cursor if self._cursor < top else self._cursor - room + 1, animate=False)
        self.refresh()

    def action_page(self, by: int) -> None:
        """Move the cursor by what is visible."""
        self.action_move(by * max(1, self._area.height - 2))

    def action_open(self) -> None:
        """Open the item under the cursor."""
        item = self.selected
        if item is not None:
            self.post_message(self.Opened(self._name_of(item)))

    def action_sort_next(self) -> None:
        """Sort by the next column that is visible."""
        shown, _ = self._layout()
        at = shown.index(self._sort) if self._sort in shown else -1
        self.sort_by(shown[(at + 1) % len(shown)])

    def sort_by(self, column: Column[T]) -> None:
        """Sort by a column, numbers from the largest on; by the same column again, the other way round."""
        if column is self._sort:
            self.action_reverse()
            return
        self._sort = column
        self._is_reversed = not column.is_left
        self._arrange(keeps_item=False)

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._is_reversed = not self._is_reversed
        self._arrange(keeps_item=False)

    def on_click(self, event: events.Click) -> None:
        """Sort by the column of a title; move the cursor to a row, and open the row at a double click."""
        if event.y == 0:
            right = 0
            for column, column_width in zip(*self._layout(), strict=True):
                right += GAP + column_width
                if event.x < right:
                    self.sort_by(column)
                    break
            return
        at = self.scroll_offset.y + event.y - 1
        if at < len(self._items):
            self.action_move(at - self._cursor)
            if event.chain > 1:
                self.action_open()

    # --- drawing

    def on_resize(self) -> None:
        """Keep the cursor visible in the new size."""
        self.virtual_size = Size(self._area.width, len(self._items) + 1)
        self.action_move(0)

    def _layout(self) -> tuple[list[Column[T]], list[int]]:
        """Return the columns that fit, and their widths."""
        shown = list(self.columns)
        longest = max((len(self._name_of(each)) for each in self._items), default=0)
        least = len(self.columns[0].title) + BESIDE
        enough = max(least, min(longest, ENOUGH_OF_NAME))
        for spare in (*sorted({column.spare for column in self.columns if column.spare}, reverse=True), 0):
            room = self._area.width - sum(GAP + column.width for column in shown[1:])
            if room >= enough or not spare:
                break
            shown = [column for column in shown if column.spare != spare]
        widths = [max(room, least), *(column.width for column in shown[1:])]
        for at, column in enumerate(shown):
            if column.is_elastic and (left := widths[0] - max(longest, least)) > 0:
                widths[0] -= left
                widths[at] += left
        return shown, widths

    def render_line(self, y: int) -> Strip:
        """Return a line as it is on the screen: the titles, or a row."""
        width = self._area.width
        shown, widths = self._layout()
        if y == 0:
            style = self.get_component_rich_style("rows--head")
            cells = (_cell(each, self._title(each), room) for each, room in zip(shown, widths, strict=True))
            titles = (" " * GAP).join(cells)
            return Strip([Segment(titles, style)]).adjust_cell_length(width, style)
        at = self.scroll_offset.y + y - 1
        if at >= len(self._items):
            text = self._nothing if y == 1 and not self._items else ""
            style = self.get_component_rich_style("rows--dim")
            return Strip([Segment(text, style)]).adjust_cell_length(width, self.rich_style)
        item = self._items[at]
        base = self.rich_style
        if at == self._cursor:
            base += self.get_component_rich_style("rows--cursor", partial=not self.has_focus)
        segments = []
        for column, room in zip(shown, widths, strict=True):
            kind = column.kind(item)
            style = base + self.get_component_rich_style(f"rows--{kind}", partial=True) if kind else base
            text = abridged(self._name_of(item), room) if column is self.columns[0] else column.text(item)
            segments += [Segment(_cell(column, printable(text), room), style), Segment(" " * GAP, base)]
        return Strip(segments).adjust_cell_length(width, base)

    def _title(self, column: Column[T]) -> str:
        return f"{column.title}{'▼' if self._is_reversed else '▲'}" if column is self._sort else column.title


def _cell(column: Column[Any], text: str, width: int) -> str:
    if column.is_left or cell_len(text) >= width:
        return set_cell_size(text, width)
    return " " * (width - cell_len(text)) + text

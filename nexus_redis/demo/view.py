"""The view of a run: on a terminal a panel that redraws itself, elsewhere a line each second."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nexus_redis.demo.stage import Moment, Plan

FRAMES_PER_SECOND = 4  # a frame costs the workers some milliseconds of their processors
LINES_EACH_S = 1.0
SPEED_SPAN_S = 1.0
BESIDE_BAR = 42  # columns for the border, the names of the rows and their figures
SHORTEST_BAR = 20
SPARKS = "▁▂▃▄▅▆▇█"


class View:
    """The view of a run or of the calibration. It gets every moment, and decides when to show one."""

    def __init__(
        self, console: Console, title: str, plan: Plan, *, hint: str = "", budget_line: Callable[[], str] | None = None
    ) -> None:
        self._console, self._title, self._plan, self._hint, self._budget_line = console, title, plan, hint, budget_line
        self._depths: list[tuple[float, int]] = []
        self._history: deque[Moment] = deque()
        self._live: Live | None = None
        self._shown_at = -inf  # so that the first moment is shown at once
        self._opened_at = 0.0
        self._latest: Moment | None = None
        self._last_budget_line = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        self._opened_at = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(self._title, soft_wrap=True)
            yield
            return
        with Live(console=self._console, auto_refresh=False) as self._live:
            yield
            if self._latest:  # the queue is empty now, so the figures that stay on the screen add up
                self._live.update(self._picture(self._latest), refresh=True)

    def starting(self, ready: int, processes: int) -> None:
        """Show how many of the processes are ready."""
        if not self._is_due():
            return
        seconds = time.monotonic() - self._opened_at
        said = f"{seconds:5.1f} s  starting: {ready} of {processes} processes are ready"
        if self._live:
            self._live.update(self._framed(Text(said)), refresh=True)
        else:
            self._console.print(said, highlight=False, soft_wrap=True)

    def watch(self, moment: Moment) -> None:
        """Show a moment of the run."""
        self._latest = moment
        if not self._is_due():
            return
        self._history.append(moment)
        while len(self._history) > 2 and self._history[0].at < moment.at - SPEED_SPAN_S:
            self._history.popleft()
        self._depths.append((moment.at, moment.sample["depth"]))
        if self._live:
            self._live.update(self._picture(moment), refresh=True)
        else:
            self._console.print(self._line(moment), highlight=False, soft_wrap=True)

    def speeds(self, moment: Moment) -> list[float]:
        """Return the records per second of each worker, over the last second."""
        before = self._history[0] if self._history else moment
        span = moment.at - before.at
        pairs = zip(before.sample["indexed"], moment.sample["indexed"], strict=True)
        return [(now - then) / span if span > 0 else 0.0 for then, now in pairs]

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._shown_at < (1 / FRAMES_PER_SECOND if self._live else LINES_EACH_S):
            return False
        self._shown_at = now
        return True

    @property
    def _is_calibration(self) -> bool:
        return self._plan.rate is None

    def _line(self, moment: Moment) -> str:
        sample = moment.sample
        at, indexed = f"{moment.at:5.1f} s", f"indexed {sum(sample['indexed']):>8,}"
        if self._is_calibration:
            return f"{at}  {indexed}  {sum(self.speeds(moment)):,.0f} records/s"
        slow = "  one worker is slow" if any(sample["slow"]) else ""
        return (
            f"{at}  received {sample['received']:>8,}  {indexed}  "
            f"lost {sample['lost']:>8,}  queue {sample['depth']:>6,} of {self._plan.queue_limit:,}{slow}"
        )

    def _picture(self, moment: Moment) -> RenderableType:
        sample, limit = moment.sample, self._plan.queue_limit
        width = max(SHORTEST_BAR, self._console.width - BESIDE_BAR)
        rows = Table.grid(padding=(0, 2), expand=True)
        rows.add_column(no_wrap=True)
        rows.add_column(ratio=1, min_width=width, no_wrap=True)
        rows.add_column(no_wrap=True)
        seconds = min(moment.at, self._plan.seconds)
        rows.add_row("time", ProgressBar(self._plan.seconds, seconds, width=width), f"{seconds:.1f} s")
        if not self._is_calibration:
            share = sample["depth"] / limit
            colour = "red" if share > 0.9 else "yellow" if share > 0.5 else "green"
            rows.add_row("queue", Text(self._curve(width), colour), Text(f"{sample['depth']:,} of {limit:,}", colour))
        for number, (speed, is_slow) in enumerate(zip(self.speeds(moment), sample["slow"], strict=True), 1):
            state = Text("more work per record", "yellow") if is_slow else Text("")
            rows.add_row(f"worker {number}", f"{speed:,.0f} records/s", state)
        lost = Text(f"lost {sample['lost']:,}", "bold red" if sample["lost"] else "bold green")
        indexed = f"indexed {sum(sample['indexed']):,}"
        rows.add_row(
            "records", f"received {sample['received']:,}   {indexed}", Text("") if self._is_calibration else lost
        )
        if self._budget_line:
            if moment.at < self._plan.seconds:  # after that the consumer leaves, and the budget has no rate
                self._last_budget_line = self._budget_line()
            rows.add_row("budget", self._last_budget_line, "")
        parts: list[RenderableType] = [rows]
        if self._hint:
            parts += [Text("\nlook inside, from another terminal:", "dim"), Text(self._hint, "cyan", overflow="fold")]
        return self._framed(Group(*parts))

    def _framed(self, inside: RenderableType) -> RenderableType:
        return Panel(inside, title=self._title, title_align="left")

    def _curve(self, width: int) -> str:
        """Draw the depth of the queue under the time bar, a character for each column. Full height is a full queue."""
        sparks = ".:-=+*#@" if self._console.options.ascii_only else SPARKS
        deepest: dict[int, int] = {}
        for at, depth in self._depths:
            column = min(width - 1, int(at / self._plan.seconds * width))
            deepest[column] = max(deepest.get(column, 0), depth)
        signs, depth = [], 0
        for column in range(max(deepest, default=-1) + 1):
            depth = deepest.get(column, depth)
            signs.append(sparks[min(len(sparks) - 1, depth * len(sparks) // self._plan.queue_limit)])
        return "".join(signs)

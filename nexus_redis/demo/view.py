"""What you see while it runs: a panel that redraws itself on a terminal, a line per second elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nexus_redis.demo.stage import Moment, Plan

FRAMES_PER_SECOND = 4  # each costs the workers some milliseconds of their processors
SPEED_SPAN_S = 1.0
BAR = 40
SIDE = 20
SPARKS = "▁▂▃▄▅▆▇█"


class View:
    """One run's picture. Give it each moment; it shows it at its own pace."""

    def __init__(
        self, console: Console, title: str, plan: Plan, *, hint: str = "", standing: Callable[[], str] | None = None
    ) -> None:
        self._console, self._title, self._plan, self._hint, self._standing = console, title, plan, hint, standing
        self._depths: deque[int] = deque(maxlen=BAR)
        self._history: deque[Moment] = deque()
        self._live: Live | None = None
        self._shown_at = 0.0
        self._latest: Moment | None = None
        self._stood = ""

    @contextmanager
    def open(self) -> Iterator[None]:
        if not self._console.is_terminal:
            self._console.print(self._title)
            yield
            return
        with Live(console=self._console, auto_refresh=False) as self._live:
            yield
            if self._latest:  # drained: what stays on the screen adds up
                self._live.update(self._picture(self._latest), refresh=True)

    def watch(self, moment: Moment) -> None:
        self._latest = moment
        now = time.monotonic()
        if now - self._shown_at < (1 / FRAMES_PER_SECOND if self._live else 1.0):
            return
        self._shown_at = now
        self._history.append(moment)
        while len(self._history) > 2 and self._history[0].at < moment.at - SPEED_SPAN_S:
            self._history.popleft()
        self._depths.append(moment.sample["depth"])
        if self._live:
            self._live.update(self._picture(moment), refresh=True)
        else:
            self._console.print(self._line(moment), highlight=False, soft_wrap=True)

    def speeds(self, moment: Moment) -> list[float]:
        """Records per second of each worker, over the last second."""
        before = self._history[0]
        span = moment.at - before.at
        pairs = zip(before.sample["indexed"], moment.sample["indexed"], strict=True)
        return [(now - then) / span if span > 0 else 0.0 for then, now in pairs]

    def _line(self, moment: Moment) -> str:
        sample = moment.sample
        slow = "  one worker is slow" if any(sample["slow"]) else ""
        return (
            f"{moment.at:5.1f} s  received {sample['received']:>8,}  indexed {sum(sample['indexed']):>8,}  "
            f"lost {sample['lost']:>8,}  queue {sample['depth']:>6,} of {self._plan.queue_limit:,}{slow}"
        )

    def _picture(self, moment: Moment) -> RenderableType:
        sample, limit = moment.sample, self._plan.queue_limit
        share = sample["depth"] / limit
        colour = "red" if share > 0.9 else "yellow" if share > 0.5 else "green"
        rows = Table.grid(padding=(0, 2))
        rows.add_column()
        rows.add_column(min_width=BAR)
        rows.add_column(min_width=SIDE)
        seconds = min(moment.at, self._plan.seconds)
        rows.add_row("time", ProgressBar(self._plan.seconds, seconds, width=BAR), f"{seconds:.1f} s")
        depth = Text(f"{sample['depth']:,} of {limit:,}", colour)
        rows.add_row("queue", Text(self._curve(limit), colour), depth)
        for number, (speed, is_slow) in enumerate(zip(self.speeds(moment), sample["slow"], strict=True), 1):
            state = Text("more work per record", "yellow") if is_slow else Text("")
            rows.add_row(f"worker {number}", f"{speed:,.0f} records/s", state)
        lost = Text(f"lost {sample['lost']:,}", "bold red" if sample["lost"] else "bold green")
        indexed = f"indexed {sum(sample['indexed']):,}"
        rows.add_row("records", f"received {sample['received']:,}   {indexed}", lost)
        if self._standing:
            if moment.at < self._plan.seconds:  # after it the consumer leaves, and the rate with it
                self._stood = self._standing()
            rows.add_row("budget", self._stood, "")
        parts: list[RenderableType] = [rows]
        if self._hint:
            parts += [Text("\nlook inside, from another terminal:", "dim"), Text(self._hint, "cyan", overflow="fold")]
        return Panel(Group(*parts), title=self._title, title_align="left", expand=False)

    def _curve(self, limit: int) -> str:
        """The queue's depth over the last ten seconds, full height = full."""
        sparks = ".:-=+*#@" if self._console.options.ascii_only else SPARKS
        return "".join(sparks[min(len(sparks) - 1, depth * len(sparks) // limit)] for depth in self._depths)

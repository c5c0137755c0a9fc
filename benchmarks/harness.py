"""The common parts of all questions: rounds, medians with their spread, tables, the server, and the cleanup.

A machine is never quite idle, and a figure without its spread is a guess. So each question is a set of cells, and a
round measures all cells once, one after the other, and begins with another cell each time. The suite prints the median
of the rounds, and half the distance from the lowest to the highest, in percent. A ratio is formed inside a round, from
two figures that were measured within a few seconds on the same server. Then the median of the rounds' ratios is taken.

Every key that a question writes has the suite's tag in it, so a Redis of the user's own is left as it was found.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import redis
from rich.console import Console
from rich.table import Table as Drawn

from nexus_redis._redis import embedded
from nexus_redis._redis.connect import address

K = TypeVar("K")
Measured = dict[str, float]
SUFFIXES = ((1e9, " G"), (1e6, " M"), (1e4, " k"))  # from ten thousand on: 9,500 reads better than 9.5 k
SCANNED, DELETED = 1000, 500  # keys in a call


class Figure(NamedTuple):
    """A median of several rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        spread = (self.high - self.low) / 2 / abs(self.median) if self.median else 0.0
        return f"{short(self.median)} ±{100 * spread:.0f}%" if self.high > self.low else short(self.median)


def short(value: float) -> str:
    """Return a number with three significant digits: `3.12 M`, `9,500`, `0.0153`."""
    for unit, suffix in SUFFIXES:
        if abs(value) >= unit:
            scale = unit if unit != SUFFIXES[-1][0] else 1e3
            return f"{value / scale:.3g}{suffix}" if abs(value) / scale < 1000 else f"{value / scale:.0f}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


Cell = str | float | Figure


@dataclass
class Table:
    """Rows by column, and one sentence on their meaning."""

    title: str
    note: str
    rows: list[dict[str, Cell]] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """Return the columns in the order in which rows first have them."""
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def texts(self) -> Iterator[list[str]]:
        """Return the cells of each row as text."""
        for row in self.rows:
            yield [cell if isinstance(cell := row.get(column, ""), str) else text(cell) for column in self.columns]

    def as_json(self) -> dict[str, Any]:
        """Return the table for programs: a figure is its median, lowest and highest round."""
        rows = [{k: v._asdict() if isinstance(v, Figure) else v for k, v in row.items()} for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}

    def show(self) -> None:
        """Print the table on the terminal, or in its full width into a pipe."""
        console = Console(highlight=False, markup=False, emoji=False)
        if not console.is_terminal:
            console.width = 400
        drawn = Drawn(box=None, pad_edge=False, header_style="dim", title_justify="left")
        for index, column in enumerate(self.columns):
            drawn.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
        for texts in self.texts():
            drawn.add_row(*texts)
        console.print(f"\n{self.title}", style="bold")
        console.print(drawn)


def text(value: float | Figure) -> str:
    """Return a number as a cell."""
    return str(value) if isinstance(value, Figure) else short(value)


@dataclass
class Bench:
    """A run of the suite: the server, the seconds of a cell, and the number of rounds."""

    url: str
    is_quick: bool = False
    rounds: int = 5
    tag: str = field(default_factory=lambda: f"bench-{uuid4().hex[:8]}")
    _names: int = 0

    def pick(self, full: K, quick: K) -> K:
        """Return one of two settings: for a run whose figures count, or for a quick test of the suite."""
        return quick if self.is_quick else full

    def name(self) -> str:
        """Return a new name, with the tag in it."""
        self._names += 1
        return f"{self.tag}-{self._names}"

    def client(self) -> redis.Redis:
        """Yield a connection of redis-py, with its defaults."""
        return redis.Redis.from_url(self.url)

    def measure(self, cells: Mapping[K, Callable[[], Measured]], rounds: int | None = None) -> dict[K, list[Measured]]:
        """Measure all cells `rounds` times, interleaved; return the figures of each round by cell."""
        order = list(cells)
        found: dict[K, list[Measured]] = {key: [] for key in cells}
        for number in range(rounds or self.rounds):
            first = number * len(order) // (rounds or self.rounds)
            for key in (*order[first:], *order[:first]):
                say(f"round {number + 1}: {' '.join(map(str, key)) if isinstance(key, tuple) else key}")
                found[key].append(cells[key]())
        say("")
        return found

    def clean(self) -> int:
        """Delete every key with the tag in its name, and return their number."""
        count = 0
        with self.client() as client:
            names: list[bytes] = []
            for name in client.scan_iter(f"*{self.tag}*", count=SCANNED):
                names.append(name)
                if len(names) == DELETED:
                    count += unlinked(client, names)
            count += unlinked(client, names)
        return count


def unlinked(client: redis.Redis, names: list[bytes]) -> int:
    """Delete the keys, and empty the list."""
    count = int(client.unlink(*names)) if names else 0
    names.clear()
    return count


def figure(rounds: Sequence[Measured], name: str) -> Figure:
    """Return one quantity of a cell."""
    return Figure.of([each[name] for each in rounds])


def ratio(ours: Sequence[Measured], theirs: Sequence[Measured], name: str) -> Figure:
    """Return the ratios of one quantity, round by round."""
    return Figure.of([a[name] / b[name] if b[name] else float("inf") for a, b in zip(ours, theirs, strict=True)])


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return a percentile of sorted values; 0 if there are none."""
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def say(what: str) -> None:
    """Show what is being measured, on a terminal; print nothing into a pipe."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


class Meter:
    """The work of Redis between two moments: CPU seconds, requests read, scripts run and the time in them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._before = self._read()

    def _read(self) -> Measured:
        cpu, stats, commands = (dict[str, Any](self._client.info(part)) for part in ("cpu", "stats", "commandstats"))
        scripts = [commands.get(f"cmdstat_{name}", {"calls": 0, "usec": 0}) for name in ("eval", "evalsha")]
        return {
            "at": time.monotonic(),
            "cpu_s": float(cpu["used_cpu_user"] + cpu["used_cpu_sys"]),
            "requests": float(stats.get("total_reads_processed", 0)),
            "scripts": float(sum(each["calls"] for each in scripts)),
            "script_us": float(sum(each["usec"] for each in scripts)),
        }

    def read(self) -> Measured:
        """Return the work since this meter was made."""
        now = self._read()
        return {name: now[name] - self._before[name] for name in now}


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Yield the Redis of `url`, or a private one from a wheel that ends with the block."""
    if url is not None and not url.startswith("embedded:"):
        yield address(url)
        return
    held = embedded.acquire(url or "embedded://")
    try:
        yield held.start().url
    finally:
        held.stop()

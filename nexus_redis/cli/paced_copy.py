"""pace: stdin to stdout at the budget's pace, unchanged and in order.

Theory of operation. What has been read is always written: nothing is read before Redis has answered once, and then only
as much ahead as the pace takes in a moment, a line or a few bytes where it is slow. Whatever ends it (end of input, a
signal, Redis that refuses), those few are written out before it ends, unpaid where it must be: a line lost is lost, one
that came a moment too early is not.

    read (a block) -> cut into pieces of about AHEAD seconds -> acquire -> write

How much that is, is found as TCP would: a piece that had to wait longer than `TOO_LONG` halves it, one that had its
tokens within AHEAD doubles it, and it is never more than the whole budget's in that time.

A line costs its token when its end has come, so that a write holds whole lines and several shells can share one pipe; a
line longer than `LONGEST_HELD` is passed on in parts, paid with the first.
"""

import os
import select
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nexus_redis.cli.exit_codes import BROKEN_PIPE, Finding, Misuse
from nexus_redis.cli.common_options import Create, Key, Name, Namespace, OnOutage, Url
from nexus_redis.errors import RATE, Closed, InvalidSetting, NexusError, Unavailable

if TYPE_CHECKING:
    from nexus_redis.cli.progress import Gauge
    from nexus_redis.cli.os_signals import Signals
    from nexus_redis.client import Producer

AHEAD: Final = 0.05  # seconds of the pace: several acquires a refresh, and little that a signal writes out unpaid
TOO_LONG: Final = 0.25  # seconds: tokens come at most a refresh and a claim apart
LARGEST_READ = 1 << 20
LONGEST_HELD: Final = 1 << 16  # bytes of a line without an end
LINE_LENGTH: Final = 16  # until some have been seen
COSTS: Final = ("lines", "bytes")


def pace(
    name: Name,
    *,
    cost: Annotated[str, typer.Option(metavar="UNIT", help="Count one token for each UNIT: lines or bytes.")] = "lines",
    weight: Annotated[float, typer.Option(metavar="N", help="Set the weight of its share.")] = 1.0,
    priority: Annotated[str, typer.Option(metavar="CLASS", help="Set the priority: high, normal or low.")] = "normal",
    on_outage: OnOutage = None,
    create: Create = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on the terminal.")] = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Copy stdin to stdout at the budget's rate.

    On a terminal, stderr shows the rate. At SIGINT and SIGTERM the verb writes what it has read before it ends.

    \b
    Examples:
      cat access.log | nexus-redis pace elasticsearch > ship.pipe
      nexus-redis pace uplink --cost bytes < backup.tar | ssh vault 'cat > backup.tar'
    """
    from nexus_redis._protocol.keys import BudgetKeys
    from nexus_redis._values.parse import split_name
    from nexus_redis.cli.progress import gauge
    from nexus_redis.cli.unknown_budgets import require_one
    from nexus_redis.cli.os_signals import signals
    from nexus_redis.cli.fast_connection import Connection
    from nexus_redis.client import Nexus

    if cost not in COSTS:
        raise InvalidSetting("cost", cost, f"use {' or '.join(COSTS)}")
    name, key = split_name(name, key)
    with Nexus.from_url(url, namespace=namespace) as nexus:
        budget = nexus.budget(name, key=key)
        producer = budget.producer(weight=weight, priority=priority, on_outage=on_outage)
        for stream in (0, 1):
            try:
                os.fstat(stream)
            except OSError as error:
                raise Misuse(f"no std{('in', 'out')[stream]} to pace: {error.strerror}") from error
        if not create:
            parent = BudgetKeys(nexus.namespace, name) if key is not None else None
            with Connection(nexus.url) as connection:
                require_one(connection, BudgetKeys(nexus.namespace, budget.name), parent, url, namespace)
        come = signals()
        if not come.hear(_ends(nexus.close)):
            with gauge(budget.name, cost, producer, quiet=quiet) as shown:
                try:
                    _Pipe(producer, come, shown, by_lines=cost == "lines").run()
                except BrokenPipeError:
                    raise typer.Exit(BROKEN_PIPE) from None
    if come.first:
        raise typer.Exit(come.exit_code())


def _ends(close: Callable[[], None]) -> Callable[[int, bool], None]:
    """The first signal wakes whoever waits for tokens; the second ends it where even writing hangs."""
    count = 0

    def hear(number: int, _is_key: bool) -> None:
        nonlocal count
        count += 1
        if count > 1:
            os._exit(128 + number)
        close()

    return hear


class _Pipe:
    def __init__(self, producer: "Producer", come: "Signals", shown: "Gauge", *, by_lines: bool) -> None:
        self._producer, self._come, self._shown, self._by_lines = producer, come, shown, by_lines
        self._piece = 1.0  # tokens
        self._line_length = float(LINE_LENGTH) if by_lines else 1.0
        self._rest = b""  # of a line whose end has not come
        self._problem: NexusError | None = None
        self._is_inside = False  # of a line that was too long to hold

    def run(self) -> None:
        """Until the end of input, or a signal."""
        try:
            flow = self._producer.signal(RATE.high)  # Redis answers, before anything is read; and what pace to expect
        except Closed:
            return
        self._piece = AHEAD * flow.recommended_rate
        while not self._is_ending:
            block = self._read()
            if not block:
                break
            self._pass(block)
        if self._rest:
            rest, self._rest = self._rest, b""
            self._pay_and_write(rest, 0 if self._is_inside else 1)
        if self._problem is not None:
            raise self._problem

    @property
    def _is_ending(self) -> bool:
        """Nothing more is read, and what was read goes out unpaid."""
        return bool(self._come.first) or self._problem is not None

    def _read(self) -> bytes:
        self._shown.waits_for("input")
        ready, _, _ = select.select([0, self._come.wakeup], [], [])
        if 0 not in ready or self._come.first:
            return b""
        try:
            return os.read(0, int(min(max(1.0, self._piece * self._line_length), LARGEST_READ)))
        except OSError as error:
            raise Finding(f"cannot read: {error.strerror}") from error

    def _pass(self, block: bytes) -> None:
        for piece, tokens in self._lines(block) if self._by_lines else self._bytes(block):
            self._pay_and_write(piece, tokens)

    def _pay_and_write(self, piece: bytes, tokens: int) -> None:
        if tokens:
            self._pay(tokens)
        self._shown.waits_for("output")
        left = memoryview(piece)
        while left:
            try:
                left = left[os.write(1, left) :]
            except BlockingIOError:  # whoever shares the pipe has made it so
                select.select([], [1], [])
        self._shown.count(tokens)

    def _pay(self, tokens: int) -> None:
        self._shown.waits_for("tokens")
        while not self._is_ending:
            try:
                self._learn(self._producer.acquire(tokens, timeout=None).waited)
                return
            except Unavailable:  # for now: it waits with what it has read, as it would for a pause
                self._shown.waits_for("Redis")
            except Closed:  # by a signal
                return
            except NexusError as error:
                self._problem = error

    def _learn(self, waited: float) -> None:
        flow = self._producer.flow
        most = AHEAD * flow.budget_rate if flow and flow.budget_rate else 1.0
        self._piece = min(max(1.0, self._piece * (0.5 if waited > TOO_LONG else 2.0 if waited < AHEAD else 1.0)), most)

    def _bytes(self, block: bytes) -> Iterator[tuple[bytes, int]]:
        at = 0
        while at < len(block):
            piece = block[at : at + max(1, int(self._piece))]
            at += len(piece)
            yield piece, len(piece)

    def _lines(self, block: bytes) -> Iterator[tuple[bytes, int]]:
        block = self._rest + block
        self._rest = b""
        at = 0
        while True:
            end, count, most = at, 0, max(1, int(self._piece))
            while count < most and (found := block.find(b"\n", end) + 1):
                end, count = found, count + 1
            if not count:
                break
            self._line_length += 0.1 * ((end - at) / count - self._line_length)
            yield block[at:end], count - self._is_inside
            self._is_inside = False
            at = end
        self._rest = block[at:]
        if len(self._rest) > LONGEST_HELD:
            part, self._rest = self._rest, b""
            yield part, 0 if self._is_inside else 1
            self._is_inside = True

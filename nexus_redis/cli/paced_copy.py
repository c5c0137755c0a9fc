"""Copy stdin to stdout at the rate of a budget, for `pace`: unchanged, in order, and without loss.

Theory of operation. `PacedCopy` always writes what it has read. It reads nothing before Redis has answered once, unless
the outage mode is "open" and Redis is away. After that it reads only as far ahead as the rate allows in a moment: a
line or a few bytes if the rate is low. At the end of the input, at a signal, or when Redis refuses, it writes those few
lines, without tokens if necessary. A line that is lost stays lost, but a line that comes a moment too early does no
harm.

    read (a block) -> cut into pieces of about AHEAD seconds -> acquire -> write

The size of a piece is found as TCP finds its window. A piece that waited longer than `TOO_LONG` halves the size, and a
piece that had its tokens within AHEAD doubles it. A piece is never larger than what the whole budget allows in AHEAD.
While the outage mode lets everything pass, the limit is MOST_AT_ONCE. When Redis answers again, a piece that is too
large for the rate is cut again.

A line takes its token when its end has been read. So each write holds whole lines, and several shells can share one
pipe. A line longer than `LONGEST_HELD` is written in parts; its first part takes the token.
"""

import os
import select
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from nexus_redis._core.outage import UNAVAILABLE_AFTER
from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import Finding
from nexus_redis.errors import RATE, AcquireTimeout, Closed, NexusError, Unavailable

if TYPE_CHECKING:
    from nexus_redis._values.results import Grant
    from nexus_redis.cli.os_signals import ReceivedSignals
    from nexus_redis.cli.progress import Progress
    from nexus_redis.client import Producer

AHEAD: Final = 0.05  # seconds of the rate: several acquires a refresh, and little that a signal writes without tokens
TOO_LONG: Final = 0.25  # seconds: tokens come at most a refresh and a claim apart
ASKED_EACH: Final = 0.25  # seconds between two questions to a Redis that has never answered
MOST_AT_ONCE: Final = 1 << 12  # tokens of a piece while there is no rate to obey
LARGEST_READ: Final = 1 << 20
LONGEST_HELD: Final = 1 << 16  # bytes of a line without an end
LINE_LENGTH: Final = 16  # bytes, until some lines have been read


class PacedCopy:
    """One copy: what it has read and not written, and the size of the next piece."""

    def __init__(
        self,
        producer: "Producer",
        received: "ReceivedSignals",
        progress: "Progress",
        *,
        by_lines: bool,
        is_open: bool = False,
    ) -> None:
        self._producer, self._received, self._progress, self._by_lines = producer, received, progress, by_lines
        self._is_open = is_open  # the outage mode
        self._is_unlimited = False  # while Redis is away and the outage mode is open
        self._piece = 1.0  # tokens
        self._line_length = float(LINE_LENGTH) if by_lines else 1.0
        self._rest = b""  # of a line whose end has not been read
        self._problem: NexusError | None = None
        self._is_inside = False  # a line that was too long to hold

    def run(self) -> None:
        """Copy until the end of the input, or a signal. Raises `Unavailable` if Redis never answers, as `run` does."""
        try:
            self._piece = AHEAD * self._first_rate()
        except Closed:
            return
        while not self._is_ending:
            block = self._read()
            if not block:
                break
            self._write_all(block)
        if self._rest:
            rest, self._rest = self._rest, b""
            self._acquire_and_write(rest, 0 if self._is_inside else 1)
        if self._problem is not None:
            raise self._problem

    def _first_rate(self) -> float:
        """Wait until Redis says which rate to expect. Return 0 if Redis is away and the outage mode is "open"."""
        since = time.monotonic()
        while True:
            try:
                return self._producer.signal(RATE.high).recommended_rate
            except Unavailable as error:
                if self._is_open:
                    return 0.0
                waited = time.monotonic() - since
                if waited >= UNAVAILABLE_AFTER:
                    raise Unavailable(error.server, error.cause, waited) from None
            self._progress.waits_for("Redis")
            select.select([self._received.wakeup], [], [], ASKED_EACH)

    @property
    def _is_ending(self) -> bool:
        """Whether nothing more is read, and what was read is written without tokens."""
        return bool(self._received.first) or self._problem is not None

    def _read(self) -> bytes:
        self._progress.waits_for("input")
        ready, _, _ = select.select([0, self._received.wakeup], [], [])
        if 0 not in ready or self._received.first:
            return b""
        try:
            return os.read(0, int(min(max(1.0, self._piece * self._line_length), LARGEST_READ)))
        except OSError as error:
            raise Finding(texts.input_failed(error.strerror or "")) from error

    def _write_all(self, block: bytes) -> None:
        """Write a block, but for a line whose end has not been read."""
        for piece, tokens in self._lines(block) if self._by_lines else self._bytes(block):
            self._acquire_and_write(piece, tokens)

    def _acquire_and_write(self, piece: bytes, tokens: int) -> None:
        if tokens and not self._acquire(tokens):
            self._write_all(piece)
            return
        self._progress.waits_for("output")
        left = memoryview(piece)
        while left:
            try:
                left = left[os.write(1, left) :]
            except BlockingIOError:  # another process that shares the pipe has set O_NONBLOCK
                select.select([], [1], [])
        self._progress.count(tokens)

    def _acquire(self, tokens: int) -> bool:
        """Acquire the tokens of a piece. Return False if the piece is too large, now that Redis is back."""
        self._progress.waits_for("tokens")
        while not self._is_ending:
            try:
                self._resize(self._producer.acquire(tokens, timeout=TOO_LONG if self._is_unlimited else None))
                break
            except AcquireTimeout:
                self._is_unlimited, self._piece = False, 1.0
                if tokens > 1:
                    return False
            except Unavailable:  # only for now: keep what was read, and wait as for a pause
                self._progress.waits_for("Redis")
            except Closed:  # a signal came
                break
            except NexusError as error:
                self._problem = error
        return True

    def _resize(self, grant: "Grant") -> None:
        """Fit the next piece to the time that the last one waited."""
        flow = self._producer.flow
        self._is_unlimited = self._is_open and grant.degraded
        most = AHEAD * flow.budget_rate if flow and flow.budget_rate else 1.0
        factor = 0.5 if grant.waited > TOO_LONG else 2.0 if grant.waited < AHEAD else 1.0
        self._piece = min(max(1.0, self._piece * factor), MOST_AT_ONCE if self._is_unlimited else most)

    def _bytes(self, block: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield pieces and their tokens, one for each byte."""
        at = 0
        while at < len(block):
            piece = block[at : at + max(1, int(self._piece))]
            at += len(piece)
            yield piece, len(piece)

    def _lines(self, block: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield pieces of whole lines and their tokens, and keep the rest for the next block."""
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

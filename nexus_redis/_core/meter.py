"""What a consumer measures of itself. No I/O.

`done`, `errors`, `cancelled`, `in_flight` and the queue's depth are read in that order: work moves from the queue to in
flight to done, so an item that moves while we look is missed for one report and never counted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError as CancelledFuture
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from types import TracebackType
from typing import Any, Final, Self

from nexus_redis._core.busy_time import Busy, Moment
from nexus_redis._core.latencies import PERCENTILES, Latencies
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.log import log
from nexus_redis._values.settings import parse_limit, parse_number
from nexus_redis.errors import InvalidSetting

UNBOUNDED: Final = 2**31 - 1  # what a multiprocessing queue without maxsize has for one (SEM_VALUE_MAX)
ROUNDING: Final = 1e-6  # a micro-token: parts of a cost add up to no less
REPORTABLE: Final = (
    "load", "capacity", "queue_depth", "queue_limit", "done", "errors", "cancelled", "in_flight", "slots", *PERCENTILES,
    "busy_ms",
)  # fmt: skip


NO_LOCK: Final = nullcontext()  # for a meter that one thread uses


class Meter:
    """Count work in tokens. `lock` makes it safe to use from many threads."""

    def __init__(self, capacity: float | None, lock: AbstractContextManager[Any] = NO_LOCK) -> None:
        self._lock = lock
        self._done = self._errors = self._cancelled = self._in_flight = 0.0
        self._latencies = Latencies()
        self._has_worked = False
        self._told: tuple[bool, bool] | None = None  # whether it worked and watched, as the last sample had it
        self._busy = Busy()
        self._depth: Callable[[], float] | None = None
        self._limit: float | None = None
        self._said: dict[str, float] = {} if capacity is None else {"capacity": capacity}
        self._sent = self._accepted = dict(self._said)
        self._has_failed = False

    @property
    def _uses(self) -> tuple[bool, bool]:
        return self._has_worked, self._depth is not None

    @property
    def is_asking(self) -> bool:
        """A sample asks code that is not ours: a queue, or a function that tells the depth of one."""
        return self._depth is not None

    @property
    def is_unheard(self) -> bool:
        """It works, or watches, and no report has said so: until one does, the law may take it for another kind."""
        return self._told is not None and self._told != self._uses

    @property
    def is_bare(self) -> bool:
        """All that the last sample said is that it is there."""
        return self._told == (False, False) and self._sent.keys() <= {"capacity"}

    @property
    def says_how_full(self) -> bool:
        """The last sample had a load, or a queue and what it can hold."""
        return "load" in self._sent or {"queue_depth", "queue_limit"} <= set(self._sent)

    def begin(self, tokens: float, now: float) -> Moment:
        """Work has begun."""
        with self._lock:
            self._has_worked = True
            self._in_flight += tokens
            return self._busy.begin(now)

    def finish(self, tokens: float, took: float, since: Moment, now: float) -> Moment:
        """Count `tokens` of the work in flight as done, with so many of the seconds since that moment."""
        with self._lock:
            self._in_flight = max(0.0, self._in_flight - tokens)
            self._done += tokens
            return self._busy.add(tokens, took, since, now)

    def give_up(self, tokens: float, outcome: Outcome) -> None:
        """Count `tokens` of the work in flight that have failed, or were cancelled."""
        with self._lock:
            self._in_flight = max(0.0, self._in_flight - tokens)
            if outcome is Outcome.FAILED:
                self._errors += tokens
            else:
                self._cancelled += tokens

    def end(self, outcome: Outcome, seconds: float, now: float) -> None:
        """A piece of work is over. What failed is not timed: a refusal is fast and a timeout slow by itself."""
        with self._lock:
            self._busy.end(now)
            if outcome is Outcome.DONE:
                self._latencies.add(seconds, now)
            elif outcome is Outcome.CANCELLED:
                self._latencies.add_given_up(seconds, now)

    def watch(self, queue: Any = None, *, depth: Callable[[], float] | None = None, limit: float | None = None) -> None:
        """Look at a queue: anything with `qsize()` and `maxsize`, or a callable and a limit."""
        if queue is not None:
            depth = depth or getattr(queue, "qsize", None)
        if limit is not None:
            parse_limit(limit)
        elif queue is not None:
            size = getattr(queue, "maxsize", None) or getattr(queue, "_maxsize", None)
            limit = size if isinstance(size, int) and 0 < size < UNBOUNDED else None
        if not callable(depth):
            raise InvalidSetting("watch", queue if queue is not None else depth, error_texts.NOT_A_QUEUE)
        if type(queue).__module__.startswith("multiprocessing."):  # no other one is asked here: it may have locks
            try:
                depth()
            except NotImplementedError:
                raise InvalidSetting("watch", queue, error_texts.QUEUE_WITHOUT_SIZE) from None
        self._depth, self._limit = depth, limit

    def say(self, said: dict[str, float]) -> None:
        """What the user says by hand stays said until it is said otherwise."""
        with self._lock:
            self._said.update(said)

    def accept(self) -> None:
        """What the last sample said by hand has been taken."""
        with self._lock:
            self._accepted = self._sent

    def refuse(self) -> None:
        """It was not: it must not be said again with each report from now on."""
        with self._lock:
            if self._said == self._sent:
                self._said = dict(self._accepted)

    def sample(self) -> dict[str, float]:
        """The fields of a report, now. Asks the queue with no lock held: it may have locks of its own."""
        with self._lock:
            said: dict[str, float] = {}
            # Who has not worked yet has done nothing. Not so where it says how full it is: others may do the work.
            silent = {"capacity"} if self._depth is None else set()
            if self._has_worked or self._said.keys() <= silent:
                said = {"done": self._done, "errors": self._errors, "in_flight": self._in_flight}
            if self._cancelled:
                said["cancelled"] = self._cancelled
            said |= self._latencies.percentiles()
            self._told = self._uses
            by_hand = self._sent = dict(self._said)
        return said | self._queue() | by_hand

    def _queue(self) -> dict[str, float]:
        if self._depth is None:
            return {}
        try:
            depth = float(self._depth())
            said = {"queue_depth": parse_number("queue_depth", 0.0 if depth < 0 else depth)} | self._pace(depth)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                log.exception(log_texts.QUEUE_UNREADABLE)
            return {}
        return said if self._limit is None else {**said, "queue_limit": self._limit}

    def _pace(self, depth: float) -> dict[str, float]:
        """How long it was busy with what is done, once it has worked."""
        with self._lock:
            seconds = self._busy.look(depth) if self._has_worked else None
        return {} if seconds is None else {"busy_ms": round(seconds * 1e3, 3)}


class Outcome(Enum):
    """What became of work. CANCELLED: nobody wanted it any more, which says nothing about who did it."""

    DONE = auto()
    FAILED = auto()
    CANCELLED = auto()


def outcome_of(kind: type[BaseException] | None, error: BaseException | None = None) -> Outcome:
    """What the end of a block says of its work.

    A cancelled task (asyncio, trio, anyio), a generator that was closed, a process that is being stopped: none of these
    is an `Exception`, but for one kind. A group of errors is cancelled only as far as all of them are.
    """
    if kind is None:
        return Outcome.DONE
    if issubclass(kind, CancelledFuture):
        return Outcome.CANCELLED
    if isinstance(error, BaseExceptionGroup):
        kinds = {outcome_of(type(each), each) for each in error.exceptions}
        return Outcome.FAILED if Outcome.FAILED in kinds else Outcome.CANCELLED
    return Outcome.FAILED if issubclass(kind, Exception) else Outcome.CANCELLED


class Work:
    """`with consumer.work(n) as work:` - n tokens of work, in flight until the block ends.

    Then they are done, or errors where the block raises. Neither where it is cancelled: a caller that gave up says
    nothing about the consumer. A bulk of which a part failed says so: of `work(500)`, `work.failed(3)` leaves 497 to be
    done, and so does `work.done(497)`. What is said counts at once, and the end of the block decides about the rest:
    done, unless `done` was said; else failed.
    """

    __slots__ = ("_began", "_clock", "_done", "_failed", "_has_said", "_left", "_meter", "_since", "_start", "_tokens")

    def __init__(self, meter: Meter, tokens: float, start: Callable[[], None], clock: Callable[[], float]) -> None:
        self._meter, self._tokens, self._start, self._clock = meter, tokens, start, clock
        self._began = self._left = 0.0
        self._since = Moment(0.0, 0.0)  # when it began, or tokens were last done
        self._failed = 0.0  # since tokens were last done
        self._done = 0.0
        self._has_said = False  # how many are done

    def done(self, tokens: float) -> None:
        """So many are done, now: the rest has failed, unless more is said. Raises `InvalidSetting` for too many."""
        self._leave("done", tokens, Outcome.DONE)
        self._has_said = True

    def failed(self, tokens: float) -> None:
        """So many have failed, now: of `work(500)`, `failed(3)` leaves 497. Raises `InvalidSetting` for too many."""
        self._leave("failed", tokens, Outcome.FAILED)

    def _leave(self, field: str, tokens: float, outcome: Outcome) -> None:
        if parse_number(field, tokens) > self._left + ROUNDING:
            raise InvalidSetting(field, tokens, error_texts.more_than_left(self._left, self._tokens))
        self._settle(min(tokens, self._left), outcome, self._clock())

    def _settle(self, tokens: float, outcome: Outcome, now: float) -> None:
        if not tokens:
            return
        self._left -= tokens
        if outcome is Outcome.DONE:
            part = tokens / (tokens + self._failed)  # those that failed took their part of the time
            self._since = self._meter.finish(tokens, part * (now - self._since.at), self._since, now)
            self._done += tokens
            self._failed = 0.0
        else:
            self._failed += tokens if outcome is Outcome.FAILED else 0.0
            self._meter.give_up(tokens, outcome)

    def __enter__(self) -> Self:
        self._left, self._done, self._failed, self._has_said = self._tokens, 0.0, 0.0, False
        self._began = self._clock()
        self._since = self._meter.begin(self._tokens, self._began)
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        now, outcome = self._clock(), outcome_of(kind, error)
        is_whole = outcome is Outcome.DONE
        self._settle(self._left, Outcome.FAILED if is_whole and self._has_said else outcome, now)
        has_failed = is_whole and self._tokens > 0 and not self._done
        self._meter.end(Outcome.FAILED if has_failed else outcome, now - self._began, now)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, where)

"""The measurements of a consumer: work done and in flight, the depth of its queue, latencies. No I/O.

`done`, `errors`, `cancelled`, `in_flight` and the queue's depth are read in that order. Work moves from the queue to in
flight to done, so an item that moves meanwhile is missed in one report and never counted twice.
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

UNBOUNDED: Final = 2**31 - 1  # the maxsize of a multiprocessing queue that was given none (SEM_VALUE_MAX)
ROUNDING: Final = 1e-6  # a micro-token: the parts of a cost may add up to that much more
REPORTABLE: Final = (
    "load", "capacity", "queue_depth", "queue_limit", "done", "errors", "cancelled", "in_flight", "slots", *PERCENTILES,
    "busy_ms",
)  # fmt: skip


NO_LOCK: Final = nullcontext()  # for a meter that one thread uses


class Meter:
    """The counts of one consumer, in tokens. `lock` makes it safe to use from many threads."""

    def __init__(self, capacity: float | None, lock: AbstractContextManager[Any] = NO_LOCK) -> None:
        self._lock = lock
        self._done = self._errors = self._cancelled = self._in_flight = 0.0
        self._latencies = Latencies()
        self._has_worked = False
        self._sampled: tuple[bool, bool] | None = None  # `_uses` at the last sample
        self._busy = Busy()
        self._depth: Callable[[], float] | None = None
        self._limit: float | None = None
        self._by_hand: dict[str, float] = {} if capacity is None else {"capacity": capacity}
        self._sent = self._accepted = dict(self._by_hand)
        self._has_failed = False

    @property
    def _uses(self) -> tuple[bool, bool]:
        """Return whether it counts work, and whether it watches a queue."""
        return self._has_worked, self._depth is not None

    @property
    def is_asking(self) -> bool:
        """Return whether a sample calls a user's code: a queue, or a function that returns the depth of one."""
        return self._depth is not None

    @property
    def is_unheard(self) -> bool:
        """Return whether it works or watches, and no report has said so: a law may take it for another kind."""
        return self._sampled is not None and self._sampled != self._uses

    @property
    def is_bare(self) -> bool:
        """Return whether the last sample said no more than that the consumer is there."""
        return self._sampled == (False, False) and self._sent.keys() <= {"capacity"}

    @property
    def says_how_full(self) -> bool:
        """Return whether the last sample had a load, or the depth and the limit of a queue."""
        return "load" in self._sent or {"queue_depth", "queue_limit"} <= set(self._sent)

    def begin(self, tokens: float, now: float) -> Moment:
        """Note that work of `tokens` has begun; return the moment."""
        with self._lock:
            self._has_worked = True
            self._in_flight += tokens
            return self._busy.begin(now)

    def finish(self, tokens: float, took: float, since: Moment, now: float) -> Moment:
        """Count `tokens` in flight as done, with `took` of the seconds since that moment; return this moment."""
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
        """Note the end of a piece of work. Failed work is not timed: a refusal is fast and a timeout slow by itself."""
        with self._lock:
            self._busy.end(now)
            if outcome is Outcome.DONE:
                self._latencies.add(seconds, now)
            elif outcome is Outcome.CANCELLED:
                self._latencies.add_given_up(seconds, now)

    def watch(self, queue: Any = None, *, depth: Callable[[], float] | None = None, limit: float | None = None) -> None:
        """Watch a queue: anything with `qsize()` and `maxsize`, or a callable and a limit."""
        if queue is not None:
            depth = depth or getattr(queue, "qsize", None)
        if limit is not None:
            parse_limit(limit)
        elif queue is not None:
            size = getattr(queue, "maxsize", None) or getattr(queue, "_maxsize", None)
            limit = size if isinstance(size, int) and 0 < size < UNBOUNDED else None
        if not callable(depth):
            raise InvalidSetting("watch", queue if queue is not None else depth, error_texts.NOT_A_QUEUE)
        if type(queue).__module__.startswith("multiprocessing."):  # no other queue is asked here: it may have locks
            try:
                depth()
            except NotImplementedError:
                raise InvalidSetting("watch", queue, error_texts.QUEUE_WITHOUT_SIZE) from None
        self._depth, self._limit = depth, limit

    def say(self, said: dict[str, float]) -> None:
        """Report what the user says, with each report until the user says otherwise."""
        with self._lock:
            self._by_hand.update(said)

    def accept(self) -> None:
        """Note that Redis has accepted what the user said, as the last sample had it."""
        with self._lock:
            self._accepted = self._sent

    def refuse(self) -> None:
        """Note that Redis has refused what the user said: later reports must not repeat it."""
        with self._lock:
            if self._by_hand == self._sent:
                self._by_hand = dict(self._accepted)

    def sample(self) -> dict[str, float]:
        """Return the fields of a report. The queue is asked with no lock held, since it may have locks of its own."""
        with self._lock:
            fields: dict[str, float] = {}
            # A consumer that has not worked yet has done nothing. But where it reports how full a queue is, others may
            # do the work.
            silent = {"capacity"} if self._depth is None else set()
            if self._has_worked or self._by_hand.keys() <= silent:
                fields = {"done": self._done, "errors": self._errors, "in_flight": self._in_flight}
            if self._cancelled:
                fields["cancelled"] = self._cancelled
            fields |= self._latencies.percentiles()
            self._sampled = self._uses
            by_hand = self._sent = dict(self._by_hand)
        return fields | self._queue() | by_hand

    def _queue(self) -> dict[str, float]:
        if self._depth is None:
            return {}
        try:
            depth = float(self._depth())
            fields = {"queue_depth": parse_number("queue_depth", 0.0 if depth < 0 else depth)} | self._busy_field(depth)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                log.exception(log_texts.QUEUE_UNREADABLE)
            return {}
        return fields if self._limit is None else {**fields, "queue_limit": self._limit}

    def _busy_field(self, depth: float) -> dict[str, float]:
        """Return the field that says how long it was busy with the work that is done, once it has worked."""
        with self._lock:
            seconds = self._busy.look(depth) if self._has_worked else None
        return {} if seconds is None else {"busy_ms": round(seconds * 1e3, 3)}


class Outcome(Enum):
    """How work ended. CANCELLED: no caller wanted it any more, which says nothing about the consumer."""

    DONE = auto()
    FAILED = auto()
    CANCELLED = auto()


def outcome_of(kind: type[BaseException] | None, error: BaseException | None = None) -> Outcome:
    """Return how the work of a block ended, by the error that the block raised.

    A cancelled task (asyncio, trio, anyio), a closed generator and a process that is being stopped raise errors that
    are no `Exception`; only the cancelled error of `concurrent.futures` is one. A group of errors counts as cancelled
    where all its errors do.
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

    Then they are done, or errors if the block raises. If it is cancelled they are neither, since a caller that gave up
    says nothing about the consumer. A bulk can have failed in part: of `work(500)`, `work.failed(3)` leaves 497 to be
    done, and `work.done(497)` leaves 3 that fail. These calls count at once. At the end of the block the rest is done,
    or has failed if `done` was called.
    """

    __slots__ = (
        "_began",
        "_clock",
        "_done",
        "_done_called",
        "_failed",
        "_left",
        "_meter",
        "_since",
        "_start",
        "_tokens",
    )

    def __init__(self, meter: Meter, tokens: float, start: Callable[[], None], clock: Callable[[], float]) -> None:
        self._meter, self._tokens, self._start, self._clock = meter, tokens, start, clock
        self._began = self._left = 0.0
        self._since = Moment(0.0, 0.0)  # when it began, or tokens were last done
        self._failed = 0.0  # tokens that failed since tokens were last done
        self._done = 0.0
        self._done_called = False  # `done` was called

    def done(self, tokens: float) -> None:
        """Count `tokens` as done now. The rest fails, unless it is done too. Raises `InvalidSetting` for too many."""
        self._leave("done", tokens, Outcome.DONE)
        self._done_called = True

    def failed(self, tokens: float) -> None:
        """Count `tokens` as failed now. `failed(3)` of `work(500)` leaves 497. Raises `InvalidSetting` for too many."""
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
            part = tokens / (tokens + self._failed)  # the tokens that failed took their part of the time
            self._since = self._meter.finish(tokens, part * (now - self._since.at), self._since, now)
            self._done += tokens
            self._failed = 0.0
        else:
            self._failed += tokens if outcome is Outcome.FAILED else 0.0
            self._meter.give_up(tokens, outcome)

    def __enter__(self) -> Self:
        self._left, self._done, self._failed, self._done_called = self._tokens, 0.0, 0.0, False
        self._began = self._clock()
        self._since = self._meter.begin(self._tokens, self._began)
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        now, outcome = self._clock(), outcome_of(kind, error)
        is_whole = outcome is Outcome.DONE
        self._settle(self._left, Outcome.FAILED if is_whole and self._done_called else outcome, now)
        has_failed = is_whole and self._tokens > 0 and not self._done
        self._meter.end(Outcome.FAILED if has_failed else outcome, now - self._began, now)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, where)

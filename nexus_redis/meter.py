"""What a consumer measures of itself. No I/O.

`done`, `errors`, `in_flight` and the queue's depth are read in that order: work moves from the queue to in flight to
done, so an item that moves while we look is missed for one report and never counted twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from nexus_redis.config import parse_limit, parse_number
from nexus_redis.errors import InvalidSetting
from nexus_redis.logs import log

UNBOUNDED: Final = 2**31 - 1  # what a multiprocessing queue without maxsize has for one (SEM_VALUE_MAX)
LATENCY_MEMORY: Final = 0.2  # weight of the newest batch in the latency that is reported
REPORTABLE: Final = (
    "load", "capacity", "queue_depth", "queue_limit", "done", "errors", "in_flight", "slots", "latency_ms",
)  # fmt: skip


class Meter:
    """Counts work in tokens; safe to use from many threads."""

    def __init__(self, capacity: float | None) -> None:
        self._lock = threading.Lock()
        self._done = self._errors = self._in_flight = 0.0
        self._latency: float | None = None
        self._has_worked = self._has_said_so = False
        self._depth: Callable[[], float] | None = None
        self._limit: float | None = None
        self._said: dict[str, float] = {} if capacity is None else {"capacity": capacity}
        self._sent = self._accepted = dict(self._said)
        self._has_failed = False

    @property
    def has_news(self) -> bool:
        """There is more to say than a capacity."""
        return self._has_worked or self._depth is not None or not set(self._said) <= {"capacity"}

    @property
    def is_asking(self) -> bool:
        """A sample asks code that is not ours: a queue, or a function that tells the depth of one."""
        return self._depth is not None

    @property
    def is_unheard(self) -> bool:
        """It works, and no report has said so yet: until one does, the law may take it for idle."""
        return self._has_worked and not self._has_said_so

    @property
    def says_how_full(self) -> bool:
        """The last sample had a load, or a queue and what it can hold."""
        return "load" in self._sent or {"queue_depth", "queue_limit"} <= set(self._sent)

    def begin(self, tokens: float) -> None:
        """Work has begun."""
        with self._lock:
            self._has_worked = True
            self._in_flight += tokens

    def end(self, tokens: float, seconds: float, *, is_done: bool) -> None:
        """Work has ended, well or not."""
        with self._lock:
            self._in_flight = max(0.0, self._in_flight - tokens)
            if is_done:
                self._done += tokens
            else:
                self._errors += tokens
            before = seconds if self._latency is None else self._latency
            self._latency = before + LATENCY_MEMORY * (seconds - before)

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
            raise InvalidSetting(
                "watch",
                queue if queue is not None else depth,
                "give a queue with qsize() and maxsize, or depth= a callable and limit=",
            )
        if type(queue).__module__.startswith("multiprocessing."):  # no other one is asked here: it may have locks
            try:
                depth()
            except NotImplementedError:
                remedy = "its qsize() does not work on this system: give depth= a callable (a counter) and limit="
                raise InvalidSetting("watch", queue, remedy) from None
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
            # A queue that is watched but not yet worked on has done nothing, unless something else is said by hand.
            if self._has_worked or (self._depth is not None and not self._said):
                said = {"done": self._done, "errors": self._errors, "in_flight": self._in_flight}
            if self._latency is not None:
                said["latency_ms"] = self._latency * 1e3
            self._has_said_so = self._has_worked
            by_hand = self._sent = dict(self._said)
        return said | self._queue() | by_hand

    def _queue(self) -> dict[str, float]:
        if self._depth is None:
            return {}
        try:
            depth = float(self._depth())
            said = {"queue_depth": parse_number("queue_depth", 0.0 if depth < 0 else depth)}
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                log.exception("the watched queue cannot be asked for its depth: reports go on without it")
            return {}
        return said if self._limit is None else {**said, "queue_limit": self._limit}


class Work:
    """`with consumer.work(n):` - n tokens of work; done when the block ends, errors when it raises."""

    __slots__ = ("_began", "_clock", "_meter", "_start", "_tokens")

    def __init__(self, meter: Meter, tokens: float, start: Callable[[], None], clock: Callable[[], float]) -> None:
        self._meter, self._tokens, self._start, self._clock = meter, tokens, start, clock
        self._began = 0.0

    def __enter__(self) -> None:
        self._meter.begin(self._tokens)
        self._began = self._clock()
        self._start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._meter.end(self._tokens, self._clock() - self._began, is_done=kind is None)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, where)

"""The base of both faces' consumers: measurements, reports, and the plans by which callers report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Self

from nexus_redis._core.consumer import ConsumerSession, ReportRequest
from nexus_redis._core.meter import REPORTABLE, Work
from nexus_redis._core.sources import Source
from nexus_redis._core.waiter import Await, CallerPlan
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis._values.parse import is_fraction, parse_seconds
from nexus_redis._values.settings import ConsumerSettings, parse_name, parse_number
from nexus_redis.errors import Closed, InvalidSetting, NotPicklable


class ConsumerBase:
    """One consumer of one budget. `_run` of a face runs a caller's plan.

    `_reporting` is the loop that makes the reports. It always runs in a thread, also for an async Nexus, so that a
    blocked event loop is seen as load and not as death.
    """

    def __init__(
        self, nexus: Any, budget: Any, id: str | None, settings: ConsumerSettings, source: Source | None = None
    ) -> None:
        self._nexus, self._reporting, self._is_closed = nexus, nexus._reports, False
        self._run = self._reporting.run
        name = parse_name(id, "id") if id is not None else None
        self._session = ConsumerSession(
            self._reporting.scheduler, budget._keys, name, settings, budget._registration, source
        )

    @property
    def name(self) -> str:
        """The budget's name."""
        return self._session.keys.name

    @property
    def id(self) -> str:
        """The id in Redis. If another process uses the given id, a suffix is added."""
        return self._session.id

    @property
    def rate(self) -> float | None:
        """Tokens per second that the law gives this consumer; None before the first answer."""
        return self._session.standing.rate if self._session.standing else None

    def __reduce__(self) -> Any:
        raise NotPicklable("consumer", error_texts.PICKLE_CONSUMER)

    def __repr__(self) -> str:
        told = f"{self.rate:g}/s" if self.rate is not None else "no report answered yet"
        return f"<{type(self).__name__} {self.id!r} of {self._session.keys.name!r}: {told}>"

    def watch(self, queue: Any = None, *, depth: Callable[[], float] | None = None, limit: float | None = None) -> Self:
        """Report how full a queue is: anything with `qsize()` and `maxsize`, or `depth=` a callable and `limit=`.

        Depth and limit are in tokens, like everything a consumer says. The queue is read every interval, from another
        thread. With 50 of 200 places taken the load is 25 %. Raises `InvalidSetting` for an object whose depth cannot
        be read.
        """
        self._check()
        self._session.meter.watch(queue, depth=depth, limit=limit)
        self.start()
        return self

    def work(self, tokens: float = 1) -> Work:
        """Count work: in flight inside `with consumer.work(len(batch)):`, then done, or an error if the block raises.

        The work is timed, too: with nothing else reported, errors and latency make the rate. Work that is cancelled, or
        whose client has gone, is neither done nor an error. Of a bulk, `as work` and `work.failed(3)` says that 3
        failed, and `work.done(497)` that no more than 497 are done. Async: `async with`.
        """
        return Work(self._session.meter, parse_number("tokens", tokens), self._start, self._session.scheduler.clock)

    def _check(self) -> None:
        if self._nexus._is_closed or self._reporting.scheduler.is_closing:
            raise Closed("nexus")
        if self._is_closed:
            raise Closed("consumer")

    def start(self) -> None:
        """Begin to report every `interval` (0.25 s). No-op for a consumer that reports already.

        `watch`, `work` and `report` start a consumer by themselves. Call `start` where callers take tokens before the
        first work comes: without a report, a budget that has no rate in code gives no token. The call does no I/O; a
        thread of the Nexus sends the first report at once. Raises `Closed`.
        """
        self._check()
        self._start()

    def _start(self) -> None:
        # Work that is done after the end of its consumer is not an error.
        if not self._session.has_started or self._session.meter.is_unheard:
            with self._reporting.entry:
                if not self._is_closed and not self._nexus._is_closed:
                    self._reporting.ensure_running()
                    self._session.start()

    # --- plans of callers

    def _report_plan(self, pause_ms: float | None = None) -> CallerPlan[float]:
        """Report now, and return this consumer's rate."""
        ticket = self._report_now(pause_ms)
        yield Await(ticket, None)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.standing is not None
        return ticket.standing.rate

    def _enter_plan(self) -> CallerPlan[None]:
        """Make the consumer known to the budget. Where Redis does not answer, that happens as soon as it does."""
        yield Await(self._report_now(None), self._session.server.patience)

    def _report_now(self, pause_ms: float | None) -> ReportRequest:
        self._check()
        ticket = ReportRequest(self._session.scheduler.clock(), pause_ms)
        self._session.ask(ticket)
        return ticket


def said_by_hand(values: dict[str, float | None]) -> dict[str, float]:
    """Return the checked arguments of `report`."""
    said: dict[str, float] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name not in REPORTABLE:
            raise InvalidSetting(name, value, error_texts.unknown_field(REPORTABLE))
        said[name] = parse_number(name, value)
    if is_fraction(said.get("load")) and "load" not in _warned:
        _warned.add("load")
        load = said["load"]
        about = log_fields(load=load)
        log.warning(log_texts.LOAD_REPORTED_AS_FRACTION, load, load, log_texts.LOAD_IS_FRACTION, extra=about)
    return said


_warned: Final[set[str]] = set()  # fields that a warning was logged for: once in a process


def pause_ms(seconds: float | str) -> float:
    """Return the milliseconds of a consumer's pause."""
    return parse_seconds(seconds, "pause") * 1e3


def consumer_settings(capacity: Any, interval: Any, observe: Any = False) -> ConsumerSettings:
    """Return the checked settings of a consumer."""
    return ConsumerSettings.of(capacity=capacity, interval=interval, observe=observe)

"""The base of both faces' producers: the plans by which callers take tokens, and properties that need no call.

A plan runs under the lock of its loop, and gives it away while its caller waits (`Await`). A face runs it in the
caller's thread or task: `return self._run(self._acquire_plan(cost, timeout))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.signal_request import SignalRequest
from nexus_redis._core.waiter import Await, CallerPlan, Waiter
from nexus_redis._protocol.calls import Answer
from nexus_redis._values import error_texts
from nexus_redis._values.formatting import counted
from nexus_redis._values.parse import MICRO, parse_rate, parse_seconds
from nexus_redis._values.results import GRANTED, Denied, Grant
from nexus_redis._values.settings import ProducerSettings, parse_cost
from nexus_redis.errors import AcquireTimeout, Closed, NotPicklable, Unavailable

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl


class Unset:
    """The type of UNSET: "not given", where None means something."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


def micro_cost(cost: float) -> int:
    """Return a caller's cost in micro-tokens. Raise `InvalidSetting` for anything that is not a cost."""
    if type(cost) is int and cost == 1:
        return MICRO
    return round(parse_cost(cost) * MICRO)


class ProducerBase:
    """One producer of one budget. `_run` of a face runs a caller's plan."""

    _nexus: Any

    def __init__(self, nexus: Any, session: ProducerSession, settings: ProducerSettings) -> None:
        self._nexus, self._session, self._settings, self._is_closed = nexus, session, settings, False
        self._loop, self._clock, self._run = nexus._loop, nexus._scheduler.clock, nexus._run
        self._last_cost: object = None  # what was last taken from tokens at hand

    @property
    def name(self) -> str:
        """The budget's name."""
        return self._session.keys.name

    @property
    def id(self) -> str:
        """The id in Redis. If another process uses the given id, a suffix is added."""
        return self._session.id

    @property
    def flow(self) -> FlowControl | None:
        """The budget's last answer, or None before the first."""
        return self._session.flow

    def __reduce__(self) -> Any:
        raise NotPicklable("producer", error_texts.PICKLE_PRODUCER)

    def __repr__(self) -> str:
        ledger, answer = self._session.ledger, self._session.ledger.answer
        told = (
            f"{answer.recommended_rate / MICRO:g}/s of {answer.budget_rate / MICRO:g}/s" if answer else "no answer yet"
        )
        return (
            f"<{type(self).__name__} {self.id!r} of {self._session.keys.name!r}: "
            f"{counted(ledger.held / MICRO, 'token')} in hand, {len(ledger.waiters)} waiting, {told}>"
        )

    # --- plans of callers

    def _acquire_plan(self, cost: float, timeout: float | str | Unset | None) -> CallerPlan[Grant]:
        """Take `cost` tokens that are at hand, or wait for them in line."""
        limit, tokens = self._limit(timeout), micro_cost(cost)
        self._check()
        now = self._clock()
        if self._spend(cost, tokens, now):
            return GRANTED
        waiter = Waiter(tokens, now, whole=limit == 0)
        yield from self._wait_plan(waiter, cost, limit)
        return Grant(cost, self._clock() - now, waiter.is_degraded)

    def _try_plan(self, cost: float) -> CallerPlan[Grant | Denied]:
        """Take `cost` tokens that are at hand, or ask once."""
        session, tokens = self._session, micro_cost(cost)
        self._check()
        now = self._clock()
        if self._spend(cost, tokens, now):
            return GRANTED
        denied = session.denial(tokens, now)
        if denied is not None:
            return session.counted(denied)
        waiter = Waiter(tokens, now, whole=True)
        try:
            yield from self._wait_plan(waiter, cost, session.server.patience)
        except AcquireTimeout:
            return Denied(session.ledger.refresh, session.reason)
        if waiter.denied is not None:
            return session.counted(session.denied(tokens, waiter.denied))
        return Grant(cost, self._clock() - now, waiter.is_degraded)

    def _signal_plan(self, requested_rate: float | str) -> CallerPlan[Answer]:
        """Ask what a demand of `requested_rate` may run at."""
        rate = round(parse_rate(requested_rate, "requested_rate") * MICRO)
        self._check()
        asker = SignalRequest(rate, self._clock())
        yield from self._wait_plan(asker, 0, self._limit(UNSET))
        assert asker.answer is not None
        return asker.answer

    def _wait_plan(self, waiter: Waiter, cost: float, limit: float | None) -> CallerPlan[None]:
        """Wait in line until `waiter` is served or denied. At any exception, leave the line and let it through."""
        session = self._session
        is_now = waiter.whole and limit == 0
        try:
            if is_now:
                self._refuse_now(waiter, cost, session.denial(waiter.cost, waiter.since, must_fit=False))
            session.wait(waiter)
            yield Await(waiter, session.server.patience if is_now else limit)
            self._check_settled(waiter, cost)
        except BaseException:
            session.cancel(waiter, self._clock())
            raise
        if waiter.error is not None:
            if waiter.cost and isinstance(waiter.error, Unavailable):  # a request for a signal costs nothing
                session.ledger.tally.deny("unavailable")
            raise waiter.error
        if is_now and waiter.denied is not None:
            self._refuse_now(waiter, cost, session.denied(waiter.cost, waiter.denied, must_fit=False))

    def _spend(self, cost: float, tokens: int, now: float) -> bool:
        """Take tokens that are at hand. Fill the cache only if the same cost comes twice in a row."""
        if not self._session.spend(tokens, now):
            return False
        if cost is self._last_cost:
            self._session.ledger.fill_cache(cost, self._loop.turn_ends)
        self._last_cost = cost
        return True

    def _check(self) -> None:
        """Raise `Closed` for a producer or a nexus that is closed."""
        if self._is_closed:
            raise Closed("producer")
        self._nexus._check()

    def _limit(self, timeout: float | str | Unset | None) -> float | None:
        """Return how many seconds a caller waits: as many as it says, else as many as the producer says."""
        if isinstance(timeout, Unset):
            return self._settings.timeout
        return None if timeout is None else parse_seconds(timeout, "timeout")

    def _check_settled(self, waiter: Waiter, cost: float) -> None:
        """Raise `AcquireTimeout` for a caller whose time is over."""
        if not waiter.is_settled:
            session, now = self._session, self._clock()
            if waiter.cost:
                session.ledger.tally.deny(session.reason)
            retry_after = max(0.0, session.ledger.served_at(0) - now)  # the caller is still in line
            raise AcquireTimeout(session.keys.name, cost, now - waiter.since, session.reason, retry_after)

    def _refuse_now(self, waiter: Waiter, cost: float, denied: Denied | None) -> None:
        """Raise `AcquireTimeout` for a caller with a timeout of 0 where `try_acquire` would have returned `Denied`."""
        if denied is not None:
            waited = self._clock() - waiter.since
            self._session.counted(denied)
            raise AcquireTimeout(self._session.keys.name, cost, waited, denied.reason, denied.retry_after)

    # --- for the helpers

    @property
    def _rate(self) -> float:
        """The budget's rate as this process knows it, or the one in code while the budget's rate is 0; 0 if unknown."""
        answer, settings = self._session.ledger.answer, self._session.registration.settings
        return answer.budget_rate / MICRO if answer and answer.budget_rate else settings.rate or 0.0

    def _seconds_until_served(self, cost: float) -> float:
        """Return in how many seconds a try of `cost` is served, as this process knows it; 0: at once, or unknown."""
        session, tokens = self._session, micro_cost(cost)
        with self._loop.entry:
            if session.ledger.held >= tokens:
                return 0.0
            denied = session.denial(tokens, session.scheduler.clock(), must_fit=False)
        return 0.0 if denied is None else denied.retry_after

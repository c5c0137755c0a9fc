"""`budget.reserve(...)`: tokens for work whose cost shows only when it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nexus_redis._api.producer import ProducerBase, Unset, micro_cost
from nexus_redis._core.ledger import Ledger
from nexus_redis._core.waiter import CallerPlan, Waiter
from nexus_redis._values import error_texts
from nexus_redis._values.parse import MICRO
from nexus_redis._values.results import Grant
from nexus_redis._values.settings import parse_number
from nexus_redis.errors import Closed, InvalidSetting, NotPicklable


class ReservationBase:
    """The base of both faces' reservations."""

    def __init__(self, producer: ProducerBase, cost: float, timeout: float | str | Unset | None) -> None:
        self._producer, self._session, self._timeout = producer, producer._session, timeout
        self.cost, self._tokens = cost, micro_cost(cost)
        self.grant: Grant | None = None
        self._ledger: Ledger | None = None
        self._waiter = Waiter(self._tokens, 0.0)
        self._came: float | None = None  # when its caller came, if it has waited somewhere else before

    def _reserve_plan(self) -> CallerPlan[None]:
        """Take the estimate, as `acquire` does, so that it can be settled later."""
        if self.grant is not None:
            raise Closed("reservation")
        producer, limit = self._producer, self._producer._limit(self._timeout)
        producer._check()
        self._waiter = waiter = Waiter(self._tokens, producer._clock(), whole=limit == 0)
        if self._came is not None:
            waiter.came = self._came
        is_warm = self._session.take(waiter, waiter.since)
        if not is_warm:
            yield from producer._wait_plan(waiter, self.cost, limit)
        self._ledger = self._session.ledger
        waited = 0.0 if is_warm and self._came is None else producer._clock() - waiter.came
        self.grant = Grant(self.cost, waited, waiter.is_degraded)

    def settle(self, used: float) -> None:
        """Correct the estimate: the work cost `used` tokens. The rest goes back, and what was too little is owed.

        A debt is paid before this producer's next acquire is served. A reservation that is never settled, or whose
        block raises, costs its estimate. Settled again, the last word counts, so totals may be told as they grow. Makes
        no call and never waits.

        Reserved 4,000 and settled 1,500: the other 2,500 serve the next in line. Settled 4,600: the next in line waits
        until 600 more have come.
        """
        tokens = round(parse_number("used", used) * MICRO)
        if self._ledger is None:
            raise InvalidSetting("used", used, error_texts.NOT_RESERVED)
        with self._producer._loop.entry:
            self._settle(tokens)

    def _settle(self, tokens: int) -> None:
        assert self._ledger is not None
        self._session.settle(self._ledger, self._waiter, tokens, self._session.scheduler.clock())

    def __reduce__(self) -> Any:
        raise NotPicklable("reservation", error_texts.PICKLE_RESERVATION)

    def __repr__(self) -> str:
        state = "not reserved yet" if self.grant is None else f"{self._waiter.cost / MICRO:g} tokens as it stands"
        return f"<{type(self).__name__} of {self._session.keys.name!r}, estimate {self.cost:g}: {state}>"


def reserve_all_plan(
    reservations: Sequence[ReservationBase], since: float, clock: Callable[[], float]
) -> CallerPlan[Grant]:
    """Take all reservations or none, one after the other."""
    taken: list[ReservationBase] = []
    try:
        for reservation in reservations:
            yield from reservation._reserve_plan()
            taken.append(reservation)
    except BaseException:
        for reservation in taken:
            reservation._settle(0)
        raise
    is_degraded = any(each.grant is not None and each.grant.degraded for each in taken)
    return Grant(sum(each.cost for each in taken), clock() - since, is_degraded)

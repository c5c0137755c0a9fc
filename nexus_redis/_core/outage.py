"""The outage mode: how much a producer admits while Redis is away, beside the leases that it still holds. No I/O.

    share       half of the last share, halved each 30 s, for 5 minutes, then closed; never answered before: closed
    closed      nothing; a caller that has waited 5 s gets `Unavailable`
    open        everything; a lossless budget is always closed

Grants of the outage mode are marked `degraded`, and are not made up for later: claims go on from the server's state.

A producer's plan does not go on while its call has no answer. Where Redis hangs, that is most of the time. So the
outage mode is a session of its own, which makes no calls and serves the callers whether a call hangs or is refused.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nexus_redis._core.session import Life, Rest, Session
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.calls import DEFAULT_BURST
from nexus_redis._values.parse import MICRO
from nexus_redis.errors import Unavailable

if TYPE_CHECKING:
    from nexus_redis._core.producer import ProducerSession

UNAVAILABLE_AFTER: Final = 5.0
OTHER_PAUSE: Final = 0.05  # seconds until the next look at a caller that another budget keeps waiting
SHORTEST_PAUSE: Final = 0.001  # seconds until the next look at what is earned


class Allowance:
    """The tokens that are earned at the degraded rate, from the moment when Redis went away.

    Processes that lose Redis at the same moment would all have earned their first whole token at the same moment too:
    32 of them with a budget of 5/s would admit 32 at once. So the first cost of an outage counts 1 to 2 times, drawn by
    chance, and these tokens are spread over as long a time as it took to earn them. A producer that has all of the
    degraded rate shares it with no other, so there the first cost counts once.

        a share of 2.5/s of 5/s, one token: it is there after 0.4 s
        a share of 0.16/s of 5/s: after 6.4 to 12.4 s, then one each 6.4 s

    Amounts in micro-tokens, rates in micro-tokens per second, times in seconds of the scheduler's clock.
    """

    __slots__ = ("_stretch", "_until", "amount")

    def __init__(self) -> None:
        self._stretch = 1.0  # the next cost counts so many times
        self.reset()

    def reset(self) -> None:
        """Forget what was earned: Redis answers, and the next outage begins with nothing."""
        self.amount = 0.0
        self._until: float | None = None  # when `amount` was last brought up to date; None: no outage so far

    def covers(self, cost: int, rate: float, most: float, began: float, now: float) -> bool:
        """Return whether `cost` is earned by now, at `rate` of `most`, since the outage `began`."""
        if rate == NEVER:
            self.amount = cost
            return True
        if self._until is None:
            self._until = began
            self._stretch = 1 + random.uniform(0, max(0.0, 1 - rate / most) if most else 0.0)  # noqa: S311  # no secret
        need = cost * self._stretch
        self.amount = min(self.amount + rate * (now - self._until), max(rate * DEFAULT_BURST, need, MICRO))
        self._until = now
        return rate > 0 and self.amount >= need

    def take(self, cost: int) -> None:
        """Admit what is covered."""
        self.amount -= cost * self._stretch
        self._stretch = 1.0

    def seconds_for(self, cost: int, rate: float) -> float:
        """Return how long it takes to earn `cost`."""
        return (cost * self._stretch - self.amount) / rate


class OutageMode(Session):
    """One producer's outage mode at work. `next_at`: when the next caller may be served or must get its error."""

    is_counted = False
    sends = False

    def __init__(self, session: ProducerSession) -> None:
        self._session, self.scheduler = session, session.scheduler
        self.allowance = Allowance()
        self.next_at = NEVER

    @property
    def key(self) -> str:
        return self._session.key

    def live(self) -> Life:
        while True:
            yield Rest(self.next_at)
            self._session.serve_degraded(self.scheduler.clock())

    def end(self) -> None:
        """End the outage: Redis answers."""
        self.allowance.reset()
        self.next_at = NEVER

    def rate(self, now: float) -> float:
        """Return the micro-tokens per second that are admitted; infinite where the mode is open."""
        mode, answer = self._session.settings.on_outage, self._session.ledger.answer
        if answer is not None and answer.is_lossless:
            return 0.0
        if mode == "open":
            return NEVER
        return 0.0 if mode == "closed" else float(self._session.ledger.share(now))

    def serve(self, now: float) -> list[Waiter]:
        """Serve callers by the mode; return those that are settled: served, or with an error."""
        session = self._session
        self.next_at = NEVER
        settled = session.ledger.serve(now)
        rate = self.rate(now)
        while (head := session.ledger.head) is not None and self._admit(head, now):
            if head is session.ledger.debt:
                session.ledger.write_off()
                continue
            for _, part in session.leave_line(head, now):
                part.is_served = part.is_degraded = True
            settled.append(head)
        if head is not None and 0 < rate < NEVER:
            left = self.allowance.seconds_for(head.cost, rate)
            # If all of it is earned here, the caller waits for another budget that it wants as well.
            self.next_at = now + (max(SHORTEST_PAUSE, left) if left > 0 else OTHER_PAUSE)
        settled += self._give_up(now)
        for asker in session.askers:
            asker.error = self._unavailable(asker, now)
            settled.append(asker)
        session.askers = ()
        self.wake_at(self.next_at)
        return settled

    def allows(self, cost: int, now: float) -> bool:
        """Return whether the mode has earned `cost` by now."""
        session = self._session
        away, answer = session.away, session.ledger.answer
        rate = self.rate(now) if away.is_out else 0.0
        all_of_it = answer.budget_rate / 2 if answer else 0.0
        return self.allowance.covers(cost, rate, all_of_it, max(away.out_since, session.ledger.answered), now)

    def _admit(self, waiter: Waiter, now: float) -> bool:
        """Take what a caller wants from what is earned, if the modes of all budgets that it wants allow it."""
        parts: Sequence[tuple[ProducerSession, Waiter]] = waiter.parts(self._session)
        if not all(session.outage.allows(part.cost, now) for session, part in parts):
            return False
        for session, part in parts:
            session.outage.allowance.take(part.cost)
            session.ledger.degraded += part.cost
            session.ledger.tally.serve(now - part.came, is_degraded=True)
        return True

    def _give_up(self, now: float) -> list[Waiter]:
        """Return the callers that cannot be served while Redis is away: a try at once, others after a while."""
        gone: list[Waiter] = []
        session = self._session
        for waiter in session.ledger.callers:
            if waiter.whole:
                waiter.denied = max(0.0, min(self.next_at, session.away.next_try) - now)
            elif any(each.outage.rate(now) == 0 for each, _ in waiter.parts(session)):
                hopeless = max(session.away.out_since, waiter.since) + UNAVAILABLE_AFTER
                if now >= hopeless:
                    waiter.error = self._unavailable(waiter, now)
                else:
                    self.next_at = min(self.next_at, hopeless)
            if waiter.is_settled:
                for _, part in session.leave_line(waiter, now):
                    part.error = waiter.error
                gone.append(waiter)
        return gone

    def _unavailable(self, waiter: Waiter, now: float) -> Unavailable:
        return Unavailable(self._session.scheduler.address, self._session.away.cause, now - waiter.since)

"""Several budgets at once: one caller with a part in each of their lines. No I/O.

All parts join their lines in one step. So a caller that is before another in one line is before it in all lines that
they share, and no two callers can wait for each other. A part lets those behind it pass as long as the budget is far
from reaching it in another line, or another budget needs longer for it. So the part keeps its place and reserves no
token. A budget reserves tokens for it only from when this takes as long as the slowest budget still needs, and all
tokens are taken in one step. The part of the slowest budget never lets others pass, so what is missing only shrinks.

    requests 60/min, tokens 10,000/min; a caller asks for 1 and 4,000. It stands first in both lines. The tokens take
    24 s. For 23 s of these, requests go to the callers behind it. Then the next request is reserved, and both are taken
    together.

A caller's places are found by `consider`, from its own lines alone, and only when something has happened to it:

    it comes                                    its parts get their first places
    it is first in a line that has changed      tokens came, or the caller before it went
    it comes within the reach of a line         so that its tokens in other lines are there when its turn comes

A caller that is far from its turn is asleep in one line and counts in no other. It is not looked at there, however many
answers come. So a thousand callers, each with a budget of its own beside one that all share, cost no more for each
answer than two do. A change of places in another line is not followed at once but noted (`Scheduler.touch`). The
scheduler looks at the lines one after the other, so a chain of callers is not a recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nexus_redis._core.demand import LONG_AGO
from nexus_redis._core.ledger import AT_ONCE, Ledger
from nexus_redis._core.line import NEAR, PASSING, Part, ages
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.waiter import NEVER, Waiter, do_nothing
from nexus_redis._protocol.calls import REFRESH

PATIENCE: Final = 2  # times: a budget stops to reserve only when the slowest needs so many times longer; rates waver


class MultiAcquire:
    """A caller of several budgets: `costs` by producer, in micro-tokens. The driver of its plan sets `wake`."""

    def __init__(self, costs: Mapping[ProducerSession, int], since: float) -> None:
        self.since = since
        self.wake: Callable[[], None] = do_nothing
        self.parts = tuple((session, MultiAcquirePart(self, session, cost, since)) for session, cost in costs.items())
        self.first = self.parts[0][1]  # all are settled in the same way
        self.scheduler = self.parts[0][0].scheduler

    @property
    def error(self) -> Exception | None:
        """Return the error that the caller must raise."""
        return self.first.error

    @property
    def is_degraded(self) -> bool:
        """Return whether the outage modes of all budgets served the caller, since Redis was away."""
        return self.first.is_degraded

    @property
    def is_settled(self) -> bool:
        """Return whether nothing more will happen to the caller."""
        return self.first.is_settled

    def spend(self, now: float) -> bool:
        """Take all tokens, if all are at hand; else none."""
        for session, part in self.parts:
            session.check(now)
            session.ledger.demand.attempts += part.cost
            session.ledger.demand.unit = part.cost
        if not all(session.ledger.could_spend(part.cost, now) for session, part in self.parts):
            return False
        for session, part in self.parts:
            session.ledger.hand_over(part, now)
            self.scheduler.touch(session)
        self.scheduler.look_around(now)
        return True

    def wait(self) -> None:
        """Join all lines."""
        age = next(ages)
        for session, part in self.parts:
            part.age = age
            session.ledger.waiters.expect(part)
        self.consider(self.since)
        self.scheduler.look_around(self.since)

    def cancel(self, now: float) -> None:
        """Take the caller out of all lines: it gives up, in line or just served."""
        for session, part in self.parts:
            session.ledger.cancel(part, now)
            self.scheduler.touch(session)
        self.scheduler.look_around(now)

    def consider(self, now: float) -> None:
        """Find the place of each part, by how long each budget needs until its tokens are there."""
        self.scheduler.steps += len(self.parts)
        needed = [(part.seconds_left(now), part.place > PASSING) for _, part in self.parts]
        longest, _ = slowest = max(needed)
        is_found = False
        for (session, part), each in zip(self.parts, needed, strict=True):
            # By the whole cost, not by what is missing: else a part that collects would soon have to stop.
            mine = part.seconds_for(part.cost) * (PATIENCE if part.place else 1)
            counts = longest <= mine + AT_ONCE or (each == slowest and not is_found)
            is_found = is_found or each == slowest
            if counts != bool(part.place):
                is_near = part.place == NEAR or (counts and part.is_reached)
                if counts:
                    part.let_in(now, is_near=is_near)
                else:
                    session.ledger.waiters.let_pass(part)
                if is_near:  # another caller may be first there now
                    self.scheduler.touch(session)


class MultiAcquirePart(Part):
    """The caller's part in one line."""

    __slots__ = ("caller", "ledger")

    def __init__(self, caller: MultiAcquire, session: ProducerSession, cost: int, since: float) -> None:
        super().__init__(cost, since)
        self.caller, self.ledger = caller, session.ledger
        self.wake = lambda: caller.wake()  # noqa: PLW0108  # not bound yet: the driver sets it when the caller begins to wait

    def consider(self, now: float) -> None:
        self.caller.consider(now)

    def let_in(self, now: float, *, is_near: bool) -> None:
        """Have the part count from now on."""
        ledger, parts = self.ledger, self.ledger.waiters.parts
        assert parts is not None
        if not ledger.waiters and self.cost < ledger.slot_need:
            ledger.next_slot = LONG_AGO
        ledger.reclaim(now)
        self.since = self.came = now  # for the measure of demand: it did not wait for this budget before
        parts.put(self, ledger.within_reach, is_near=is_near)

    def seconds_for(self, tokens: int) -> float:
        """Return the seconds that the budget needs for `tokens`, at the speed that the last answer named."""
        answer = self.ledger.answer
        if tokens <= 0:
            return 0.0
        if answer is None:
            return REFRESH  # not known before the first answer, which is a claim away
        return tokens / answer.speed if answer.speed else NEVER

    @property
    def is_reached(self) -> bool:
        """Return whether its turn is near, or would be if it counted."""
        return self.ledger.waiters.reaches(self, self.ledger.within_reach)

    def seconds_left(self, now: float) -> float:
        """Return the seconds until its tokens are there, if it counts from now on: at most, far from its turn."""
        ledger = self.ledger
        if not self.is_reached:
            behind = 0 if self.place else self.cost
            return self.seconds_for(ledger.waiters.cost + behind) if ledger.answer is not None else NEVER
        first = ledger.waiters.first
        if first is not None and first.age < self.age:
            return self.seconds_for(self.cost)
        missing = self.cost - ledger.held
        return max(self.seconds_for(missing), ledger.outlook - now) if missing > 0 else 0.0

    def is_ready(self, now: float) -> bool:
        for _, part in self.caller.parts:
            part.ledger.expire(now)
        return all(part.ledger.held >= part.cost and part.ledger.head is part for _, part in self.caller.parts)

    def take(self, ledger: Ledger, now: float) -> None:
        for session, part in self.caller.parts:
            part.ledger.hand_over(part, now)
            if part.ledger is not ledger:
                self.caller.scheduler.touch(session)

    def parts(self, owner: Any) -> Sequence[tuple[Any, Waiter]]:  # noqa: ARG002  # any producer gets all parts
        return self.caller.parts

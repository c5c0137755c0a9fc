"""Reservations: what was spent on an estimate, and cost less or more in the end. No I/O, no clock.

What was too much goes back to the leases. What was too little is *owed*: the debt stands at the head of the line,
before the callers that wait, and takes what comes until it is paid, so that

    what was admitted = spent + owed + written off      (written off: a debt that nobody was left to pay)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_redis._core.waiter import Waiter

if TYPE_CHECKING:
    from nexus_redis._core.ledger import Ledger


class Settlement:
    """The debt of one ledger, in micro-tokens."""

    __slots__ = ("debt", "written_off")

    def __init__(self) -> None:
        self.debt: Waiter | None = None
        self.written_off = 0

    def settle(self, ledger: Ledger, waiter: Waiter, cost: int, now: float, *, is_open: bool = True) -> None:
        """Correct what `waiter` was served with: it cost `cost`. Settled again, the last word counts.

        A rest that comes back within its lease is as it was. One that comes later has been granted and not used, so it
        may still be: by the callers in line, and beyond that as much as a bucket holds, for one more lease. Not on a
        lossless budget, where it may count as arrived by now. `is_open`: there is a next claim, to pay or hand back.
        """
        more, waiter.cost = cost - waiter.cost, cost
        if waiter.is_degraded or not more:  # no budget granted it, so there is nothing to correct
            return
        ledger.demand.attempts += more
        if more < 0:
            self._give_back(ledger, -more, waiter.expires, now, is_open=is_open)
        elif is_open:
            self._owe(ledger, more, now)
        else:
            self.written_off += more

    def pay(self, ledger: Ledger, tokens: int) -> None:
        """Count spent tokens as payment of so much of the debt."""
        assert self.debt is not None
        ledger.waiters.add(self.debt, -tokens)
        if not self.debt.cost:
            ledger.waiters.leave(self.debt)
            self.debt = None

    def write_off(self, ledger: Ledger) -> None:
        """Give the debt up: the outage mode has stood in for it, or nobody comes back to pay it."""
        if self.debt is not None:
            self.written_off += self.debt.cost
            self.pay(ledger, self.debt.cost)

    def _give_back(self, ledger: Ledger, rest: int, expires: float, now: float, *, is_open: bool) -> None:
        if self.debt is not None:  # used after all: for what was owed
            paid = min(rest, self.debt.cost)
            rest -= paid
            self.pay(ledger, paid)
        unpaid = min(rest, self.written_off)  # nobody paid for that, so nothing of it comes back
        self.written_off -= unpaid
        rest -= unpaid
        ledger.spent -= rest
        kept = rest if is_open else 0
        if is_open and expires <= now:
            answer = ledger.answer
            room = max(ledger.asked, answer.burst) - ledger.leases.total if answer and not answer.is_lossless else 0
            kept, expires = max(0, min(rest, room)), now + ledger.lease
        ledger.burned += rest - kept
        ledger.burned_told += rest - kept  # the server may have written it off, and must not do so twice
        if kept:
            ledger.keep(kept, expires)
            ledger.due = min(ledger.due, now + ledger.refresh)

    def _owe(self, ledger: Ledger, more: int, now: float) -> None:
        ledger.reclaim(now)
        if self.debt is None:
            ledger.release()
            self.debt = Waiter(0, now)
            ledger.waiters.owe(self.debt)
        ledger.waiters.add(self.debt, more)
        ledger.wake(now)

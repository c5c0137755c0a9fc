"""Reservations: tokens that were spent on an estimate, and the true cost that is known later. No I/O, no clock.

Tokens that the work did not need go back to the leases. Tokens that it needed beyond the estimate are *owed*. The debt
stands at the head of the line, before the callers that wait, and takes the tokens that come until it is paid, so that

    admitted = spent + owed + written off      (written off: a debt of a producer that ended, or of an outage)
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
        """Correct what `waiter` was served with: its work cost `cost`. Settled again, the last cost counts.

        A rest that comes back within its lease keeps its expiry. A rest that comes later was granted and not used, so
        it may be used now, for one more lease: as much as the callers in line lack or a bucket holds. On a lossless
        budget it burns, since it may count as arrived by now. `is_open`: there is a next claim, to pay or hand back.
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
        """Count spent tokens as payment of the debt."""
        assert self.debt is not None
        ledger.waiters.add(self.debt, -tokens)
        if not self.debt.cost:
            ledger.waiters.leave(self.debt)
            self.debt = None

    def write_off(self, ledger: Ledger) -> None:
        """Write the debt off: the outage mode has admitted it, or this producer ends."""
        if self.debt is not None:
            self.written_off += self.debt.cost
            self.pay(ledger, self.debt.cost)

    def _give_back(self, ledger: Ledger, rest: int, expires: float, now: float, *, is_open: bool) -> None:
        if self.debt is not None:  # the rest pays what is owed
            paid = min(rest, self.debt.cost)
            rest -= paid
            self.pay(ledger, paid)
        unpaid = min(rest, self.written_off)  # it was never paid, so it does not come back
        self.written_off -= unpaid
        rest -= unpaid
        ledger.spent -= rest
        kept = rest if is_open else 0
        if is_open and expires <= now:
            answer = ledger.answer
            room = max(ledger.asked, answer.burst) - ledger.leases.total if answer and not answer.is_lossless else 0
            kept, expires = max(0, min(rest, room)), now + ledger.lease
        ledger.burned += rest - kept
        ledger.burned_reported += rest - kept  # the server may have written it off, and must not do so twice
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

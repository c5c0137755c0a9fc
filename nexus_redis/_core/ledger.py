"""One producer's ledger on one budget: it serves callers from leases, and says when to claim. No I/O, no clock.

Each part of it has a file of its own:

    leases.py        the tokens at hand, each with an expiry
    token_cache.py   portions of them, which callers take without asking the ledger
    line.py          the callers that wait; multi_acquire.py: those that want other budgets too
    settlement.py    reservations whose true cost is known, and the debt that is left
    demand.py        what the producer will need
    tally.py         what the process counts for its metrics
    flights.py       the claims on their way, and how far away Redis is

This file ties them together. Spending is local. The ledger says when its next claim is `due`. The session asks it for
that claim, sends the claim, and hands the answer back. Times go in as seconds of one monotonic clock, amounts are whole
micro-tokens, so that at any instant, exactly,

    granted = used + returned + burned + held

- A lease counts from *before the first send* of its claim. However late the answer is, no token is spent after the
  server has stopped counting on it. Tokens that expire are burned and never credited back.
- Callers are served first in, first out. The tokens that are collected for the first caller are *reserved*. They do not
  burn while claims go on reporting them. When that caller gives up or is denied, they return to the leases with the age
  that they have.
- Near Redis, one claim is on its way at a time. A claim without an answer is sent again as it was, with the same `seq`,
  so nothing is charged twice. When the tokens that it may have brought have expired, it is given up.
- Where Redis is far, a claim does not wait for the answer to the claim before. It is made a refresh after that claim,
  as always. Each claim asks for what will be spent until a refresh after its answer, less what the claims before it
  will bring. Each claim also says how long a round trip takes. The server makes its lease longer by a round trip, since
  tokens spend most of that time on the way.
- Tokens may be *paced*: they become available one at a time, so that what came at once is spent evenly until the next
  claim. They are paced where the producer is `smooth`, and where tokens are scarce and at most PACED_BELOW acquires a
  second are served.
- When the budget's rate falls, the tokens at hand were meant for the rate before. If it falls by 30 %, then 30 % of
  them are *withdrawn*: they are not spent any more, and the next claim hands them back. An answer says that the rate
  has fallen, or, sooner, a message (subscriptions.py). A message never adds tokens. The count of grants, which both
  have, says whether an answer is older than a message.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from nexus_redis._core.demand import LONG_AGO, Demand
from nexus_redis._core.flights import MOST_FLIGHTS, Flight, Flights
from nexus_redis._core.leases import Leases
from nexus_redis._core.line import LOOKS, LOOKS_AGAIN, Line
from nexus_redis._core.settlement import Settlement
from nexus_redis._core.tally import NO_SUMS, Sums, Tally
from nexus_redis._core.token_cache import EMPTY_CACHE, LEAST, MOST, TokenCache
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.calls import FALL, LEASE, LONGEST_TRIP, REFRESH, Answer, Claim, Drop
from nexus_redis._values.parse import MICRO
from nexus_redis.errors import RATE

CLAIM_GAP: Final = 0.085  # seconds between two claims of one producer: less than a refresh, which has jitter
PROMISED_GAP: Final = 0.005  # likewise, where the last answer gave no token and the time of this producer's next one
AT_ONCE: Final = REFRESH  # seconds: a caller of several budgets starts to collect in all that need no longer than this
RENEWED: Final = 0.6  # of a lease: reserved tokens are reported again so long before they expire
GRAIN: Final = 0.002  # seconds: paced tokens that fall due within it are spent together, with one wake-up
PACED_BELOW: Final = 300  # acquires a second: up to here a wake-up for each costs a process next to nothing
PACED_WITHIN: Final = 0.01  # seconds: with a longer round trip, pacing would hold tokens back while a claim is out
ROUNDED: Final = 2  # micro-tokens: a bucket earns whole ones, at whole microseconds
DONE: Final = 0.8  # of a lease, after the last claim: then an idle producer says that it is done, in a later epoch
HALVED_EACH: Final = 30.0  # seconds: the share for an outage, as in lua/lib/outage_share.lua
SHARE_LASTS: Final = 300.0


class Owner(Protocol):
    """The session that makes the claims of a ledger."""

    def on_due(self, time: float) -> None:
        """Take note that the ledger wants something at that time."""


class Ledger:
    """The state of one producer on one budget. `due`: when to call `claim` next.

    Methods that return waiters return those that are settled: the caller of the method wakes them.
    """

    __slots__ = (
        "_due", "_owner", "answer", "answered", "birth", "burned", "burned_reported", "cache", "counted",
        "degraded", "demand", "flights", "gap", "granted", "granted_total", "heard", "incarnation", "is_ahead",
        "is_awaited", "is_denied", "is_smooth", "is_trying", "last_claim", "last_use", "lease", "leases",
        "local", "low", "next_slot", "opens", "outlook", "pace", "paced_until", "portions", "priority", "rate",
        "refresh", "reserved", "reserved_expires", "rests", "returned", "seq", "settlement", "share_asked_at",
        "short_gap", "slot_need", "spent", "tally", "tries", "waiters", "weight", "withdrawn",
        "withdrawn_expires",
    )  # fmt: skip

    def __init__(
        self,
        now: float,
        *,
        weight: float = 1.0,
        priority: str = "normal",
        incarnation: str = "",
        smooth: bool = False,
        owner: Owner | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._due, self._owner = NEVER, owner
        self.tally = tally or Tally()
        self.local = 0  # acquires that were served at once, without those in the cache
        self.counted = NO_SUMS  # the part of `sums` that is in the tally
        self.is_smooth = smooth
        self.pace = 0.0  # micro-tokens/s at which tokens become available; 0: all are
        self.paced_until = LONG_AGO  # until then none is available
        self.opens = NEVER  # when to call `serve` for callers that wait for paced tokens
        self.weight, self.priority, self.incarnation = round(weight * MICRO), priority, incarnation
        self.leases = Leases()
        self.reserved = 0  # micro-tokens that are collected for the caller at the head of the line
        self.reserved_expires = NEVER
        self.waiters = Line()
        self.tries = 0  # how many callers in line want all or nothing
        self.is_trying = False  # the last caller that came was one of these
        self.demand = Demand(now)
        self.settlement = Settlement()
        self.granted = self.spent = self.returned = self.burned = 0
        self.withdrawn, self.withdrawn_expires = 0, NEVER  # counted in `returned`; the server does not know it yet
        self.heard: Drop | None = None  # while a claim was in flight: its answer may be older
        self.cache = EMPTY_CACHE
        self.portions = LEAST  # of the next token cache
        self.burned_reported = 0
        self.seq = 0
        self.flights = Flights()
        self.last_claim = self.next_slot = self.outlook = self.last_use = LONG_AGO
        self.rests = LONG_AGO  # no look at the line before this: it has just looked at many callers
        self.low = 0  # micro-tokens: when the leases fall below this, the next claim is due
        self.rate = RATE.high * MICRO  # until an answer names it: some limit, so that demand does not double forever
        self.lease, self.refresh = LEASE, REFRESH
        # `outlook`: when the need of the last claim will be met, as things stand. `next_slot`: when to claim again,
        # which is sooner where the need takes long.
        self.slot_need = 0  # the need of the claim whose answer named the slot: a caller that needs less may ask before
        self.is_denied = False  # the last claim got much less than it asked for
        self.is_ahead = False  # the last claim asked for more than the callers in line lack
        self.gap = self.short_gap = CLAIM_GAP  # from one claim to the next, at least; and where a caller lacks tokens
        self.birth, self.granted_total = "", 0
        self.answer: Answer | None = None
        self.answered = LONG_AGO
        self.share_asked_at = LONG_AGO  # when the claim was sent whose answer named the share for an outage
        self.degraded = 0  # admitted by the outage mode; the server does not know it yet
        self.is_awaited = False  # the server expects another claim: without one it takes the producer for cut off

    def begin(self, incarnation: str) -> None:
        """Begin a new stay, whose calls the server tells from those of the stay before and of a parent process."""
        self.incarnation, self.seq, self.flights.newest = incarnation, 0, 0

    @property
    def due(self) -> float:
        """Return when to call `claim` next."""
        return self._due

    @due.setter
    def due(self, time: float) -> None:
        self._due = time
        if time < NEVER and self._owner is not None:
            self._owner.on_due(time)

    # --- spending

    def spend(self, cost: int, now: float) -> bool:
        """Take `cost` from the tokens at hand unless callers wait; return whether that was done.

        The cost counts as demand in either case.
        """
        self.demand.note(cost)
        if self.waiters or not self._covers(cost, now):
            return False
        self._space(cost, now)
        self.leases.take(cost)
        self.spent += cost
        self.local += 1
        self.last_use = now
        if self.leases.total < self.low:
            self.wake(now)
        return True

    def fill_cache(self, cost: object, until: float = NEVER) -> None:
        """Fill the token cache with portions of the cost that was just spent, to be taken before `until`.

        `cost` is the object that the caller passed. The tokens that are left are as many as where a claim is wanted: so
        the caller that finds the cache empty wakes the ledger.
        """
        micro = self.demand.unit
        if not self.leases.total or self.waiters or self.pace:
            return
        spare = self.leases.total - self.low if self.leases.total > self.low else self.leases.total
        count = min(self.portions, min(spare, self.leases.oldest_tokens) // micro)
        if count >= LEAST:
            self.cache = TokenCache(cost, micro, count, self.leases.take(count * micro), until)

    def reclaim(self, now: float) -> None:
        """Return the portions in the token cache to the leases, and count those that were taken as spent."""
        if self.cache is EMPTY_CACHE:
            return
        cache, self.cache = self.cache, EMPTY_CACHE
        left = cache.clear()
        taken = cache.count * cache.micro - left
        if left:
            self.keep(left, cache.keeps)
        if taken:
            self.spent += taken
            self.local += taken // cache.micro
            self.demand.attempts += taken
            self.last_use = now
            self.portions = min(MOST, max(LEAST, 2 * taken // cache.micro))
        else:
            self.portions = LEAST

    @property
    def used(self) -> int:
        """Return the micro-tokens that were spent."""
        return self.spent + self.cache.taken

    def could_spend(self, cost: int, now: float) -> bool:
        """Return whether `spend` would take `cost`."""
        return not self.waiters and self._covers(cost, now)

    def take(self, waiter: Waiter, now: float) -> bool:
        """Serve a caller that may settle later from the tokens at hand, as `spend` does. It notes when they expire."""
        self.demand.note(waiter.cost)
        if not self.could_spend(waiter.cost, now):
            return False
        self.hand_over(waiter, now)
        if self.leases.total < self.low:
            self.wake(now)
        return True

    def hand_over(self, waiter: Waiter, now: float) -> None:
        """Serve `waiter` from the tokens that are reserved for it, and for the rest from the leases."""
        reserved = min(self.reserved, waiter.cost)  # 0 when nobody waits
        self._space(waiter.cost - reserved, now)
        waiter.expires = min(self.reserved_expires, self.leases.take(waiter.cost - reserved))
        self.reserved -= reserved
        if not self.reserved:
            self.reserved_expires = NEVER
        self.spent += waiter.cost
        self.last_use = now
        waiter.is_served = True
        if waiter in self.waiters:
            self._remove(waiter)
            self.tally.serve(now - waiter.came)
        elif waiter.came < waiter.since:
            self.tally.serve(now - waiter.came)
        else:
            self.local += 1

    # --- counting

    @property
    def waiting(self) -> int:
        """Return how many callers are in line, those that let others pass included."""
        return len(self.waiters) - (self.debt is not None)

    @property
    def sums(self) -> Sums:
        """Return what became of all tokens, and how many acquires were served at once. Needs no lock."""
        cache = self.cache
        return Sums(
            self.granted, self.spent + cache.taken, self.returned - self.withdrawn, self.burned,
            self.local + cache.portions_taken,
        )  # fmt: skip

    def add_up(self) -> None:
        """Add the sums to the tally, which outlives this ledger."""
        new = self.sums.minus(self.counted)
        self.counted = self.counted.plus(new)  # first: a thread that reads both meanwhile counts nothing twice
        self.tally.sums = self.tally.sums.plus(new)

    # --- settling

    @property
    def debt(self) -> Waiter | None:
        """Return the work that was admitted and is not paid for yet, as a caller at the head of the line."""
        return self.settlement.debt

    @property
    def owed(self) -> int:
        """Return the debt in micro-tokens."""
        return self.debt.cost if self.debt is not None else 0

    @property
    def callers(self) -> list[Waiter]:
        """Return the callers in line, without the debt."""
        return [waiter for waiter in self.waiters if waiter is not self.debt]

    def settle(self, waiter: Waiter, cost: int, now: float, *, is_open: bool = True) -> None:
        """Correct what `waiter` was served with: its work cost `cost`."""
        self.settlement.settle(self, waiter, cost, now, is_open=is_open)

    def write_off(self) -> None:
        """Write the debt off: the outage mode has admitted it, or this producer ends."""
        self.settlement.write_off(self)

    # --- the line

    def wait(self, waiter: Waiter) -> None:
        """Put a caller at the end of the line; a claim is due soon."""
        if not self.waiters and waiter.cost < self.slot_need:
            self.next_slot = LONG_AGO
        self.reclaim(waiter.since)
        self.waiters.join(waiter)
        self.tries += waiter.whole
        self.is_trying = waiter.whole
        self.wake(waiter.since)

    @property
    def parts(self) -> int:
        """Return how many callers in line want other budgets too."""
        return len(self.waiters.parts.all) if self.waiters.parts is not None else 0

    @property
    def within_reach(self) -> float:
        """Return the micro-tokens that callers in line get now or within a refresh."""
        return self.held + (self.answer.speed if self.answer is not None else 0) * AT_ONCE

    def cancel(self, waiter: Waiter, now: float) -> bool:
        """Take out a caller that gives up; return whether it was still in line.

        The tokens that it was served with, or that were reserved for it, go back to the leases.
        """
        if waiter.is_degraded:
            return False
        if waiter.is_served:  # served and cancelled in the same moment
            waiter.is_served = False
            self.spent -= waiter.cost
            self.keep(waiter.cost, waiter.expires)
            self.wake(now)
            return False
        if waiter not in self.waiters:
            return False
        if waiter is self.head and self.reserved:
            self.release()
        self._remove(waiter)
        return True

    def serve(self, now: float) -> list[Waiter]:
        """Serve the callers in line from the tokens at hand, and return those that are settled by that."""
        settled: list[Waiter] = []
        self.opens, self.rests = NEVER, LONG_AGO
        looks, head = LOOKS, None
        while looks and (head := self.head) is not None:
            looks -= head.is_part
            self.expire(now)
            if not head.stays(now):
                continue
            if head is self.debt:
                paid = min(self.leases.total, head.cost)
                self.leases.take(paid)
                self.spent += paid
                self.settlement.pay(self, paid)
                if head.cost:
                    break
                self.last_use = now
                continue
            if now < self.paced_until - GRAIN and self.held >= head.cost:
                self.opens = self.paced_until
                break
            if self.held < head.cost or not head.is_ready(now):
                # Tokens of a lossless budget must be spent within their lease, so none are reserved beyond it.
                if self.leases.total and not (self.answer and self.answer.is_lossless):
                    self._reserve(min(self.leases.total, head.cost - self.reserved))
                break
            head.take(self, now)
            settled.append(head)
        if head is None and self.reserved:  # all callers in line let others pass
            self.release()
        if self.waiters.parts is not None and (self.waiters.wake_within(self.within_reach, now, LOOKS) or not looks):
            self.opens, self.rests = min(self.opens, now + LOOKS_AGAIN), now + LOOKS_AGAIN
        if self.opens < NEVER and self._owner is not None:
            self._owner.on_due(self.opens)
        if self.waiters or self.leases.total < self.low:
            self.wake(now)
        return settled

    def expire(self, now: float) -> None:
        """Burn the tokens whose lease is over."""
        self.burned += self.leases.expire(now)

    def on_rate_drop(self, drop: Drop, now: float, spread: float = 0.0) -> None:
        """Take a message that the rate has fallen or is no longer 0. Ignore one that is older than the last answer.

        A rise gives no tokens. Callers that wait ask again in `spread` seconds, so that a fleet does not ask at once.
        """
        if self.answer is None or drop.birth != self.birth or drop.granted_total < self.granted_total:
            return
        if self.flights:
            self.heard = drop
        rate, was = drop.budget_rate, self.answer
        if rate and not was.budget_rate:
            self.next_slot = self.outlook = min(self.next_slot, now + spread)
            if self.waiters:
                self.wake(now)
            return
        part = min(1.0, rate / was.budget_rate) if was.budget_rate else 0.0
        self.scale_down(rate, now)
        self.answer = was._replace(
            budget_rate=min(rate, was.budget_rate), recommended_rate=int(part * was.recommended_rate),
            fallback_rate=int(part * was.fallback_rate), level=drop.level, reason=drop.reason,
        )  # fmt: skip

    def scale_down(self, rate: int, now: float) -> None:
        """Take `rate` as the budget's rate. Where that is a drop, withdraw the same part of the tokens at hand."""
        if rate > FALL * self.rate:
            return
        self.reclaim(now)
        self.expire(now)
        step = min(self.demand.unit, MICRO)  # less than a unit could not be spent
        kept = int(self.leases.total * (rate / self.rate)) // step * step
        rest = self.leases.total - kept
        if rest:
            self._withdraw(rest, self.leases.take(rest))
            self.low = kept // 3
            if self.pace:
                self.pace = kept / self.refresh
        if rate:
            self.rate = max(rate, MICRO)

    def _withdraw(self, tokens: int, expires: float) -> None:
        self.withdrawn_expires = min(self.withdrawn_expires, expires)
        self.withdrawn += tokens
        self.returned += tokens

    def _hand_over_withdrawn(self, now: float) -> int:
        """Return the withdrawn tokens, which the next call hands back. Burn them where their lease is over."""
        rest, expires = self.withdrawn, self.withdrawn_expires
        self.withdrawn, self.withdrawn_expires = 0, NEVER
        if expires > now:
            return rest
        self.returned -= rest
        self.burned += rest
        return 0

    @property
    def head(self) -> Waiter | None:
        """Return the caller whose turn it is."""
        return self.waiters.first

    @property
    def held(self) -> int:
        """Return the micro-tokens at hand, reserved ones and those in the cache included."""
        return self.leases.total + self.reserved + self.cache.left

    def _covers(self, cost: int, now: float) -> bool:
        self.reclaim(now)
        if self.leases.oldest <= now:
            self.expire(now)
        return self.leases.total >= cost and now >= self.paced_until - GRAIN

    def _space(self, cost: int, now: float) -> None:
        """Where tokens are paced, hold the next back until its time, so that they are spent evenly."""
        if self.pace:
            self.paced_until = max(now, self.paced_until) + cost / self.pace

    def keep(self, tokens: int, expires: float) -> None:
        """Add tokens to the leases. While the budget is paused, withdraw them instead: nothing may be spent."""
        if self.answer is not None and not self.answer.budget_rate:
            self._withdraw(tokens, expires)
            return
        self.leases.keep(tokens, expires)

    def _remove(self, waiter: Waiter) -> None:
        self.waiters.leave(waiter)
        self.tries -= waiter.whole

    def release(self) -> None:
        """Return the reserved tokens to the leases. They expire when they would have."""
        if not self.reserved:
            return
        self.keep(self.reserved, self.reserved_expires)
        self.reserved, self.reserved_expires = 0, NEVER

    def _reserve(self, tokens: int) -> None:
        if tokens > 0:
            self.reserved_expires = min(self.reserved_expires, self.leases.take(tokens))
            self.reserved += tokens

    # --- claiming

    def wake(self, now: float) -> None:
        """Have the next claim made as soon as the last answer allows."""
        if self.flights and not self.is_far:
            return
        head = self.head
        gap = self.gap
        if head:  # a try is asked for at once, not together with later ones
            gap = 0.0 if head.whole else self.short_gap if head.cost > self.held else gap
        if self.is_far and not (head and head.whole):
            gap = max(gap, self._apart)
        self.due = min(self.due, max(now, self.next_slot, self.last_claim + gap))

    @property
    def in_flight(self) -> Claim | None:
        """Return the newest claim that has no answer yet."""
        return self.flights[-1].claim if self.flights else None

    @property
    def is_far(self) -> bool:
        """Return whether claims do not wait for one another's answers."""
        return self.flights.is_far(self.refresh)

    @property
    def _apart(self) -> float:
        return self.flights.apart(self.refresh, self.incarnation, self.seq)

    def claim(self, now: float) -> Claim | None:
        """Return the claim to send now, which is in flight from here on; None where there is nothing to ask.

        `due` says when to call this method again.
        """
        self.due = NEVER
        if self._is_pending(now):
            again = self.flights.again(self.refresh)
            if again is not None:
                return again
            if len(self.flights) >= MOST_FLIGHTS:
                return None  # the next answer says when
        head = self.head
        self.reclaim(now)
        if head and now < self.next_slot:  # a claim before its slot would get nothing
            self.due = self.next_slot
            return None
        self.expire(now)
        self.demand.measure(self, now)
        if head is None and now - self.last_use >= self.refresh:
            want, need, unused = 0, 0, self._hand_back_idle()
        else:
            (want, need), unused = self.demand.wanted(self), 0
        is_idle = unused > 0
        # Tokens reserved for a caller that waits on another budget are renewed. Claims on their way have reported them.
        renewed_at = NEVER if self.flights else self.reserved_expires - RENEWED * self.lease
        if want <= 0 and not unused and not self.withdrawn and now < renewed_at:
            looks_at = min(renewed_at, self._looks_at(now))
            if looks_at > now:
                self.due = looks_at
                return None
            is_idle = True
        demand = 0 if is_idle else max(self.demand.needed, self.demand.mean)
        self.returned += unused
        unused += self._hand_over_withdrawn(now)
        self.last_claim = now
        self.demand.last_want, self.is_ahead = want, want > self.asked - self.held
        if head and head.whole:
            for waiter in self.waiters.alone:
                if waiter.whole and not waiter.asked:
                    waiter.asked = self.seq + 1
        claim = self._send(
            now, need=need, tokens=want, requested_rate=int(min(demand, 1e15)),
            whole=head is not None and head.whole, unused=unused,
        )  # fmt: skip
        if self.is_far:
            self.due = now + self._apart
        return claim

    def _looks_at(self, now: float) -> float:
        """Return when to look again where there is nothing to ask for; `now` where the server must be told so.

        Tokens at hand are looked at each refresh, and handed back when they lie idle. The server expects another claim
        of a producer that it left with tokens or short of them, so such a producer says when it is done.
        """
        done_at = max(self.last_use + self.refresh, self.last_claim + DONE * self.lease)
        if not self.waiters and self.is_awaited and now >= done_at:
            return now
        if not self.leases.total and not self.is_awaited:
            return NEVER
        return now + self.refresh if self.leases.total or now >= done_at else done_at

    def _hand_back_idle(self) -> int:
        """Clear the leases, which nobody has used for a refresh; return the micro-tokens to hand back."""
        unused = self.leases.total
        self.leases.clear()
        self.demand.needed = self.demand.mean
        return unused

    def _send(self, now: float, **asked: Any) -> Claim:
        self.seq += 1
        told = self.burned - self.burned_reported - self.flights.burned
        claim = Claim(
            held=self.held + self.flights.expected, burned=max(0, told), weight=self.weight, priority=self.priority,
            incarnation=self.incarnation, seq=self.seq, birth=self.birth, granted_total=self.granted_total,
            trip=round(min(self.flights.trip, LONGEST_TRIP) * 1e6) if self.is_far else 0,
            fallback_rate=self.share(now), degraded=self.degraded - self.flights.degraded, **asked,
        )  # fmt: skip
        self.flights.append(Flight(claim, now))
        return claim

    def _is_pending(self, now: float) -> bool:
        """Give up the claims whose grant would have expired; return whether any claim is still on its way."""
        for each in self.flights.old(now - self.lease, self.refresh) if self.flights else ():
            self.forget(was_executed=True, now=now, ask=each.claim)
        return bool(self.flights)

    @property
    def asked(self) -> int:
        """Return the micro-tokens that the callers in line lack."""
        return self.waiters.cost - self.reserved

    def served_at(self, cost: int) -> float:
        """Return when a caller that comes now would be served: behind the line, at the rate of this producer."""
        rate = self.answer.recommended_rate or self.answer.budget_rate if self.answer else 0
        behind = self.asked - self.slot_need + cost
        return self.outlook + (max(0, behind) / rate if rate else 0.0)

    # --- answers

    def receive(self, answer: Answer, now: float, ask: Claim | None = None) -> list[Waiter]:
        """Take the answer to a claim on its way, by default the oldest; return the waiters that it settles.

        An answer to a claim that was given up or answered before is ignored: its tokens have been written off.
        """
        flight = self.flights[0] if ask is None else self.flights.of(ask)
        if flight is None:
            return []
        ask, sent = flight.claim, flight.sent
        self.reclaim(now)
        self.flights.remove(flight)
        self.burned_reported += ask.burned
        self.granted += answer.granted
        self.degraded -= ask.degraded
        if ask.seq < self.flights.newest:  # a newer answer came first: only the tokens count
            if answer.granted:
                self.keep(answer.granted, sent + answer.lease)
                self.expire(now)
            return self.serve(now)
        self._note_answer(answer, now, ask, sent)
        if answer.granted:
            self._set_pace(now)
        heard, self.heard = self.heard, None
        if heard is not None:
            self.on_rate_drop(heard, now)
        settled = self.serve(now)
        settled += self._deny(now, ask.seq)
        # A signal left `due` as it was, so callers that only ask do not delay callers that wait.
        next_at = self.last_claim + self._apart if self.is_far else sent + self.refresh
        self.due = min(self.due, max(now, next_at, self.next_slot if self.waiters else LONG_AGO))
        return settled

    def _note_answer(self, answer: Answer, now: float, ask: Claim, sent: float) -> None:
        """Note what the newest answer says of the budget, and when to claim again."""
        self.flights.newest = ask.seq
        expires = sent + answer.lease
        self.lease, self.refresh = answer.lease, answer.refresh
        self.share_asked_at = sent
        self.is_awaited = ask.held + answer.granted > ask.need or (  # as `outage_share` in outage_share.lua has it
            not ask.whole and (answer.granted < ask.need or answer.recommended_rate < ask.requested_rate)
        )
        if not ask.tokens:
            self.is_awaited = ask.requested_rate > 0
        if answer.birth == self.birth:
            self.granted_total = max(self.granted_total, answer.granted_total)
            self.scale_down(answer.budget_rate, now)
        else:
            self.birth, self.granted_total = answer.birth, answer.granted_total
        self.answer, self.answered = answer, now
        self.flights.time(now - sent)
        self.is_denied = ask.tokens > 0 and (answer.granted < 0.8 * ask.tokens or answer.retry_after > self.refresh)
        if answer.budget_rate > 0:
            self.rate = max(answer.budget_rate, MICRO)
        if self.reserved:
            self.reserved_expires = expires  # reported in `held`, so renewed
        if answer.granted:
            self.keep(answer.granted, expires)
            self.low = self.leases.total // 3
        self.expire(now)
        if ask.tokens:
            self._set_slot(answer, ask, sent)

    def _set_slot(self, answer: Answer, ask: Claim, sent: float) -> None:
        # A small bucket is asked before it is full. Else rate would be lost, and the producer that comes first would
        # come first forever.
        self.flights.retry = answer.retry_after
        self.flights.most = answer.granted if self.is_denied else int(self.rate)
        self.gap = min(CLAIM_GAP, answer.burst / answer.budget_rate / 2) if answer.budget_rate else CLAIM_GAP
        self.short_gap = self.gap
        if not self.is_denied and not answer.retry_after:  # there is enough
            self.short_gap = 0.0
        elif not answer.granted and ask.need and answer.refresh <= REFRESH:  # the answer named this producer's time
            self.short_gap = min(self.gap, PROMISED_GAP)
        self.next_slot, self.slot_need = sent + answer.retry_after, ask.need
        if ask.whole and self.is_denied and self.is_ahead:  # many tries: not a claim for each
            self.next_slot = max(self.next_slot, sent + CLAIM_GAP)
        self.outlook = max(self.next_slot, sent + answer.wait)

    def _set_pace(self, now: float) -> None:
        """Decide how fast the tokens that have just come become available: evenly until the next claim, or at once."""
        assert self.answer is not None
        period = self.refresh if self.is_smooth else min(self.refresh, max(self.gap, self.answer.retry_after))
        pace = self.leases.total / period
        is_short = self.is_denied and not self.is_trying
        is_cheap = pace <= PACED_BELOW * self.demand.unit and self.flights.trip <= PACED_WITHIN
        self.pace = pace if self.is_smooth or (is_short and is_cheap) else 0.0
        self.paced_until = min(self.paced_until, now + period) if self.pace else LONG_AGO

    def _deny(self, now: float, seq: int) -> list[Waiter]:
        """Deny the tries that this claim did not serve, that come behind other callers, or that would have to wait."""
        if not self.tries:
            return []
        has_others = self.has_others
        denied = [
            waiter
            for waiter in self.waiters.alone
            if waiter.whole and (0 < waiter.asked <= seq or has_others or self.must_wait(waiter.cost, now))
        ]
        for waiter in denied:
            waiter.denied = self.retry_after(waiter.cost, now)
            self.cancel(waiter, now)
        return denied + self.serve(now) if denied else []

    @property
    def has_others(self) -> bool:
        """Return whether callers wait that are served before a try."""
        return self.waiters.count - (self.debt is not None) > self.tries

    def must_wait(self, cost: int, now: float) -> bool:
        """Return whether the last answer said that `cost` will not be granted yet."""
        return now < self.next_slot and self._missing(cost) >= self.slot_need

    def retry_after(self, cost: int, now: float) -> float:
        """Return the seconds until `cost` will be granted, as things stood when the last answer was given."""
        more = max(0, self._missing(cost) - self.slot_need) + ROUNDED
        speed = self.answer.speed if self.answer is not None else 0
        return max(0.0, self.outlook - now) + (more / speed if speed else 0.0)

    def _missing(self, cost: int) -> int:  # all at hand: they are paced
        return cost - self.held if cost > self.held else cost

    def signal(self, now: float, rate: int) -> Claim | None:
        """Return a claim that only asks what a demand of `rate` micro-tokens per second may run at.

        Return None while another claim is in flight.
        """
        if self._is_pending(now) and not self.is_far:
            return None
        self.reclaim(now)
        self.expire(now)
        unused = self._hand_over_withdrawn(now)
        self.last_claim = now
        return self._send(now, requested_rate=rate, unused=unused)

    def has_sent(self, seq: int, now: float) -> bool:
        """Return whether the claim of this number is on its way."""
        return self._is_pending(now) and self.flights.has(seq)

    def lose(self, ask: Claim) -> None:
        """Have a claim sent again as it was: no answer comes to it, and it may have been executed."""
        flight = self.flights.of(ask)
        for each in self.flights.lose(flight) if flight is not None else ():
            self._land(each, was_executed=True)

    def share(self, now: float) -> int:
        """Return the micro-tokens per second that may be spent without Redis, as the last answer said.

        They are halved every 30 s and end after 5 minutes, counted from when that answer was asked for. The server
        counts from when it answered, so it never takes them for less.
        """
        age = now - self.share_asked_at
        if self.answer is None or age >= SHARE_LASTS:
            return 0
        return int(self.answer.fallback_rate * 0.5 ** (age // HALVED_EACH))

    def drop_share(self) -> None:
        """Forget the share for an outage: this producer says goodbye, and the server gives its share to others."""
        self.share_asked_at = LONG_AGO

    def forget(self, *, was_executed: bool, now: float, ask: Claim | None = None) -> None:
        """Give up the claim `ask`, or all claims on their way.

        The tokens that an executed claim was granted burn at the server. The tokens that a claim which was surely not
        executed would have handed back burn here.
        """
        self.heard = None
        for each in list(self.flights):
            if ask is None or each.claim is ask:
                self._land(each, was_executed=was_executed)
        if self.waiters:
            self.wake(now)

    def _land(self, flight: Flight, *, was_executed: bool) -> None:
        self.flights.remove(flight)
        ask = flight.claim
        if was_executed:
            self.burned_reported += ask.burned
        else:
            self.returned, self.burned = self.returned - ask.unused, self.burned + ask.unused
        for waiter in self.waiters.alone if self.tries else ():
            if waiter.asked == ask.seq:
                waiter.asked = 0

    def hand_back_all(self, now: float) -> tuple[int, int]:
        """Empty the ledger of a producer that leaves; return what to tell the server, as (unused, burned)."""
        self.reclaim(now)
        self.expire(now)
        self.settlement.write_off(self)
        unused, withdrawn = self.held, self._hand_over_withdrawn(now)
        self.returned += unused
        unused, burned = unused + withdrawn, self.burned - self.burned_reported
        self.burned_reported = self.burned
        self.leases.clear()
        self.reserved = 0
        self.due = NEVER
        return unused, burned

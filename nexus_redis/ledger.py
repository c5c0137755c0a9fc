"""One producer's account: leases in hand, waiters in line, demand; and when to claim how much. No I/O, no clock.

Theory of operation. Tokens in hand are *leases*: a finite count with an expiry each. Spending is local. The ledger says
when its next claim is `due`; whoever runs the I/O asks it for that claim, sends it, and hands the answer back. Times go
in as seconds of one monotonic clock, amounts are whole micro-tokens, so that at any instant, exactly,

    granted = used + returned + burned + held

- A lease counts from *before the first send* of its claim: however late the answer, no token is spent after the server
  has stopped counting on it. What expires is burned, never credited back.
- Waiters are first in, first out. What is collected for the one at the head is set `aside`: it does not burn while
  claims go on reporting it, and returns to the hand, as old as it is, when the waiter gives up or is denied.
- One claim is in flight at a time. An unanswered one is sent again as it was (same seq), so nothing is charged twice;
  when what it may have granted has expired, it is given up.
- What a claim wants is what will be spent until the next one; a plain loop of acquire() would seem to want one token,
  so the prefetched rate doubles at each claim that finds a waiter, and falls back when there is none.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

from nexus_redis.calls import Answer, Claim

MICRO: Final = 1_000_000
CLAIM_GAP: Final = 0.085  # seconds between two claims of one producer: under the refresh, for its jitter
SHORT_SAMPLE: Final = 0.02  # a rate measured over less says nothing
DEMAND_TIME: Final = 0.5  # seconds over which demand is averaged
DEMAND_FALL: Final = 0.1  # seconds in which a demand that was doubled in vain falls back
AHEAD: Final = 1.2  # prefetched beyond what the next refresh will spend: the claim must arrive before the hand is empty
WAITERS_AHEAD: Final = 0.5  # seconds of the rate that waiters may ask for at once: a lease
BACKLOG: Final = 0.5  # of the time since the last answer: who waited that long did not just come
GREED: Final = 4  # demand and prefetch stay below this many times the whole budget
REFRESH: Final = 0.1  # until the first answer says otherwise
LEASE: Final = 0.5  # likewise
NEVER: Final = math.inf
LONG_AGO: Final = -1e9


class Waiter:
    """One caller in line: `cost` micro-tokens, all of them at once if `whole`.

    A shell derives from it and overrides `wake`, which is called once `is_served` or `denied` is set.
    """

    __slots__ = ("cost", "denied", "error", "expires", "is_degraded", "is_served", "since", "whole")

    def __init__(self, cost: int, since: float, *, whole: bool = False) -> None:
        self.cost, self.since, self.whole = cost, since, whole
        self.is_served = self.is_degraded = False
        self.denied: float | None = None
        self.error: Exception | None = None
        self.expires = NEVER  # of the tokens it was served with: should it give up after all, they are no younger

    @property
    def is_settled(self) -> bool:
        """Nothing more will happen to it."""
        return self.is_served or self.denied is not None or self.error is not None

    def wake(self) -> None:
        """Tell the caller."""


class Lease:
    """Tokens with an expiry."""

    __slots__ = ("expires", "tokens")

    def __init__(self, tokens: int, expires: float) -> None:
        self.tokens, self.expires = tokens, expires


class Ledger:
    """See the head of the file. `due`: when to call `claim` next. Whoever gets settled waiters back wakes them."""

    def __init__(self, now: float, *, weight: float = 1.0, priority: str = "normal", incarnation: str = "") -> None:
        self.weight, self.priority, self.incarnation = round(weight * MICRO), priority, incarnation
        self.leases: deque[Lease] = deque()
        self.hand = self.aside = 0
        self.aside_expires = NEVER
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()  # a deque whose middle can leave at once
        self.granted = self.used = self.returned = self.burned = 0
        self.burned_told = 0
        self.seq = 0
        self.in_flight: Claim | None = None
        self.sent = LONG_AGO  # of the claim in flight, first time
        self.last_claim = self.next_slot = self.last_use = LONG_AGO
        self.seen = now
        self.due = NEVER
        self.attempts = 0
        self.mean = self.demand = self.prefetch = 0.0
        self.unit = MICRO
        self.low = 0
        self.rate = math.inf
        self.lease, self.refresh = LEASE, REFRESH
        self.is_denied = False
        self.birth, self.granted_total = "", 0
        self.answer: Answer | None = None
        self.answered = LONG_AGO

    def begin(self, incarnation: str) -> None:
        """A new stay: the server shall not take its calls for those of the one before, nor of a parent process."""
        self.incarnation, self.seq = incarnation, 0

    # --- spending

    def spend(self, cost: int, now: float) -> bool:
        """Take `cost` from the hand if nobody waits before; False leaves all as it was, but for the attempt noted."""
        self.attempts += cost
        self.unit = cost
        if self.waiters or not self._covers(cost, now):
            return False
        self._take(cost)
        self.used += cost
        self.last_use = now
        if self.hand < self.low:
            self.wake(now)
        return True

    def wait(self, waiter: Waiter) -> None:
        """Put a caller at the end of the line; a claim is due soon."""
        self.waiters[waiter] = None
        self.wake(waiter.since)
        self.due = max(self.due, self.next_slot)  # a routine refresh before its slot would be a call for nothing

    def cancel(self, waiter: Waiter, now: float) -> bool:
        """A caller gives up: what it had, or what was set aside for it, goes back to the hand. Was it still in line?"""
        if waiter.is_degraded:
            return False
        if waiter.is_served:  # served and cancelled in the same moment
            waiter.is_served = False
            self.used -= waiter.cost
            self._keep(waiter.cost, waiter.expires)
            self.wake(now)
            return False
        if waiter not in self.waiters:
            return False
        if waiter is self.head and self.aside:
            self._keep(self.aside, self.aside_expires)
            self.aside, self.aside_expires = 0, NEVER
        del self.waiters[waiter]
        return True

    def serve(self, now: float) -> list[Waiter]:
        """Give what is in hand to those in line; the ones that are settled now."""
        settled: list[Waiter] = []
        while (head := self.head) is not None:
            self.expire(now)
            if self.held < head.cost:
                # Lossless: what has not arrived when its lease ends never may, so nothing is collected beyond it.
                if self.hand and not (self.answer and self.answer.is_lossless):
                    self._set_aside()
                break
            aside = min(self.aside, head.cost)
            head.expires = min(self.aside_expires, self._take(head.cost - aside))
            self.aside -= aside
            if not self.aside:
                self.aside_expires = NEVER
            self.used += head.cost
            self.last_use = now
            head.is_served = True
            del self.waiters[head]
            settled.append(head)
        if self.waiters or self.hand < self.low:
            self.wake(now)
        return settled

    def expire(self, now: float) -> None:
        """Burn what is too old."""
        leases = self.leases
        while leases and leases[0].expires <= now:
            tokens = leases.popleft().tokens
            self.hand -= tokens
            self.burned += tokens

    @property
    def head(self) -> Waiter | None:
        """Whose turn it is."""
        return next(iter(self.waiters), None)

    @property
    def held(self) -> int:
        """In hand and set aside, in micro-tokens."""
        return self.hand + self.aside

    def _covers(self, cost: int, now: float) -> bool:
        if self.leases and self.leases[0].expires <= now:
            self.expire(now)
        return self.hand >= cost

    def _take(self, tokens: int) -> float:
        """Take the oldest; when the first of them expires."""
        self.hand -= tokens
        leases = self.leases
        expires = leases[0].expires if tokens else NEVER
        while tokens:
            first = leases[0]
            if first.tokens > tokens:
                first.tokens -= tokens
                break
            tokens -= first.tokens
            leases.popleft()
        return expires

    def _keep(self, tokens: int, expires: float) -> None:
        self.hand += tokens
        at = len(self.leases)
        while at and self.leases[at - 1].expires > expires:
            at -= 1
        self.leases.insert(at, Lease(tokens, expires))

    def _set_aside(self) -> None:
        self.aside_expires = min(self.aside_expires, self.leases[0].expires)
        self.aside += self.hand
        self.hand = 0
        self.leases.clear()

    # --- claiming

    def wake(self, now: float) -> None:
        """Something wants tokens: claim as soon as the last answer allows."""
        if self.in_flight is None:
            self.due = min(self.due, max(now, self.next_slot, self.last_claim + CLAIM_GAP))

    def claim(self, now: float) -> Claim | None:
        """The claim that is due, now in flight; None when there is nothing to ask (`due` says when to look again)."""
        self.due = NEVER
        if self._is_pending(now):
            return self.in_flight
        self.expire(now)
        head = self.head
        self._measure(now, head)
        want, need, unused = self._wanted(now, head)
        self.seen = now
        if want <= 0 and not unused:
            # Nothing to ask for. Look again while tokens are in hand, to hand them back when they lie idle.
            self.due = now + self.refresh if self.hand else NEVER
            return None
        demand = 0 if unused else max(self.demand, self.mean)
        self.returned += unused
        self.seq += 1
        self.sent = self.last_claim = now
        self.in_flight = Claim(
            need=need, tokens=want, requested_rate=int(min(demand, 1e15)), whole=head is not None and head.whole,
            held=self.held, unused=unused, burned=self.burned - self.burned_told, weight=self.weight,
            priority=self.priority, incarnation=self.incarnation, seq=self.seq, birth=self.birth,
            granted_total=self.granted_total,
        )  # fmt: skip
        return self.in_flight

    def _is_pending(self, now: float) -> bool:
        """An unanswered claim is worth repeating as long as what it granted is worth having."""
        if self.in_flight is not None and now - self.sent >= self.lease:
            self.forget(was_executed=True, now=now)
        return self.in_flight is not None

    def _measure(self, now: float, head: Waiter | None) -> None:
        dt = max(now - max(self.last_claim, self.seen), 1e-3)
        rate = self.mean
        if dt >= SHORT_SAMPLE:
            rate = self.attempts / dt
            self.attempts = 0
        self.mean += (1 - math.exp(-min(dt, 2.0) / DEMAND_TIME)) * (rate - self.mean)
        if head and self.is_denied and now - head.since >= BACKLOG * (now - self.answered):
            self.demand = max(2 * self.demand, self.mean, self._asked() / (5 * self.refresh))
        else:
            self.demand = self.mean + max(0.0, self.demand - self.mean) * math.exp(-dt / DEMAND_FALL)
        self.demand = min(self.demand, GREED * self.rate)
        ahead = max(2 * self.prefetch, rate, self.mean, self.demand) if head else max(rate, self.mean)
        self.prefetch = min(GREED * self.rate, ahead)

    def _wanted(self, now: float, head: Waiter | None) -> tuple[int, int, int]:
        """want, need, unused"""
        if head and head.whole:
            need = head.cost - self.held
            return need, need, 0
        want = AHEAD * self.prefetch * self.refresh - self.hand
        if head:
            need = head.cost - self.held
            asked = min(self._asked(), WAITERS_AHEAD * max(self.prefetch, self.rate)) - self.hand
            return int(max(want, need, asked)), need, 0
        if now - self.last_use >= self.refresh:
            # Idle: the rest goes back, then silence.
            unused = self.hand
            self.hand = 0
            self.leases.clear()
            self.demand = self.mean
            return 0, 0, unused
        if want < self.unit:
            return 0, 0, 0
        return int(want), min(int(want), self.unit), 0

    def _asked(self) -> int:
        return sum(waiter.cost for waiter in self.waiters) - self.aside

    # --- answers

    def receive(self, answer: Answer, now: float) -> list[Waiter]:
        """Book an answer to the claim in flight; the waiters that are settled by it."""
        ask = self.in_flight
        assert ask is not None, "an answer without a claim"
        self.in_flight = None
        expires = self.sent + answer.lease
        self.lease, self.refresh = answer.lease, answer.refresh
        self.burned_told += ask.burned
        self.granted += answer.granted
        if answer.birth == self.birth:
            self.granted_total = max(self.granted_total, answer.granted_total)
        else:
            self.birth, self.granted_total = answer.birth, answer.granted_total
        self.answer, self.answered = answer, now
        self.is_denied = ask.tokens > 0 and (answer.granted < 0.8 * ask.tokens or answer.retry_after > self.refresh)
        if answer.budget_rate > 0:
            self.rate = max(answer.budget_rate, MICRO)
        if self.aside:
            self.aside_expires = expires  # reported in `held`, so renewed
        if answer.granted:
            self._keep(answer.granted, expires)
            self.low = self.hand // 3
        self.expire(now)
        if ask.tokens:
            self.next_slot = self.sent + answer.retry_after
        settled = self.serve(now)
        if ask.whole:
            settled += self._deny(now)
        # A signal has left `due` as it was: those who only ask do not put off those who wait.
        self.due = min(self.due, max(now, self.sent + self.refresh, self.next_slot if self.waiters else LONG_AGO))
        return settled

    def _deny(self, now: float) -> list[Waiter]:
        """A claim for all or nothing was answered: those at the head that asked so and got nothing know now."""
        denied = []
        while (head := self.head) is not None and head.whole:
            head.denied = max(0.0, self.next_slot - now)
            self.cancel(head, now)
            denied.append(head)
        return denied + self.serve(now)

    def signal(self, now: float, rate: int) -> Claim | None:
        """Only ask: what may a demand of `rate` micro-tokens/s run at? None while a claim is in flight."""
        if self._is_pending(now):
            return None
        self.expire(now)
        self.seq += 1
        self.sent = self.last_claim = now
        self.in_flight = Claim(
            requested_rate=rate, held=self.held, burned=self.burned - self.burned_told, weight=self.weight,
            priority=self.priority, incarnation=self.incarnation, seq=self.seq, birth=self.birth,
            granted_total=self.granted_total,
        )  # fmt: skip
        return self.in_flight

    def forget(self, *, was_executed: bool, now: float) -> None:
        """Give the claim in flight up. What it granted, if it was executed, burns at the server.

        What it handed back, if it surely was not executed, burns here.
        """
        ask, self.in_flight = self.in_flight, None
        if ask and was_executed:
            self.burned_told += ask.burned
        elif ask:
            self.returned -= ask.unused
            self.burned += ask.unused
        if self.waiters:
            self.wake(now)

    def hand_back_all(self, now: float) -> tuple[int, int]:
        """Close: everything in hand and set aside leaves; what to tell the server, as (unused, burned)."""
        self.expire(now)
        unused, burned = self.held, self.burned - self.burned_told
        self.returned += unused
        self.burned_told = self.burned
        self.hand = self.aside = 0
        self.leases.clear()
        self.due = NEVER
        return unused, burned

"""A producer as the hub sees it: its ledger, its budget's settings to open with, and what it does while Redis is away.

    on_outage   while Redis is away, beside the leases still in hand
    share       half of the last share, halved each 30 s, for 5 minutes, then closed; never answered before: closed
    closed      nothing; who waits longer than 5 s gets `Unavailable`
    open        everything

What is admitted that way says so (`degraded`), and is not made up for later: claims go on from the server's state.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from typing import Final

from nexus_redis import calls
from nexus_redis.calls import Answer, Claim, Configured
from nexus_redis.config import BudgetSettings, ProducerSettings
from nexus_redis.errors import InvalidSetting, NexusError, Unavailable
from nexus_redis.faults import Fault, as_nexus_error, classify, code_of
from nexus_redis.hub import NEVER, Hub, Member
from nexus_redis.keys import BudgetKeys, budgets_key
from nexus_redis.ledger import MICRO, Ledger, Waiter
from nexus_redis.messages import FlowControl
from nexus_redis.results import Denied, Grant
from nexus_redis.wire import Command, Job, Outcome

log = logging.getLogger("nexus_redis")

IDLE_LEAVES: Final = 60.0  # seconds without a call: the producer leaves, the next acquire brings it back
HALVED_EACH: Final = 30.0
SHARE_LASTS: Final = 300.0
UNAVAILABLE_AFTER: Final = 5.0
DEGRADED_BURST: Final = 0.25  # seconds of the degraded rate that may be admitted at once
REFUSED_FOR: Final = 1.0  # a permanent fault answers all callers this long before Redis is asked again


class Asker(Waiter):
    """Who only asks (`signal`): `rate` in micro-tokens per second; `answer` when it is settled."""

    __slots__ = ("answer", "rate")

    def __init__(self, rate: int, since: float) -> None:
        super().__init__(0, since)
        self.rate = rate
        self.answer: Answer | None = None


class Opening:
    """What Redis must be told of a budget by this process: the settings given in code, once in each life of its state."""

    def __init__(self, keys: BudgetKeys, settings: BudgetSettings) -> None:
        self.keys, self.name, self.settings = keys, keys.name, settings
        self.is_told = False
        self.birth = ""
        self.has_warned_unset = False

    @property
    def has_settings(self) -> bool:
        """Code gave at least one."""
        return bool(self.settings.model_dump(exclude_none=True))

    def jobs(self) -> list[Job]:
        """What to say before the first claim or report; the budget's name goes into the list of all budgets as well."""
        if self.is_told:
            return []
        hint = Command(("ZADD", budgets_key(self.keys.namespace), int(time.time()), self.name), int)
        return [calls.configure(self.keys, self.settings), hint] if self.has_settings else [hint]

    def receive(self, outcomes: Sequence[Outcome]) -> NexusError | None:
        """What came of `jobs`; a refusal is for whoever waits."""
        for outcome in outcomes:
            if isinstance(outcome, Configured):
                self.is_told = True
                self.note(outcome)
            elif isinstance(outcome, Exception):
                return as_nexus_error(outcome) if classify(outcome) is Fault.PERMANENT else None
        self.is_told = self.is_told or (bool(outcomes) and not self.has_settings)
        return None

    def note(self, configured: Configured) -> None:
        """Redis knows the settings; say what they replaced and what they could not."""
        self.birth = configured.birth
        for name in configured.changed:
            log.info("budget %s: %s was another value; the latest opener wins", self.name, name)
        for name in configured.overruled:
            log.warning(
                "budget %s: an operator set %s, so the value in code is not used (`nexus-redis set %s --unset %s` ends that)",
                self.name, name, self.name, name.replace("_", "-"),
            )  # fmt: skip

    def see(self, birth: str) -> None:
        """An answer came from this life of the state: settings given in code open the budget again in a new one."""
        if self.birth and birth != self.birth:
            self.is_told = False
        self.birth = birth


class Account(Member):
    """One producer of one budget."""

    def __init__(
        self, hub: Hub, keys: BudgetKeys, producer_id: str, settings: ProducerSettings, opening: Opening
    ) -> None:
        self.hub, self.keys, self.id, self.settings, self.opening = hub, keys, producer_id, settings, opening
        self.ledger = self._new_ledger(hub.clock())
        self.askers: list[Asker] = []
        self.asking: Asker | None = None
        self.refused: NexusError | None = None
        self.refused_until = 0.0
        self.allowance = 0.0
        self.allowed_at = 0.0
        self.is_leaving = self.has_claimed = False
        self.has_renamed = False

    def _new_ledger(self, now: float) -> Ledger:
        incarnation = secrets.token_hex(8)
        return Ledger(now, weight=self.settings.weight, priority=self.settings.priority, incarnation=incarnation)

    def after_fork(self) -> None:
        """In the child: leases, line and incarnation are the parent's."""
        self.ledger = self._new_ledger(self.hub.clock())
        self.askers, self.asking = [], None
        self.due = self.scheduled = NEVER
        self.is_leaving = self.has_claimed = False

    # --- callers

    def spend(self, cost: int, now: float) -> bool:
        """Take tokens that are in hand; raises what a permanent fault left."""
        served = self.ledger.spend(cost, now)
        if self.ledger.due < self.scheduled:
            self._reschedule()
        if not served and self.refused is not None:
            if now < self.refused_until:
                raise self.refused
            self.refused = None
        return served

    def wait(self, waiter: Waiter) -> None:
        """Join the line."""
        self.ledger.wait(waiter)
        self._reschedule()

    def signal(self, asker: Asker) -> None:
        """Ask what a rate may run at."""
        self.askers.append(asker)
        self.due = asker.since
        self.hub.schedule(self)

    def cancel(self, waiter: Waiter, now: float) -> None:
        """Give up: in line, asking, or just served."""
        if isinstance(waiter, Asker):
            if waiter in self.askers:
                self.askers.remove(waiter)
            return
        self.ledger.cancel(waiter, now)
        self._wake(self.ledger.serve(now))
        self._reschedule()

    def denial(self, cost: int, now: float) -> Denied | None:
        """What `try_acquire` answers locally: somebody waits before, or the last answer said when to come back."""
        ledger = self.ledger
        if self.hub.is_out and self.settings.on_outage == "closed":
            return Denied(max(0.0, self.hub.next_try - now), "unavailable")
        if ledger.answer and ledger.answer.budget_rate and cost > ledger.answer.budget_rate * 86_400 + MICRO:
            raise InvalidSetting("cost", cost / MICRO, "more than a day of the budget: use acquire, or a larger burst")
        if ledger.waiters:
            return Denied(max(ledger.refresh, ledger.next_slot - now), "contended")
        return Denied(ledger.next_slot - now, self.reason) if now < ledger.next_slot else None

    def settle_try(self, line: Waiter, cost: float, now: float) -> Grant | Denied:
        """What became of a try: served, denied, refused, or no answer in time."""
        if line.error is not None:
            raise line.error
        if line.is_served:
            return Grant(cost, now - line.since, line.is_degraded)
        if line.denied is not None:
            return Denied(line.denied, self.reason)
        self.cancel(line, now)
        return Denied(self.ledger.refresh, "unavailable")

    def close(self, error: NexusError, now: float) -> None:
        """Nobody waits any longer."""
        self._fail_all(error, now)

    @property
    def reason(self) -> str:
        """Why tokens are short, as the budget last said."""
        if self.hub.is_out or self.ledger.answer is None:
            return "unavailable"
        return self.ledger.answer.reason

    @property
    def flow(self) -> FlowControl | None:
        """The last answer as a message."""
        return flow_of(self.keys.name, self.ledger.answer) if self.ledger.answer else None

    # --- the loop

    def jobs(self, now: float) -> list[Job]:
        self.due = NEVER
        ask = self._ask(now)
        if ask is None:
            self.due = self.ledger.due
            return self._leave_when_idle(now)
        self.has_claimed = True
        return [*self.opening.jobs(), calls.claim(self.keys, self.id, ask)]

    def _ask(self, now: float) -> Claim | None:
        if self.ledger.in_flight is not None:
            return self.ledger.in_flight
        self.asking = self.askers.pop(0) if self.askers else None
        if self.asking:
            return self.ledger.signal(now, self.asking.rate)
        return self.ledger.claim(now)

    def _leave_when_idle(self, now: float) -> list[Job]:
        if not self.has_claimed or self.due < NEVER:
            return []
        leaves_at = max(self.ledger.last_use, self.ledger.last_claim) + IDLE_LEAVES
        if now < leaves_at:
            self.due = leaves_at
            return []
        return self.leave(now)

    def leave(self, now: float) -> list[Job]:
        """Hand everything back and go."""
        if not self.has_claimed:
            return []
        self.is_leaving, self.has_claimed = True, False
        unused, burned = self.ledger.hand_back_all(now)
        return [calls.leave_producer(self.keys, self.id, self.ledger.incarnation, unused, burned)]

    def receive(self, outcomes: Sequence[Outcome], now: float) -> None:
        if self.is_leaving:
            self.is_leaving = False
            self.ledger.in_flight = None
            self.ledger.next_slot = min(self.ledger.next_slot, now)
            self._reschedule()
            return
        *opened, outcome = outcomes
        refusal = self.opening.receive(opened)
        if refusal is not None:
            self._refuse_all(refusal, now)
        if isinstance(outcome, Answer):
            self._answered(outcome, now)
        else:
            self._failed(outcome, now)
        self._reschedule()

    def _answered(self, answer: Answer, now: float) -> None:
        self.refused = None
        self.allowed_at = 0.0
        settled = self.ledger.receive(answer, now)
        if self.asking:
            self.asking.answer, self.asking.is_served = answer, True
            settled.append(self.asking)
            self.asking = None
        self._wake(settled)
        self.opening.see(answer.birth)
        if not self.opening.is_told:
            self.ledger.due = now
        if answer.reason == "unset" and self.ledger.waiters and not self.opening.has_warned_unset:
            self.opening.has_warned_unset = True
            log.warning(
                "budget %s has no rate: nobody reports as its consumer, and no rate= is given in code or by "
                "`nexus-redis set %s --rate`; callers wait until one of them is there",
                self.keys.name, self.keys.name,
            )  # fmt: skip

    def _failed(self, error: Exception, now: float) -> None:
        code = code_of(error)
        if code == "NEXUS_ID_TAKEN":
            self._rename()
        elif code == "NEXUS_STALE":
            self.ledger.forget(was_executed=True, now=now)
            self.ledger.incarnation = secrets.token_hex(8)
        elif classify(error) is Fault.PERMANENT:
            self.ledger.forget(was_executed=False, now=now)
            self._refuse_all(as_nexus_error(error), now)
            return
        elif classify(error) is Fault.NOT_EXECUTED:
            self.ledger.forget(was_executed=False, now=now)
        elif now - self.ledger.sent > self.ledger.lease:
            self.ledger.forget(was_executed=True, now=now)  # what it granted has expired by now
        self.ledger.due = min(self.ledger.due, now)
        self.tick(now)

    def _rename(self) -> None:
        taken = self.id
        self.id = f"{taken[:59].split('.~')[0]}.{secrets.token_hex(2)}"
        if not self.has_renamed:
            self.has_renamed = True
            log.warning("budget %s: producer id %s is in use by a live process; this one goes on as %s",
                        self.keys.name, taken, self.id)  # fmt: skip

    def _refuse_all(self, error: NexusError, now: float) -> None:
        self.refused, self.refused_until = error, now + REFUSED_FOR
        self._fail_all(error, now)

    def _fail_all(self, error: NexusError, now: float) -> None:
        line = [*self.ledger.waiters, *self._all_askers()]
        for waiter in line:
            if not isinstance(waiter, Asker):
                self.ledger.cancel(waiter, now)
            waiter.error = error
        self._wake(line)

    def _all_askers(self) -> list[Asker]:
        askers = [self.asking, *self.askers] if self.asking else self.askers
        self.asking, self.askers = None, []
        return askers

    # --- while Redis is away

    def tick(self, now: float) -> None:
        """Serve the line by the outage mode; `due` says when the next one may go."""
        self.due = NEVER
        if not self.hub.is_out:
            return
        settled = self.ledger.serve(now)
        rate = self._degraded_rate(now)
        waiters = self.ledger.waiters
        while waiters and self._allow(waiters[0].cost, rate, now):
            head = waiters.popleft()
            head.is_served = head.is_degraded = True
            settled.append(head)
        if waiters and 0 < rate < NEVER:
            self.due = now + max(0.001, (waiters[0].cost - self.allowance) / rate)
        for waiter in list(waiters):
            if waiter.whole:
                waiter.denied = max(0.0, min(self.due, self.hub.next_try) - now)
            elif rate == 0:
                hopeless = max(self.hub.out_since, waiter.since) + UNAVAILABLE_AFTER
                if now >= hopeless:
                    waiter.error = self._unavailable(waiter, now)
                else:
                    self.due = min(self.due, hopeless)
            if waiter.is_settled:
                self.ledger.cancel(waiter, now)
                settled.append(waiter)
        for asker in self._all_askers():
            asker.error = self._unavailable(asker, now)
            settled.append(asker)
        self._wake(settled)

    def _degraded_rate(self, now: float) -> float:
        """Micro-tokens per second; infinite where the mode is open."""
        mode, answer, out = self.settings.on_outage, self.ledger.answer, now - self.hub.out_since
        if mode == "open":
            return NEVER
        if mode == "closed" or answer is None or answer.is_lossless or out >= SHARE_LASTS:
            return 0.0
        return float(answer.fallback_rate * 0.5 ** (out // HALVED_EACH))

    def _allow(self, cost: int, rate: float, now: float) -> bool:
        if rate == NEVER:
            return True
        since = self.allowed_at or max(self.hub.out_since, self.ledger.answered)
        self.allowance = min(self.allowance + rate * (now - since), max(rate * DEGRADED_BURST, cost, MICRO))
        self.allowed_at = now
        if rate == 0 or self.allowance < cost:
            return False
        self.allowance -= cost
        return True

    # --- plumbing

    def _unavailable(self, waiter: Waiter, now: float) -> Unavailable:
        return Unavailable(self.hub.server, self.hub.cause, now - waiter.since)

    def _reschedule(self) -> None:
        self.due = min(self.due, self.ledger.due)
        self.hub.schedule(self)

    @staticmethod
    def _wake(settled: list[Waiter]) -> None:
        for waiter in settled:
            waiter.wake()


def flow_of(name: str, answer: Answer) -> FlowControl:
    """A claim's answer as the protocol's message."""
    return FlowControl.of(
        consumer_id=name,
        recommended_rate=answer.recommended_rate / MICRO,
        backpressure_level=answer.level,
        current_load=answer.load,
        granted=answer.granted / MICRO,
        lease_ms=answer.lease * 1e3,
        refresh_ms=answer.refresh * 1e3,
        retry_after_ms=answer.retry_after * 1e3,
        budget_rate=answer.budget_rate / MICRO,
        fallback_rate=answer.fallback_rate / MICRO,
        birth=answer.birth,
        granted_total=answer.granted_total,
        reason=answer.reason,
    )

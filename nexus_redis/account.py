"""A producer as the hub sees it: its ledger, its budget's settings to open with, and what it does while Redis is away.

    on_outage   while Redis is away, beside the leases still in hand
    share       half of the last share, halved each 30 s, for 5 minutes, then closed; never answered before: closed
    closed      nothing; who waits longer than 5 s gets `Unavailable`
    open        everything

What is admitted that way says so (`degraded`), and is not made up for later: claims go on from the server's state.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from copy import copy
from typing import Final

from nexus_redis import calls
from nexus_redis.calls import Answer, Claim, Configured
from nexus_redis.config import BudgetSettings, ProducerSettings
from nexus_redis.errors import InvalidSetting, NexusError, Unavailable
from nexus_redis.faults import Fault, as_nexus_error, classify, code_of
from nexus_redis.hub import FIRST_BACKOFF, NEVER, Hub, Member, Pause, ask
from nexus_redis.ids import Identity
from nexus_redis.keys import BudgetKeys, budgets_key
from nexus_redis.ledger import MICRO, Ledger, Waiter
from nexus_redis.messages import FlowControl
from nexus_redis.results import Denied
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
    """What Redis must be told of a budget by this process: the settings given in code, once in each life of its state.

    They go first and alone, so that no claim or report is judged without them.
    """

    def __init__(self, keys: BudgetKeys, settings: BudgetSettings) -> None:
        self.keys, self.name = keys, keys.name
        self.birth = ""
        self.is_listed = False
        self.has_warned_unset = False
        self._warned: set[str] = set()
        self.adopt(settings)

    def adopt(self, settings: BudgetSettings) -> None:
        """Other settings, which Redis does not know yet."""
        self.settings = settings
        self.is_told = not settings.model_dump(exclude_none=True)

    def question(self) -> Job | None:
        """What must be said before any claim or report; None when that is done."""
        return None if self.is_told else calls.configure(self.keys, self.settings)

    def batch(self, job: Job) -> list[Job]:
        """`job`, and with it, once, the budget's name for the list of all budgets: a hint, whatever comes of it."""
        if self.is_listed:
            return [job]
        self.is_listed = True
        return [job, self.hint()]

    def hint(self) -> Job:
        """The name, with the time of its opening."""
        return Command(("ZADD", budgets_key(self.keys.namespace), int(time.time()), self.name), int)

    def tell(self, configured: Configured) -> None:
        """Redis has answered the question."""
        self.is_told = True
        self.note(configured)

    def note(self, configured: Configured) -> None:
        """Say what settings replaced and what they could not."""
        self.birth = configured.birth
        for name in configured.changed:
            log.info("budget %s: %s was another value; the latest opener wins", self.name, name)
        for name in configured.overruled:
            if name not in self._warned:
                self._warned.add(name)
                log.warning(
                    "budget %s: an operator set %s, so the value in code is not used "
                    "(`nexus-redis set %s --unset %s` ends that)",
                    self.name, name, self.name, name.replace("_", "-"),
                )  # fmt: skip

    def see(self, birth: str) -> bool:
        """An answer came from this life of the state. Is it one that has to be told the settings?"""
        if self.birth and birth != self.birth:
            self.adopt(self.settings)
            self.is_listed = False
        self.birth = birth
        return not self.is_told


class Account(Member):
    """One producer of one budget."""

    def __init__(
        self, hub: Hub, keys: BudgetKeys, producer_id: str | None, settings: ProducerSettings, opening: Opening
    ) -> None:
        self.hub, self.keys, self.settings, self.opening = hub, keys, settings, opening
        self.identity = Identity(producer_id)
        self.refused: NexusError | None = None
        self.refused_until = 0.0
        self._begin()

    def _begin(self) -> None:
        self.ledger = Ledger(self.hub.clock(), weight=self.settings.weight, priority=self.settings.priority)
        self.askers: list[Asker] = []
        self.asking: Asker | None = None
        self.allowance = self.allowed_at = 0.0
        self.is_staying = False  # Redis may know this incarnation
        self.is_leaving = self.is_closed = False
        self.leaver: Waiter | None = None
        self.goodbye: Job | None = None

    def after_fork(self) -> None:
        self.identity.after_fork()
        self._begin()

    @property
    def id(self) -> str:
        """The id in Redis."""
        return self.identity.id

    # --- callers

    def spend(self, cost: int, now: float) -> bool:
        """Take tokens that are in hand; raises what a permanent fault left."""
        if self.refused is not None:
            self._raise_refused(now)
        is_served = self.ledger.spend(cost, now)
        if self.ledger.due < self.scheduled:
            self._reschedule()
        return is_served

    def wait(self, waiter: Waiter) -> None:
        """Join the line, or ask."""
        if isinstance(waiter, Asker):
            self.askers.append(waiter)
            self.due = min(self.due, waiter.since)
        else:
            self.ledger.wait(waiter)
            self._wake(self.ledger.serve(waiter.since))
        if self.hub.is_out:
            self._serve_alone(waiter.since)
        self._reschedule()

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
        if not self.is_leaving:
            ask = self._ask(now)
            if ask is not None:
                return self.opening.batch(self.opening.question() or calls.claim(self.keys, self.id, ask))
            self.due = self.ledger.due
            if self.due < NEVER:
                return []
            leaves_at = max(self.ledger.last_use, self.ledger.last_claim) + IDLE_LEAVES
            if self.is_staying and now < leaves_at:
                self.due = leaves_at
                return []
        return self._say_goodbye(now)

    def _ask(self, now: float) -> Claim | None:
        """The claim to send: an unanswered one, an asker's or the ledger's, whichever was due first."""
        if not self.is_staying:
            self.ledger.begin(self.identity.begin())
        ledger, asker = self.ledger, self.askers[0] if self.askers else None
        unanswered = ledger.in_flight
        asked = ledger.signal(now, asker.rate) if asker and asker.since <= ledger.due else None
        ask = asked or ledger.claim(now)
        if ask is None and self.hub.is_out:
            ask = ledger.signal(now, round(ledger.mean))  # those served alone ask for nothing: is Redis back?
        if ask is not unanswered:
            self.asking = asker if asked else None
        self.is_staying = self.is_staying or ask is not None
        return ask

    def _say_goodbye(self, now: float) -> list[Job]:
        self.is_leaving = True
        if self.goodbye is None and self.is_staying:
            self.ledger.forget(was_executed=True, now=now)
            unused, burned = self.ledger.hand_back_all(now)
            self.goodbye = calls.leave_producer(self.keys, self.id, self.ledger.incarnation, unused, burned)
        if self.goodbye is None or self.hub.is_out:
            self._be_gone()
            return []
        return [self.goodbye]

    def _be_gone(self) -> None:
        """Redis has forgotten this producer, or will. One that only was idle comes back with the next that waits."""
        self.is_staying, self.is_leaving, self.goodbye = False, self.is_closed, None
        self.hub.drop(self)
        leaver, self.leaver = self.leaver, None
        if leaver is not None:
            leaver.is_served = True
            leaver.wake()
        if not self.is_closed:
            self._reschedule()

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        self._fail_all(error, now)
        self.is_closed = self.is_leaving = True
        self.leaver = leaver
        if self.is_staying:
            self.due = now
            self.hub.schedule(self)
        else:
            self._be_gone()

    def receive(self, outcomes: Sequence[Outcome], now: float) -> None:
        outcome = outcomes[0]
        if self.goodbye is not None:
            is_lost = isinstance(outcome, Exception) and classify(outcome) is not Fault.PERMANENT
            if is_lost and not self.hub.is_out:
                self.due = now
            else:
                self._be_gone()
        elif isinstance(outcome, Answer):
            self._answered(outcome, now)
        elif isinstance(outcome, Configured):
            self.opening.tell(outcome)
            self.due = now
        else:
            self._failed(outcome, now)
        self._reschedule()

    def _answered(self, answer: Answer, now: float) -> None:
        self.allowance = self.allowed_at = 0.0
        settled = self.ledger.receive(answer, now)
        if self.asking in self.askers:
            asker = self.askers.pop(self.askers.index(self.asking))
            asker.answer, asker.is_served = answer, True
            settled.append(asker)
        self.asking = None
        self._wake(settled)
        if self.opening.see(answer.birth) or self.askers:
            self.due = now
        elif answer.reason == "unset" and self.ledger.waiters and not self.opening.has_warned_unset:
            self.opening.has_warned_unset = True
            log.warning(
                "budget %s has no rate: nobody reports as its consumer, and no rate= is given in code or by "
                "`nexus-redis set %s --rate`; callers wait until one of them is there",
                self.keys.name, self.keys.name,
            )  # fmt: skip

    def _failed(self, error: Exception, now: float) -> None:
        code, fault = code_of(error), classify(error)
        if code == "NEXUS_ID_TAKEN":
            self._rename()
            self.due = now
        elif code == "NEXUS_STALE":
            self.ledger.forget(was_executed=True, now=now)
            self.ledger.begin(self.identity.begin())
            self.due = now
        elif fault is Fault.PERMANENT:
            self.ledger.forget(was_executed=False, now=now)
            self.refused, self.refused_until = as_nexus_error(error), now + REFUSED_FOR
            self._fail_all(self.refused, now)
            self.due = self.refused_until
        else:
            if fault is Fault.NOT_EXECUTED:
                self.ledger.forget(was_executed=False, now=now)
            self.opening.is_listed = False
            self.ledger.due = NEVER
            self.due = now + FIRST_BACKOFF  # beside the hub's, for the one that fails alone
            if self.hub.is_out:
                self._serve_alone(now)

    def _rename(self) -> None:
        taken = self.identity.rename()
        if not self.identity.has_warned:
            self.identity.has_warned = True
            log.warning("budget %s: producer id %s is in use by a live process; this one goes on as %s",
                        self.keys.name, taken, self.id)  # fmt: skip

    def _raise_refused(self, now: float) -> None:
        if self.refused is not None and now < self.refused_until:
            raise copy(self.refused)
        self.refused = None

    def _fail_all(self, error: NexusError, now: float) -> None:
        line: list[Waiter] = [*self.ledger.waiters, *self.askers]
        self.askers = []
        for waiter in line:
            self.ledger.cancel(waiter, now)
            waiter.error = copy(error)  # each raises its own: a shared one would collect their tracebacks
        self._wake(line)

    # --- while Redis is away

    def tick(self, now: float) -> None:
        if not self.is_leaving:
            self._serve_alone(now)
        elif self.hub.is_out:
            self._be_gone()

    def _serve_alone(self, now: float) -> None:
        """Serve the line by the outage mode; `due` says when the next one may go."""
        if not self.hub.is_out:
            return
        settled = self.ledger.serve(now)
        rate = self._degraded_rate(now)
        while (head := self.ledger.head) is not None and self._allow(head.cost, rate, now):
            self.ledger.cancel(head, now)
            head.is_served = head.is_degraded = True
            settled.append(head)
        if head is not None and 0 < rate < NEVER:
            self.due = min(self.due, now + max(0.001, (head.cost - self.allowance) / rate))
        for waiter in list(self.ledger.waiters):
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
        for asker in self.askers:
            asker.error = self._unavailable(asker, now)
            settled.append(asker)
        self.askers = []
        self._wake(settled)

    def _degraded_rate(self, now: float) -> float:
        """Micro-tokens per second; infinite where the mode is open."""
        mode, answer, out = self.settings.on_outage, self.ledger.answer, now - self.hub.out_since
        if answer is not None and answer.is_lossless:
            return 0.0
        if mode == "open":
            return NEVER
        if mode == "closed" or answer is None or out >= SHARE_LASTS:
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


def told(opening: Opening, call: Job, server: str) -> Generator[list[Job] | Pause, list[Outcome], Configured]:
    """The plan that runs a `configure` on somebody's behalf."""
    configured: Configured = (yield from ask([call], server))[0]
    opening.note(configured)
    yield [opening.hint()]
    return configured


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

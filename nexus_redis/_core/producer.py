"""A producer's session on one budget: its callers, its claims, and the plan from the first call to the deregistration.
No I/O, no clock.

    live        stay, deregister, come back with the next caller
    _stay       rest until the ledger, a signal request or the outage mode wants something; claim
    _claim      register the budget if need be, send the claim, take the answer

The ledger says how much to claim and when (ledger.py). While Redis is away, the outage mode serves (outage.py).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Final

from nexus_redis._core.background import run_in_background
from nexus_redis._core.ledger import Ledger
from nexus_redis._core.outage import OutageMode
from nexus_redis._core.reachability import Reachability, Superseded
from nexus_redis._core.registration import Registration, Reply
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.session import Life, Rest, Send, Session, deregister
from nexus_redis._core.signal_request import SignalRequest, flow_of
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import Listed, swept
from nexus_redis._protocol.calls import Answer, Claim, Drop
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import FIRST_BACKOFF, Call, Failed, Fault, Job, Outcome
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.identity import Identity
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis._values.parse import MICRO
from nexus_redis._values.results import Denied
from nexus_redis._values.settings import ProducerSettings
from nexus_redis.errors import InvalidSetting, NexusError

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl

IDLE_LEAVES: Final = 60.0  # seconds without a call: the producer leaves, the next acquire brings it back
LOOK_AGAIN: Final = 1.0  # seconds, for a cost that no bucket holds at the rate as it is: that may rise
SPREAD: Final = 0.01  # seconds over which a fleet asks again when it hears that a pause is over
REFUSED_FOR: Final = 1.0  # seconds that a permanent failure answers all callers, before Redis is asked again


class ProducerSession(Session):
    """One producer of one budget."""

    def __init__(
        self,
        scheduler: Scheduler,
        keys: BudgetKeys,
        producer_id: str | None,
        settings: ProducerSettings,
        registration: Registration,
    ) -> None:
        self.scheduler, self.keys, self.settings, self.registration = scheduler, keys, settings, registration
        self.identity = Identity(producer_id)
        self.refused: NexusError | None = None
        self.refused_until = 0.0
        self.superseded: Superseded | None = None
        self._begin()

    def _begin(self) -> None:
        of = self.settings
        self.ledger = Ledger(
            self.scheduler.clock(), weight=of.weight, priority=of.priority, smooth=of.smooth, owner=self,
            tally=self.registration.tally,
        )  # fmt: skip
        self._outage: OutageMode | None = None
        self.askers: tuple[SignalRequest, ...] = ()
        self.is_staying = False  # Redis may know this incarnation
        self.needs_keys = False  # a deadline of the budget had passed: the claim is sent again, with all keys
        self.is_leaving = self.is_closed = False
        self.leaver: Waiter | None = None

    def after_fork(self) -> None:
        self.identity.after_fork()
        self.registration.drop_line(self.ledger)  # the parent's
        self._begin()

    @property
    def key(self) -> str:
        return self.keys.budget

    @property
    def away(self) -> Reachability:
        """Return the reachability of this budget: its server's, or that of state that a newer release wrote."""
        return self.superseded or self.server

    @property
    def outage(self) -> OutageMode:
        """The outage mode, made when it is first needed: most producers never need it."""
        if self._outage is None:
            self._outage = OutageMode(self)
        return self._outage

    @property
    def id(self) -> str:
        """The id in Redis."""
        return self.identity.id

    @property
    def flow(self) -> FlowControl | None:
        """The last answer as a message."""
        return flow_of(self.keys.name, self.ledger.answer) if self.ledger.answer else None

    @property
    def reason(self) -> str:
        """Return why tokens are short, as the last answer said. It is never `ok`: the caller that asks got no token."""
        answer = self.ledger.answer
        if self.away.is_out or answer is None:
            return "unavailable"
        return answer.reason if answer.reason != "ok" else "rate"

    # --- callers

    def spend(self, cost: int, now: float) -> bool:
        """Take tokens that are at hand; return whether they were. Raise the error of a permanent failure."""
        self.check(now)
        return self.ledger.spend(cost, now)

    def take(self, waiter: Waiter, now: float) -> bool:
        """Take tokens at hand for a caller that may settle later, likewise."""
        self.check(now)
        return self.ledger.take(waiter, now)

    def check(self, now: float) -> None:
        """Raise the error of a permanent failure, for a second after it."""
        if self.refused is not None:
            if now < self.refused_until:
                raise copy(self.refused)
            self.refused = None

    def wait(self, waiter: Waiter) -> None:
        """Put a caller in line, or have its signal request sent."""
        now = waiter.since
        if isinstance(waiter, SignalRequest):
            self.askers = (*self.askers, waiter)
        else:
            self.registration.keep_line(self.ledger)
            self.ledger.wait(waiter)
            self._wake(self.ledger.serve(now), now)
        self.serve_degraded(now)
        self.wake_at(self._next_at(now))

    def cancel(self, waiter: Waiter, now: float) -> None:
        """Take out a caller that gives up: in line, asking for a signal, or just served."""
        if isinstance(waiter, SignalRequest):
            self._drop_asker(waiter)
            return
        self.ledger.cancel(waiter, now)
        self._wake(self.ledger.serve(now), now)

    def settle(self, ledger: Ledger, waiter: Waiter, cost: int, now: float) -> None:
        """Correct what `waiter` was served with from `ledger`: its work cost `cost`."""
        if ledger is not self.ledger:  # served before a fork: the parent settles it
            return
        ledger.settle(waiter, cost, now, is_open=not self.is_closed)
        if not self.is_closed:
            self.look(now)

    def look(self, now: float) -> None:
        """Serve the callers in line, if they can be served now.

        A line that rests is looked at when it has rested. Meanwhile answers come for the callers whose turn is near.
        """
        settled = self.ledger.serve(now) if now >= self.ledger.rests else []
        if self.ledger.head is not None:
            self.ledger.wake(now)
            self.serve_degraded(now)
            self.wake_at(self._next_at(now))
        self._wake(settled, now)

    def _drop_asker(self, asker: Waiter) -> None:
        self.askers = tuple([each for each in self.askers if each is not asker])

    def denial(self, cost: int, now: float, *, must_fit: bool = True) -> Denied | None:
        """Return the denial that needs no call: other callers wait, or the last answer said when to ask again."""
        ledger = self.ledger
        if self.away.is_out and self.settings.on_outage == "closed":
            return Denied(max(0.0, self.away.next_try - now), "unavailable")
        if ledger.waiters.count > ledger.tries:
            reason = self.reason if ledger.answer is not None and not ledger.answer.budget_rate else "contended"
            return Denied(max(ledger.refresh, ledger.served_at(cost) - now), reason)
        if ledger.must_wait(cost, now):
            return self.denied(cost, ledger.retry_after(cost, now), must_fit=must_fit)
        return None

    def denied(self, cost: int, retry_after: float, *, must_fit: bool = True) -> Denied:
        """Return what `try_acquire` answers.

        A cost that no bucket known here could hold is a mistake in the code of a caller that never waits (`must_fit`),
        so it is an error. A cost that fitted before the rate fell is denied until the rate has risen.
        """
        answer, most = self.ledger.answer, self.registration.largest_burst
        if answer and answer.budget_rate and cost > answer.burst:
            if cost > most and must_fit:
                self.ledger.demand.forget(cost)
                raise InvalidSetting("cost", cost / MICRO, error_texts.above_burst(most / MICRO))
            retry_after = min(max(retry_after, self.ledger.refresh), LOOK_AGAIN)
        return Denied(retry_after, self.reason)

    def counted(self, denied: Denied) -> Denied:
        """Return a denial that a caller gets, and count it."""
        self.ledger.tally.deny(denied.reason)
        return denied

    # --- changes of the rate

    def on_rate_drop(self, drop: Drop, now: float) -> None:
        """Withdraw a part of the tokens at hand, since the budget's rate has fallen. The next claim hands them back.

        Where the rate was 0 and is no longer, the callers that wait ask again.
        """
        self.ledger.on_rate_drop(drop, now, random.uniform(0, SPREAD))  # noqa: S311  # spreads claims, guards nothing

    def set_rate(self, rate: int) -> None:
        """Withdraw a part of the tokens at hand, where this process has just set a lower rate itself."""
        if self.ledger.answer is not None:
            self.ledger.scale_down(rate, self.scheduler.clock())

    def reclaim(self, now: float) -> None:
        self.ledger.reclaim(now)

    # --- the plan

    def live(self) -> Life:
        while True:
            if not self.is_leaving:
                yield from self._stay()
            yield from self._deregister()
            if self.is_closed:
                return

    def _stay(self) -> Life:
        """Claim, until the producer is closed, or was not used for a minute."""
        until = self._next_at(self.scheduler.clock())
        while True:
            can_send = yield Rest(until)
            now = self.scheduler.clock()
            if self.is_leaving:
                return
            if not can_send or (self.superseded is not None and now < self.superseded.next_try):
                self.serve_degraded(now)
                until = self.superseded.next_try if self.superseded else NEVER
                continue
            if self.ledger.opens <= now:
                self._wake(self.ledger.serve(now), now)
                if now < self._next_at(now):
                    until = self._next_at(now)
                    continue
            ask = self._ask(now)
            if ask is not None:
                yield from self._claim(ask, now)
            until = self._next_at(now)
            if ask is None and until == NEVER:
                until = max(self.ledger.last_use, self.ledger.last_claim) + IDLE_LEAVES
                if not self.is_staying or now >= until:
                    return

    def _next_at(self, now: float) -> float:
        """Return when there is something to do."""
        if self.askers and not self.askers[0].seq:
            return now
        return min(self.ledger.due, self.ledger.opens)

    def on_due(self, time: float) -> None:
        """Go on at that time, since the ledger wants something. A producer that has left and is not used stays away."""
        if self.is_staying or self.ledger.waiters:
            self.wake_at(time)

    def _ask(self, now: float) -> Claim | None:
        """Return the claim to send: an unanswered one, a signal request's or the ledger's, the first that is due."""
        if not self.is_staying:
            self.ledger.begin(self.identity.begin())
        ledger, asker = self.ledger, self.askers[0] if self.askers else None
        for each in self.askers:
            if each.seq and not ledger.has_sent(each.seq, now):
                each.seq = 0  # its claim was given up meanwhile, so it is asked again
        is_new = asker is not None and not asker.seq and asker.since <= ledger.due
        asked = ledger.signal(now, asker.rate) if asker and is_new else None
        ask = asked or ledger.claim(now)
        if ask is None and self.away.is_out:
            ask = ledger.signal(now, round(ledger.demand.mean))  # a call that shows whether Redis is back
        if asked and asker:
            asker.seq = asked.seq
        if ask is not None and self.is_staying:
            self.scheduler.subscriptions.join(self.keys.flow, self)
        self.is_staying = self.is_staying or ask is not None
        return ask

    @property
    def overlaps(self) -> bool:  # type: ignore[override]  # here it changes with the round trip
        """Return whether claims go on while others have no answer: where Redis is far, and only claims are due."""
        return self.ledger.is_far and self.is_staying and self.registration.is_registered and not self.is_leaving

    def _claim(self, ask: Claim, now: float) -> Life:
        """Register the budget, if need be, and send a claim: in one round trip where the claim need not wait."""
        claim = calls.claim(self.keys, self.id, ask, with_all_keys=self.needs_keys)
        first = self.registration.next_call(now)
        if first is None:
            jobs = self.registration.batch(claim, now)
        elif self.registration.is_own(first) and not self.refused_until:
            jobs = [first, *self.registration.batch(claim, now)]
        else:  # no claim is sent along with settings that were refused before, or with a parent's
            self.ledger.lose(ask)  # it is sent as soon as that call is answered
            jobs = [first]
        if self.overlaps:
            yield Send(jobs, waits=False)
        else:
            outcomes = yield Send(jobs)
            self._take(jobs, outcomes, self.scheduler.clock())

    def _deregister(self) -> Life:
        """Hand all tokens back and leave. A call that is lost is sent again, unless Redis is away."""
        self.is_leaving = True
        if self.is_staying and not self.away.is_out:
            now = self.scheduler.clock()
            self.ledger.forget(was_executed=True, now=now)
            unused, burned = self.ledger.hand_back_all(now)
            call = calls.leave_producer(self.keys, self.id, self.ledger.incarnation, unused, burned)
            self.ledger.drop_share()
            yield from deregister(self, call, self.away)
        self._be_gone()

    def _be_gone(self) -> None:
        """End the stay: Redis has forgotten this producer, or will. If it was idle, the next caller brings it back."""
        self.is_staying, self.is_leaving = False, self.is_closed
        self.ledger.add_up()
        self.scheduler.subscriptions.leave(self.keys.flow, self)
        self.registration.drop_line(self.ledger)
        self.scheduler.drop(self)
        leaver, self.leaver = self.leaver, None
        if leaver is not None:
            leaver.is_served = True
            leaver.wake()

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        self._fail_all(error, now)
        self.ledger.reclaim(now)
        self.is_closed = self.is_leaving = True
        self.leaver = leaver
        if self.is_staying:
            self.wake_at(now)
        else:
            self._be_gone()

    # --- outcomes

    def on_answers(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        self._take(jobs, outcomes, now)
        self.wake_at(self._next_at(now))

    def on_late_answers(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            ask = _claim_of(job)
            if ask is not None and isinstance(outcome, Answer) and not self.is_leaving:
                self._answered(ask, outcome, now)

    def _take(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """Take the outcomes of a claim, of a registration, or of both."""
        ask = _claim_of(jobs[0])
        if ask is None:
            is_alone = len(jobs) == 1
            self._registered(
                outcomes[0], None if is_alone else _claim_of(jobs[1]), None if is_alone else outcomes[1], now
            )
        elif _code_of(outcomes[0]) == "NEXUS_ID_TAKEN" and not self._is_ours(jobs[0]):
            self.ledger.lose(ask)  # this producer has a new id by now
        else:
            self._received(ask, outcomes[0], now)
        if isinstance(outcomes[-1], Listed):
            run_in_background(self.scheduler, swept(self.keys.namespace, outcomes[-1]))

    def _registered(self, fact: Outcome, ask: Claim | None, outcome: Outcome, now: float) -> None:
        """Take the reply to a registration, and the outcome of a claim that was sent along with it."""
        if isinstance(fact, Failed):
            if isinstance(outcome, Answer):  # of a budget without our settings
                self.ledger.forget(was_executed=True, now=now, ask=ask)
            self._failed(ask, fact, now)
            return
        reply = fact if isinstance(fact, Reply) else Reply(self.registration, fact)
        reply.registration.on_reply(reply.fact, now)
        # Where the server knew only the claim's script, it executed the claim first: the claim is made again.
        if isinstance(outcome, Answer) and self.registration.lacks_our_rate(outcome.reason):
            self.ledger.forget(was_executed=True, now=now, ask=ask)
            self.ledger.due = now
        elif ask is not None:
            self._received(ask, outcome, now)
        else:
            self.ledger.due = now

    def _received(self, ask: Claim, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Answer):
            self._answered(ask, outcome, now)
        else:
            self._failed(ask, outcome, now)

    def _answered(self, ask: Claim, answer: Answer, now: float) -> None:
        if self._outage is not None:
            self._outage.end()
        if self.superseded is not None:
            self.superseded = None
            log.warning(log_texts.STATE_READABLE, self.keys.name, extra=self._about)
        self.registration.largest_burst = max(self.registration.largest_burst, answer.burst)
        self.needs_keys = False
        flight = self.ledger.flights.of(ask)
        if flight is None:  # given up before its answer came, which shows how far Redis is
            self.ledger.flights.time(self.server.in_flight.trip.mean)
        settled = self.ledger.receive(answer, now, ask)
        asker = next((each for each in self.askers if each.seq == ask.seq), None)
        if asker is not None:
            self._drop_asker(asker)
            asker.answer, asker.is_served = answer, True
            settled.append(asker)
        self._wake(settled, now)
        if self.registration.sync(answer.birth, answer.reason):
            self.ledger.next_slot = now  # the slot is of a budget without our settings
            self.ledger.due = now
        else:
            self.registration.log_state(answer)
            self.registration.warn_of_wait(self.ledger, answer, now)
            if ask.trip and flight is not None:  # the claim said how far Redis is, so no connection was made first
                self.registration.warn_of_distance(min(now - flight.sent, self.ledger.flights.trip), answer)
            self._fail_too_large(answer, now)

    def _failed(self, ask: Claim | None, failed: Failed, now: float) -> None:
        code, fault, ledger = failed.code, failed.fault, self.ledger
        if ask is not None and fault is not Fault.NOT_EXECUTED:
            ledger.lose(ask)
        if code == "NEXUS_NEEDS_KEYS":
            self.needs_keys = True
            ledger.due = now
        elif code == "NEXUS_ID_TAKEN":
            self._rename()
            ledger.due = now
        elif code == "NEXUS_STALE" and ask is not None and ask.seq < ledger.seq:  # a later one has overtaken it
            self._forget(ask, was_executed=True, now=now)
            ledger.due = now
        elif code == "NEXUS_STALE":
            self._forget(None, was_executed=True, now=now)
            ledger.begin(self.identity.begin())
            ledger.due = now
        elif code == "NEXUS_SCHEMA" and self.outage.rate(now) > 0:
            self._forget(ask, was_executed=False, now=now)
            self._supersede(failed.error, now)
        elif failed.is_permanent:
            self.superseded = None
            self._forget(ask, was_executed=False, now=now)
            ledger.reclaim(now)  # a caller with tokens at hand hears of it too
            self.refused, self.refused_until = failed.error, now + REFUSED_FOR
            self._fail_all(self.refused, now)
            ledger.due = self.refused_until
        else:
            if fault is Fault.NOT_EXECUTED:
                self._forget(ask, was_executed=False, now=now)
            self.registration.unlist()
            ledger.due = now + FIRST_BACKOFF  # beside the server's own backoff, for a call that fails alone
            self.serve_degraded(now)

    def _supersede(self, error: NexusError, now: float) -> None:
        """Go on by the outage mode: a newer release has written the state, and an older one cannot read it."""
        if self.superseded is None:
            self.superseded = Superseded(str(error), now)
            log.warning(
                log_texts.STATE_SUPERSEDED, self.keys.name, error, extra={**self._about, **log_fields(cause=str(error))}
            )
        self.ledger.due = self.superseded.next_try = now + REFUSED_FOR
        self.serve_degraded(now)

    @property
    def _about(self) -> dict[str, object]:
        return log_fields(budget=self.keys.name, producer=self.id)

    def _is_ours(self, job: Job) -> bool:
        return isinstance(job, Call) and job.keys[-2] == self.keys.producer(self.id)

    def _forget(self, ask: Claim | None, *, was_executed: bool, now: float) -> None:
        """Give a claim up, and with it the signal request that it carried, which is asked again."""
        self.ledger.forget(was_executed=was_executed, now=now, ask=ask)
        for asker in self.askers:
            if ask is None or asker.seq == ask.seq:
                asker.seq = 0

    def _rename(self) -> None:
        taken = self.identity.rename()
        if not self.identity.has_warned:
            self.identity.has_warned = True
            about = {**self._about, **log_fields(value=taken)}
            log.warning(log_texts.PRODUCER_ID_TAKEN, self.keys.name, taken, self.id, extra=about)

    # --- callers that are settled

    def leave_line(self, waiter: Waiter, now: float) -> Sequence[tuple[ProducerSession, Waiter]]:
        """Take a caller out of this line and its other lines."""
        parts: Sequence[tuple[ProducerSession, Waiter]] = waiter.parts(self)
        for session, part in parts:
            session.ledger.cancel(part, now)
            if session is not self:
                self.scheduler.touch(session)
        return parts

    def serve_degraded(self, now: float) -> None:
        """Serve the callers by the outage mode, if Redis is away."""
        if self.away.is_out:
            self._wake(self.outage.serve(now), now)

    def _fail_too_large(self, answer: Answer, now: float) -> None:
        """Fail the callers whose cost no bucket of a lossless budget will hold: they would wait forever.

        Only a ceiling says how far the bucket can grow.
        """
        if not answer.is_lossless or not answer.budget_rate or self.registration.settings.rate is None:
            return
        most = self.registration.largest_burst
        too_large = [waiter for waiter in self.ledger.callers if waiter.cost > most]
        for waiter in too_large:
            remedy = error_texts.above_lossless_burst(most / MICRO)
            self._fail(waiter, InvalidSetting("cost", waiter.cost / MICRO, remedy), now)
        self._wake(too_large, now)

    def _fail(self, waiter: Waiter, error: NexusError, now: float) -> None:
        for _, part in self.leave_line(waiter, now):
            part.error = copy(error)  # each raises its own: a shared one would collect their tracebacks

    def _fail_all(self, error: NexusError, now: float) -> None:
        line: list[Waiter] = [*self.ledger.callers, *self.askers]
        self.askers = ()
        for waiter in line:
            self._fail(waiter, error, now)
        self._wake(line, now)

    def _wake(self, settled: list[Waiter], now: float) -> None:
        """Wake the callers that are settled, then look at callers of several budgets whose lines have changed."""
        for waiter in settled:
            waiter.wake()
        self.scheduler.look_around(now)


def _code_of(outcome: Outcome) -> str:
    return outcome.code if isinstance(outcome, Failed) else ""


def _claim_of(job: Job) -> Claim | None:
    """Return the claim that a job carries, or None."""
    about = job.about if isinstance(job, Call) else None
    return about if isinstance(about, Claim) else None

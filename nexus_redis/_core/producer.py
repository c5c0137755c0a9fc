"""A producer as the hub sees it: its ledger, its budget's settings to open with, and what it does while Redis is away.

    on_outage   while Redis is away, beside the leases still in hand
    share       half of the last share, halved each 30 s, for 5 minutes, then closed; never answered before: closed
    closed      nothing; who waits longer than 5 s gets `Unavailable`
    open        everything

What is admitted that way says so (`degraded`), and is not made up for later: claims go on from the server's state.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Final

from nexus_redis._core.errand import run_aside
from nexus_redis._core.ledger import Ledger
from nexus_redis._core.outage import Allowance
from nexus_redis._core.reachability import Reach, Superseded
from nexus_redis._core.registration import News, Opening
from nexus_redis._core.scheduler import Hub, Member
from nexus_redis._core.signal_request import Asker, flow_of
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import Listed, swept
from nexus_redis._protocol.calls import Answer, Claim, Drop
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import FIRST_BACKOFF, Call, Failed, Fault, Job, Outcome, is_lost
from nexus_redis._values.identity import Identity
from nexus_redis._values.log import log
from nexus_redis._values.parse import MICRO
from nexus_redis._values.results import Denied
from nexus_redis._values.settings import ProducerSettings
from nexus_redis.errors import InvalidSetting, NexusError, Unavailable

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl


IDLE_LEAVES: Final = 60.0  # seconds without a call: the producer leaves, the next acquire brings it back
UNAVAILABLE_AFTER: Final = 5.0
LOOK_AGAIN: Final = 1.0  # for a cost that no bucket holds at the rate as it is: that may rise
SPREAD: Final = 0.01  # seconds over which a fleet asks again when it hears that a pause is over
REFUSED_FOR: Final = 1.0  # a permanent fault answers all callers this long before Redis is asked again


class Account(Member):
    """One producer of one budget."""

    def __init__(
        self, hub: Hub, keys: BudgetKeys, producer_id: str | None, settings: ProducerSettings, opening: Opening
    ) -> None:
        self.hub, self.keys, self.settings, self.opening = hub, keys, settings, opening
        self.identity = Identity(producer_id)
        self.refused: NexusError | None = None
        self.refused_until = 0.0
        self.superseded: Superseded | None = None
        self._begin()

    def _begin(self) -> None:
        of = self.settings
        self.ledger = Ledger(self.hub.clock(), weight=of.weight, priority=of.priority, smooth=of.smooth)
        self.askers: list[Asker] = []
        self.asking: dict[int, Asker] = {}  # by the number of the claim that asks for it
        self.allowance = Allowance()
        self.is_staying = False  # Redis may know this incarnation
        self.needs_keys = False  # something was due at the budget: the claim goes again, with all keys
        self.is_leaving = self.is_closed = False
        self.leaver: Waiter | None = None
        self.goodbye: Job | None = None

    def after_fork(self) -> None:
        self.identity.after_fork()
        self.opening.drop_line(self.ledger)  # the parent's
        self._begin()

    @property
    def key(self) -> str:
        return self.keys.budget

    @property
    def away(self) -> Reach:
        """Say whether this budget is out of reach: its server, or a newer release has written its state."""
        return self.superseded or self.reach

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

    def take_in(self, now: float) -> None:
        self.ledger.take_in(now)

    def heed(self, drop: Drop, now: float) -> None:
        """The budget's rate has fallen: what is in hand shrinks with it, the rest goes back with the next claim.

        Where it was 0 and is no longer, those who wait ask again.
        """
        self.ledger.heed(drop, now, random.uniform(0, SPREAD))  # noqa: S311  # spreads claims, guards nothing
        if self.is_staying:
            self._reschedule()

    def obey(self, rate: int) -> None:
        """The budget's rate is so much now, by this process' own word: what is in hand was meant for the one before."""
        if self.ledger.answer is not None:
            self.ledger.shrink(rate, self.hub.clock())

    def wait(self, waiter: Waiter) -> None:
        """Join the line, or ask."""
        if isinstance(waiter, Asker):
            self.askers.append(waiter)
            self.due = min(self.due, waiter.since)
        else:
            self.opening.keep_line(self.ledger)
            self.ledger.wait(waiter)
            self._wake(self.ledger.serve(waiter.since), waiter.since)
        if self.away.is_out:
            self._serve_alone(waiter.since)
        self._reschedule()

    def cancel(self, waiter: Waiter, now: float) -> None:
        """Give up: in line, asking, or just served."""
        if isinstance(waiter, Asker):
            if waiter in self.askers:
                self.askers.remove(waiter)
            return
        self.ledger.cancel(waiter, now)
        self._wake(self.ledger.serve(now), now)
        self._reschedule()

    def take(self, waiter: Waiter, now: float) -> bool:
        """As `spend`, for one that may be settled later."""
        if self.refused is not None:
            self._raise_refused(now)
        is_served = self.ledger.take(waiter, now)
        if self.ledger.due < self.scheduled:
            self._reschedule()
        return is_served

    def check(self, now: float) -> None:
        """Raise what a permanent fault left."""
        if self.refused is not None:
            self._raise_refused(now)

    def settle(self, ledger: Ledger, waiter: Waiter, cost: int, now: float) -> None:
        """What `waiter` was served with from `ledger` cost `cost` in truth."""
        if ledger is not self.ledger:  # served before a fork: the parent settles it
            return
        ledger.settle(waiter, cost, now, is_open=not self.is_closed)
        if self.is_closed:
            return
        self.look(now)

    def look(self, now: float) -> None:
        """Something has changed for those in line. Where nobody is, a producer that Redis has forgotten stays so.

        A line that rests is looked at when it has: meanwhile the answers come for those whom it has let come near.
        """
        settled = self.ledger.serve(now) if now >= self.ledger.rests else []
        if self.ledger.head is not None:
            self.ledger.wake(now)
            if self.away.is_out:
                self._serve_alone(now)
        if self.is_staying or self.ledger.waiters:
            self._reschedule()
        self._wake(settled, now)

    def denial(self, cost: int, now: float, *, must_fit: bool = True) -> Denied | None:
        """Return the denial that needs no call: a caller waits before, or the last answer said when to come back."""
        ledger = self.ledger
        if self.away.is_out and self.settings.on_outage == "closed":
            return Denied(max(0.0, self.away.next_try - now), "unavailable")
        if ledger.waiters.count > ledger.tries:
            return Denied(max(ledger.refresh, ledger.turn(cost) - now), "contended")
        if ledger.must_wait(cost, now):
            return self.denied(cost, ledger.retry_after(cost, now), must_fit=must_fit)
        return None

    def denied(self, cost: int, retry_after: float, *, must_fit: bool = True) -> Denied:
        """Return what `try_acquire` answers.

        A cost that no bucket known here could hold is a mistake in the code of a caller that never waits (`must_fit`),
        so it is an error. A cost that fitted before the rate fell is denied until the rate has risen.
        """
        answer, most = self.ledger.answer, self.opening.largest_burst
        if answer and answer.budget_rate and cost > answer.burst:
            if cost > most and must_fit:
                remedy = f"above the burst of {most / MICRO:g}: use acquire, or a larger `burst`"
                raise InvalidSetting("cost", cost / MICRO, remedy)
            retry_after = min(max(retry_after, self.ledger.refresh), LOOK_AGAIN)
        return Denied(retry_after, self.reason)

    @property
    def reason(self) -> str:
        """Return why tokens are short, as the budget last said. A caller that got none is never told `ok`."""
        answer = self.ledger.answer
        if self.away.is_out or answer is None:
            return "unavailable"
        return answer.reason if answer.reason != "ok" else "rate"

    @property
    def flow(self) -> FlowControl | None:
        """The last answer as a message."""
        return flow_of(self.keys.name, self.ledger.answer) if self.ledger.answer else None

    # --- the loop

    @property
    def overlaps(self) -> bool:  # type: ignore[override]  # here it changes with the round trip
        """Whether claims go on while others have no answer yet: where Redis is far, and nothing else is to be said."""
        return self.ledger.is_far and self.is_staying and self.opening.is_told and not self.is_leaving

    def jobs(self, now: float) -> list[Job]:
        self.due = NEVER
        if not self.is_leaving and self.superseded is not None and now < self.superseded.next_try:
            self.due = self.superseded.next_try
            self._serve_alone(now)
            return []
        if not self.is_leaving:
            if self.ledger.opens <= now:
                self._wake(self.ledger.serve(now), now)
                if now < self.ledger.due and not self.askers:
                    self.due = min(self.ledger.due, self.ledger.opens)
                    return []
            ask = self._ask(now)
            if ask is not None:
                self.due = min(self.ledger.due, self.ledger.opens) if self.overlaps else NEVER
                return self._batch(ask, now)
            self.due = min(self.ledger.due, self.ledger.opens)
            if self.due < NEVER:
                return []
            leaves_at = max(self.ledger.last_use, self.ledger.last_claim) + IDLE_LEAVES
            if self.is_staying and now < leaves_at:
                self.due = leaves_at
                return []
        return self._say_goodbye(now)

    def _batch(self, ask: Claim, now: float) -> list[Job]:
        """The claim, behind what the budget must be told first; one round trip, unless that waits for an answer."""
        claim = calls.claim(self.keys, self.id, ask, with_all_keys=self.needs_keys)
        question = self.opening.question(now)
        if question is None:
            return self.opening.batch(claim, now)
        # Nothing is claimed along with settings that were refused before.
        goes_along = self.opening.is_own(question) and not self.refused_until
        if goes_along:
            return [question, *self.opening.batch(claim, now)]
        self.ledger.lose(ask)  # it is sent as soon as that is told
        return [question]

    def _ask(self, now: float) -> Claim | None:
        """The claim to send: an unanswered one, an asker's or the ledger's, whichever was due first."""
        if not self.is_staying:
            self.ledger.begin(self.identity.begin())
        ledger, asker = self.ledger, self.askers[0] if self.askers else None
        if self.asking:  # what was given up meanwhile is asked again
            self.asking = {seq: each for seq, each in self.asking.items() if ledger.has_sent(seq, now)}
        is_new = asker is not None and asker not in self.asking.values() and asker.since <= ledger.due
        asked = ledger.signal(now, asker.rate) if asker and is_new else None
        ask = asked or ledger.claim(now)
        if ask is None and self.away.is_out:
            ask = ledger.signal(now, round(ledger.mean))  # those served alone ask for nothing: is Redis back?
        if asked and asker:
            self.asking[asked.seq] = asker
        if ask is not None and self.is_staying:
            self.hub.channels.join(self.keys.flow, self)
        self.is_staying = self.is_staying or ask is not None
        return ask

    def _say_goodbye(self, now: float) -> list[Job]:
        self.is_leaving = True
        if self.goodbye is None and self.is_staying:
            self.ledger.forget(was_executed=True, now=now)
            unused, burned = self.ledger.hand_back_all(now)
            self.goodbye = calls.leave_producer(self.keys, self.id, self.ledger.incarnation, unused, burned)
        if self.goodbye is None or self.away.is_out:
            self._be_gone()
            return []
        self.ledger.drop_share()
        return [self.goodbye]

    def _be_gone(self) -> None:
        """Redis has forgotten this producer, or will. One that only was idle comes back with the next that waits."""
        self.is_staying, self.is_leaving, self.goodbye = False, self.is_closed, None
        self.hub.channels.leave(self.keys.flow, self)
        self.opening.drop_line(self.ledger)
        self.hub.drop(self)
        leaver, self.leaver = self.leaver, None
        if leaver is not None:
            leaver.is_served = True
            leaver.wake()
        if not self.is_closed:
            self._reschedule()

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        self._fail_all(error, now)
        self.ledger.take_in(now)
        self.is_closed = self.is_leaving = True
        self.leaver = leaver
        if self.is_staying:
            self.due = now
            self.hub.schedule(self)
        else:
            self._be_gone()

    def receive(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        outcome, ask = outcomes[0], _claim_of(jobs[0])
        if isinstance(outcomes[-1], Listed):
            run_aside(self.hub, swept(self.keys.namespace, outcomes[-1]))
        if self.goodbye is not None:
            if is_lost(outcome) and not self.away.is_out:
                self.due = now
            else:
                self._be_gone()
        elif ask is None:
            self._told(jobs, outcomes, now)
        elif _code_of(outcome) == "NEXUS_ID_TAKEN" and not self._is_ours(jobs[0]):  # this one has a new id by now
            self.ledger.lose(ask)
        else:
            self._received(ask, outcome, now)
        self._reschedule()

    def receive_late(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            ask = _claim_of(job)
            if ask is not None and isinstance(outcome, Answer) and self.goodbye is None:
                self._answered(ask, outcome, now)
                self._reschedule()

    def _told(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """The question's answer, and the claim's where it came along."""
        fact, *rest = outcomes
        ask = _claim_of(jobs[1]) if rest else None
        if isinstance(fact, Failed):
            if rest and isinstance(rest[0], Answer):  # of a budget without our settings
                self.ledger.forget(was_executed=True, now=now, ask=ask)
            self._failed(ask, fact, now)
            return
        news = fact if isinstance(fact, News) else News(self.opening, fact)
        news.opening.tell(news.fact, now)
        # The claim came before the settings where the server knew its script and not theirs: then it is made again.
        if rest and isinstance(rest[0], Answer) and self.opening.lacks_our_rate(rest[0].reason):
            self.ledger.forget(was_executed=True, now=now, ask=ask)
            self._ask_at(now)
        elif ask is not None:
            self._received(ask, rest[0], now)
        else:
            self._ask_at(now)

    def _received(self, ask: Claim, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Answer):
            self._answered(ask, outcome, now)
        else:
            self._failed(ask, outcome, now)

    def _answered(self, ask: Claim, answer: Answer, now: float) -> None:
        self.allowance.reset()
        if self.superseded is not None:
            self.superseded = None
            log.warning("budget %s: this release can read its state again", self.keys.name)
        self.opening.largest_burst = max(self.opening.largest_burst, answer.burst)
        self.needs_keys = False
        flight = self.ledger.flights.of(ask)
        if flight is None:  # given up before its answer came: that says how far it is
            self.ledger.flights.time(self.reach.on_the_way.trip.mean)
        settled = self.ledger.receive(answer, now, ask)
        asker = self.asking.pop(ask.seq, None)
        if asker is not None and asker in self.askers:
            self.askers.remove(asker)
            asker.answer, asker.is_served = answer, True
            settled.append(asker)
        self._wake(settled, now)
        if self.opening.see(answer.birth, answer.reason):
            self.ledger.next_slot = now  # the slot is of a budget without our settings
            self._ask_at(now)
        else:
            self.due = now if self.askers else self.due
            self.opening.warn_of_wait(self.ledger, answer, now)
            if ask.trip and flight is not None:  # the server knew how far we are; no connection was made first
                self.opening.warn_of_distance(min(now - flight.sent, self.ledger.flights.trip), answer)
            self._fail_too_large(answer, now)

    def _fail_too_large(self, answer: Answer, now: float) -> None:
        """What no bucket of a lossless budget holds would wait for ever. Only a ceiling says how far it can grow."""
        if not answer.is_lossless or not answer.budget_rate or self.opening.settings.rate is None:
            return
        most = self.opening.largest_burst
        too_large = [waiter for waiter in self.ledger.callers if waiter.cost > most]
        for waiter in too_large:
            remedy = f"above the burst of {most / MICRO:g}, the most at once of a lossless budget: use a larger `burst`"
            self._fail(waiter, InvalidSetting("cost", waiter.cost / MICRO, remedy), now)
        self._wake(too_large, now)

    def _fail(self, waiter: Waiter, error: NexusError, now: float) -> None:
        for _, part in self._leave_line(waiter, now):
            part.error = copy(error)  # each raises its own: a shared one would collect their tracebacks

    def _failed(self, ask: Claim | None, failed: Failed, now: float) -> None:
        code, fault = failed.code, failed.fault
        if ask is not None and fault is not Fault.NOT_EXECUTED:
            self.ledger.lose(ask)
        if code == "NEXUS_NEEDS_KEYS":
            self.needs_keys = True
            self._ask_at(now)
        elif code == "NEXUS_ID_TAKEN":
            self._rename()
            self._ask_at(now)
        elif code == "NEXUS_STALE" and ask is not None and ask.seq < self.ledger.seq:  # a later one has overtaken it
            self._forget(ask, was_executed=True, now=now)
            self._ask_at(now)
        elif code == "NEXUS_STALE":
            self._forget(None, was_executed=True, now=now)
            self.ledger.begin(self.identity.begin())
            self._ask_at(now)
        elif code == "NEXUS_SCHEMA" and self._degraded_rate(now) > 0:
            self._forget(ask, was_executed=False, now=now)
            self._supersede(failed.error, now)
        elif fault is Fault.PERMANENT:
            self.superseded = None
            self._forget(ask, was_executed=False, now=now)
            self.ledger.take_in(now)  # who has tokens in hand hears of it too
            self.refused, self.refused_until = failed.error, now + REFUSED_FOR
            self._fail_all(self.refused, now)
            self._ask_at(self.refused_until)
        else:
            if fault is Fault.NOT_EXECUTED:
                self._forget(ask, was_executed=False, now=now)
            self.opening.unlist()
            self._ask_at(now + FIRST_BACKOFF)  # beside the hub's, for the one that fails alone
            if self.away.is_out:
                self._serve_alone(now)

    def _supersede(self, error: NexusError, now: float) -> None:
        """Go on by the outage mode: a newer release has written the state, and an older one reads it no more."""
        if self.superseded is None:
            self.superseded = Superseded(str(error), now)
            log.warning("budget %s: %s. This producer goes by its outage mode", self.keys.name, error)
        self.superseded.next_try = now + REFUSED_FOR
        self._ask_at(self.superseded.next_try)
        self._serve_alone(now)

    def _is_ours(self, job: Job) -> bool:
        return isinstance(job, Call) and job.keys[-2] == self.keys.producer(self.id)

    def _forget(self, ask: Claim | None, *, was_executed: bool, now: float) -> None:
        """A claim is given up, and with it the question of who only asked, which is put again."""
        self.ledger.forget(was_executed=was_executed, now=now, ask=ask)
        if ask is None:
            self.asking.clear()
        else:
            self.asking.pop(ask.seq, None)

    def _ask_at(self, time: float) -> None:
        """Claim then, even if a paced hand serves all who wait before that."""
        self.ledger.due = self.due = time

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
        line: list[Waiter] = [*self.ledger.callers, *self.askers]
        self.askers = []
        for waiter in line:
            self._fail(waiter, error, now)
        self._wake(line, now)

    # --- while Redis is away

    def tick(self, now: float) -> None:
        if not self.is_leaving:
            self._serve_alone(now)
        elif self.away.is_out:
            self._be_gone()

    def _serve_alone(self, now: float) -> None:
        """Serve the line by the outage mode; `due` says when the next one may go."""
        if not self.away.is_out:
            return
        settled = self.ledger.serve(now)
        rate = self._degraded_rate(now)
        while (head := self.ledger.head) is not None and self._allow(head, now):
            if head is self.ledger.debt:
                self.ledger.excuse()
                continue
            for _, part in self._leave_line(head, now):
                part.is_served = part.is_degraded = True
            settled.append(head)
        if head is not None and 0 < rate < NEVER:
            self.due = min(self.due, now + max(0.001, self.allowance.seconds_for(head.cost, rate)))
        settled += self._give_up(now)
        for asker in self.askers:
            asker.error = self._unavailable(asker, now)
            settled.append(asker)
        self.askers = []
        self._wake(settled, now)

    def _give_up(self, now: float) -> list[Waiter]:
        """Those who cannot be served while Redis is away: a try at once, and after a while who meets a closed mode."""
        gone: list[Waiter] = []
        for waiter in self.ledger.callers:
            if waiter.whole:
                waiter.denied = max(0.0, min(self.due, self.away.next_try) - now)
            elif any(account._degraded_rate(now) == 0 for account, _ in waiter.parts(self)):
                hopeless = max(self.away.out_since, waiter.since) + UNAVAILABLE_AFTER
                if now >= hopeless:
                    waiter.error = self._unavailable(waiter, now)
                else:
                    self.due = min(self.due, hopeless)
            if waiter.is_settled:
                for _, part in self._leave_line(waiter, now):
                    part.error = waiter.error
                gone.append(waiter)
        return gone

    def _leave_line(self, waiter: Waiter, now: float) -> Sequence[tuple[Account, Waiter]]:
        """Take it out of this line, and of the others that it stands in."""
        parts: Sequence[tuple[Account, Waiter]] = waiter.parts(self)
        for account, part in parts:
            account.ledger.cancel(part, now)
            if account is not self:
                self.hub.touch(account)
        return parts

    def _degraded_rate(self, now: float) -> float:
        """Micro-tokens per second; infinite where the mode is open."""
        mode, answer = self.settings.on_outage, self.ledger.answer
        if answer is not None and answer.is_lossless:
            return 0.0
        if mode == "open":
            return NEVER
        return 0.0 if mode == "closed" else float(self.ledger.share(now))

    def _allow(self, waiter: Waiter, now: float) -> bool:
        """Whether the outage mode, of all budgets that it wants, serves this one; takes it from what they allow."""
        parts = waiter.parts(self)
        if not all(account.allows(part.cost, now) for account, part in parts):
            return False
        for account, part in parts:
            account.allowance.take(part.cost)
            account.ledger.alone += part.cost
        return True

    def allows(self, cost: int, now: float) -> bool:
        """Whether the outage mode has so much to give by now."""
        rate = self._degraded_rate(now) if self.away.is_out else 0.0
        all_of_it = self.ledger.answer.budget_rate / 2 if self.ledger.answer else 0.0
        return self.allowance.covers(cost, rate, all_of_it, max(self.away.out_since, self.ledger.answered), now)

    # --- plumbing

    def _unavailable(self, waiter: Waiter, now: float) -> Unavailable:
        return Unavailable(self.hub.server, self.away.cause, now - waiter.since)

    def _reschedule(self) -> None:
        self.due = min(self.due, self.ledger.due, self.ledger.opens)
        self.hub.schedule(self)

    def _wake(self, settled: list[Waiter], now: float) -> None:
        """Tell who is settled; what changed here may be what others waited for in more lines than this."""
        for waiter in settled:
            waiter.wake()
        self.hub.look_around(now)


def _code_of(outcome: Outcome) -> str:
    return outcome.code if isinstance(outcome, Failed) else ""


def _claim_of(job: Job) -> Claim | None:
    """The claim that a job carries, or None."""
    about = job.about if isinstance(job, Call) else None
    return about if isinstance(about, Claim) else None

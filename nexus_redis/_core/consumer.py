"""A consumer's session on one budget: the plan from its first report to its deregistration. No I/O, no clock.

    live        report, deregister
    _stay       rest until the interval is over or a caller asks, idle or not
    _report     register the budget if need be, look at a source from outside, report

Reports are absolute, so a report that is lost is not sent again: the next one contains everything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from typing import Final

from nexus_redis._core.background import run_in_background
from nexus_redis._core.meter import Meter
from nexus_redis._core.observed_rate import Observed
from nexus_redis._core.registration import Registration, Reply
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.session import Life, PartOfLife, Rest, Send, Session, deregister
from nexus_redis._core.sources import Source
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import Listed, swept
from nexus_redis._protocol.calls import Standing
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import FIRST_BACKOFF, Call, DeferredCall, Failed, Outcome
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.identity import Identity
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis._values.settings import ConsumerSettings
from nexus_redis.errors import LONGEST_LABEL, InvalidSetting, NexusError, Unavailable

SETTLING_IN: Final = 1.0  # seconds after its start in which a consumer may be on its way to say more


class ReportRequest(Waiter):
    """A caller that waits for the next report to be answered. `pause_ms` goes with that report."""

    __slots__ = ("pause_ms", "standing")

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(0, since)
        self.pause_ms = pause_ms
        self.standing: Standing | None = None


class ConsumerSession(Session):
    """One consumer of one budget."""

    def __init__(
        self,
        scheduler: Scheduler,
        keys: BudgetKeys,
        consumer_id: str | None,
        settings: ConsumerSettings,
        registration: Registration,
        source: Source | None = None,
    ) -> None:
        self.scheduler, self.keys, self.settings, self.registration = scheduler, keys, settings, registration
        self.source = source
        self.identity = Identity(consumer_id if source is None else source.id)
        self._warned: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self.meter = Meter(self.settings.capacity, self.scheduler.new_lock())
        self.standing: Standing | None = None
        self.requests: list[ReportRequest] = []
        self.asked: list[ReportRequest] = []  # those that the report in flight is for
        self.observed = Observed(self.settings.capacity) if self.settings.observe else None
        self.seq = 0
        self.started = 0.0
        self.has_started = False  # it reports
        self.is_staying = False  # Redis may know this incarnation
        self.is_leaving = False
        self.leaver: Waiter | None = None

    def after_fork(self) -> None:
        self.identity.after_fork()
        self._begin()

    @property
    def key(self) -> str:
        return self.keys.budget

    @property
    def id(self) -> str:
        """The id in Redis."""
        return self.identity.id

    # --- callers

    def start(self) -> None:
        """Report from now on; at once where the consumer begins to work or to watch."""
        if self.meter.is_unheard or not self.has_started:
            self.has_started = True
            self.wake_at(self.scheduler.clock())

    def ask(self, request: ReportRequest) -> None:
        """Report now. The answer settles the request."""
        self.has_started = True
        self.requests.append(request)
        self.wake_at(request.since)

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        self._take_requests()
        self._fail(error)
        self.is_leaving, self.leaver = True, leaver
        if self.is_staying:
            self.wake_at(now)
        else:
            self._be_gone()

    # --- the plan

    def live(self) -> Life:
        yield from self._stay()
        if self.is_staying and not self.server.is_out:
            call = calls.leave_consumer(self.keys, self.id, self.identity.incarnation)
            yield from deregister(self, call, self.server)
        self._be_gone()

    def _stay(self) -> Life:
        """Report each interval, until the consumer is closed."""
        until = self.scheduler.clock()
        while True:
            can_send = yield Rest(until)
            now = self.scheduler.clock()
            if self.is_leaving:
                return
            until = now + self.settings.interval
            if not can_send:
                self._tell_of_outage(now)
                continue
            self._take_requests()
            again: float = yield from self._report(now)
            until = min(until, again)

    def _report(self, now: float) -> PartOfLife[float]:
        """Register the budget if need be, or report; return when to go on, if that is before the interval is over."""
        first = self.registration.next_call(now)
        if first is not None:
            outcomes = yield Send(self.registration.batch(first, now))
            return self._registered(outcomes)
        if self.source is not None:
            outcomes = yield Send(self.source.look())
            again = self._looked(self.source, outcomes)
            if again is not None:
                return again
            if not (yield Rest(self.scheduler.clock())) or self.is_leaving:
                return self.scheduler.clock()
        call = self._next_report(now)
        if isinstance(call, DeferredCall):
            call = yield call
            if call is None:
                return self.scheduler.clock() if self.is_leaving else NEVER
            if not (yield Rest(self.scheduler.clock())):
                return self.scheduler.clock()
        outcomes = yield Send(self.registration.batch(call, now))
        return self._reported(outcomes)

    def _next_report(self, now: float) -> Call[Standing] | DeferredCall:
        """Return the call of a report. Where it asks a user's code for a queue's depth, another thread makes it."""
        if not self.is_staying:
            self.is_staying, self.started, self.seq = True, now, 0
            self.identity.begin()
        self.seq += 1
        pauses = [request.pause_ms for request in self.asked if request.pause_ms is not None]
        seq, pause_ms = self.seq, pauses[-1] if pauses else None

        def make() -> Call[Standing]:
            measured = self.meter.sample()
            if self.observed is not None:
                measured = self.observed.said(measured, self.scheduler.clock(), self.registration.wanted)
            said: dict[str, float | None] = {
                **measured,
                "uptime_ms": round((self.scheduler.clock() - self.started) * 1e3, 3),
                "interval_ms": self.settings.interval * 1e3,
                "pause_ms": pause_ms,
            }
            missing = self.source.missing[:LONGEST_LABEL] if self.source is not None else ""
            labels = json.dumps({"missing": missing}) if missing else ""
            return calls.report(self.keys, self.id, said, self.identity.incarnation, seq, labels)

        return DeferredCall(make) if self.meter.is_asking else make()

    def _be_gone(self) -> None:
        """End the stay: Redis has forgotten this consumer, or will."""
        self.is_staying = False
        self.scheduler.drop(self)
        leaver, self.leaver = self.leaver, None
        if leaver is not None:
            leaver.is_served = True
            leaver.wake()

    # --- outcomes; each says when to go on, if that is before the interval is over

    def _registered(self, outcomes: Sequence[Outcome]) -> float:
        fact = outcomes[0]
        if isinstance(fact, Failed):
            return self._failed(fact)
        now = self.scheduler.clock()
        reply = fact if isinstance(fact, Reply) else Reply(self.registration, fact)
        reply.registration.on_reply(reply.fact, now)
        self._note_listed(outcomes)
        return now

    def _looked(self, source: Source, outcomes: Sequence[Outcome]) -> float | None:
        """Take the answers to a source's jobs; return None where the report is to be sent now, else when to go on."""
        failed = next((outcome for outcome in outcomes if isinstance(outcome, Failed)), None)
        if failed is not None:
            return self._failed(failed)
        try:
            self.meter.say(source.see(outcomes))
        except InvalidSetting as wrong:  # a value in Redis, which may be valid the next time
            self._warn(wrong)
            self._fail(wrong)
            return NEVER
        return None

    def _reported(self, outcomes: Sequence[Outcome]) -> float:
        answer = outcomes[0]
        if isinstance(answer, Failed):
            return self._failed(answer)
        self._note_listed(outcomes)
        self.standing = answer
        self.meter.accept()
        for request in self.asked:
            request.standing, request.is_served = answer, True
        self._settle()
        is_news = self.registration.sync(answer.birth, answer.reason)
        return self.scheduler.clock() if is_news or self.requests else NEVER

    def _note_listed(self, outcomes: Sequence[Outcome]) -> None:
        if isinstance(outcomes[-1], Listed):
            run_in_background(self.scheduler, swept(self.keys.namespace, outcomes[-1]))

    def _failed(self, failed: Failed) -> float:
        code, now = failed.code, self.scheduler.clock()
        if code == "NEXUS_ID_TAKEN" and self.source is not None:
            self._stand_by()
            return NEVER
        if code == "NEXUS_ID_TAKEN":
            self._rename()
            return now
        if code == "NEXUS_STALE":
            self.is_staying = False
            return now
        if failed.is_permanent:
            self._refused(failed, now)
            return NEVER
        self.registration.unlist()
        again = now + FIRST_BACKOFF if self.asked else NEVER  # a caller that waits for an answer waits for the next
        self._tell_of_outage(now)
        return again

    def _refused(self, failed: Failed, now: float) -> None:
        refusal = failed.error
        if failed.code == "NEXUS_NO_LAW" and not self.meter.says_how_full:
            refusal = InvalidSetting("report", remedy=error_texts.REPORT_TOO_LITTLE)
        if failed.code.startswith("NEXUS_INVALID_"):  # any other refusal ends when the budget changes
            self.meter.refuse()
        if not self.meter.is_bare or now - self.started >= SETTLING_IN:
            self._warn(refusal)
        self._fail(refusal)

    def _stand_by(self) -> None:
        """Leave the source to the other process that reports for it, since two reports would count it twice.

        This consumer goes on when that process is gone.
        """
        self.is_staying = False
        self._settle()
        if not self.identity.has_warned:
            self.identity.has_warned = True
            about = log_fields(budget=self.keys.name, consumer=self.id)
            log.info(log_texts.SOURCE_STANDS_BY, self.keys.name, self.id, extra=about)

    def _rename(self) -> None:
        taken = self.identity.rename()
        if not self.identity.has_warned:
            self.identity.has_warned = True
            about = log_fields(budget=self.keys.name, consumer=self.id, value=taken)
            log.warning(log_texts.CONSUMER_ID_TAKEN, self.keys.name, taken, self.id, extra=about)

    def _warn(self, error: NexusError) -> None:
        text = str(error)
        if text not in self._warned:
            self._warned.add(text)
            about = log_fields(budget=self.keys.name, consumer=self.id, cause=text)
            log.warning(log_texts.REPORT_REFUSED, self.keys.name, self.id, text, extra=about)

    # --- callers that are settled

    def _take_requests(self) -> None:
        self.asked += self.requests
        self.requests = []

    def _tell_of_outage(self, now: float) -> None:
        """Tell the callers that wait for an answer that Redis is away, if it is."""
        if not self.server.is_out:
            return
        self._take_requests()
        for request in self.asked:
            request.error = Unavailable(self.scheduler.address, self.server.cause, now - request.since)
        self._settle()

    def _fail(self, error: NexusError) -> None:
        for request in self.asked:
            request.error = copy(error)
        self._settle()

    def _settle(self) -> None:
        settled, self.asked = self.asked, []
        for request in settled:
            request.wake()

"""Who says what a meter measured: a report each interval, its answer, the goodbye. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from typing import Final

from nexus_redis._core.errand import run_aside
from nexus_redis._core.meter import Meter
from nexus_redis._core.observed_rate import Observed
from nexus_redis._core.registration import News, Opening
from nexus_redis._core.scheduler import Hub, Member
from nexus_redis._core.sources import Source
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import Listed, swept
from nexus_redis._protocol.calls import Configured, Standing
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import FIRST_BACKOFF, Call, DeferredCall, Failed, Job, Outcome, is_lost
from nexus_redis._values.identity import Identity
from nexus_redis._values.log import log
from nexus_redis._values.settings import ConsumerSettings
from nexus_redis.errors import LONGEST_LABEL, InvalidSetting, NexusError, Unavailable

SETTLING_IN: Final = 1.0  # seconds: one that was just entered may be about to say more than that it is there
TOO_LITTLE: Final = (
    "no rate follows from it: say how full (load=, or queue_depth= with queue_limit=) and how fast (capacity=, or a "
    "rate on the budget); or done= with queue_depth=, errors= or latency_ms="
)


class Ticket(Waiter):
    """Who waits for the next report to be answered."""

    __slots__ = ("pause_ms", "standing")

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(0, since)
        self.pause_ms = pause_ms
        self.standing: Standing | None = None


class Reporter(Member):
    """One consumer of one budget: reports each interval from the moment it is entered or used, idle or not."""

    def __init__(
        self,
        hub: Hub,
        keys: BudgetKeys,
        consumer_id: str | None,
        settings: ConsumerSettings,
        opening: Opening,
        source: Source | None = None,
    ) -> None:
        self.hub, self.keys, self.settings, self.opening, self.source = hub, keys, settings, opening, source
        self.identity = Identity(consumer_id if source is None else source.id)
        self._warned: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self.meter = Meter(self.settings.capacity, self.hub.new_lock())
        self.standing: Standing | None = None
        self.tickets: list[Ticket] = []
        self.asked: list[Ticket] = []  # those that the report in flight is for
        self.looking = 0  # answers that are awaited from the source
        self.has_looked = False
        self.observed = Observed(self.settings.capacity) if self.settings.observe else None
        self.seq = 0
        self.started = 0.0
        self.is_staying = False  # Redis may know this incarnation
        self.is_leaving = False
        self.leaver: Waiter | None = None
        self.goodbye: Job | None = None

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

    def start(self) -> None:
        """Report from now on; at once where it begins to work or to watch."""
        if self.meter.is_unheard or (self.due == NEVER and self.scheduled == NEVER):
            self.due = self.hub.clock()
            self.hub.schedule(self)

    def ask(self, ticket: Ticket) -> None:
        """Report now; the ticket is settled by the answer."""
        self.tickets.append(ticket)
        self.due = min(self.due, ticket.since)
        self.hub.schedule(self)

    def jobs(self, now: float) -> Sequence[Job | DeferredCall]:
        self.due = NEVER
        if self.is_leaving:
            return self._say_goodbye()
        self.due = now + self.settings.interval
        self.asked += self.tickets
        self.tickets = []
        self.looking = 0
        question = self.opening.question(now)
        if question is None and self.source is not None and not self.has_looked:
            looks = self.source.look()
            self.looking = len(looks)
            return looks
        return self.opening.batch(question or self._report(now), now)

    def _report(self, now: float) -> Call[Standing] | DeferredCall:
        if not self.is_staying:
            self.is_staying, self.started, self.seq = True, now, 0
            self.identity.begin()
        self.seq += 1
        pauses = [ticket.pause_ms for ticket in self.asked if ticket.pause_ms is not None]
        seq, pause_ms = self.seq, pauses[-1] if pauses else None

        def make() -> Call[Standing]:
            measured = self.meter.sample()
            if self.observed is not None:
                measured = self.observed.said(measured, self.hub.clock(), self.opening.wanted)
            said: dict[str, float | None] = {
                **measured,
                "uptime_ms": round((self.hub.clock() - self.started) * 1e3, 3),
                "interval_ms": self.settings.interval * 1e3,
                "pause_ms": pause_ms,
            }
            missing = self.source.missing[:LONGEST_LABEL] if self.source is not None else ""
            labels = json.dumps({"missing": missing}) if missing else ""
            return calls.report(self.keys, self.id, said, self.identity.incarnation, seq, labels)

        return DeferredCall(make) if self.meter.is_asking else make()

    def receive(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:  # noqa: ARG002  # as every member's
        outcome = outcomes[0]
        if isinstance(outcomes[-1], Listed):
            run_aside(self.hub, swept(self.keys.namespace, outcomes[-1]))
        if self.goodbye is not None:
            if is_lost(outcome) and not self.reach.is_out:
                self.due = now
            else:
                self._be_gone()
        elif self.looking:
            self._looked(outcomes[: self.looking], now)
        elif isinstance(outcome, Standing):
            self.standing, self.has_looked = outcome, False
            self.meter.accept()
            for ticket in self.asked:
                ticket.standing, ticket.is_served = outcome, True
            self._settle_asked()
            if self.opening.see(outcome.birth, outcome.reason) or self.tickets:  # who asked meanwhile
                self.due = now
        elif isinstance(outcome, Configured | News):
            news = outcome if isinstance(outcome, News) else News(self.opening, outcome)
            news.opening.tell(news.fact, now)
            self.due = now
        else:
            self._failed(outcome, now)
        if self.is_leaving and self.goodbye is None:
            self.due = now  # whatever that was about, goodbye is next

    def _looked(self, outcomes: Sequence[Outcome], now: float) -> None:
        self.looking = 0
        failed = next((outcome for outcome in outcomes if isinstance(outcome, Failed)), None)
        if failed is not None:
            self._failed(failed, now)
            return
        assert self.source is not None
        try:
            self.meter.say(self.source.see(outcomes))
        except InvalidSetting as wrong:  # what lies in Redis: it may be right the next time
            self._warn(wrong)
            self._fail(self.asked, wrong)
            return
        self.has_looked = True
        self.due = now

    def _failed(self, failed: Failed, now: float) -> None:
        code = failed.code
        self.has_looked = False
        if code == "NEXUS_ID_TAKEN" and self.source is not None:
            self._stand_by()
        elif code == "NEXUS_ID_TAKEN":
            self._rename()
            self.due = now
        elif code == "NEXUS_STALE":
            self.is_staying = False
            self.due = now
        elif failed.is_permanent:
            refusal = failed.error
            if code == "NEXUS_NO_LAW" and not self.meter.says_how_full:
                refusal = InvalidSetting("report", remedy=TOO_LITTLE)
            if code and code.startswith("NEXUS_INVALID_"):  # else it is the budget that may change
                self.meter.refuse()
            if not self.meter.is_bare or now - self.started >= SETTLING_IN:
                self._warn(refusal)
            self._fail(self.asked, refusal)
        else:
            # Reports are absolute: the next one says it all again. Who waits for an answer waits for that one.
            self.opening.unlist()
            if self.asked:
                self.due = now + FIRST_BACKOFF
            self.tick(now)

    def tick(self, now: float) -> None:
        if not self.reach.is_out:
            return
        if self.is_leaving:
            self._be_gone()
            return
        self.due = min(self.due, now + self.settings.interval)
        for ticket in (*self.asked, *self.tickets):
            ticket.error = Unavailable(self.hub.server, self.reach.cause, now - ticket.since)
        self.asked += self.tickets
        self.tickets = []
        self._settle_asked()

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        self.asked += self.tickets
        self.tickets = []
        self._fail(self.asked, error)
        self.is_leaving, self.leaver = True, leaver
        if self.is_staying:
            self.due = now
            self.hub.schedule(self)
        else:
            self._be_gone()

    def _say_goodbye(self) -> list[Job]:
        if self.is_staying and self.goodbye is None:
            self.goodbye = calls.leave_consumer(self.keys, self.id, self.identity.incarnation)
        if self.goodbye is None or self.reach.is_out:
            self._be_gone()
            return []
        return [self.goodbye]

    def _be_gone(self) -> None:
        self.is_staying, self.goodbye = False, None
        self.hub.drop(self)
        leaver, self.leaver = self.leaver, None
        if leaver is not None:
            leaver.is_served = True
            leaver.wake()

    def _fail(self, tickets: list[Ticket], error: NexusError) -> None:
        for ticket in tickets:
            ticket.error = copy(error)
        self._settle_asked()

    def _settle_asked(self) -> None:
        settled, self.asked = self.asked, []
        for ticket in settled:
            ticket.wake()

    def _stand_by(self) -> None:
        """Somebody else reports for this source. Two would count it twice; this one goes on when that one is gone."""
        self.is_staying = False
        self._settle_asked()
        if not self.identity.has_warned:
            self.identity.has_warned = True
            log.info("budget %s: %s is reported by another process; this one stands by", self.keys.name, self.id)

    def _rename(self) -> None:
        taken = self.identity.rename()
        if not self.identity.has_warned:
            self.identity.has_warned = True
            log.warning("budget %s: consumer id %s is in use by a live process; this one goes on as %s",
                        self.keys.name, taken, self.id)  # fmt: skip

    def _warn(self, error: NexusError) -> None:
        text = str(error)
        if text not in self._warned:
            self._warned.add(text)
            log.warning("budget %s: the report of consumer %s was refused: %s", self.keys.name, self.id, text)

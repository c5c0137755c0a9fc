"""A hub's loop stepped by hand: the test is clock, network and server. No threads, no sleeping, no Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nexus_redis._core.loop import deliver, run_until_pause, serve
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.registration import Registration
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.calls import Answer, Claim, Configured
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Command, Job, Outcome
from nexus_redis._redis.faults import failed
from nexus_redis._values.parse import MICRO
from nexus_redis._values.settings import BudgetSettings, ProducerSettings

KEYS = BudgetKeys("test", "stripe")
START = 1000.0


class Line(Waiter):
    """A waiter that counts how often it was woken."""

    __slots__ = ("woken",)

    def __init__(self, cost: float, since: float, *, whole: bool = False) -> None:
        super().__init__(round(cost * MICRO), since, whole=whole)
        self.woken = 0
        self.wake = self._count

    def _count(self) -> None:
        self.woken += 1


def answered(granted: float = 0, retry_after: float = 0.0, **fields: Any) -> Answer:
    """What a claim gets: `granted` tokens, of a budget of 100/s."""
    usual: dict[str, Any] = {
        "lease": 0.5, "refresh": 0.1, "recommended_rate": 100 * MICRO, "fallback_rate": 50 * MICRO,
        "budget_rate": 100 * MICRO, "level": 0, "load": 0.0, "granted_total": 0, "birth": "1", "reason": "rate",
        "is_lossless": False, "burst": 26 * MICRO, "wait": retry_after,
    }  # fmt: skip
    return Answer(granted=round(granted * MICRO), retry_after=retry_after, **(usual | fields))


def asked(job: Job) -> Claim:
    """The claim that a job carries: an array of its fields in order, after the instant."""
    assert isinstance(job, Call)
    assert job.script.name == "claim"
    return Claim(*json.loads(str(job.args[1])))


def kind_of(job: Job) -> str:
    """The script's name, or the command's."""
    return job.script.name if isinstance(job, Call) else str(job.args[0])


class Stepper:
    """`advance` lets time pass; `server` answers each job; `sent` is what it was asked, as (time, job)."""

    def __init__(self) -> None:
        self.now = START
        self.sent: list[tuple[float, Job]] = []
        self.server: Callable[[Job], Outcome] = grants()
        self.round_trip = 0.0  # that the loop waits for
        self.delay: float | None = None  # until the outcomes are delivered, while the loop goes on
        self._mail: list[tuple[float, Exchange, list[Outcome]]] = []
        self.wakes = 0
        self.scheduler = Scheduler(lambda: self.now, self._wake, "redis.example:6379")
        self._plan = serve(self.scheduler)
        self.is_over = False

    def _wake(self) -> None:
        self.wakes += 1

    def run(self) -> float:
        """Until the loop has nothing to do; how long it wants to pause."""
        pause = run_until_pause(self._plan, self._send)
        self.is_over = pause is None
        return NEVER if pause is None else pause.seconds

    def _send(self, exchange: Exchange) -> list[Outcome] | None:
        self.sent += [(self.now, job) for job in exchange.jobs]
        outcomes: list[Outcome] = [classified(self.server(job)) for job in exchange.jobs]
        if self.delay is None:
            self.now += self.round_trip
            return outcomes
        self._mail.append((self.now + self.delay, exchange, outcomes))
        return None

    def advance(self, seconds: float) -> None:
        """Let so much time pass, the loop working all the while."""
        until = self.now + seconds
        while True:
            next_at = self.now + self.run()
            comes_at = min((at for at, _, _ in self._mail), default=NEVER)
            if self.is_over or min(next_at, comes_at) > until:
                break
            self.now = max(self.now, min(next_at, comes_at))
            self._deliver()
        self.now = max(self.now, until)

    def _deliver(self) -> None:
        for letter in [each for each in self._mail if each[0] <= self.now]:
            self._mail.remove(letter)
            for _ in deliver(self.scheduler, letter[1], letter[2]):
                pass

    def kinds(self) -> list[str]:
        """What was sent, by name."""
        return [kind_of(job) for _, job in self.sent]

    def times(self) -> list[float]:
        """When it was sent."""
        return [at for at, _ in self.sent]

    def claims(self) -> list[Claim]:
        """The claims that were sent."""
        return [asked(job) for _, job in self.sent if kind_of(job) == "claim"]


def grants(
    claim: Callable[[Claim], Outcome] | Outcome = None, **others: Outcome | Callable[[], Outcome]
) -> Callable[[Job], Outcome]:
    """A server that answers claims with `claim` (all that is wanted, if None), other scripts with what is given."""

    def serve(job: Job) -> Outcome:
        name = kind_of(job)
        if name == "claim":
            ask = asked(job)
            if claim is None:
                return answered(ask.tokens / MICRO)
            return claim(ask) if callable(claim) else claim
        if name in others:
            outcome = others[name]
            return outcome() if callable(outcome) else outcome
        if name == "configure":
            return Configured(100.0, 0, "rate", "1", (), ())
        return 0 if isinstance(job, Command) or name == "leave" else None

    return serve


def classified(outcome: Outcome) -> Outcome:
    """Turn an exception into what the core sees of it."""
    return failed(outcome) if isinstance(outcome, Exception) else outcome


def fails(error: Exception) -> Callable[[Job], Outcome]:
    """A server, or a way to it, that answers everything with an error."""
    return lambda _job: error


def producer(stepper: Stepper, id: str | None = "p", **settings: Any) -> ProducerSession:
    """An account on the hub, of a budget that code gives `budget` settings."""
    budget = settings.pop("budget", {})
    opening = settings.pop("opening", None) or Registration(KEYS, BudgetSettings.of(**budget))
    return ProducerSession(stepper.scheduler, KEYS, id, ProducerSettings.of(**settings), opening)


def join(account: ProducerSession, cost: float = 1, *, whole: bool = False) -> Line:
    """Somebody acquires: from the hand or in line."""
    now = account.scheduler.clock()
    line = Line(cost, now, whole=whole)
    if account.spend(line.cost, now):
        line.is_served = True
    else:
        account.wait(line)
    return line


def is_balanced(account: ProducerSession) -> bool:
    """granted = used + returned + burned + held, in micro-tokens."""
    book = account.ledger
    return book.granted == book.used + book.returned + book.burned + book.held

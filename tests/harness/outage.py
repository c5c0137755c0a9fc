"""Processes that lose Redis one by one, in virtual time: the real scripts, ledgers, accounts and serve loops.

Each process has a hub of its own and one account. Its link is `up`, `refused` (each call fails at once), a `hole`
(each call fails after the call timeout, and nothing arrives) or `deaf` (each call is executed, and its reply never
comes). What is admitted is noted with the instant and whether it was degraded.

    fleet = Outages(client, rate=500)
    for _ in range(6): fleet.add()
    fleet.advance(5)
    fleet.processes[0].link = "hole"
"""

from __future__ import annotations

import math
import random

import redis
from redis import exceptions

from nexus_redis._core.loop import Loop, deliver, run_until_pause, serve
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.registration import Registration
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.waiter import Waiter
from nexus_redis._protocol.plans import Call, Job, Outcome
from nexus_redis._redis.faults import failed
from nexus_redis._values.parse import MICRO
from nexus_redis._values.settings import BudgetSettings, ProducerSettings
from tests.harness.timeline import Timeline

CALL_TIMEOUT = 0.25
SPREAD = 0.02  # seconds over which the processes begin


class Turn(Waiter):
    """Somebody who waits in a process, and says when that is over."""

    __slots__ = ("process",)

    def __init__(self, process: Process, cost: int) -> None:
        super().__init__(cost, process.fleet.now)
        self.process = process
        self.wake = lambda: process.settled(self)


class Process:
    """One process: greedy (it waits for the next token as soon as it has one), or with so many callers a second."""

    def __init__(self, fleet: Outages, name: str, demand: float, trip: float) -> None:
        self.fleet, self.demand, self.trip, self.link = fleet, demand, trip, "up"
        self.scheduler = Scheduler(lambda: fleet.now, self._wake, "redis.example:6379")
        self.session = ProducerSession(
            self.scheduler, fleet.keys, name, ProducerSettings.of(), Registration(fleet.keys, BudgetSettings.of())
        )
        self.plan: Loop = serve(self.scheduler)
        self.is_away, self.woken_at, self.has_turn = False, math.inf, False
        self.alone = self.calls = 0
        fleet.later(fleet.now, self._step)

    # --- the loop

    def _wake(self) -> None:
        if not self.is_away:
            self._look_at(self.fleet.now)

    def _look_at(self, when: float) -> None:
        self.woken_at = when
        if when < math.inf:
            self.fleet.later(when, self._awake, when)

    def _awake(self, when: float) -> None:
        if when == self.woken_at and not self.is_away:
            self._step()

    def _step(self) -> None:
        self.is_away, self.woken_at = True, math.inf  # whoever wakes it now would step it from within
        pause = run_until_pause(self.plan, self._send)
        self.is_away = False
        if pause is not None:
            self._look_at(self.fleet.now + pause.seconds)

    def _send(self, exchange: Exchange) -> None:
        """Carry a batch; the loop goes on meanwhile."""
        self.calls += 1
        jobs = exchange.jobs
        if self.link == "refused":
            self._post(0.0, exchange, [failed(exceptions.ConnectionError("refused"))] * len(jobs))
        elif self.link == "hole":
            self._post(CALL_TIMEOUT, exchange, [failed(exceptions.TimeoutError("hole"))] * len(jobs))
        else:
            self.fleet.later(self.fleet.now + self.trip / 2, self._arrive, exchange)

    def _arrive(self, exchange: Exchange) -> None:
        outcomes = [self.fleet.serve(job) for job in exchange.jobs]
        if self.link == "up":
            self._post(self.trip / 2, exchange, outcomes)
        else:
            lost: list[Outcome] = [failed(exceptions.TimeoutError("deaf"))] * len(outcomes)
            self._post(CALL_TIMEOUT, exchange, lost)

    def _post(self, seconds: float, exchange: Exchange, outcomes: list[Outcome]) -> None:
        self.fleet.later(self.fleet.now + seconds, self._deliver, (exchange, outcomes))

    def _deliver(self, letter: tuple[Exchange, list[Outcome]]) -> None:
        self.is_away = True
        for _ in deliver(self.scheduler, *letter):
            pass
        self._step()

    # --- callers

    def want(self) -> None:
        """A greedy one: spends what is in hand, and waits for more."""
        account, now = self.session, self.fleet.now
        while account.ledger.held >= MICRO and account.spend(MICRO, now):
            self.fleet.note(1, is_degraded=False)
        if not self.has_turn:
            self.has_turn = True
            account.wait(Turn(self, MICRO))

    def call(self) -> None:
        """One of many who come by chance."""
        if self.session.spend(MICRO, self.fleet.now):
            self.fleet.note(1, is_degraded=False)
        else:
            self.session.wait(Turn(self, MICRO))

    def settled(self, turn: Turn) -> None:
        if turn.is_served:
            self.fleet.note(turn.cost / MICRO, is_degraded=turn.is_degraded)
            self.alone += turn.is_degraded
        if self.demand == math.inf:
            self.has_turn = False
            self.fleet.later(self.fleet.now + 1e-6, self.want)


class Outages(Timeline):
    """A budget of `rate` tokens/s on the server behind `client`, and processes that reach it by links of their own."""

    def __init__(self, client: redis.Redis, rate: float, *, seed: int = 1) -> None:
        super().__init__(client, "outage")
        self.rate, self.random = rate, random.Random(seed)
        self.processes: list[Process] = []
        self.log: list[tuple[float, float]] = []
        self.alone: list[tuple[float, float]] = []
        self.configure(rate=rate)

    def serve(self, job: Job) -> Outcome:
        """What the server answers."""
        if not isinstance(job, Call):  # the list of budgets
            return 0
        try:
            return self.run(Call(job.script, job.keys, (self.at_us, *job.args[1:]), job.decode))
        except exceptions.ResponseError as error:
            return error

    def add(self, demand: float = math.inf, trip: float = 0.001) -> Process:
        """A process: greedy, or one that `demand` callers a second come to by chance."""
        process = Process(self, f"p{len(self.processes)}", demand, trip)
        self.processes.append(process)
        begin = self.now + self.random.random() * SPREAD
        if demand == math.inf:
            self.later(begin, process.want)
        else:

            def come() -> None:
                process.call()
                self.later(self.now + self.random.expovariate(demand), come)

            self.later(begin + self.random.expovariate(demand), come)
        return process

    def note(self, tokens: float, *, is_degraded: bool) -> None:
        """So much was admitted now."""
        self.log.append((self.now, tokens))
        if is_degraded:
            self.alone.append((self.now, tokens))

    def admitted(self, start: float, end: float) -> float:
        """Tokens from `start` to `end`, degraded or not."""
        return sum(tokens for at, tokens in self.log if start <= at < end)

    def promised(self) -> float:
        """The sum of what all of them could spend without Redis now, in tokens a second."""
        return sum(process.session.ledger.share(self.now) for process in self.processes) / MICRO

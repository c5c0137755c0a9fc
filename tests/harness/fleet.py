"""A fleet in virtual time: the real scripts on a real server, the real client core, no threads and no sleeping.

Each producer is a `Ledger` and a workload; each claim travels half a round trip to the server, which is told the
instant (`at_us`), and half back. A run of a minute takes seconds and is the same each time.

    fleet = Fleet(client, rate=120)
    for demand in (1000, 50, 10): fleet.add(demand)
    fleet.measure(5, 65).use      # 1.0
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import redis

from nexus_redis._core.ledger import Ledger
from nexus_redis._core.waiter import Waiter
from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import LEASE
from nexus_redis._values.parse import MICRO
from tests.harness.timeline import Timeline
from tests.models.fair_share import fair_by_class

GREEDY = math.inf
BURST = 0.25  # the default, in seconds of the rate
Log = list[tuple[float, float]]


class Producer:
    """A ledger, a wire and a workload of `demand` tokens/s in units of `unit` tokens."""

    def __init__(self, fleet: Fleet, name: str, demand: float, unit: float, *, weight: float = 1.0,
                 priority: str = "normal", rtt: float = 0.001, late: float = 0.0,
                 smooth: bool = False) -> None:  # fmt: skip
        self.fleet, self.name, self.demand = fleet, name, demand
        self.unit = round(unit * MICRO)
        self.ledger = Ledger(fleet.now, weight=weight, priority=priority, incarnation=name, smooth=smooth)
        self.weight, self.priority, self.rtt, self.late = weight, priority, rtt, late
        self.is_delayed = self.is_dead = False
        self.is_on = True
        self.timer = math.inf
        self.arrived = 0.0
        self.used: Log = []
        self.calls = self.served = 0
        self.worst_wait = 0.0
        self.on_serve: Callable[[int], None] | None = None

    def arrive(self, units: int) -> None:
        """So many units are asked for at once: what is in hand goes, the rest waits in line."""
        ledger, now = self.ledger, self.fleet.now
        self.arrived += units * self.unit / MICRO
        ledger.expire(now)
        at_once = 0 if ledger.waiters else min(units, ledger.leases.total // self.unit)
        if at_once and ledger.spend(at_once * self.unit, now):
            self._note(at_once)
        for _ in range(units - at_once):
            ledger.demand.attempts += self.unit
            ledger.wait(Waiter(self.unit, now))
        ledger.demand.unit = self.unit
        self._schedule()
        if self.on_serve and at_once:
            self.on_serve(at_once)

    def loop(self) -> None:
        """`while True: acquire(unit)`: spends all that is in hand, then waits."""
        ledger, now = self.ledger, self.fleet.now
        while not self.is_dead and not ledger.waiters:
            ledger.expire(now)
            units = 1 if ledger.pace else max(1, ledger.leases.total // self.unit)
            if ledger.spend(units * self.unit, now):
                self.arrived += units * self.unit / MICRO
                self._note(units)
                if ledger.pace:
                    continue
                ledger.demand.attempts += self.unit  # the one that finds nothing
            ledger.demand.unit = self.unit
            self.arrived += self.unit / MICRO
            ledger.wait(Waiter(self.unit, now))
            self._settle(ledger.serve(now))
        self._schedule()

    def die(self) -> None:
        """SIGKILL: nothing is handed back."""
        self.is_dead = True

    def _note(self, units: int) -> None:
        tokens = units * self.unit / MICRO
        self.used.append((self.fleet.now, tokens))
        self.fleet.used.append((self.fleet.now, tokens))
        self.served += units

    def _schedule(self) -> None:
        due = min(self.ledger.due, self.ledger.opens)
        if due < self.timer - 1e-9:
            self.timer = due
            self.fleet.later(due, self._tick, due)

    def _tick(self, due: float) -> None:
        if due != self.timer or self.is_dead:
            return
        now, self.timer = self.fleet.now, math.inf
        if self.ledger.opens <= now:
            self._settle(self.ledger.serve(now))
            if self.demand == GREEDY:
                self.loop()
        is_waiting = self.ledger.in_flight is not None and not self.ledger.is_far
        if is_waiting or now < self.ledger.due:
            self._schedule()
            return
        if self.late and not self.is_delayed:
            self.is_delayed = True
            self.timer = now + self.fleet.random.random() * self.late
            self.fleet.later(self.timer, self._tick, self.timer)
            return
        self.is_delayed = False
        ask = self.ledger.claim(now)
        if ask is None:
            self._schedule()
            return
        self.calls += 1
        self.fleet.later(now + self.rtt / 2, self._deliver, ask)
        if self.ledger.is_far:
            self._schedule()

    def _deliver(self, ask: calls.Claim) -> None:
        answer = self.fleet.claim_of(self.name, ask)
        self.fleet.later(self.fleet.now + self.rtt / 2, self._receive, answer, ask)

    def _receive(self, answer: calls.Answer, ask: calls.Claim) -> None:
        if self.is_dead:
            return
        now = self.fleet.now
        settled = self.ledger.receive(answer, now, ask)
        self._settle(settled)
        if self.demand == GREEDY:
            self.loop()
        elif self.on_serve and settled:
            self.on_serve(len(settled))
        self._schedule()

    def _settle(self, settled: list[Waiter]) -> None:
        for waiter in settled:
            if waiter.is_served:
                self._note(1)
                if self.fleet.now > self.fleet.warm:
                    self.worst_wait = max(self.worst_wait, self.fleet.now - waiter.since)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the table."""

    use: float
    error: float
    least: float
    worst_1s: float
    calls_per_grant: float
    worst_wait: float
    over_g1: float
    over_g2: float
    got: dict[str, float]


class Fleet(Timeline):
    """A budget of `rate` tokens/s on the server behind `client`, from virtual time 0 on."""

    def __init__(
        self, client: redis.Redis, rate: float, *, burst: float = 0.25, seed: int = 1, name: str = "fleet"
    ) -> None:
        super().__init__(client, name)
        self.burst, self.warm = burst, 0.0
        self.random = random.Random(seed)
        self.producers: list[Producer] = []
        self.used: Log = []
        self.grants: Log = []
        self.rates: Log = []
        self.set_rate(rate)

    # --- the server

    def set_rate(self, rate: float) -> None:
        """Another ceiling, from now on."""
        self.configure(rate=rate, burst=None if self.burst == BURST else self.burst)
        self.rates.append((self.now, rate))

    def claim_of(self, producer: str, ask: calls.Claim) -> calls.Answer:
        """One claim, with what it moved noted for G1."""
        before = self.tokens_by_now() if ask.unused else 0
        answer = super().claim_of(producer, ask)
        credited = self.tokens - before + answer.granted if ask.unused else 0
        if answer.granted or credited:
            at = round(self.now * MICRO) / MICRO  # as the server was told it: half a microsecond is many micro-tokens
            self.grants.append((at, (answer.granted - credited) / MICRO))
        return answer

    def tokens_by_now(self) -> int:
        """The bucket, with what it has earned since its last call."""
        (at_us, rest), depth = self.numbers("bucket")[1:3], self.numbers("terms")[1]
        rate = round(self.rates[-1][1] * MICRO) - self.reserved
        by_now: int = min(depth, self.tokens + (rate * (self.at_us - at_us) + rest) // MICRO)
        return by_now

    # --- workloads

    def add(self, demand: float = GREEDY, kind: str = "steady", unit: float = 1.0, start: float | None = None,
            name: str | None = None, **settings: Any) -> Producer:  # fmt: skip
        """A producer that wants `demand` tokens/s: steady, poisson, onoff (four times that a quarter of the time)."""
        producer = Producer(self, name or f"p{len(self.producers)}", demand, unit, **settings)
        self.producers.append(producer)
        begin = self.random.random() * 0.1 if start is None else start
        if demand == GREEDY:
            self.later(begin, producer.loop)
        elif kind == "poisson":
            self._poisson(producer, demand / unit, begin)
        else:
            self._steady(producer, demand / unit, begin, bursts=kind == "onoff")
        return producer

    def _steady(self, producer: Producer, rate: float, begin: float, *, bursts: bool) -> None:
        rate *= 4 if bursts else 1
        step = 1 / rate if rate <= 60 else 0.01
        owed = 0.0

        def arrive() -> None:
            nonlocal owed
            if producer.is_dead:
                return
            owed += rate * step
            units = math.floor(owed + 1e-9)
            owed -= units
            if units and producer.is_on:
                producer.arrive(units)
            self.later(self.now + step, arrive)

        self.later(begin, arrive)
        if bursts:
            producer.is_on = False

            def flip() -> None:
                producer.is_on = not producer.is_on
                self.later(self.now + self.random.expovariate(2 if producer.is_on else 2 / 3), flip)

            self.later(begin, flip)

    def _poisson(self, producer: Producer, rate: float, begin: float) -> None:
        def arrive() -> None:
            if not producer.is_dead:
                producer.arrive(1)
                self.later(self.now + self.random.expovariate(rate), arrive)

        self.later(begin + self.random.expovariate(rate), arrive)

    # --- measuring

    def measure(self, start: float, end: float) -> Measured:
        """Run to `end`; the figures are of the time from `start` on."""
        self.warm = start
        before: dict[str, tuple[float, int, int]] = {}
        self.later(start, lambda: before.update({p.name: (p.arrived, p.calls, p.served) for p in self.producers}))
        self.advance(end)
        span = end - start
        live = [p for p in self.producers if not p.is_dead]
        planned = integral(self.rates)
        budget = planned(end) - planned(start)
        depth = 1 + self.burst * max(rate for _, rate in self.rates)
        got = [sum(x for t, x in p.used if start <= t < end) / span for p in live]
        was = [before.get(p.name, (0.0, 0, 0)) for p in live]
        wanted = [(p.arrived - w[0]) / span if p.demand < GREEDY else 1e18 for p, w in zip(live, was, strict=True)]
        due = fair_by_class(budget / span, [(d, p.weight, p.priority) for d, p in zip(wanted, live, strict=True)])
        made = sum(p.calls - w[1] for p, w in zip(live, was, strict=True))
        served = sum(p.served - w[2] for p, w in zip(live, was, strict=True))
        pairs = [(g, a, p.unit / MICRO) for g, a, p in zip(got, due, live, strict=True) if a > 0]
        return Measured(
            use=sum(got) * span / min(budget, sum(due) * span),
            error=max(max(0.0, abs(g - a) - unit / span) / a for g, a, unit in pairs),
            least=min(g / a for g, a, _ in pairs),
            worst_1s=fullest_window(self.grants, 1.0, start, end) / (budget / span),
            calls_per_grant=made / max(1, served),
            worst_wait=max(p.worst_wait for p in live),
            over_g1=excess(self.grants, planned, 0.0, depth) / depth,
            over_g2=excess(sorted(self.used), planned, LEASE, depth) / depth,
            got={p.name: g for p, g in zip(live, got, strict=True)},
        )


# --- measuring logs of (time, tokens)


def integral(rates: Log) -> Callable[[float], float]:
    """Tokens that rates [(from, rate)] make until t."""
    times = [t for t, _ in rates]
    sums = [0.0]
    for (a, rate), (b, _) in itertools.pairwise(rates):
        sums.append(sums[-1] + rate * (b - a))

    def until(t: float) -> float:
        if t < times[0]:
            return 0.0
        k = bisect.bisect_right(times, t) - 1
        return sums[k] + rates[k][1] * (t - times[k])

    return until


def excess(log: Iterable[tuple[float, float]], planned: Callable[[float], float], extra: float, depth: float) -> float:
    """The most that any window of any length holds above `depth` + the integral over it and `extra` seconds. O(n)."""
    lowest, total, worst = math.inf, 0.0, -math.inf
    for t, x in log:
        lowest = min(lowest, total - planned(t - extra))
        total += x
        worst = max(worst, total - planned(t) - lowest)
    return worst - depth


def fullest_window(log: Log, width: float, start: float, end: float) -> float:
    """The most in any window of this width."""
    inside = [(t, x) for t, x in log if start <= t < end]
    total = best = 0.0
    first = 0
    for t, x in inside:
        total += x
        while inside[first][0] <= t - width:
            total -= inside[first][1]
            first += 1
        best = max(best, total)
    return best

"""A service in virtual time, request by request: what `aimd` sees of it, and what its callers get.

    callers --token--> [wire] --> service --> [meter] --report, each 250 ms, a part of them lost--> law --> rate

The plant (`tests/harness/plant.py`) moves work in lots, for queues that are seen. Here each request has a duration of
its own, so that latency has a distribution. Half of the loop delay is in the wire, half on the way of the report.
Several callers share the sum of their rates evenly, as the budget does with `combine="sum"`. With `observe` each of
them is an observer, as processes with `report=True` are.

    python -m tests.harness.service            the table of docs/laws.md; with --write, into it
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from nexus_redis._core.meter import Meter, Outcome
from nexus_redis._core.observed_rate import Observed
from tests.harness.law_tables import show
from tests.models.laws import Answer, Referee, Report, Setting

INTERVAL, TICK, LOST_REPORTS = 0.25, 0.01, 0.05
OWN_DELAY = 0.19  # what ticks and the report's interval add to a loop without any wire
REFUSAL = 0.005  # seconds until a refused request is answered

Curve = Callable[[float], float]
Done = Callable[[bool], None]
Duration = Callable[[random.Random, float], float]  # by chance and time


class Law(Protocol):
    def evaluate(
        self, set_law: str | None, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting
    ) -> Answer | None: ...


def about(mean: float) -> Duration:
    """Exponential: most are shorter, a few much longer."""
    return lambda chance, _: chance.expovariate(1 / mean)


def stepped(before: float, after: float, at: float, until: float = math.inf) -> Curve:
    return lambda t: after if at <= t < until else before


class Service(Protocol):
    def start(self, world: World, done: Done) -> None:
        """A request has arrived; `done` is called with its outcome."""


class Free:
    """Takes any number of requests at once; a part of them fails for itself."""

    def __init__(self, duration: Duration, failing: float = 0.0) -> None:
        self.duration, self.failing = duration, failing

    def start(self, world: World, done: Done) -> None:
        is_done = world.chance.random() >= self.failing
        world.at(world.t + self.duration(world.chance, world.t), partial(done, is_done))


class Mix:
    """A part of the requests goes to `long`, which may change over time."""

    def __init__(self, short: Service, long: Service, part: Curve | float) -> None:
        self.short, self.long = short, long
        self.part = part if callable(part) else lambda _, part=part: part

    def start(self, world: World, done: Done) -> None:
        (self.long if world.chance.random() < self.part(world.t) else self.short).start(world, done)


class Outage:
    """A service that is gone from `start` to `end`: all requests fail."""

    def __init__(self, service: Service, start: float, end: float) -> None:
        self.service, self.begins, self.ends = service, start, end

    def start(self, world: World, done: Done) -> None:
        if self.begins <= world.t < self.ends:
            world.at(world.t + REFUSAL, partial(done, False))
        else:
            self.service.start(world, done)


class Limiter:
    """Answers 429 beyond `limit(t)` requests per second: a token bucket of a few, and of `burst_s` seconds."""

    def __init__(self, limit: Curve, burst_s: float = 0.2, duration: Duration | None = None) -> None:
        self.limit, self.burst_s, self.duration = limit, burst_s, duration or about(0.05)
        self.tokens, self.filled_at = 1.0, 0.0

    def start(self, world: World, done: Done) -> None:
        limit = self.limit(world.t)
        self.tokens = min(4 + self.burst_s * limit, self.tokens + (world.t - self.filled_at) * limit)
        self.filled_at = world.t
        is_allowed = self.tokens >= 1
        self.tokens -= is_allowed
        world.at(world.t + (self.duration(world.chance, world.t) if is_allowed else REFUSAL), partial(done, is_allowed))


class Queue:
    """So many workers and a queue without end, first come first served. `speed(t)` makes all work faster or slower."""

    def __init__(self, workers: int, duration: Duration, speed: Curve = lambda _: 1.0) -> None:
        self.workers, self.duration, self.speed = workers, duration, speed
        self.waiting: deque[Done] = deque()
        self.busy = 0

    def start(self, world: World, done: Done) -> None:
        self.waiting.append(done)
        self.work(world)

    def work(self, world: World) -> None:
        while self.waiting and self.busy < self.workers:
            done = self.waiting.popleft()
            self.busy += 1
            world.at(
                world.t + self.duration(world.chance, world.t) / self.speed(world.t), partial(self.end, world, done)
            )

    def end(self, world: World, done: Done) -> None:
        self.busy -= 1
        done(True)
        self.work(world)


class Shared:
    """Cores that all requests share evenly: each takes the longer, the more there are."""

    def __init__(self, cores: int, duration: Duration, speed: Curve = lambda _: 1.0) -> None:
        self.cores, self.duration, self.speed = cores, duration, speed
        self.heap: list[tuple[float, int, Done]] = []
        self.served, self.looked_at, self.turn = 0.0, 0.0, 0  # seconds of service that each has had

    def advance(self, world: World) -> None:
        self.served += (world.t - self.looked_at) * min(1.0, self.cores / max(1, len(self.heap)))
        self.looked_at = world.t

    def start(self, world: World, done: Done) -> None:
        self.advance(world)
        world.scheduled += 1
        work = self.duration(world.chance, world.t) / self.speed(world.t)
        heapq.heappush(self.heap, (self.served + work, world.scheduled, done))
        self.plan(world)

    def plan(self, world: World) -> None:
        self.turn += 1
        if self.heap:
            left = max(0.0, self.heap[0][0] - self.served) / min(1.0, self.cores / len(self.heap))
            world.at(world.t + left, partial(self.look, world, self.turn))

    def look(self, world: World, turn: int) -> None:
        if turn != self.turn:
            return
        self.advance(world)
        while self.heap and self.heap[0][0] <= self.served + 1e-9:
            heapq.heappop(self.heap)[2](True)
        self.plan(world)


class Ended(NamedTuple):
    t: float
    is_done: bool
    seconds: float


class Caller:
    """A process that sends requests and reports how they go."""

    def __init__(self, law: Law, demand: Curve | None, observed: Observed | None) -> None:
        self.law, self.demand, self.observed = law, demand, observed
        self.meter = Meter(None)
        self.rate, self.waiting = 10.0, 0.0
        self.ended: list[Ended] = []
        self.was: tuple[Report, float] | None = None


class World:
    """One run. `demand` is the requests per second that each caller wants to send, without end if it is None."""

    def __init__(
        self,
        service: Service,
        *laws: Law,
        seconds: float = 60.0,
        seed: int = 1,
        delay: float = 0.5,
        demand: Curve | float | None = None,
        demands: list[Curve | None] | None = None,
        latency_target_ms: float | None = None,
        has_percentiles: bool = True,
        capacity: float | None = None,  # that each caller reports
        observe: bool = False,
        patience: float = math.inf,  # seconds after which a caller gives its request up; the service works on
    ) -> None:
        self.service, self.seconds, self.has_percentiles = service, seconds, has_percentiles
        self.setting = Setting(latency_target_ms=latency_target_ms, interval=INTERVAL)
        self.capacity = {} if capacity is None else {"capacity": capacity}
        self.one_way, self.patience = max(0.0, delay - OWN_DELAY) / 2, patience
        self.chance = random.Random(seed)
        steady = demand if demand is None or callable(demand) else lambda _, rate=demand: rate
        self.callers = [
            Caller(law, demands[i] if demands else steady, Observed(None) if observe else None)
            for i, law in enumerate(laws)
        ]
        self.t, self.scheduled, self.tokens = 0.0, 0, 1.0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.rate = sum(caller.rate for caller in self.callers)
        self.rates: list[tuple[float, float]] = []

    def at(self, t: float, act: Callable[[], None]) -> None:
        self.scheduled += 1
        heapq.heappush(self.events, (t, self.scheduled, act))

    def run(self) -> World:
        for caller in self.callers:
            self.at(self.chance.random() * INTERVAL, partial(self.report, caller))
        self.at(0.0, self.tick)
        while self.events and self.events[0][0] <= self.seconds:
            self.t, _, act = heapq.heappop(self.events)
            act()
        return self

    def tick(self) -> None:
        """Hand out what the bucket holds to those who want it."""
        self.tokens = min(1 + 0.25 * self.rate, self.tokens + self.rate * TICK)
        for caller in self.callers:
            if caller.demand is not None:
                wanted = caller.demand(self.t) * TICK
                caller.waiting = min(caller.waiting + wanted * self.chance.expovariate(1.0), 400 * wanted + 1)
        while self.tokens >= 1:
            wanting = [caller for caller in self.callers if caller.demand is None or caller.waiting >= 1]
            if not wanting:
                break
            caller = self.chance.choice(wanting)
            caller.waiting -= 1
            self.tokens -= 1
            self.at(self.t + self.one_way + 0.1 * self.chance.random(), partial(self.send, caller))
        self.at(self.t + TICK, self.tick)

    def send(self, caller: Caller) -> None:
        began, is_over = self.t, False
        moment = caller.meter.begin(1, began)

        def end(outcome: Outcome) -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            if outcome is Outcome.DONE:
                caller.meter.finish(1, self.t - began, moment, self.t)
            else:
                caller.meter.give_up(1, outcome)
            caller.meter.end(outcome, self.t - began, self.t)
            caller.ended.append(Ended(self.t, outcome is Outcome.DONE, self.t - began))

        # The service calls back with an outcome.
        self.service.start(self, lambda is_done: end(Outcome.DONE if is_done else Outcome.FAILED))
        if self.patience < math.inf:
            self.at(self.t + self.patience, partial(end, Outcome.CANCELLED))

    def report(self, caller: Caller) -> None:
        said = {"done": 0.0, "errors": 0.0, "in_flight": 0.0} | self.capacity | caller.meter.sample()
        if not self.has_percentiles:
            said = {name: value for name, value in said.items() if name not in ("latency_p25_ms", "latency_p10_ms")}
        if caller.observed is not None:
            said = caller.observed.said(said, self.t, float(caller.demand is None or caller.waiting >= 1))
        now, t = Report(**said), self.t
        if self.chance.random() >= LOST_REPORTS:
            self.at(self.t + self.one_way, partial(self.hear, caller, now, t))
        self.at(self.t + INTERVAL * (0.97 + 0.06 * self.chance.random()), partial(self.report, caller))

    def hear(self, caller: Caller, now: Report, t: float) -> None:
        was, before = caller.was or (None, t)
        answer = caller.law.evaluate("aimd", was, now, None if was is None else t - before, self.t, self.setting)
        assert answer is not None
        caller.was, caller.rate = (now, t), answer.rate
        self.at(self.t + 0.05 + 0.05 * self.chance.random(), self.settle)

    def settle(self) -> None:
        self.rate = sum(caller.rate for caller in self.callers)
        self.rates.append((self.t, self.rate))

    # -- measures

    @property
    def ended(self) -> list[Ended]:
        """What became of all requests."""
        return [one for caller in self.callers for one in caller.ended]

    def done(self, start: float, end: float) -> float:
        """Requests per second that were done."""
        return sum(one.is_done for one in self.ended if start <= one.t < end) / (end - start)

    def refused(self, start: float, end: float) -> float:
        """The part of the requests that failed."""
        ended = [one.is_done for one in self.ended if start <= one.t < end]
        return 1 - sum(ended) / len(ended)

    def median(self, start: float, end: float) -> float:
        """Seconds that the middle one of the requests that were done took."""
        durations = sorted(one.seconds for one in self.ended if start <= one.t < end and one.is_done)
        return durations[len(durations) // 2]

    def lowest_rate(self, start: float, end: float) -> float:
        """The lowest rate that callers were held to."""
        return min(rate for t, rate in self.rates if start <= t < end)

    def mean_rate(self, start: float, end: float, most: float) -> float:
        """The mean of the rate, no more of it than `most`."""
        rates = [min(most, rate) for t, rate in self.rates if start <= t < end]
        return sum(rates) / len(rates)

    def seconds_until(self, rate: float, start: float) -> float:
        """From `start` to the middle of the first second in which `rate` was done; infinite if there was none."""
        times = sorted(one.t for one in self.ended if one.is_done)
        for quarter in range(int(4 * (self.seconds - start - 1))):
            t = start + quarter / 4
            if bisect_left(times, t + 1) - bisect_left(times, t) >= rate:
                return t + 0.5 - start
        return math.inf


# -- the table of docs/laws.md

SEEDS = (1, 2, 3)
OBSERVERS = {"6 observers of one that refuses above 100/s": 6, "20 observers of one that refuses above 100/s": 20}
SERVICES: dict[str, tuple[float, Callable[[Curve], Service]]] = {
    "refuses above 20/s": (20, lambda speed: Limiter(lambda t: 20 * speed(t))),
    "refuses above 200/s": (200, lambda speed: Limiter(lambda t: 200 * speed(t))),
    "refuses above 1000/s": (1000, lambda speed: Limiter(lambda t: 1000 * speed(t))),
    "4 workers, 40 ms each, a queue": (100, lambda speed: Queue(4, about(0.04), speed)),
    "16 workers, 160 ms each, a queue": (100, lambda speed: Queue(16, about(0.16), speed)),
    "the same beside 5 % of long polls of 10 s": (
        100 / 0.95,
        lambda speed: Mix(Queue(16, about(0.16), speed), Free(about(10.0)), 0.05),
    ),
    "4 cores, 40 ms of work each": (100, lambda speed: Shared(4, about(0.04), speed)),
    **{name: (100, lambda speed: Limiter(lambda t: 100 * speed(t))) for name in OBSERVERS},
}


def measured(name: str, law: Callable[[], Law], seed: int) -> list[float]:
    """Use of the capacity, the part that failed, the median latency, and how soon three times the capacity is found."""
    capacity, service = SERVICES[name]
    laws, observe = [law() for _ in range(2 * OBSERVERS.get(name, 1))], name in OBSERVERS
    half = len(laws) // 2
    world = World(service(lambda _: 1.0), *laws[:half], seconds=100, seed=seed, observe=observe).run()
    risen = World(service(stepped(1.0, 3.0, 39 + seed)), *laws[half:], seconds=60, seed=seed, observe=observe).run()
    return [
        world.done(30, 100) / capacity,
        world.refused(30, 100),
        world.median(30, 100),
        risen.seconds_until(0.9 * 3 * capacity, 39 + seed),
    ]


def row(name: str, law: Callable[[], Law]) -> str:
    """Return one service's row of the table."""
    runs = [measured(name, law, seed) for seed in SEEDS]
    used, failed, latency, found = min(r[0] for r in runs), *(max(r[i] for r in runs) for i in (1, 2, 3))
    return f"| {name} | {100 * used:.0f} % | {100 * failed:.1f} % | {1000 * latency:.0f} ms | {found:.1f} s |"


def table(law: Callable[[], Law]) -> str:
    """Return the table in Markdown."""
    return "\n".join(
        [
            "| Service | capacity used | failed | median latency | three times the capacity is used after |",
            "|---|---|---|---|---|",
            *(row(name, law) for name in SERVICES),
        ]
    )


def main() -> None:
    """Print the table; with --write, put it into docs/laws.md."""
    show(table(Referee), "service")


if __name__ == "__main__":
    main()

"""One consumer with a short queue, item by item, in virtual time: what `drain` loses there, and what it leaves unused.

    producers --token--> queue.Queue(maxsize) --> workers, each `with work(n)` --> Meter --report--> law --> rate

The plant (`tests/harness/plant.py`) moves work in lots of a hundredth of a second. A queue that holds a fiftieth of one
needs single items, and the consumer's own measure: here a real `Meter` and real `Work` on a real queue, with a clock
of ours.

    python -m tests.harness.shelf            the table of docs/laws.md; with --write, into it
"""

from __future__ import annotations

import heapq
import queue
import random
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from nexus_redis._core.meter import Meter, Work
from tests.harness.law_tables import show
from tests.models.laws import Answer, Referee, Report, Setting

INTERVAL, REFRESH, LOST_REPORTS, WIRE = 0.25, 0.1, 0.05, 0.02
NAMES = {"queue_depth": "depth", "queue_limit": "limit"}

Curve = Callable[[float], float]


class Law(Protocol):
    def evaluate(
        self, set_law: str | None, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting
    ) -> Answer | None: ...


class Shelf:
    """One run. `capacity(t)` is what all workers together do in a second; the queue `holds` so many seconds of it."""

    def __init__(
        self,
        law: Law,
        capacity: Curve,
        holds: float,
        *,
        workers: int = 1,
        batch: int = 1,
        producers: int = 4,
        seconds: float = 40.0,
        seed: int = 1,
        demand: Curve | None = None,
        scatter: float = 0.0,  # of a service time; 1: exponential
        fixed: float = 0.0,  # part of a full batch's time that each piece takes, however small
        overhead: float = 0.0,  # seconds between two pieces of one worker
        counts_refused: bool = False,
        measures: bool = True,
    ) -> None:
        self.law, self.capacity, self.workers, self.batch = law, capacity, workers, batch
        self.seconds, self.demand, self.scatter, self.fixed, self.overhead = seconds, demand, scatter, fixed, overhead
        self.counts_refused, self.measures = counts_refused, measures
        self.chance = random.Random(seed)
        self.queue: queue.Queue[int] = queue.Queue(max(1, round(holds * capacity(0.0))))
        self.t, self.scheduled, self.idle, self.rate = 0.0, 0, workers, 10.0
        self.meter = Meter(None)
        self.meter.watch(self.queue)
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.was: tuple[Report, float] | None = None
        self.came: list[float] = []
        self.lost: list[float] = []
        self.done: list[tuple[float, float, int]] = []  # from, until, items
        self.rates: list[tuple[float, float]] = []
        for _ in range(producers):
            self.at(REFRESH * self.chance.random(), partial(self.claim, producers, 0.0))
        self.at(0.0, self.report)

    def at(self, t: float, act: Callable[[], None]) -> None:
        self.scheduled += 1
        heapq.heappush(self.events, (t, self.scheduled, act))

    def run(self) -> Shelf:
        while self.events and self.events[0][0] <= self.seconds:
            self.t, _, act = heapq.heappop(self.events)
            act()
        return self

    # -- producers

    def claim(self, producers: int, left: float) -> None:
        """Tokens for the next tenth of a second, spent evenly; what is less than one is kept."""
        rate = self.rate if self.demand is None else min(self.rate, self.demand(self.t))
        period = REFRESH * (0.95 + 0.1 * self.chance.random())
        left += rate / producers * period
        tokens = int(left)
        for k in range(tokens):
            self.at(self.t + period * (k + self.chance.random()) / tokens, self.send)
        self.at(self.t + period, partial(self.claim, producers, left - tokens))

    def send(self) -> None:
        self.came.append(self.t)
        try:
            self.queue.put_nowait(1)
        except queue.Full:
            self.lost.append(self.t)
            if self.counts_refused:
                with Work(self.meter, 1, lambda: None, lambda: self.t) as work:
                    work.failed(1)
            return
        if self.idle:
            self.idle -= 1
            self.take()

    # -- workers

    def take(self) -> None:
        size = min(self.batch, self.queue.qsize())
        if not size:
            self.idle += 1
            return
        for _ in range(size):
            self.queue.get_nowait()
        work = self.begun(size)
        each = self.workers / self.capacity(self.t)
        took = each * ((1 - self.fixed) * size + self.fixed * self.batch)
        took *= 1 - self.scatter + self.scatter * self.chance.expovariate(1.0)
        self.at(self.t + took, partial(self.end, work, self.t, size))

    def begun(self, size: int) -> Work:
        return Work(self.meter, size, lambda: None, lambda: self.t).__enter__()

    def end(self, work: Work, began: float, size: int) -> None:
        work.__exit__(None, None, None)
        self.done.append((began, self.t, size))
        if self.overhead:
            self.at(self.t + self.overhead, self.take)
        else:
            self.take()

    # -- reports

    def report(self) -> None:
        said: dict[str, Any] = {"done": 0.0, "errors": 0.0, "in_flight": 0.0} | self.meter.sample()
        if not self.measures:
            said = {k: v for k, v in said.items() if k != "busy_ms"}
        known = Report.__dataclass_fields__
        now = Report(**{NAMES.get(name, name): value for name, value in said.items() if NAMES.get(name, name) in known})
        if self.chance.random() >= LOST_REPORTS:
            self.at(self.t + WIRE, partial(self.hear, now, self.t))
        self.at(self.t + INTERVAL * (0.97 + 0.06 * self.chance.random()), self.report)

    def hear(self, now: Report, t: float) -> None:
        was, before = self.was or (None, t)
        answer = self.law.evaluate(
            "drain", was, now, None if was is None else t - before, self.t, Setting(interval=INTERVAL, here=self.t)
        )
        assert answer is not None
        self.was, self.rate = (now, t), answer.rate
        self.rates.append((t, answer.rate))

    # -- measures

    def loss(self, start: float, end: float) -> float:
        """The part of what came that found the queue full."""
        came = sum(start <= t < end for t in self.came)
        return sum(start <= t < end for t in self.lost) / came if came else 0.0

    def use(self, start: float, end: float) -> float:
        """The part of the capacity that was used; work that lasts is done evenly meanwhile."""
        can = sum(self.capacity(start + 0.01 * k) for k in range(round((end - start) / 0.01))) * 0.01
        part = sum(max(0.0, min(end, t) - max(start, began)) / (t - began) * n for began, t, n in self.done)
        return part / can


# -- other workers


class BehindOneLock(Shelf):
    """All work, but only the one that has the lock gets on; they get it in the order in which they came."""

    free_at = 0.0

    def take(self) -> None:
        if not self.queue.qsize():
            self.idle += 1
            return
        self.queue.get_nowait()
        self.free_at = max(self.t, self.free_at) + 1 / self.capacity(self.t)
        self.at(self.free_at, partial(self.end, self.begun(1), self.t, 1))


class OnOneCore(Shelf):
    """All work, and each gets on as much more slowly as there are others."""

    def __init__(self, *args: Any, **also: Any) -> None:
        super().__init__(*args, **also)
        self.jobs: list[tuple[float, int, Work, float]] = []  # the share of the core at which each is done
        self.share = self.since = 0.0
        self.plan_number = 0

    def pass_on(self) -> None:
        if self.jobs:
            self.share += (self.t - self.since) / len(self.jobs)
        self.since = self.t

    def take(self) -> None:
        if not self.queue.qsize():
            self.idle += 1
            return
        self.queue.get_nowait()
        self.pass_on()
        job = (self.share + 1 / self.capacity(self.t), self.scheduled, self.begun(1), self.t)
        heapq.heappush(self.jobs, job)
        self.plan()

    def plan(self) -> None:
        self.plan_number += 1
        if self.jobs:
            left = max(0.0, self.jobs[0][0] - self.share) * len(self.jobs)
            self.at(self.t + left, partial(self.finish, self.plan_number))

    def finish(self, number: int) -> None:
        if number != self.plan_number:  # somebody has come since
            return
        self.pass_on()
        _, _, work, began = heapq.heappop(self.jobs)
        self.plan()
        self.end(work, began, 1)


class TakesInside(Shelf):
    """Each worker waits for its next item inside of `with work()`."""

    def __init__(self, *args: Any, **also: Any) -> None:
        super().__init__(*args, **also)
        self.parked: list[tuple[Work, float]] = []
        self.idle = 0
        for _ in range(self.workers):
            self.at(0.0, self.take)

    def send(self) -> None:
        super().send()
        self.feed()

    def take(self) -> None:
        self.parked.append((self.begun(1), self.t))
        self.feed()

    def feed(self) -> None:
        while self.parked and self.queue.qsize():
            work, began = self.parked.pop(0)
            self.queue.get_nowait()
            self.at(self.t + self.workers / self.capacity(self.t), partial(self.end, work, began, 1))


# -- the table of docs/laws.md

CAPACITY, WARM = 1000.0, 5.0
HOLDS = (0.02, 0.05, 0.1, 0.25, 1.0, 10.0)
STEPS = (1.0, 0.3, 3.0)  # times the capacity
FLEETS = ((1, 1, 4), (8, 1, 16), (64, 1, 16), (1, 500, 1), (4, 20, 8))  # workers, batch, producers
FELL, END = 15.0, 28.0


class Found(NamedTuple):
    """The part that was lost and the part of the capacity that was used, from 5 s after the start or the step on."""

    lost: float
    used: float


def stepped(capacity: float, factor: float) -> Curve:
    """The capacity is another one after 15 s."""
    return lambda t: capacity * factor if t >= FELL else capacity


def played(law: Law, holds: float, factor: float, fleet: tuple[int, int, int], **also: Any) -> tuple[Found, Found]:
    """Before the step and after it; without one the second is steady as well."""
    workers, batch, producers = fleet
    capacity = stepped(also.pop("capacity", CAPACITY), factor)
    shelf = Shelf(
        law, capacity, holds, workers=workers, batch=batch, producers=producers, seconds=END + WARM, **also
    ).run()
    spans = ((WARM, FELL), (FELL + WARM, END))
    first, second = (Found(shelf.loss(*span), shelf.use(*span)) for span in spans)
    return first, second


def cells(law: Callable[[], Law], holds: float, factor: float) -> str:
    """Markdown: the worst of all fleets at one depth, where the capacity is so many times as much after 15 s."""
    runs = [played(law(), holds, factor, fleet) for fleet in FLEETS]
    ends = [found for run in runs for found in (run if factor == 1 else run[1:])]
    lost, used = max(found.lost for found in ends), min(1.0, *(found.used for found in ends))
    return f"{lost:.2%} | {used:.0%}".replace("%", " %")


def row(law: Callable[[], Law], holds: float) -> str:
    """Markdown: all steps at one depth."""
    return f"| {' | '.join([f'{holds:g} s', *(cells(law, holds, factor) for factor in STEPS)])} |"


def table(law: Callable[[], Law]) -> str:
    """Markdown: a row for each depth."""
    head = "| Queue | lost | used | lost after x0.3 | used | lost after x3 | used |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *(row(law, holds) for holds in HOLDS)])


def main() -> None:
    """Print the table; with --write, put it into docs/laws.md."""
    show(table(Referee), "shelf")


if __name__ == "__main__":
    main()

"""A small world in virtual time: producers with leases, a wire, consumers with bounded queues, reports that get lost.

    producers --claim--> Coordinator         it only decides; the plant plays everything else
        | spend                ^
        v                      | report, each 250 ms, a part of them lost
      [wire] --> queue --> workers           what does not fit the queue is lost and counts as an error

Items move in lots on ticks of 10 ms, so that a run costs the same at 10/s and at 100,000/s. The loop delay, from a
token granted to its work seen in a report, is half in the wire and half on the way of the report.

    python -m tests.harness.plant                      the figures that the laws promise; exits with 1 if one is missed
    python -m tests.harness.plant --scripts            the same with the real scripts on a real server, as a table
    python -m tests.harness.plant --scripts --write    the same, into docs/laws.md
    python -m tests.harness.plant --seeds 101 121      with other seeds than the constants were chosen on
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

LEASE, REFRESH, ROUND_TRIP, INTERVAL, TICK, SERVICE = 0.5, 0.1, 0.01, 0.25, 0.01, 0.02
PLENTY = 10**9
OWN_DELAY = 0.19  # what refresh, ticks and the report's interval add to a loop without any wire
QUARTER = 0.25

Curve = Callable[[float], float]


class IdTaken(Exception):
    """Another consumer that lives reports under this id: go on under another."""


class Coordinator(Protocol):
    def claim(self, t: float, producer: str, want: float, burned: float, held: float) -> int:
        """Whole tokens, at most `want`. Of those in hand, `burned` expired since its last claim and `held` did not."""

    def report(self, t: float, message: dict[str, Any]) -> None:
        """A LoadReport by its field names, with a whole number for the incarnation; late, never out of order.

        Raises `IdTaken`, as the client is told when a consumer comes back before its old self is known to be dead.
        """

    def leave(self, t: float, consumer: str) -> None:
        """A consumer stopped cleanly."""

    def lose_state(self, t: float) -> None:
        """All is forgotten, and the budget opened again at once."""


@dataclass
class Consumer:
    """Takes items from its queue at `speed(t)` per second; a negative speed means frozen: no work and no reports."""

    name: str
    speed: Curve
    limit: int
    failing: float = 0.0  # part of the records that fail for themselves
    commit_s: float = 0.0  # what it did is counted only so often
    lingers_s: float = 0.0  # waits so long, to gather `gathers_s` seconds' work
    gathers_s: float = 0.5
    bulk_s: float = 0.0  # takes up to so many seconds' work in one call, which takes that long however little it holds
    stalls_at_work: bool = False  # a stall catches work in flight, as a blocked downstream does
    depth: int = 0
    done: int = 0
    errors: int = 0
    lost: int = 0
    in_flight: int = 0
    seq: int = 0
    incarnation: int = 1
    started: float = 0.0
    is_alive: bool = True
    is_heard: bool = False  # takes no work before its first report has come to Redis
    may_start: float = 0.0
    gathers_since: float = 0.0
    at_work: deque[tuple[float, int]] = field(default_factory=deque)
    finished: list[tuple[float, int]] = field(default_factory=list)

    def accept(self, items: int) -> None:
        if not self.is_alive:
            return
        taken = min(items, self.limit - self.depth)
        self.depth += taken
        self.lost += items - taken
        self.errors += items - taken

    def work(self, t: float, chance: random.Random) -> None:
        speed = self.speed(t)
        if speed < 0 or (speed == 0 and self.stalls_at_work):
            self.at_work = deque((end + TICK, items) for end, items in self.at_work)
            return
        while self.at_work and self.at_work[0][0] <= t:
            self.finish(t, self.at_work.popleft()[1], chance)
        if self.bulk_s:
            if not self.at_work:
                self.start(min(self.depth, int(speed * self.bulk_s)), t + self.bulk_s)
            return
        if self.lingers_s:
            self.linger(t, speed)
            return
        self.may_start += speed * TICK
        if not self.depth:
            self.may_start = min(self.may_start, max(1.0, speed * TICK))
        items = min(self.depth, int(self.may_start))
        self.may_start -= items
        self.start(items, t - t % self.commit_s + self.commit_s if self.commit_s else t + SERVICE)

    def linger(self, t: float, speed: float) -> None:
        if self.at_work or not self.depth:
            self.gathers_since = t
            return
        batch = max(1, int(speed * self.gathers_s))
        if self.depth >= batch or t - self.gathers_since >= self.lingers_s:
            items = min(self.depth, batch)
            self.start(items, t + items / speed)

    def start(self, items: int, until: float) -> None:
        if items:
            self.depth -= items
            self.in_flight += items
            self.at_work.append((until, items))

    def finish(self, t: float, items: int, chance: random.Random) -> None:
        failed = some(items, self.failing, chance)
        self.in_flight -= items
        self.done += items - failed
        self.errors += failed
        self.finished.append((t, items))

    def message(self, t: float) -> dict[str, Any]:
        self.seq += 1
        return {
            "instance_id": self.name,
            "incarnation": self.incarnation,
            "seq": self.seq,
            "uptime_ms": round((t - self.started) * 1000),
            "done": self.done,
            "errors": self.errors,
            "in_flight": self.in_flight,
            "queue_depth": self.depth,
            "queue_limit": self.limit,
        }


Parts = Callable[[float, list[Consumer]], list[float]]
Route = Literal["pull", "even", "all"] | Parts


@dataclass
class Producer:
    name: str
    leases: deque[tuple[float, int]] = field(default_factory=deque)
    backlog: float = 0.0
    burned: int = 0
    asked_at: float = 0.0


def some(items: int, part: float, chance: random.Random) -> int:
    """That part of the items, rounded by lot."""
    return min(items, int(items * part + chance.random())) if part else 0


class Plant:
    """One run. `demand` is the work per second that comes to all producers together, without end if it is None."""

    def __init__(
        self,
        coordinator: Coordinator,
        consumers: list[Consumer],
        *,
        producers: int = 8,
        seconds: float = 150.0,
        delay: float = 0.5,
        seed: int = 1,
        demand: Curve | None = None,
        route: Route = "pull",
        lost_reports: float = 0.05,
        lost_on_wire: float = 0.0,
        spends_late: bool = False,
        burns: float = 0.0,
    ) -> None:
        self.coordinator, self.consumers, self.seconds, self.demand = coordinator, consumers, seconds, demand
        self.route, self.lost_reports, self.lost_on_wire = route, lost_reports, lost_on_wire
        self.spends_late, self.burns = spends_late, burns
        self.one_way = max(0.0, delay - OWN_DELAY) / 2
        self.chance = random.Random(seed)
        self.producers = [Producer(f"p{i}") for i in range(producers)]
        self.t, self.granted, self.scheduled = 0.0, 0, 0
        self.at_broker = self.longest_at_broker = 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.ideal: list[float] = []
        for producer in self.producers:
            self.at(self.chance.random() * REFRESH, partial(self.refresh, producer))
        for consumer in consumers:
            if consumer.is_alive:
                self.at(self.chance.random() * INTERVAL, partial(self.send_report, consumer, consumer.incarnation))
        self.at(0.0, self.tick)

    def at(self, t: float, act: Callable[[], None]) -> None:
        self.scheduled += 1
        heapq.heappush(self.events, (t, self.scheduled, act))

    def run(self) -> Plant:
        while self.events and self.events[0][0] <= self.seconds:
            self.t, _, act = heapq.heappop(self.events)
            act()
        return self

    # -- producers

    def refresh(self, producer: Producer) -> None:
        while producer.leases and producer.leases[0][0] <= self.t:
            producer.burned += producer.leases.popleft()[1]
        want = float(PLENTY)
        if self.demand is not None:
            own = self.demand(self.t) / len(self.producers)
            producer.backlog = min(producer.backlog + own * (self.t - producer.asked_at), 2 * own + 1)
            want = max(0.0, producer.backlog - sum(n for _, n in producer.leases))
        producer.asked_at = self.t
        if want or producer.burned:
            held = sum(n for _, n in producer.leases)
            granted = self.coordinator.claim(self.t, producer.name, want, producer.burned, held)
            producer.burned = 0
            self.take(producer, granted)
        self.at(self.t + REFRESH * (0.95 + 0.1 * self.chance.random()), partial(self.refresh, producer))

    def take(self, producer: Producer, granted: int) -> None:
        self.granted += granted
        if granted:
            end = self.t + LEASE
            producer.leases.append((end, granted))
            self.at(end - 0.02 if self.spends_late else self.t + ROUND_TRIP, partial(self.spend, producer, end))

    def spend(self, producer: Producer, end: float) -> None:
        for k, (expiry, held) in enumerate(producer.leases):
            if expiry == end:
                kept = some(held, self.burns, self.chance)
                producer.leases[k] = (expiry, kept)
                producer.backlog -= held - kept
                self.send(held - kept - some(held - kept, self.lost_on_wire, self.chance))
                return

    def kill(self, producer: Producer) -> None:
        """Its tokens die with it, and nobody says that they did."""
        producer.leases.clear()
        producer.burned = 0

    def send(self, items: int) -> None:
        """pull: several take from a broker; even: pushed in turn; all: each item to everyone.

        Or a function of the time and the consumers there, that gives each one's part.
        """
        there = [c for c in self.consumers if c.is_heard]
        if self.route == "all":
            for consumer in there:
                self.at(self.t + self.one_way, partial(consumer.accept, items))
            return
        if self.route == "pull" and len(self.consumers) > 1:
            self.at(self.t + self.one_way, partial(self.wait_at_broker, items))
            return
        parts = [1.0] * len(there) if isinstance(self.route, str) else self.route(self.t, there)
        sent, seen, luck, total = 0, 0.0, self.chance.random(), sum(parts) or 1.0
        for consumer, part in zip(there, parts, strict=True):
            seen += items * part / total
            upto = items if consumer is there[-1] else min(items, int(seen + luck))
            if upto > sent:
                self.at(self.t + self.one_way, partial(consumer.accept, upto - sent))
            sent = upto

    def wait_at_broker(self, items: int) -> None:
        self.at_broker += items
        self.pull()

    def pull(self) -> None:
        """Each that works takes its part of what is there, as far as it has room."""
        there = [c for c in self.consumers if c.is_heard and c.speed(self.t) >= 0]
        self.chance.shuffle(there)
        for k, consumer in enumerate(there):
            items = min(consumer.limit - consumer.depth, -(-self.at_broker // (len(there) - k)))
            consumer.accept(items)
            self.at_broker -= items
        self.longest_at_broker = max(self.longest_at_broker, self.at_broker)

    # -- consumers

    def tick(self) -> None:
        speed = sum(max(0.0, c.speed(self.t)) for c in self.consumers if c.is_alive)
        self.ideal.append(speed if self.demand is None else min(speed, self.demand(self.t)))
        if self.at_broker:
            self.pull()
        for consumer in self.consumers:
            if consumer.is_alive:
                consumer.work(self.t, self.chance)
        self.at(self.t + TICK, self.tick)

    def send_report(self, consumer: Consumer, incarnation: int) -> None:
        if not consumer.is_alive or consumer.incarnation != incarnation:
            return
        if consumer.speed(self.t) >= 0:
            message = consumer.message(self.t)
            if self.chance.random() >= self.lost_reports:
                self.at(self.t + self.one_way, partial(self.deliver, consumer, message))
        pause = INTERVAL * (0.97 + 0.06 * self.chance.random())
        self.at(self.t + pause, partial(self.send_report, consumer, incarnation))

    def deliver(self, consumer: Consumer, message: dict[str, Any]) -> None:
        try:
            self.coordinator.report(self.t, message)
        except IdTaken:
            consumer.name = message["instance_id"] = f"{consumer.name}.{consumer.incarnation}"
            self.coordinator.report(self.t, message)
        consumer.is_heard = consumer.is_alive and consumer.incarnation == message["incarnation"]

    def stop(self, consumer: Consumer, *, is_clean: bool = False) -> None:
        """What it holds is gone: that is the price of its death, and not counted as lost for want of space."""
        consumer.is_alive = consumer.is_heard = False
        consumer.depth = consumer.in_flight = 0
        consumer.at_work.clear()
        if is_clean:
            self.coordinator.leave(self.t, consumer.name)

    def restart(self, consumer: Consumer) -> None:
        consumer.is_alive, consumer.incarnation, consumer.started = True, consumer.incarnation + 1, self.t
        consumer.done = consumer.errors = consumer.seq = 0
        self.at(self.t, partial(self.send_report, consumer, consumer.incarnation))

    def lose_state(self) -> None:
        self.coordinator.lose_state(self.t)

    # -- measures

    def quarters(self) -> list[int]:
        """Work done in each quarter of a second."""
        done = [0] * (int(self.seconds / QUARTER) + 1)
        for consumer in self.consumers:
            for t, items in consumer.finished:
                done[int(t / QUARTER)] += items
        return done

    def goodput(self, start: float, end: float) -> float:
        """Work done over the work that was there and could be done."""
        done = sum(n for c in self.consumers for t, n in c.finished if start <= t < end)
        return done / (sum(self.ideal[round(start / TICK) : round(end / TICK)]) * TICK)

    def lost(self) -> int:
        return sum(c.lost for c in self.consumers)

    def seconds_until(self, rate: float) -> float:
        """Until one second's work first reached `rate`; infinite if it never did."""
        done = self.quarters()
        return next((k * QUARTER + 1 for k in range(len(done) - 4) if sum(done[k : k + 4]) >= rate), float("inf"))

    def seconds_below(self, rate: float, start: float) -> float:
        """From `start` to the end of the last second whose work was less than `rate`; 0 if there was none."""
        done = self.quarters()
        low = [k for k in range(round(start / QUARTER), len(done) - 5) if sum(done[k : k + 4]) < rate]
        return low[-1] * QUARTER + 1 - start if low else 0.0


if __name__ == "__main__":
    from tests.harness.targets import main

    sys.exit(main())

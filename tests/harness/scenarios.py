"""Lives of a fleet for the plant: random ones, and those thought up to make a lossless budget lose records."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.harness.plant import Consumer, Coordinator, Curve, Parts, Plant, Route
from tests.models.window import FORGOTTEN_AFTER

ROUTES: dict[str, Route] = {"sum": "pull", "spread": "even", "min": "all"}
STEP_AT, STEP_S = 30.0, 40.0
Event = tuple[str, float, int | None, float]


@dataclass
class Life:
    """What a coordinator is told, and the plant that it then meets. `events`: what, when, to whom, how long.

    To whom is a consumer's place, or None for one by lot.
    """

    consumers: list[Consumer]
    combine: str = "sum"
    is_lossless: bool = True
    transit: float = 1.0
    rate: float | None = None
    route: Route | None = None
    events: list[Event] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        told = {"combine": self.combine, "lossless": self.is_lossless, "transit": self.transit}
        return told if self.rate is None else told | {"rate": self.rate}

    def play(self, coordinator: Coordinator) -> Plant:
        plant = Plant(coordinator, self.consumers, route=self.route or ROUTES[self.combine], **self.options)
        chance = random.Random(len(self.events))
        for what, when, whom, seconds in self.events:
            consumer = chance.choice(self.consumers) if whom is None else self.consumers[whom]
            if what == "kill":
                plant.at(when, partial(plant.kill, chance.choice(plant.producers)))
            elif what == "lose state":
                plant.at(when, plant.lose_state)
            else:
                if what != "join":
                    plant.at(when, partial(plant.stop, consumer, is_clean=what == "leave"))
                plant.at(when + seconds, partial(plant.restart, consumer))
        return plant.run()


# -- random lives


def random_life(seed: int, seconds: float = 30.0, *, is_lossless: bool | None = None) -> Life:
    """`is_lossless`: one of which the rules promise that nothing is lost."""
    chance = random.Random(seed)
    combine = chance.choice(list(ROUTES))
    scale = 10 ** chance.uniform(0.5, 4)
    delay = chance.choice([0.3, 0.5, 1.0, 2.0])
    several = chance.choice([1, 2, 4])
    options = {
        "producers": chance.choice([1, 2, 3]),
        "seconds": seconds,
        "delay": delay,
        "seed": seed,
        "lost_reports": chance.choice([0.0, 0.05, 0.5]),
        "lost_on_wire": chance.choice([0.0, 0.0, 0.1]),
        "spends_late": chance.random() < 0.3,
        "burns": chance.choice([0.0, 0.0, 0.3]),
        "demand": chance.choice([None, None, idling(several * scale, seconds)]),
    }
    # What is on the way when one joins was admitted without it, and must fit its queue as it does the others'.
    alike = chance.choice([0.2, 1.0, 3.0]) if is_lossless else None
    longest_freeze = 5.0 if is_lossless else 14.0  # by then a consumer is forgotten, and should not receive any more
    consumers = [
        Consumer(
            f"c{i}",
            moody(scale, seconds, longest_freeze, chance),
            int(scale * (alike or chance.choice([0.2, 1.0, 3.0]))) + 1,
            failing=chance.choice([0.0, 0.0, 0.05]),
            commit_s=chance.choice([0.0, 0.0, 1.0]),
        )
        for i in range(several)
    ]
    events: list[Event] = [
        (
            chance.choice(["stop", "leave", "kill"]),
            chance.uniform(3, seconds - 2),
            None,
            chance.choice([0.3, 3.0, 13.0]),
        )
        for _ in range(chance.choice([0, 0, 1, 3]))
    ]
    return Life(
        consumers,
        combine,
        chance.random() < 0.5 if is_lossless is None else is_lossless,
        true_transit(delay) if is_lossless else chance.choice([1.0, 1.0, 2.5]),
        chance.choice([None, None, 0.7 * scale]),
        events=events,
        options=options,
    )


def true_transit(delay: float) -> float:
    """What a lossless budget must be told where it is more than the usual second: the loop, and a report's jitter."""
    return max(1.0, delay + 0.1)


def moody(scale: float, seconds: float, longest_freeze: float, chance: random.Random) -> Curve:
    """A speed that changes now and then; it may stall, or freeze for less or more than a deadline."""
    pieces: list[tuple[float, float]] = []
    t = 0.0
    while t < seconds:
        speed, length = scale * chance.choice([1.0, 1.0, 1.0, 0.4, 0.1]), chance.uniform(2, 12)
        if chance.random() < 0.25:
            speed, length = chance.choice([0.0, -1.0]), chance.choice([0.5, 1.2, 1.8, 5.0, longest_freeze])
        if pieces and pieces[-1][1] < 0 and speed < 0 and longest_freeze < FORGOTTEN_AFTER:
            speed = scale  # two freezes would make one that is too long
        t += length
        pieces.append((t, speed))
    return lambda now: next((speed for end, speed in pieces if now < end), scale)


def idling(rate: float, seconds: float) -> Curve:
    return lambda t: 0.0 if seconds / 3 < t < 2 * seconds / 3 else rate


# -- lives that were thought up to lose records: capacity 1000/s in all, queues `queue_s` deep


def steady(speed: float) -> Curve:
    return lambda _t: speed


def between(start: float, seconds: float, part: float, speed: float) -> Curve:
    """`part` of the speed for a while; -1: frozen."""
    return lambda t: (part if part < 0 else part * speed) if start <= t < start + seconds else speed


def hiccups(speed: float, every: float, length: float, part: float = -1.0) -> Curve:
    return lambda t: (part if part < 0 else part * speed) if t > 5 and t % every < length else speed


def noisy(speed: float) -> Curve:
    return lambda t: -1.0 if t % 3 < 0.3 else speed * (0.7 + 0.6 * random.Random(int(4 * t)).random())


def weighted(*weights: float) -> Parts:
    return lambda _t, there: list(weights[: len(there)])


def hot(t: float, there: list[Consumer]) -> list[float]:
    return [4.0 if int(t / 2) % len(there) == k else 1.0 for k in range(len(there))]


def emptiest(_t: float, there: list[Consumer]) -> list[float]:
    return [max(0.001, c.limit - c.depth) for c in there]


class Attack:
    """Makes the lives of one depth of queues, loop delay and seed."""

    def __init__(self, queue_s: float, delay: float, seed: int, seconds: float = 100.0) -> None:
        self.queue_s, self.seconds = queue_s, seconds
        self.options: dict[str, Any] = {"producers": 4, "seconds": seconds, "delay": delay, "seed": seed}

    def one(self, speed: Curve | None = None, events: Any = (), **options: Any) -> Life:
        return self.several([speed or steady(1000)], events=events, **options)

    def several(
        self,
        speeds: list[Curve],
        part: float = 1.0,
        combine: str = "sum",
        route: Route | None = None,
        events: Any = (),
        **options: Any,
    ) -> Life:
        limit = max(1, int(self.queue_s * 1000 * part))
        consumers = [Consumer(f"c{i}", speed, limit) for i, speed in enumerate(speeds)]
        transit = true_transit(self.options["delay"])
        return Life(
            consumers, combine, True, transit, route=route, events=list(events), options={**self.options, **options}
        )

    def four(self, first: Curve | None = None, **how: Any) -> Life:
        return self.several([first or steady(250), *[steady(250)] * 3], 0.25, **how)

    def pushed(self, first: Curve | None = None, **how: Any) -> Life:
        return self.four(first, combine="spread", **how)

    def shards(self, first: Curve | None = None, **how: Any) -> Life:
        return self.several([first or steady(1000), *[steady(1000)] * 2], combine="min", **how)

    def each(self, what: str, every: float, whom: int | None = 0, seconds: float = 0.3) -> list[Any]:
        return [(what, 10 + every * k, whom, seconds) for k in range(int((self.seconds - 20) / every))]

    def joined(self) -> Life:
        life = self.one(between(STEP_AT, STEP_S, 0.1, 1000), [("join", STEP_AT - 0.1, 1, 0.0)], route=weighted(1, 0))
        veteran = Consumer("old", steady(1), 1, done=10**6, is_alive=False)
        life.consumers.append(veteran)
        return life

    def older(self) -> Life:
        life = self.one(between(STEP_AT, STEP_S, 0.1, 1000))
        life.consumers[0].done = 10**6
        return life


_FREEZE = between(STEP_AT, 5, -1, 1000)
_FREEZE_OF_FOUR = between(STEP_AT, 5, -1, 250)

ATTACKS: dict[str, Callable[[Attack], Life]] = {
    "steady": lambda a: a.one(),
    "capacity to 40 %": lambda a: a.one(between(STEP_AT, STEP_S, 0.4, 1000)),
    "capacity to 10 %": lambda a: a.one(between(STEP_AT, STEP_S, 0.1, 1000)),
    "stall of 5 s": lambda a: a.one(between(STEP_AT, 5, 0, 1000)),
    "freeze of 5 s": lambda a: a.one(_FREEZE),
    "freeze of 1.5 s, each 6 s": lambda a: a.one(hiccups(1000, 6, 1.5)),
    "freeze of 1.9 s, each 5 s, to 10 % between": lambda a: a.one(hiccups(100, 5, 1.9)),
    "noisy, with pauses of 0.3 s": lambda a: a.one(noisy(1000)),
    "tokens spent late": lambda a: a.one(spends_late=True),
    "tokens spent late, freezes of 1.5 s": lambda a: a.one(hiccups(1000, 6, 1.5), spends_late=True),
    "30 % of tokens burned": lambda a: a.one(burns=0.3),
    "a producer killed each 2 s": lambda a: a.one(spends_late=True, events=a.each("kill", 2)),
    "a producer killed each 20 s": lambda a: a.one(spends_late=True, events=a.each("kill", 20)),
    "2 % lost on the wire": lambda a: a.one(lost_on_wire=0.02),
    "half of the reports lost": lambda a: a.one(lost_reports=0.5),
    "half of the reports lost, capacity to 10 %": lambda a: a.one(
        between(STEP_AT, STEP_S, 0.1, 1000), lost_reports=0.5
    ),
    "crashes each 20 s, back after 0.3 s": lambda a: a.one(events=a.each("stop", 20)),
    "slow, crashes each 20 s, back after 0.3 s": lambda a: a.one(steady(100), events=a.each("stop", 20)),
    "crashes each 20 s, back after 5 s": lambda a: a.one(events=a.each("stop", 20, seconds=5.0)),
    "clean restarts each 20 s": lambda a: a.one(events=a.each("leave", 20)),
    "older than the budget, capacity to 10 %": Attack.older,
    "an old consumer joins as it drops to 10 %": Attack.joined,
    "state lost as it drops to 10 %": lambda a: a.one(
        between(STEP_AT, STEP_S, 0.1, 1000), [("lose state", STEP_AT, 0, 0.0)]
    ),
    "state lost, tokens spent late, drops to 10 %": lambda a: a.one(
        between(STEP_AT, STEP_S, 0.1, 1000), [("lose state", STEP_AT, 0, 0.0)], spends_late=True
    ),
    "4 pulling": lambda a: a.four(),
    "4 pulling, one frozen 5 s": lambda a: a.four(_FREEZE_OF_FOUR),
    "4 pulling, one killed each 20 s": lambda a: a.four(events=a.each("stop", 20, None, 3.0)),
    "4 pushed in turn": lambda a: a.pushed(),
    "4 pushed in turn, one frozen 5 s": lambda a: a.pushed(_FREEZE_OF_FOUR),
    "4 pushed in turn, one frozen 1.5 s each 6 s": lambda a: a.pushed(hiccups(250, 6, 1.5)),
    "4 pushed in turn, one to 10 %": lambda a: a.pushed(between(STEP_AT, STEP_S, 0.1, 250)),
    "4 pushed in turn, one killed each 20 s": lambda a: a.pushed(events=a.each("stop", 20, None, 3.0)),
    "4 pushed 40:20:20:20": lambda a: a.pushed(route=weighted(2, 1, 1, 1)),
    "4 pushed, the hot spot moves each 2 s": lambda a: a.pushed(route=hot),
    "2 pushed 5:1, the first frozen 1.9 s each 5 s": lambda a: a.several(
        [hiccups(500, 5, 1.9), steady(500)], 0.5, "spread", weighted(5, 1)
    ),
    "4 pushed to the emptiest, one frozen 5 s": lambda a: a.pushed(_FREEZE_OF_FOUR, route=emptiest),
    "3 shards": lambda a: a.shards(),
    "3 shards, one frozen 5 s": lambda a: a.shards(_FREEZE),
    "3 shards, one frozen 1.5 s each 6 s": lambda a: a.shards(hiccups(1000, 6, 1.5)),
    "3 shards, one to 10 %": lambda a: a.shards(between(STEP_AT, STEP_S, 0.1, 1000)),
    "3 shards, 30 % of tokens burned": lambda a: a.shards(burns=0.3),
    "3 shards, 2 % lost on the wire": lambda a: a.shards(lost_on_wire=0.02),
}

"""What the laws promise, measured on the plant: one consumer of 1000/s that starts unknown, its queue a second deep.

Each promise is one run of the plant that gives one number; a figure is the worst of several seeds. The law is told
nothing of the loop delay that it then meets.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import redis

from tests.harness.law_tables import put
from tests.harness.plant import Consumer, Coordinator, Curve, Plant

CAPACITY = 1000
SEEDS = range(1, 11)
DELAYS = (0.5, 1.0, 2.0)
WARM = 40.0  # seconds after which it is known, at any of these delays

Make = Callable[[], Coordinator]
Measure = Callable[[Make, float, int], float]  # a coordinator, the loop delay, a seed


def steady(_t: float) -> float:
    return CAPACITY


def stepped(t: float) -> float:
    return 0.4 * CAPACITY if WARM <= t < WARM + 60 else CAPACITY


def stalled(t: float) -> float:
    return 0.0 if WARM <= t < WARM + 5 else CAPACITY


def by_day(t: float) -> float:
    return 0.0 if WARM <= t < WARM + 3600 else 2.0 * CAPACITY


def run(
    make: Make,
    delay: float,
    seed: int,
    speed: Curve = steady,
    seconds: float = 150.0,
    *,
    queue_s: float = 1.0,
    demand: Curve | None = None,
    **consumer: Any,
) -> Plant:
    one = Consumer("c", speed, int(queue_s * CAPACITY), **consumer)
    return Plant(make(), [one], producers=4, seconds=seconds, delay=delay, seed=seed, demand=demand).run()


def over_the_step(make: Make, delay: float, seed: int) -> float:
    return 100 * run(make, delay, seed, stepped).goodput(WARM - 10, 149)


def lost_over_the_step(make: Make, delay: float, seed: int) -> float:
    plant = run(make, delay, seed, stepped)
    return 100 * plant.lost() / plant.granted


def after_the_night(make: Make, delay: float, seed: int) -> float:
    plant = run(make, delay, seed, seconds=WARM + 3630, demand=by_day)
    return 100 * plant.goodput(WARM + 3601 + delay, WARM + 3629)


def from_cold(make: Make, delay: float, seed: int) -> float:
    return run(make, delay, seed, seconds=20).seconds_until(0.9 * CAPACITY)


def lost_from_cold(make: Make, delay: float, seed: int) -> float:
    return run(make, delay, seed, seconds=20).lost()


def after_a_stall(make: Make, delay: float, seed: int, *, stalls_at_work: bool) -> float:
    plant = run(make, delay, seed, stalled, WARM + 30, stalls_at_work=stalls_at_work)
    return plant.seconds_below(0.9 * CAPACITY, WARM + 5)


def goodput_of(make: Make, delay: float, seed: int, seconds: float = WARM + 110, **how: Any) -> float:
    return 100 * run(make, delay, seed, seconds=seconds, **how).goodput(WARM, seconds - 10)


class Promise(NamedTuple):
    """`bound` is the least, or the most where `is_least` is false; None where nothing is promised, only shown."""

    name: str
    measure: Measure
    bound: float | None
    unit: str = "%"
    is_least: bool = True
    delays: tuple[float, ...] = DELAYS
    seeds: int | None = None  # at most so many: some runs are long and all alike


PROMISES = (
    Promise("capacity to 40 % and back: goodput", over_the_step, 96),
    Promise("capacity to 40 % and back: lost", lost_over_the_step, None, is_least=False),
    Promise("after an hour of idleness: goodput", after_the_night, 98, seeds=1),
    Promise("from cold, until 90 % of the capacity", from_cold, 5, "s", is_least=False, delays=DELAYS[:2]),
    Promise("from cold, until 90 % of the capacity", from_cold, None, "s", is_least=False, delays=DELAYS[2:]),
    Promise("from cold: records lost", lost_from_cold, 0, "", is_least=False, delays=DELAYS[:1]),
    Promise("from cold: records lost", lost_from_cold, None, "", is_least=False, delays=DELAYS[1:]),
    Promise(
        "after 5 s of stall, work in the queue: until 90 %",
        partial(after_a_stall, stalls_at_work=False), 5, "s", is_least=False,
    ),
    Promise(
        "after 5 s of stall, work in flight: until 90 %",
        partial(after_a_stall, stalls_at_work=True), 5, "s", is_least=False,
    ),
    Promise("5 % of the records fail for themselves: goodput", partial(goodput_of, failing=0.05), 97),
    Promise("work counted in batches of 1 s: goodput", partial(goodput_of, commit_s=1.0), 97),
    Promise("calls that take 1 s each, queue 3 s deep: goodput", partial(goodput_of, queue_s=3.0, bulk_s=1.0), 97),
    Promise("30 % of the records fail for themselves: goodput", partial(goodput_of, failing=0.3), None),
    Promise("waits up to 1 s to gather 0.5 s of work: goodput", partial(goodput_of, lingers_s=1.0), None),
    Promise(
        "waits up to 1 s to gather all that its queue holds: goodput",
        partial(goodput_of, lingers_s=1.0, gathers_s=1.0), None,
    ),
    Promise("queue 0.2 s deep: goodput", partial(goodput_of, queue_s=0.2), None),
)  # fmt: skip


class Figure(NamedTuple):
    """A promise at one loop delay, the worst of all seeds."""

    promise: Promise
    delay: float
    worst: float

    @property
    def is_met(self) -> bool:
        bound = self.promise.bound
        return bound is None or (self.worst >= bound if self.promise.is_least else self.worst <= bound)

    def __str__(self) -> str:
        promise, verdict = self.promise, ("MISSED", "ok")[self.is_met]
        sign = (
            "" if promise.bound is None else f"{('at most', 'at least')[promise.is_least]} {promise.bound:g}  {verdict}"
        )
        return f"{promise.name:52} D {self.delay:3.1f} s {self.worst:7.1f} {promise.unit:2} {sign}"


Job = tuple[int, float, int]  # place in PROMISES, delay, seed


def figures(measured: Iterable[tuple[Job, float]]) -> Iterator[Figure]:
    """The measured runs of each promise and delay, which come together, as one figure."""
    runs: dict[tuple[int, float], list[float]] = {}
    for (place, delay, _), value in measured:
        runs.setdefault((place, delay), []).append(value)
    for (place, delay), values in runs.items():
        yield Figure(PROMISES[place], delay, (min if PROMISES[place].is_least else max)(values))


def jobs(seeds: range) -> list[Job]:
    return [
        (place, delay, seed)
        for place, promise in enumerate(PROMISES)
        for delay in promise.delays
        for seed in seeds[: promise.seeds]
    ]


# -- a process for each core, each with its own coordinator


_make: Make


def _prepare(*, with_scripts: bool) -> None:
    global _make  # noqa: PLW0603  # a pool's worker has no other place
    if with_scripts:
        from tests.harness.coordinators import ScriptCoordinator
        from tests.harness.servers import launch

        server = launch("valkey")  # ends with this process, however that ends
        client = redis.Redis(port=server.port, single_connection_client=True)

        def make() -> Coordinator:
            client.flushall()
            return ScriptCoordinator(client)

        _make = make
    else:
        from tests.models.window import RefereeCoordinator

        _make = RefereeCoordinator


def _measure(job: Job) -> tuple[Job, float]:
    place, delay, seed = job
    return job, PROMISES[place].measure(_make, delay, seed)


@contextmanager
def measuring(seeds: range, *, with_scripts: bool) -> Iterator[Iterator[tuple[Job, float]]]:
    with multiprocessing.Pool(initializer=partial(_prepare, with_scripts=with_scripts)) as pool:
        yield pool.imap(_measure, jobs(seeds))


def table(found: list[Figure], seeds: range) -> str:
    """Markdown: one row for each promise, one column for each loop delay."""
    lines = [
        f"Worst of {len(seeds)} seeds; D is the loop delay, of which the law is told nothing.",
        "",
        "| | " + " | ".join(f"D {d:g} s" for d in DELAYS) + " | promised |",
        "|---|" + "---|" * (len(DELAYS) + 1),
    ]
    for name in dict.fromkeys(figure.promise.name for figure in found):
        row = {figure.delay: figure for figure in found if figure.promise.name == name}
        bounds = {
            f"{('at most', 'at least')[p.is_least]} {p.bound:g} {p.unit}".rstrip()
            + ("" if len(p.delays) == len(DELAYS) else f" at D {' and '.join(f'{d:g}' for d in p.delays)} s")
            for p in (figure.promise for figure in row.values())
            if p.bound is not None
        }
        cells = [
            f"{row[d].worst:.{0 if row[d].promise.unit == '' else 1}f} {row[d].promise.unit}".rstrip() for d in DELAYS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {', '.join(sorted(bounds)) or '-'} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.plant")
    parser.add_argument("--scripts", action="store_true", help="the real scripts on a real server, not their referee")
    parser.add_argument("--write", action="store_true", help="put the table into docs/laws.md")
    parser.add_argument("--seeds", type=int, nargs=2, default=(SEEDS.start, SEEDS.stop), metavar=("FIRST", "END"))
    given = parser.parse_args()
    seeds = range(*given.seeds)
    with measuring(seeds, with_scripts=given.scripts) as measured:
        found = list(figures(measured))
    text = table(found, seeds)
    for figure in found:
        sys.stderr.write("" if figure.is_met else f"{figure}\n")
    sys.stdout.write(f"{text}\n")
    if given.write:
        put(text, "measured")
    return 0 if all(figure.is_met for figure in found) else 1

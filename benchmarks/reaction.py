"""How soon do all producers slow down, once a consumer says that it can take less?

Sixty-four producers, each with a connection of its own, want 100/s each, evenly, and get it. Then the consumer reports;
the clock starts before the report is sent. If the consumer pauses, a producer has reacted when it spends its last
token; since it spends one each 10 ms, this is known to within 10 ms. If the load of the consumer cuts the rate to a
tenth, the producers have reacted from the moment after which they together never again spend more, over any time, than
the new rate and its bucket allow. Without push, a producer learns of the drop with its next claim, so the last producer
needs a refresh and a round trip.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.harness import Bench, Cell, Measured, Table, figure, quantile
from nexus_redis.asyncio import Budget, Nexus

TITLE = "Reaction to a drop"
PRODUCERS = 64
DEMAND = 100.0  # a second, each
HEADROOM = 2.0  # times what all want, so that no caller waits before the drop
TENTH = 0.1
CALM = 10.0  # percent of load; the range law: all of the capacity up to 80 %, linear from there, 0 at 100 %
DROPS = {"to a tenth": 100 - 20 * TENTH / HEADROOM, "to nothing": None}  # None: the consumer pauses
PAUSE = 60.0
BUCKET = 0.25  # seconds of the rate, and a token
PUSH = "push"  # the setting of `from_url` that turns push off, if the release has one


def run(bench: Bench) -> list[Table]:
    """Return the time until they had reacted, in milliseconds."""
    kinds: dict[str, dict[str, Any]] = {"": {}}
    if PUSH in inspect.signature(Nexus.from_url).parameters:
        kinds[", without push"] = {PUSH: False}
    cells = {f"{drop}{kind}": _cell(bench, settings, DROPS[drop]) for kind, settings in kinds.items() for drop in DROPS}
    found = bench.measure(cells)
    count = bench.pick(PRODUCERS, 8)
    table = Table(f"{TITLE}: {count} producers", "Milliseconds until they obeyed; tokens that were spent meanwhile.")
    for name, rounds in found.items():
        row: dict[str, Cell] = {"": name, "the report's own call ms": figure(rounds, "report")}
        table.rows.append(row | {column: figure(rounds, column) for column in rounds[0] if column != "report"})
    return [table]


def _cell(bench: Bench, settings: dict[str, Any], load: float | None) -> Callable[[], Measured]:
    return lambda: asyncio.run(_drop(bench, settings, load))


async def _drop(bench: Bench, settings: dict[str, Any], load: float | None) -> Measured:
    count, before, after = bench.pick(PRODUCERS, 8), bench.pick(2.0, 0.7), bench.pick(1.5, 0.5)
    namespace, capacity = bench.name(), HEADROOM * count * DEMAND
    spent: list[list[float]] = [[] for _ in range(count)]
    async with AsyncExitStack() as stack:
        nexuses = [Nexus.from_url(bench.url, namespace=namespace, **settings) for _ in range(count + 1)]
        for nexus in nexuses:
            await stack.enter_async_context(nexus)
        consumer = await stack.enter_async_context(nexuses[-1].budget("drop").consumer(capacity=capacity))
        await consumer.report(load=CALM)
        tasks = [
            asyncio.create_task(_spend(nexus.budget("drop"), times, number / count / DEMAND))
            for number, (nexus, times) in enumerate(zip(nexuses, spent, strict=False))
        ]
        await asyncio.sleep(before)
        began = time.monotonic()
        await (consumer.pause(PAUSE) if load is None else consumer.report(load=load))
        told = time.monotonic()
        await asyncio.sleep(after)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    after_drop = [[at - began for at in times if at > began] for times in spent]
    together = sorted(at for times in after_drop for at in times)
    rate = 0.0 if load is None else DEMAND * count * TENTH
    found = {"report": (told - began) * 1e3}
    if not rate:
        ends = sorted(times[-1] * 1e3 if times else 0.0 for times in after_drop)
        found |= {"p50 ms": quantile(ends, 0.5), "p99 ms": quantile(ends, 0.99)}
    last = obeyed_after(together, rate, BUCKET * rate + 1 if rate else 0.0)
    return found | {"last ms": last * 1e3, "tokens": float(sum(at <= last for at in together))}


async def _spend(budget: Budget, times: list[float], offset: float) -> None:
    due = time.monotonic() + offset
    while True:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await budget.acquire()
        now = time.monotonic()
        times.append(now)
        due = max(due + 1 / DEMAND, now - 1 / DEMAND)  # a producer that waited does not catch up


def obeyed_after(spent: Sequence[float], rate: float, bucket: float) -> float:
    """Return the seconds after the drop (at 0) from which no more than `rate` a second and a bucket was spent."""
    times = [0.0, *spent]
    above = [number - rate * at for number, at in enumerate(times)]
    highest = above[-1]
    for at in range(len(times) - 2, -1, -1):
        if highest > above[at] + bucket:
            return times[at + 1]
        highest = max(highest, above[at])
    return 0.0

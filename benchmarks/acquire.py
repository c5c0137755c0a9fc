"""How fast is an acquire in one process, with nothing to wait for?

The limit is a billion a second, so that no call waits: the figures are the cost of a call for its caller. "sync" is a
plain loop, "8 threads" are eight loops on one limiter, and "async" is one task that awaits in a loop. Each call takes 1
token or 100. Ours is measured with a warm lease: the same loop has run for a while, as it has in any busy process. A
library that asks Redis for each call cannot be faster than the floor, one round trip. A library that lives in memory is
fast, and shares its limit with no other process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import repeat

from benchmarks.harness import Bench, Cell, Measured, Meter, Table, figure, ratio
from benchmarks.peers import FLOOR, IN_MEMORY, OURS, SHARED, Acquire, AsyncAcquire, Subject, installed

TITLE = "Acquire in one process"
RATE = 1e9
COSTS = (1, 100)
THREADS = 8
MODES = ("sync", f"{THREADS} threads", "async")
CHUNK_S = 0.002  # calls between two looks at the clock


def run(bench: Bench) -> list[Table]:
    """Return a table for each mode."""
    subjects = [OURS, FLOOR, *installed(*SHARED, *IN_MEMORY)]
    cells = {
        (subject.name, mode, cost): _cell(bench, subject, mode, cost)
        for mode in MODES
        for cost in COSTS
        for subject in subjects
        if (subject.async_ if mode == "async" else subject.sync)
    }
    found = bench.measure(cells)
    tables = []
    for mode in MODES:
        table = Table(f"{TITLE}: {mode}", "Acquires a second; how many times that ours are; Redis calls per acquire.")
        for subject in subjects:
            row: dict[str, Cell] = {"": subject.name, "limit": "shared" if subject.is_shared else "this process only"}
            for cost in COSTS:
                rounds = found.get((subject.name, mode, cost))
                if rounds:
                    ours = found[OURS.name, mode, cost]
                    row |= {
                        f"cost {cost}: acquires/s": figure(rounds, "per_s"),
                        f"cost {cost}: ours is": ratio(ours, rounds, "per_s") if subject is not OURS else "",
                        f"cost {cost}: Redis calls": figure(rounds, "calls"),
                    }
            if len(row) > 2:
                table.rows.append(row)
        tables.append(table)
    return tables


def _cell(bench: Bench, subject: Subject, mode: str, cost: int) -> Callable[[], Measured]:
    seconds = bench.pick(0.3, 0.02)
    # The client learns the demand by doubling it with each claim: at a hundred million tokens a second, that takes a
    # while.
    warm = bench.pick(2.5 if subject is OURS else 0.1, 0.02)

    def measured() -> Measured:
        with bench.client() as client:
            if mode == "async":
                return asyncio.run(_async(bench, subject, cost, warm, seconds, lambda: Meter(client)))
            assert subject.sync
            with subject.sync(bench.url, bench.name(), RATE) as acquire:
                loops = 1 if mode == "sync" else THREADS
                _loops(acquire, cost, warm, loops)
                meter = Meter(client)
                count, took = _loops(acquire, cost, seconds, loops)
                return _measured(count, took, meter)

    return measured


def _measured(count: int, took: float, meter: Meter) -> Measured:
    reads = meter.read()["requests"] - 3  # its own
    return {"per_s": count / took, "calls": max(0.0, reads) / count}


def _loops(acquire: Acquire, cost: int, seconds: float, loops: int) -> tuple[int, float]:
    """Run some threads in a loop for a time; return the number of acquires and the time that they took."""
    if loops == 1:
        return _loop(acquire, cost, seconds)
    counts, start = [0] * loops, threading.Barrier(loops + 1)

    def work(number: int) -> None:
        start.wait()
        counts[number] = _loop(acquire, cost, seconds)[0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(loops)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(counts), time.perf_counter() - began


def _loop(acquire: Acquire, cost: int, seconds: float) -> tuple[int, float]:
    began, count, chunk = time.perf_counter(), 0, 1
    while True:
        for _ in repeat(None, chunk):
            acquire(cost)
        count += chunk
        took = time.perf_counter() - began
        if took >= seconds:
            return count, took
        chunk = max(1, round(count / took * CHUNK_S))


async def _async_loop(acquire: AsyncAcquire, cost: int, seconds: float) -> tuple[int, float]:
    began, count, chunk = time.perf_counter(), 0, 1
    while True:
        for _ in repeat(None, chunk):
            await acquire(cost)
        count += chunk
        took = time.perf_counter() - began
        if took >= seconds:
            return count, took
        # A loop that never waits would starve all other tasks, also our refill.
        await asyncio.sleep(0)
        chunk = max(1, round(count / took * CHUNK_S))


async def _async(
    bench: Bench, subject: Subject, cost: int, warm: float, seconds: float, meter: Callable[[], Meter]
) -> Measured:
    assert subject.async_
    async with subject.async_(bench.url, bench.name(), RATE) as acquire:
        await _async_loop(acquire, cost, warm)
        reading = meter()
        count, took = await _async_loop(acquire, cost, seconds)
        return _measured(count, took, reading)

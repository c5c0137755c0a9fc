"""How much of a budget does a plain loop of `acquire` use, however far away Redis is?

    python -m benchmarks.far                      # starts a server from a wheel; one row for each round trip
    python -m benchmarks.far --rate 100 --seconds 60

The real scripts on a real server and the real client run by the manual clock of the test kit: a batch of calls takes
the round trip. The time until the loop is at full speed (`BEGINS`) does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import threading
from contextlib import closing
from typing import NamedTuple

import redis

from nexus_redis import Nexus
from nexus_redis import asyncio as nexus_asyncio
from nexus_redis.testing import ManualClock
from tests.harness.servers import launch

ROUND_TRIPS = (0.0, 0.02, 0.05, 0.095, 0.2, 0.3, 0.5)
RATES = (10.0, 100.0, 1_000.0, 10_000.0)
CALLERS = (1, 8, 50)
BEGINS = 8.0  # seconds
REFRESH = 0.1
Log = list[float]


class Found(NamedTuple):
    """One row: the used part of the budget, calls in a tenth of a second, tokens beyond the rate times the window."""

    used: float
    calls: float
    beyond: float


def in_threads(client: redis.Redis, rate: float, round_trip: float, callers: int, seconds: float) -> Log:
    """Return when some threads of one process spent each token."""
    log: Log = []
    with ManualClock(round_trip=round_trip) as clock, Nexus(client) as nexus:
        budget = nexus.budget("far", rate=rate)

        def work() -> None:
            while clock.now < seconds:
                budget.acquire()
                log.append(clock.now)

        threads = [threading.Thread(target=work) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return log


def in_tasks(url: str, rate: float, round_trip: float, callers: int, seconds: float) -> Log:
    """Return when some tasks of an event loop spent each token."""
    log: Log = []

    async def main() -> None:
        with ManualClock(round_trip=round_trip) as clock:
            async with nexus_asyncio.Nexus.from_url(url) as nexus:
                budget = nexus.budget("far", rate=rate)

                async def work() -> None:
                    while clock.now < seconds:
                        await budget.acquire()
                        log.append(clock.now)

                await asyncio.gather(*(work() for _ in range(callers)))

    asyncio.run(main())
    return log


def beyond(log: Log, rate: float) -> float:
    """Return the most tokens of any window beyond the rate times its length."""
    lowest = worst = 0.0
    for count, at in enumerate(log):
        lowest = min(lowest, count - rate * at)
        worst = max(worst, count + 1 - rate * at - lowest)
    return worst


def measure(client: redis.Redis, url: str, face: str, rate: float, round_trip: float, callers: int, s: float) -> Found:
    """Measure one row."""
    client.flushall()
    client.config_resetstat()
    log = (
        in_threads(client, rate, round_trip, callers, s)
        if face == "sync"
        else in_tasks(url, rate, round_trip, callers, s)
    )
    stats = client.info("commandstats")
    calls = sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))
    used = sum(BEGINS <= at < s for at in log) / (rate * (s - BEGINS))
    return Found(used, calls / log[-1] * REFRESH, beyond(log, rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=18.0, help="of the clock, of which the first 8 do not count")
    parser.add_argument("--rate", type=float, action="append", help="of the budget, a second; may be given again")
    wish = parser.parse_args()
    logging.disable()
    server = launch("valkey")
    with closing(redis.Redis(port=server.port)) as client:
        url = f"redis://127.0.0.1:{server.port}/0"
        print("face   rate/s  round trip  callers    used  calls a refresh  most in a window beyond the rate")
        for rate in wish.rate or RATES:
            for round_trip in ROUND_TRIPS:
                for face, callers in [("sync", each) for each in CALLERS] + [("async", each) for each in CALLERS]:
                    found = measure(client, url, face, rate, round_trip, callers, wish.seconds)
                    print(
                        f"{face:5} {rate:7g}  {round_trip * 1e3:7g} ms  {callers:7}  {found.used:6.1%}  "
                        f"{found.calls:15.2f}  {found.beyond:.0f} ({found.beyond / rate:.2f} s of it)",
                        flush=True,
                    )
    server.stop()


if __name__ == "__main__":
    main()

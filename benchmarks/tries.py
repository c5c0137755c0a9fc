"""How often is a try denied, compared with one central bucket that is asked for each token?

    python -m benchmarks.tries                # starts a server from a wheel; the table of docs/how-to/fixed-limit.md
    python -m benchmarks.tries --seconds 600

Each process tries at Poisson instants. The real scripts on a real server and the real client run by the manual clock of
the test kit, so a run is the same each time. The central bucket gets the same arrivals.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import random
from typing import NamedTuple

import redis

from nexus_redis import Nexus
from nexus_redis.testing import ManualClock
from tests.harness.servers import launch

ROWS = (
    (4, 5.0, 30.0),
    (8, 0.8, 10.0),
    (2, 35.0, 100.0),
    (16, 1.0, 20.0),
    (32, 0.5, 20.0),
    (5, 10.0, 40.0),
    (8, 2.0, 12.0),
)
BURST = 0.25  # seconds of the rate
WARM = 5.0  # seconds that do not count


class Found(NamedTuple):
    """One row, as parts of all tries."""

    denied: float
    by_central_bucket: float
    calls: float


def measure(client: redis.Redis, count: int, each: float, rate: float, seconds: float) -> Found:
    """Let `count` processes try `each` times a second on a budget of `rate`."""
    client.flushall()
    with ManualClock() as clock:
        nexuses = [Nexus(client) for _ in range(count)]
        budgets = [nexus.budget("api", rate=rate) for nexus in nexuses]
        chance, began = random.Random(1), clock.now
        tokens, filled, tries, denied, denied_there, seqs = 1.0, 0.0, 0, 0, 0, 0
        coming = [(chance.expovariate(each), number) for number in range(count)]
        heapq.heapify(coming)
        while coming[0][0] < seconds:
            at, number = heapq.heappop(coming)
            heapq.heappush(coming, (at + chance.expovariate(each), number))
            clock.advance(max(0.0, began + at - clock.now))
            is_granted = bool(budgets[number].try_acquire())
            tokens, filled = min(1 + BURST * rate, tokens + rate * (at - filled)), at
            is_granted_there = tokens >= 1
            tokens -= is_granted_there
            if at < WARM:
                seqs = sum(budget._session.ledger.seq for budget in budgets)
                continue
            tries, denied, denied_there = tries + 1, denied + (not is_granted), denied_there + (not is_granted_there)
        calls = sum(budget._session.ledger.seq for budget in budgets) - seqs
        for nexus in nexuses:
            nexus.close()
    return Found(denied / tries, denied_there / tries, calls / tries)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="of virtual time a row (default: %(default)g)")
    seconds = parser.parse_args().seconds
    logging.disable(logging.WARNING)
    process = launch("valkey")
    print("| Processes, tries of each, rate | denied | by one central bucket | calls a try |\n|---|---|---|---|")
    with redis.Redis(port=process.port) as client:
        for count, each, rate in ROWS:
            found = measure(client, count, each, rate, seconds)
            print(
                f"| {count}, {each:g}/s, {rate:g}/s | {100 * found.denied:.1f} % | "
                f"{100 * found.by_central_bucket:.1f} % | {found.calls:.2f} |"
            )
    process.stop()


if __name__ == "__main__":
    main()

"""A budget for each of 10,000 customers in one process, of which one in a hundred is active.

python examples/per_customer.py                     # uses NEXUS_REDIS_URL, else a server of its own

`key=` makes a separate budget that takes over the settings of "api". Two threads claim for all of them, and a third one
listens for drops of their rates (`push=False` leaves it out). A budget that is not in use makes no calls, and a budget
that was never used takes no memory in Redis.
"""

import argparse
import os
import threading
import time
import tracemalloc

import redis

from nexus_redis import Budget, Nexus

CUSTOMERS, ACTIVE = 10_000, 100
LIMIT = "5/s"  # of each customer


def serve(budget: Budget, calls: int) -> int:
    """Serve a customer that calls without a break, and return how many calls were admitted. No call waits."""
    return sum(bool(budget.try_acquire()) for _ in range(calls))


def claims(server: "redis.Redis") -> int:
    """Return how many scripts the server has run."""
    stats = server.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def main(seconds: float) -> None:
    """Open all budgets, use one in a hundred, and count the calls."""
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        nexus.budget("api", rate=LIMIT, burst=1)
        tracemalloc.start()
        budgets = [nexus.budget("api", key=f"customer-{number}") for number in range(CUSTOMERS)]
        each = tracemalloc.get_traced_memory()[0] / CUSTOMERS
        tracemalloc.stop()
        print(f"{CUSTOMERS} budgets, {each / 1000:.1f} kB each, {threading.active_count()} threads")
        began, admitted = time.monotonic(), dict.fromkeys(range(0, CUSTOMERS, CUSTOMERS // ACTIVE), 0)
        while time.monotonic() - began < seconds:
            for number in admitted:
                admitted[number] += serve(budgets[number], 3)
        took = time.monotonic() - began
        most, least = max(admitted.values()), min(admitted.values())
        print(f"admitted at most {most}, at least {least} a customer in {took:.1f} s")
        print(f"{threading.active_count()} threads, {len(nexus.budgets())} budgets in Redis")
        with redis.Redis.from_url(nexus.url) as server:
            time.sleep(1)  # until the tokens of the last calls are returned
            before = claims(server)
            time.sleep(3)
            print(f"{claims(server) - before} calls in 3 s when nobody is there")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    main(parser.parse_args().seconds)

"""A budget for each of 10,000 customers in one process, of whom one in a hundred is there at a time.

python examples/per_customer.py                     # NEXUS_REDIS_URL, else a server of its own

`key=` makes a budget of its own that takes over what "api" is told. Two threads claim for them all, and one listens for
drops of their rates (`push=False` does without); a budget that nobody uses makes no calls, and one that was never used
is nothing in Redis.
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
    """A customer who calls without end: what is over the limit is told when to come back, and nobody waits."""
    return sum(bool(budget.try_acquire()) for _ in range(calls))


def claims(server: "redis.Redis") -> int:
    """How many scripts the server has run."""
    stats = server.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def main(seconds: float) -> None:
    """Open all of them, use one in a hundred, and count."""
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
            time.sleep(1)  # what the last of them had in hand goes back
            before = claims(server)
            time.sleep(3)
            print(f"{claims(server) - before} calls in 3 s when nobody is there")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    main(parser.parse_args().seconds)

"""A Redis Streams pipeline that cannot fall behind: producers XADD at the rate at which the consumer group works.

python examples/stream_pipeline.py                  # uses NEXUS_REDIS_URL, else a server of its own

    producers -- acquire, XADD --> [ stream "orders" ] -- XREADGROUP, XACK --> workers of the group "index"
                    ^                                          |
                    +---- rate <---- watch_stream: its lag, what is pending, what is acknowledged

The workers are plain consumers of a group and know nothing of a budget. One process watches the group from outside,
here the main program, and the rate of the producers follows the group. Any process may watch; if several do, one
reports and the others stand by. The number of unread entries never exceeds the limit.
"""

import argparse
import os
import threading
import time

import redis

from nexus_redis import Budget, Nexus

STREAM, GROUP, LIMIT = "orders", "index", 500  # entries that may lie unread
FAST, SLOW = 400, 100  # entries per second of all workers together
WORKERS, BATCH = 2, 10


def work(url: str, name: str, ends: float, slow_from: float) -> None:
    """Run a plain worker of a consumer group."""
    with redis.Redis.from_url(url) as server:
        while time.monotonic() < ends:
            found = server.xreadgroup(GROUP, name, {STREAM: ">"}, count=BATCH, block=100)
            for _, entries in found or []:
                speed = (SLOW if time.monotonic() > slow_from else FAST) / WORKERS
                time.sleep(len(entries) / speed)
                server.xack(STREAM, GROUP, *(entry for entry, _ in entries))


def produce(budget: Budget, url: str, ends: float) -> None:
    """Add one order after the other, each when it has a token."""
    with redis.Redis.from_url(url) as server:
        while time.monotonic() < ends:
            budget.acquire()
            server.xadd(STREAM, {"order": "a book"})


def main(seconds: float) -> None:
    """Run the pipeline. After half of the time the workers get four times slower."""
    with (
        Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus,
        redis.Redis.from_url(nexus.url) as server,
    ):
        server.delete(STREAM)
        server.xgroup_create(STREAM, GROUP, mkstream=True)
        budget = nexus.budget("orders")
        orders = budget.watch_stream(STREAM, group=GROUP, limit=LIMIT)
        while orders.rate is None:  # until the first report, the budget has no rate and producers wait
            time.sleep(0.05)
        began = time.monotonic()
        half, ends = began + seconds / 2, began + seconds
        threads = [
            *(threading.Thread(target=work, args=(nexus.url, f"w{i}", ends, half)) for i in range(WORKERS)),
            *(threading.Thread(target=produce, args=(budget, nexus.url, ends)) for _ in range(2)),
        ]
        for thread in threads:
            thread.start()
        longest = 0
        while (elapsed := time.monotonic() - began) < seconds:
            unread = lag(server)
            longest = max(longest, unread)
            print(f"{elapsed:4.1f} s  {orders.rate or 0:6.1f}/s, {unread:3} unread", flush=True)
            time.sleep(1)
        for thread in threads:
            thread.join()
        print(f"{server.xlen(STREAM)} orders, at most {longest} of {LIMIT} unread")


def lag(server: redis.Redis) -> int:
    """Return the number of unread entries. Redis 6.2 has no lag, so count the entries behind the last delivered one."""
    group = server.xinfo_groups(STREAM)[0]
    known = group.get("lag")
    return known if known is not None else len(server.xrange(STREAM, f"({group['last-delivered-id'].decode()}") or [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    main(parser.parse_args().seconds)

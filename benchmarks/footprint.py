"""Measure what budgets, producers and consumers cost a Redis: bytes each, and CPU for a call, for docs/operations.md.

    python -m benchmarks.footprint                   # Valkey, Redis 7 and 6.2, if they are installed
    python -m benchmarks.footprint valkey --count 2000

Bytes are the growth of `used_memory` over many of a kind, so they contain the server's own tables. A history grows with
each event, up to about a thousand entries; here, a rate that doubles and halves fills it. CPU is the time that the
server reports (user and system) for pipelined calls without other clients, so it contains parsing and the socket. On a
busy machine it can be a third more or less.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any, Final

import redis

from nexus_redis._protocol import calls, scripts
from nexus_redis._protocol.calls import Claim
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call
from nexus_redis._values.settings import BudgetSettings
from tests.harness.servers import REAL, binary, launch

SHARED: Final = BudgetKeys("nexus", "elasticsearch")
HISTORY: Final = 1100  # changes, more than a history keeps
BATCH: Final = 500
MILLION: Final = 1_000_000
FLEET: Final = 100  # producers that take turns, for the CPU of a claim


def send(client: redis.Redis, jobs: Iterable[Call[Any]]) -> None:
    """Run all calls in a pipeline; raise if the server refuses one."""
    pipe = client.pipeline(transaction=False)
    for job in jobs:
        pipe.evalsha(job.script.sha, len(job.keys), *job.keys, *job.args)
        if len(pipe) >= BATCH:
            pipe.execute()
    pipe.execute()


def budget(number: int) -> Call[Any]:
    """Open a budget."""
    return calls.configure(BudgetKeys("nexus", f"stripe/cust-{number:06}"), BudgetSettings.of(rate=100))


def claim(number: int, seq: int = 1) -> Call[Any]:
    """Return a claim, as the client core sends it."""
    ask = Claim(need=MILLION, tokens=MILLION, requested_rate=5 * MILLION, incarnation=f"{number:016x}", seq=seq)
    return calls.claim(SHARED, f"worker-{number:06}-a1b2c3", ask)


def report(number: int, seq: int = 1) -> Call[Any]:
    """Return a report of a consumer with a queue, as `watch` and `work` make it."""
    said = {
        "uptime_ms": 1000.0 * seq,
        "queue_depth": 5,
        "queue_limit": 100,
        "done": 10 * seq,
        "errors": 0,
        "in_flight": 1,
    }
    return calls.report(SHARED, f"es-{number:06}-a1b2c3", said, f"{number:016x}", seq)


def bytes_each(client: redis.Redis, make: Callable[[int], Call[Any]], count: int) -> int:
    """Return the growth of memory for one of them."""
    empty(client)
    send(client, [calls.configure(SHARED, BudgetSettings.of(rate=1e6)), make(0)])
    before = used(client)
    send(client, (make(1 + i) for i in range(count)))
    return round((used(client) - before) / count)


def empty(client: redis.Redis) -> None:
    """Flush synchronously: memory that a server frees in the background would be missing in the next figure."""
    client.execute_command("FLUSHALL", "SYNC")  # type: ignore[no-untyped-call]  # redis-py


def used(client: redis.Redis) -> int:
    """Return the used bytes, by a separate connection: a pipeline fills the buffers that the server keeps for it."""
    client.close()
    return int(client.info("memory")["used_memory"])


def history_bytes(client: redis.Redis) -> int:
    """Return the bytes of a full history, by MEMORY USAGE of each of its entries."""
    empty(client)
    send(client, (calls.configure(SHARED, BudgetSettings.of(rate=100 * (1 + i % 2))) for i in range(HISTORY)))
    return int(client.memory_usage(SHARED.history, samples=0) or 0)


def cpu_each(client: redis.Redis, jobs: list[Call[Any]]) -> float:
    """Return the microseconds of the server's CPU for a call."""
    send(client, jobs[:BATCH])
    before = cpu(client)
    send(client, jobs[BATCH:])
    return (cpu(client) - before) / (len(jobs) - BATCH) * 1e6


def cpu(client: redis.Redis) -> float:
    """Return the seconds of CPU that the server has used."""
    info: Any = client.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


def measure(kind: str, count: int) -> str:
    """Measure one row."""
    server = launch(kind)
    try:
        client = redis.Redis(port=server.port)
        for name in scripts.NAMES:
            client.script_load(scripts.script(name).text)
        memory: Any = client.info("memory")
        kept = memory.get("used_memory_scripts_eval") or memory["used_memory_scripts"]
        sizes = [bytes_each(client, make, count) for make in (budget, claim, report)]
        history = history_bytes(client)
        empty(client)
        send(client, [calls.configure(SHARED, BudgetSettings.of(rate=1e6))])
        claims = cpu_each(client, [claim(i % FLEET, 1 + i // FLEET) for i in range(20 * count)])
        reports = cpu_each(client, [report(i % FLEET, 1 + i // FLEET) for i in range(5 * count)])
    finally:
        server.stop()
    cells = [
        *(f"{size:,}" for size in (*sizes, history, kept)),
        f"{claims:.0f}",
        f"{reports:.0f}",
        f"{1e6 / claims:,.0f}",
    ]
    return f"| {kind} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=[kind for kind in REAL if binary(kind)])
    parser.add_argument("--count", type=int, default=2000)
    given = parser.parse_args()
    print(
        "| | budget | producer | consumer | full history | scripts | us/claim | us/report | claims/s of a core |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for kind in given.kinds:
        print(measure(kind, given.count), flush=True)


if __name__ == "__main__":
    main()

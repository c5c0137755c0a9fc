"""Measure what a failover costs, and moving slots: `python -m benchmarks.failover [WHAT] [KIND]`.

WHAT is `cluster`, `sentinel`, `slots`, `spread` or `push`, and KIND is `redis7` or `valkey`. Without them, all are run.

Processes claim one budget as fast as they may, and note each grant. Meanwhile the primary is killed with SIGKILL (or a
slot moves from node to node in a loop). The benchmark prints

- the time from the kill to the first new grant that is not degraded, after the last lease from before has ended;
- the worst window: tokens beyond rate x time in any window, beside its bound.

`spread` is about load: a thousand budgets of one process, each with a waiting caller, on three primaries and on one. It
prints CPU per claim, and the number of claims of each node. `push` prints the cost of a message about a drop.
tests/contract/test_failover.py asserts what is printed here.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from redis.crc import key_slot

import nexus_redis
import nexus_redis.asyncio
from nexus_redis._redis.embedded import ServerProcess
from nexus_redis.errors import AcquireTimeout, Unavailable
from tests.harness.fleets import ClusterFleet, Fleet, SentinelFleet
from tests.harness.support import PATIENCE, eventually

NAME: Final = "stripe"
RATE: Final = 500
LEASE: Final = 0.5
BURST: Final = 1 + RATE / 4
# G2: a bucket, and the tokens in leases. A failover may cost one bucket more: grants that had not reached the replica
# are subtracted again when clients report them, and a bucket is the most that can be granted in that time.
BOUND: Final = BURST + RATE * LEASE
FAILOVER_BOUND: Final = BOUND + BURST
PROCESSES: Final = 8


class Noted(NamedTuple):
    """The time of a grant, and whether it was degraded."""

    at: float
    is_degraded: bool


def claim(url: str) -> None:
    """Claim until stdin ends, and print the time of each grant. Each process runs this."""
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    with nexus_redis.Nexus.from_url(url) as nexus:
        budget = nexus.budget(NAME, rate=RATE)
        while not ended.is_set():
            try:
                grant = budget.acquire(timeout=1)
            except (AcquireTimeout, Unavailable):
                continue
            print(f"{time.monotonic():.6f} {int(grant.degraded)}", flush=True)


class Claimers:
    """Processes that claim, and their grants so far."""

    def __init__(self, url: str, count: int = PROCESSES) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="nexus-redis-claimers-"))
        self._files = [self._folder / str(i) for i in range(count)]
        self._processes = [self._started(url, file) for file in self._files]

    @staticmethod
    def _started(url: str, file: Path) -> subprocess.Popen[bytes]:
        with file.open("wb") as out:
            command = [sys.executable, "-m", "benchmarks.failover", "claim", url]
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, cwd=Path(__file__).parents[1])

    def noted(self) -> list[Noted]:
        """Return all grants in order."""
        lines = [line.split() for file in self._files for line in file.read_text().splitlines()]
        return sorted(Noted(float(words[0]), words[1] == "1") for words in lines if len(words) == 2)

    def are_all_there(self) -> bool:
        """Return whether each process has had a grant."""
        return all(file.stat().st_size for file in self._files)

    def new_since(self, at: float) -> list[float]:
        """Return the grants of a server after this instant."""
        return [each.at for each in self.noted() if each.at > at and not each.is_degraded]

    def stop(self) -> None:
        """End all processes."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(PATIENCE)


def worst_window(times: Sequence[float], rate: float = RATE) -> float:
    """Return the most tokens beyond rate x time, in any window."""
    lowest = worst = 0.0
    began = times[0] if times else 0.0
    for i, at in enumerate(times):
        lowest = min(lowest, i - rate * (at - began)) if i else 0.0
        worst = max(worst, i + 1 - rate * (at - began) - lowest)
    return worst


class Outcome(NamedTuple):
    """The result of a run."""

    seconds_to_new_grant: float
    worst: float
    bound: float
    grants: int
    degraded: int


def fail_over(fleet: Fleet, primary: Callable[[], ServerProcess], url: str, settle: float = 2.0) -> Outcome:
    """Kill the primary of the budget while processes claim."""
    claimers = Claimers(url)
    try:
        assert eventually(claimers.are_all_there)
        time.sleep(settle)
        killed = time.monotonic()
        fleet.kill(primary())
        assert eventually(lambda: claimers.new_since(killed + 2 * LEASE))
        time.sleep(settle)
    finally:
        claimers.stop()
    noted = claimers.noted()
    first = claimers.new_since(killed + 2 * LEASE)[0]
    degraded = sum(each.is_degraded for each in noted)
    return Outcome(first - killed, worst_window([each.at for each in noted]), FAILOVER_BOUND, len(noted), degraded)


def cluster_failover(kind: str, silence: float = 2.0) -> Outcome:
    """Start three primaries with a replica each."""
    fleet = ClusterFleet(kind, replicas=1, silence=silence)
    try:
        return fail_over(fleet, lambda: fleet.owner(f"nexus:{{{NAME}}}"), fleet.url)
    finally:
        fleet.stop()


def sentinel_failover(kind: str, silence: float = 2.0) -> Outcome:
    """Start a primary, a replica and three Sentinels."""
    fleet = SentinelFleet(kind, sentinels=3, silence=silence)
    try:
        return fail_over(fleet, lambda: fleet.primary, fleet.url)
    finally:
        fleet.stop()


@contextmanager
def moving(fleet: ClusterFleet, key: str) -> Iterator[list[int]]:
    """Move the slot of a key from primary to primary, again and again; the list counts the moves."""
    moves, ended = [0], threading.Event()
    slot = key_slot(key.encode())

    def go() -> None:
        while not ended.is_set():
            fleet.move(slot, fleet.primaries[moves[0] % len(fleet.primaries)])
            moves[0] += 1

    mover = threading.Thread(target=go, name="mover", daemon=True)
    mover.start()
    try:
        yield moves
    finally:
        ended.set()
        mover.join(PATIENCE)


def slots_move(kind: str, grants: int = 5 * RATE) -> tuple[Outcome, int]:
    """Claim while slots migrate in a loop: grants go on, and the bound holds. Also return the number of moves."""
    fleet = ClusterFleet(kind)
    try:
        claimers = Claimers(fleet.url)
        try:
            assert eventually(claimers.are_all_there)
            began = len(claimers.noted())
            with moving(fleet, f"nexus:{{{NAME}}}") as moves:
                assert eventually(lambda: len(claimers.noted()) > began + grants and moves[0] > 20)
        finally:
            claimers.stop()
        noted = claimers.noted()
        degraded = sum(each.is_degraded for each in noted)
        return Outcome(0.0, worst_window([each.at for each in noted]), BOUND, len(noted), degraded), moves[0]
    finally:
        fleet.stop()


def spread(kind: str, primaries: int, budgets: int = 1000, seconds: float = 10.0) -> dict[str, Any]:
    """Let one process use many budgets; return claims a second, and CPU per claim of the client and of the nodes."""
    fleet = ClusterFleet(kind, primaries=primaries)
    try:
        before, after, took, cpu = asyncio.run(_use(fleet, budgets, seconds))
    finally:
        fleet.stop()
    calls = [there - here for (here, _), (there, _) in zip(before, after, strict=True)]
    busy = sum(there - here for (_, here), (_, there) in zip(before, after, strict=True))
    return {
        "primaries": primaries, "budgets": budgets, "claims per second": round(sum(calls) / took),
        "us of the client per claim": round(1e6 * cpu / sum(calls), 1),
        "us of the servers per claim": round(1e6 * busy / sum(calls), 1),
        "claims of each node": calls,
    }  # fmt: skip


async def _use(fleet: Fleet, budgets: int, seconds: float) -> tuple[list[Any], list[Any], float, float]:
    async def work(budget: Any) -> None:
        while True:
            await budget.acquire()

    async with nexus_redis.asyncio.Nexus.from_url(fleet.url, push=False) as nexus:
        tasks = [asyncio.create_task(work(nexus.budget(f"budget-{i}", rate=3))) for i in range(budgets)]
        await asyncio.sleep(seconds / 2)
        before, cpu, began = [_stats(client) for client in fleet.clients()], time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        after = [_stats(client) for client in fleet.clients()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return before, after, took, cpu


def _stats(client: Any) -> tuple[int, float]:
    commands, cpu = client.info("commandstats"), client.info("cpu")
    calls = sum(int(commands.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))
    return calls, float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])


def push_cost(kind: str, primaries: int, messages: int = 20_000) -> dict[str, Any]:
    """Return the cost of a message for all nodes together, by PUBLISH, which all nodes pass on, and by SPUBLISH."""
    channel, cost = f"nexus:{{{NAME}}}:flow", {}
    fleet = ClusterFleet(kind, primaries=primaries)
    try:
        owner = fleet.owner(f"nexus:{{{NAME}}}").port
        sender: Any = redis.Redis(port=owner, protocol=2)
        for send, hear, port in (("PUBLISH", "SUBSCRIBE", fleet.primaries[-1].port), ("SPUBLISH", "SSUBSCRIBE", owner)):
            connection: Any = redis.Connection  # redis-py has no types for these
            listeners = [connection(port=port, protocol=2) for _ in range(PROCESSES)]
            for listener in listeners:
                listener.send_command(hear, channel)
                listener.read_response()
            before = sum(_stats(client)[1] for client in fleet.clients())
            for _ in range(messages // 100):
                batch = sender.pipeline(transaction=False)
                for _ in range(100):
                    batch.execute_command(send, channel, "x" * 90)
                batch.execute()
            time.sleep(1)  # until the last message has been passed on
            cost[send] = round(1e6 * (sum(_stats(client)[1] for client in fleet.clients()) - before) / messages, 1)
            for listener in listeners:
                listener.disconnect()
    finally:
        fleet.stop()
    return {"primaries": primaries, "us of all servers per message": cost}


def main(what: str = "", *words: str) -> None:
    """Print the results, each as a line of JSON."""
    if what == "claim":
        claim(*words)
        return
    kinds = words or ("redis7", "valkey")
    for kind in kinds:
        if what in ("", "cluster"):
            print(json.dumps({"failover": "cluster", "server": kind, **cluster_failover(kind)._asdict()}), flush=True)
        if what in ("", "sentinel"):
            print(json.dumps({"failover": "sentinel", "server": kind, **sentinel_failover(kind)._asdict()}), flush=True)
        if what in ("", "slots"):
            outcome, moves = slots_move(kind)
            print(json.dumps({"slots moved": moves, "server": kind, **outcome._asdict()}), flush=True)
        if what in ("", "spread"):
            for primaries in (3, 1):
                print(json.dumps({"server": kind, **spread(kind, primaries)}), flush=True)
        if what in ("", "push"):
            for primaries in (3, 9):
                print(json.dumps({"server": kind, **push_cost(kind, primaries)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

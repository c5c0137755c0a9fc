"""What does a claim cost Redis: how many claims a second does one core answer, and how much memory do members need?

Fifty connections (ten for ten producers), each with one call under way, send claims of producers drawn by chance, as
fast as they are answered. The floor, in the same round, is a script of one command sent the same way. If
redis-benchmark is on the PATH, it also sends the floor, to show that the sender is not the bottleneck. "us in the
script" is what Redis itself counts (INFO commandstats), and "us of CPU" is all that its process used for a call. Each
claim wants 5 tokens, far below the rate; with "contended", the claims want more than there is. The cost of a claim is
flat: the same for 10 producers and 100,000, for 1 consumer and 1,000.
"""

from __future__ import annotations

import csv
import io
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis

from benchmarks.harness import Bench, Cell, Measured, Meter, Table, figure, ratio
from benchmarks.peers import ONE_COMMAND
from nexus_redis._protocol import calls, plans
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._values.settings import BudgetSettings, micro
from nexus_redis.cli.load_generator import drive, encode_call
from nexus_redis.cli.resp import encode

TITLE = "The claim, in Redis"
RATE = 1e8
CONNECTIONS = 50
BATCH = 500
FLOOR = "EVALSHA of one command"
FLOOR_CHECK = f"{FLOOR}, by redis-benchmark"
INCARNATION = "0123456789abcdef"  # as long as a real id
REPORT_EVERY_MS = 600_000.0  # so that no consumer's deadline passes meanwhile


class Crowd:
    """A budget with its members, all known to Redis."""

    def __init__(self, name: str, producers: int, consumers: int, demand: float) -> None:
        self.keys = BudgetKeys(name, "claim")
        self.producers, self.consumers, self.demand = producers, consumers, demand
        contended = ", contended" if producers * demand > RATE else ""
        self.name = f"{producers:,} producers, {consumers:,} consumer{'s' * (consumers > 1)}{contended}"
        self._seqs, self._birth = [0] * producers, ""

    def ask(self, number: int) -> plans.Call[calls.Answer]:
        """Return the next claim of a busy producer."""
        self._seqs[number] += 1
        ask = calls.Claim(
            need=micro(1), tokens=micro(5), requested_rate=micro(self.demand), held=micro(1),
            incarnation=INCARNATION, seq=self._seqs[number], birth=self._birth,
        )  # fmt: skip
        return calls.claim(self.keys, f"web-{number % 100:02}-{number:06}-4f9a", ask)

    def settle(self, client: redis.Redis) -> None:
        """Let all producers and consumers call once."""
        opening = calls.configure(self.keys, BudgetSettings.of(rate=RATE))
        self._birth = opening.decode(send(client, [opening])[0]).birth
        said = {"load": 10.0, "capacity": RATE, "interval_ms": REPORT_EVERY_MS}
        send(client, (calls.report(self.keys, f"es-{number}", said, "1", 1) for number in range(self.consumers)))
        send(client, map(self.ask, range(self.producers)))


def send(client: redis.Redis, asked: Iterable[plans.Call[Any]]) -> list[Any]:
    """Run calls in batches; raise if one is refused."""
    replies: list[Any] = []
    known: set[str] = set()
    pipe = client.pipeline(transaction=False)
    for call in asked:
        if call.script.sha not in known:
            known.add(client.script_load(call.script.text))
        pipe.evalsha(call.script.sha, len(call.keys), *call.keys, *map(str, call.args))
        if len(pipe) == BATCH:
            replies += pipe.execute()
    return replies + pipe.execute()


def run(bench: Bench) -> list[Table]:
    """Return claims a second, and memory."""
    sizes = bench.pick((10, 1_000, 100_000), (10, 200))
    crowds = [(size, consumers, 100.0) for consumers in (1, bench.pick(1_000, 20)) for size in sizes]
    crowds.append((1_000, 1, 10 * RATE / 1_000))
    table = Table(f"{TITLE}: calls a second", f"{CONNECTIONS} connections.")
    memory = Table(f"{TITLE}: memory", "The server's used_memory before and after they came, for each of them.")
    with bench.client() as client:
        for who in ("producer", "consumer"):
            each = [_memory(bench, client, who) for _ in range(bench.rounds)]
            memory.rows.append({"": f"a {who}", "bytes": figure(each, "bytes")})
        sha = client.script_load(ONE_COMMAND)
        cells: dict[str, Callable[[], Measured]] = {FLOOR: lambda: _floor(bench, client, sha)}
        if shutil.which("redis-benchmark"):
            cells[FLOOR_CHECK] = lambda: _redis_benchmark(bench, client, sha)
        for size, consumers, demand in crowds:
            crowd = Crowd(bench.name(), size, consumers, demand)
            crowd.settle(client)
            cells[crowd.name] = _claims(bench, client, crowd)
        found = bench.measure(cells)
    for name, rounds in found.items():
        row: dict[str, Cell] = {"": name, "calls/s": figure(rounds, "per_s")}
        row["of the floor"] = ratio(rounds, found[FLOOR], "per_s") if name != FLOOR else ""
        row |= {"us in the script": figure(rounds, "script_us"), "us of CPU": figure(rounds, "cpu_us")}
        table.rows.append(row)
    return [table, memory]


def claim_cpu_us(bench: Bench, size: int) -> float:
    """Return the cost of a claim among some producers; `scale` calculates with it."""
    with bench.client() as client:
        crowd = Crowd(bench.name(), size, 1, 100.0)
        crowd.settle(client)
        return figure([_claims(bench, client, crowd)() for _ in range(bench.rounds)], "cpu_us").median


def _claims(bench: Bench, client: redis.Redis, crowd: Crowd) -> Callable[[], Measured]:
    def measured() -> Measured:
        send(
            client, [calls.configure(crowd.keys)]
        )  # it writes the expiry of all keys, which a claim with a few keys cannot do
        # A producer has one claim under way, so it belongs to one connection, and the commands go to all connections in
        # turn.
        connections = min(CONNECTIONS, crowd.producers)
        lots = crowd.producers // connections
        draws = (random.randrange(lots) * connections + i % connections for i in range(bench.pick(30_000, 500)))
        return _driven(client, [encode_call(crowd.ask(number)) for number in draws], connections)

    return measured


def _floor(bench: Bench, client: redis.Redis, sha: str) -> Measured:
    numbers = range(bench.pick(60_000, 500))
    return _driven(client, [encode("EVALSHA", sha, 1, f"{bench.tag}-{number % 1000}") for number in numbers])


def _driven(client: redis.Redis, commands: Sequence[bytes], connections: int = CONNECTIONS) -> Measured:
    meter = Meter(client)
    took, _ = drive(client, commands, connections)
    return {"per_s": len(commands) / took, **_per_call(meter)}


def _redis_benchmark(bench: Bench, client: redis.Redis, sha: str) -> Measured:
    count, connections = bench.pick(60_000, 500), str(CONNECTIONS)
    options = ("-u", bench.url, "-c", connections, "-n", str(count), "-r", "1000", "--csv")
    command = ("EVALSHA", sha, "1", f"{bench.tag}-__rand_int__")
    meter = Meter(client)
    ended = subprocess.run(
        ("redis-benchmark", *options, *command), capture_output=True, text=True, check=True, timeout=300
    )
    *_, last = csv.reader(io.StringIO(ended.stdout))
    return {"per_s": float(last[1]), **_per_call(meter)}


def _per_call(meter: Meter) -> Measured:
    read = meter.read()
    return {"script_us": read["script_us"] / read["scripts"], "cpu_us": read["cpu_s"] * 1e6 / read["scripts"]}


def _memory(bench: Bench, client: redis.Redis, who: str) -> Measured:
    count = bench.pick(20_000 if who == "producer" else 2_000, 200)
    name = bench.name()
    lone, crowd = Crowd(name, 1, 1, 100.0), Crowd(name, *((count, 1) if who == "producer" else (1, count)), 100.0)
    lone.settle(client)
    before = _used(client)
    crowd.settle(client)
    return {"bytes": (_used(client) - before) / (count - 1)}


def _used(client: redis.Redis) -> int:
    info: Any = client.info("memory")
    return int(info["used_memory"])

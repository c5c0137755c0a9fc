"""How much of Redis does a large fleet need?

In the simulated rows, producers claim with the real script on a real server, in virtual time (`at_us`). All want twice
what there is, so each claims again when its tokens are spent, at its slot (`retry_after_ms`), or after `refresh_ms`, as
the client does. The part of a core that Redis needs is the number of claims per second of virtual time, once that has
settled, times the measured CPU of a claim. The rows on paper are beyond the largest simulated fleet: there, the refresh
grows with the fleet, up to a minute.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import redis

from benchmarks.claim import INCARNATION, claim_cpu_us, send
from benchmarks.harness import Bench, Cell, Table, quantile
from nexus_redis._core.ledger import CLAIM_GAP
from nexus_redis._protocol import calls, plans
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.scripts import script
from nexus_redis._values.settings import BudgetSettings, micro
from nexus_redis.cli.load_generator import encode_call

TITLE = "Scale"
SIMULATED, ON_PAPER = (100, 1_000, 10_000, 100_000), (300_000, 1_000_000)
RATE_EACH = 10.0  # tokens a second for each, if all get the same
DEMAND = 2.0  # of that
AHEAD = 1.2  # part of a refresh, for which the client asks
START_US = 1_800_000_000_000_000  # seconds of virtual time
FIRST_REFRESH = 0.1  # seconds over which they come, or
FIRST_CLAIMS_PER_S = 30_000  # as many a second as a Redis can serve
SLICE_US = 5_000  # claims that are due within this time are sent together
CLAIMS, FEWEST, MOST = (
    100_000,
    8,
    20,
)  # claims until a fleet has settled: in all, least and most for each
MEASURED = 0.7  # of that time is then measured
LONGEST_REFRESH_MS = 60_000.0  # lua/lib/crowd.lua: from there on, more claims


@dataclass
class Fleet:
    """The result of a simulated fleet, once it had settled."""

    claims_per_s: float
    refresh_ms: float
    lease_ms: float
    granted: float  # of the rate


def run(bench: Bench) -> list[Table]:
    """Return the CPU of Redis by the number of producers."""
    table = Table(f"{TITLE}: Redis' CPU by the number of producers", "")
    fleets: list[Fleet] = []
    sizes = bench.pick(SIMULATED, (10, 100))
    with bench.client() as client:
        for size in sizes:
            fleet = simulated(client, BudgetKeys(bench.name(), "fleet"), size)
            fleets.append(fleet)
            cost_us = claim_cpu_us(bench, size)
            table.rows.append(_row(size, "simulated", fleet, cost_us))
    last = fleets[-1]
    for size in ON_PAPER:
        times = size / sizes[-1]
        longer = min(times, LONGEST_REFRESH_MS / last.refresh_ms)
        each = last.claims_per_s * times / longer
        paper = Fleet(each, last.refresh_ms * longer, last.lease_ms * longer, last.granted)
        table.rows.append(_row(size, "on paper", paper, cost_us))
    return [table]


def _row(size: int, how: str, fleet: Fleet, cost_us: float) -> dict[str, Cell]:
    return {
        "producers": f"{size:,}",
        "": how,
        "refresh ms": fleet.refresh_ms,
        "lease ms": fleet.lease_ms,
        "claims/s": fleet.claims_per_s,
        "granted / budget": fleet.granted,
        "us of CPU a claim": cost_us,
        "Redis cores": fleet.claims_per_s * cost_us / 1e6,
    }


def simulated(client: redis.Redis, keys: BudgetKeys, size: int) -> Fleet:
    """Run a fleet until each producer has claimed often enough."""
    rate, demand = RATE_EACH * size, DEMAND * RATE_EACH
    opening = calls.configure(keys, BudgetSettings.of(rate=rate), at_us=START_US)
    birth = opening.decode(send(client, [opening])[0]).birth
    client.script_load(script("claim").text)
    seqs, wants = [0] * size, [AHEAD * FIRST_REFRESH * demand] * size
    over = max(FIRST_REFRESH, size / FIRST_CLAIMS_PER_S)
    due = [(START_US + round(number / size * over * 1e6), number) for number in range(size)]  # a heap
    settling = size * max(FEWEST, min(MOST, CLAIMS // size))
    total, since, now = 0, START_US, START_US
    answers: list[calls.Answer] = []
    while total < settling * (1 + MEASURED):
        batch, end = [heapq.heappop(due)], due[0][0] + SLICE_US
        while due and due[0][0] <= end:
            batch.append(heapq.heappop(due))
        asked = []
        for at, number in batch:
            seqs[number] += 1
            ask = calls.Claim(
                need=micro(1), tokens=micro(max(1.0, wants[number])), requested_rate=micro(demand), birth=birth,
                incarnation=INCARNATION, seq=seqs[number],
            )  # fmt: skip
            asked.append(calls.claim(keys, f"web-{number:06}", ask, at_us=at, with_all_keys=True))
        now = batch[-1][0]
        for (at, number), answer in zip(batch, _answers(client, asked), strict=True):
            wants[number] = AHEAD * answer.refresh * demand
            wait = max(CLAIM_GAP, answer.retry_after, min(answer.refresh, answer.granted / 1e6 / demand))
            heapq.heappush(due, (at + round(wait * 1e6), number))
            if total >= settling:
                answers.append(answer)
        total += len(batch)
        if not answers:
            since = now
    span = max(now - since, SLICE_US) / 1e6
    refresh, lease = (
        quantile(sorted(values), 0.5) for values in zip(*((a.refresh, a.lease) for a in answers), strict=True)
    )
    granted = sum(answer.granted for answer in answers) / 1e6
    return Fleet(len(answers) / span, refresh * 1e3, lease * 1e3, granted / rate / span)


def _answers(client: redis.Redis, asked: list[plans.Call[calls.Answer]]) -> list[calls.Answer]:
    """Send claims in one round trip, packed by our own code: a pipeline of redis-py takes longer than the server."""
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        connection.send_packed_command([b"".join(map(encode_call, asked))])
        return [call.decode(connection.read_response()) for call in asked]
    finally:
        pool.release(connection)

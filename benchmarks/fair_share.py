"""Measure fairness, use and bursts of the real scripts and the real client core in virtual time, beside the model.

    python -m benchmarks.fair_share              # starts a server from a wheel; prints the table of docs/fair-share.md
    python -m benchmarks.fair_share --only 50/s

The model is the rough one, of floats and one function, that the rules were found with. Its figures are constants here.
A row is 60 s of virtual time after a warm-up. The columns are: the parts of the budget that were granted and spent; the
worst producer's distance from its exact max-min share, less one unit of its work; the least part of its due that any
producer got; the fullest second; calls to Redis per unit of work (of a greedy producer above 1000/s, the model counts
lots); the longest wait; and the distance of the fullest window of any length below the bounds G1 and G2, in buckets.
Above 0, a guarantee would be broken. A cost of many buckets is spent at once when it is complete, which G2 allows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.harness.fleet import Fleet, Measured
from tests.harness.servers import Server, launch

MINUTE = 60.0
Workload = dict[str, Any]


def many(count: int, **workload: Any) -> list[Workload]:
    """Return `count` equal producers; they are greedy unless they have a demand."""
    return [workload] * count


@dataclass(frozen=True)
class Row:
    """One scenario: a rate, its producers, when to begin measuring, and the result of the model (use, error in %)."""

    name: str
    rate: float
    producers: list[Workload]
    model: tuple[float, float]
    warm: float = 5.0
    span: float = MINUTE
    rates: list[tuple[float, float]] = field(default_factory=list)

    def run(self, server: Server) -> Measured:
        """Measure the row on an empty server."""
        client = server.fast_client()
        client.flushall()
        fleet = Fleet(client, self.rate)
        for workload in self.producers:
            fleet.add(**workload)
        for at, rate in self.rates:
            fleet.later(at, _setter(fleet, rate))
        return fleet.measure(self.warm, self.warm + self.span)


def _setter(fleet: Fleet, rate: float) -> Callable[[], None]:
    return lambda: fleet.set_rate(rate)


ROWS = [
    Row("120/s: wants 1000, 50, 10", 120, [{"demand": 1000}, {"demand": 50}, {"demand": 10}], (1.0, 0.0)),
    Row("1000/s: one wants 50, 15 greedy", 1000, [*many(1, demand=50), *many(15)], (1.001, 0.3)),
    Row("1000/s: 20 Poisson at 20/s, 10 greedy", 1000, [*many(20, demand=20, kind="poisson"), *many(10)], (1.0, 0.3)),
    Row("10,000/s: 20 on/off, 10 greedy", 10_000, [*many(20, demand=200, kind="onoff"), *many(10)], (1.0, 0.1)),
    Row(
        "1000/s: 150 Poisson at 1.3/s, 150 greedy", 1000, [*many(150, demand=1.33, kind="poisson"), *many(150)],
        (1.0, 3.4),
    ),
    Row(
        "100/s: 300 that come each 5 s, 5 greedy", 100, [*many(300, demand=0.2, kind="poisson"), *many(5)],
        (0.997, 1.0), warm=10,
    ),
    Row("200/s: 20 greedy", 200, many(20), (1.0, 1.0)),
    Row("50/s: 20 greedy, 1 ms away", 50, many(20), (1.0, 0.0)),
    Row("50/s: 20 greedy, 20 ms away", 50, many(20, rtt=0.02), (1.0, 0.0)),
    Row("10/s: 100 greedy", 10, many(100), (1.0, 0.0), warm=30, span=100),
    Row("0.5/s: 5 greedy", 0.5, many(5), (1.0, 0.0), warm=30, span=300),
    Row("1e8/s: 20 want 2e6", 1e8, [*many(20, demand=2e6, unit=1000), *many(10, unit=1000)], (0.999, 0.3)),
    Row("weights 1 (10x), 1000 (2x)", 10_000, [*many(10, weight=1), *many(2, weight=1000)], (1.001, 0.2)),
    Row(
        "classes: high 60 %, normal and low greedy", 200,
        [*many(4, demand=30, priority="high", kind="poisson"), *many(4), *many(4, priority="low")], (0.991, 3.8),
    ),
    Row("cost of a whole bucket beside 4 small", 1000, [*many(1, unit=250.0), *many(4)], (0.999, 0.1)),
    Row("cost of 10 buckets beside 4 small", 1000, [*many(1, unit=2500.0), *many(4)], (0.987, 0.1), span=120),
    Row("half refresh late by up to 0.4 s", 1000, [*many(10, late=0.4), *many(10)], (1.001, 1.8)),
    Row("100 ms away", 1000, [*many(10, demand=20, kind="poisson", rtt=0.1), *many(10, rtt=0.1)], (0.998, 0.7)),
    Row(
        "rate 1000, 100, 1000, 10,000, 1000", 1000, [*many(10), *many(10, demand=1)], (0.988, 1.2), span=24,
        rates=[(9, 100), (13, 1000), (17, 10_000), (21, 1000)],
    ),
    Row("alone: while True: acquire()", 1000, many(1), (1.0, 0.0)),
]  # fmt: skip


def line(row: Row, m: Measured) -> str:
    """Return the row as markdown."""
    use, error = row.model
    return (
        f"| {row.name} | {m.use:.3f} ({use:.3f}) | {100 * m.error:.1f} % ({error:.1f} %) | {m.least:.2f} "
        f"| {m.worst_1s:.2f} | {m.calls_per_grant:.2f} | {m.worst_wait:.2f} s | {m.over_g1:+.2f} / {m.over_g2:+.2f} |"
    )


HEAD = """\
| Scenario | spent/budget (model) | worst error to max-min (model) | least got/due | worst 1 s / R | calls/unit \
| worst wait | over G1 / G2, in B |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    only = parser.parse_args().only
    process = launch("valkey")
    try:
        server = Server("valkey", process.port)
        print(HEAD)
        for row in ROWS:
            if only in row.name:
                print(line(row, row.run(server)), flush=True)
    finally:
        process.stop()


if __name__ == "__main__":
    main()

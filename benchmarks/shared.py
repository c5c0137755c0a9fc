"""If real processes share one limit, do they use all of it, evenly and in turn, and what does it cost?

Each process runs `while True: acquire()`. The processes are started once, and measure one subject after another: ours
and the one that fits the rate best at several numbers of processes, the others at the largest number. The server is on
the same cores, so at 1,000,000/s on few cores the loops themselves are the bottleneck. A peer that grants more than the
budget shows the edge of its window or its bucket. One that grants less shows the round trip of each of its grants.

    granted / budget    of the rate, after a while to settle
    worst 1 s           the fullest second of all processes together, as a part of the rate
    Jain                index of the processes' parts: 1 if all are equal, 1/n if one has everything
    wait                the time of an acquire; with tokens in the process it is about 0
    calls per grant     requests that Redis read; a pipeline is one
    CPU s per 1e6       of the clients, and of Redis, for a million grants
    modest              the part of its due that one process got, which asks evenly for half of an equal part
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from benchmarks.harness import Bench, Cell, Measured, Meter, Table, figure, quantile, ratio
from benchmarks.peers import BY_NAME, OURS, SMOOTH, Acquire, installed

TITLE = "One limit, many processes"
SLICE = 0.01  # seconds
SEEN = 20e-6  # seconds; an acquire that took less has not waited
PREPARE = 0.4  # seconds until all have opened their limiter
PATIENCE = 60.0  # seconds that a process may be late, because one that polls may be refused for a while

# The best fitting peer comes first: at 50/s the one that books slots, and at high rates the fastest.
PEERS = {
    50.0: ("steindamm", "throttled-py, GCRA", "pyrate-limiter", "limits, sliding"),
    1_000.0: ("throttled-py, GCRA", "steindamm", "pyrate-limiter", "limits, sliding"),
    100_000.0: ("limits, fixed", "throttled-py, token bucket"),
    1_000_000.0: ("limits, fixed", "throttled-py, token bucket"),
}
COUNTS = (1, 2, 4, 8, 16)
SLOTS = 20  # processes, if each grant is waited for
SMOOTH_AT = 1_000.0
ROUNDS = 2  # a cell takes seconds, and there are many


@dataclass(frozen=True)
class Order:
    """The order for one process; times are of the monotonic clock, which all processes share."""

    subject: str
    url: str
    key: str
    rate: float
    demand: float  # a second; inf: a plain loop
    begin: float
    settled: float
    end: float


@dataclass(frozen=True)
class Loop:
    """The figures of one process once all had settled."""

    granted: int
    waits: list[float]
    slices: dict[int, int]
    cpu_s: float
    wants: float


def work(order: Order) -> Loop:
    """Acquire until the end."""
    opened = BY_NAME[order.subject].sync
    assert opened
    with opened(order.url, order.key, order.rate) as acquire:
        time.sleep(max(0.0, order.begin - time.monotonic()))
        return greedy(acquire, order) if order.demand == float("inf") else modest(acquire, order)


def greedy(acquire: Acquire, order: Order) -> Loop:
    """Run `while True: acquire()`, with one look at the clock for each call."""
    clock, end = time.monotonic, order.end
    last = now = clock()
    while now < order.settled:
        last = now
        acquire(1)
        now = clock()
    cpu, granted, in_slice, waits, slices = time.process_time(), 0, 0, list[float](), dict[int, int]()
    mark = int(now / SLICE)
    boundary = (mark + 1) * SLICE
    while now < end:
        if now >= boundary:
            slices[mark] = in_slice
            mark, in_slice = int(now / SLICE), 0
            boundary = (mark + 1) * SLICE
        if now - last > SEEN:
            waits.append(now - last)
        granted += 1
        in_slice += 1
        last = now
        acquire(1)
        now = clock()
    slices[mark] = in_slice
    waits.append(now - last)
    return Loop(granted, waits, slices, time.process_time() - cpu, order.demand)


def modest(acquire: Acquire, order: Order) -> Loop:
    """Acquire once in `1/demand` seconds, and catch up if late."""
    cpu, granted, waits, slices = 0.0, 0, list[float](), dict[int, int]()
    due = time.monotonic()
    while due < order.end:
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        cpu = cpu or (time.process_time() if due >= order.settled else 0.0)
        began = time.monotonic()
        acquire(1)
        now = time.monotonic()
        if order.settled <= now < order.end:
            waits.append(now - began)
            granted += 1
            slices[int(now / SLICE)] = slices.get(int(now / SLICE), 0) + 1
        elif now >= order.end:
            break
        due += 1 / order.demand
    return Loop(granted, waits, slices, time.process_time() - cpu, order.demand * (order.end - order.settled))


class Team:
    """Processes that execute orders. They are started once, because a start takes longer than a measurement."""

    def __init__(self, size: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_member, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._ends.append(ours)
            self._processes.append(process)

    def run(self, orders: list[Order], meanwhile: Callable[[], None]) -> list[Loop]:
        """Send the orders, call something, and collect the figures."""
        ends = self._ends[: len(orders)]
        for end, order in zip(ends, orders, strict=True):
            end.send(order)
        meanwhile()
        found: list[Loop] = []
        for end in ends:
            if not end.poll(PATIENCE):
                raise TimeoutError(f"{orders[0].subject}: a process has not come back")
            result = end.recv()
            if isinstance(result, Exception):
                raise result
            found.append(result)
        return found

    def __enter__(self) -> Self:
        for end in self._ends:
            end.recv()  # it has imported everything
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for end, process in zip(self._ends, self._processes, strict=True):
            end.close()
            process.join(1)
            process.terminate()


def _member(end: Connection) -> None:
    end.send(True)
    while True:
        try:
            order: Order = end.recv()
        except EOFError:
            return
        try:
            end.send(work(order))
        except Exception as error:  # noqa: BLE001  # the process that gave the order raises it
            end.send(RuntimeError(f"{order.subject}: {error!r}"))


def run(bench: Bench) -> list[Table]:
    """Return a table for each rate, and one of the modest processes."""
    plan = _plan(bench)
    with Team(max(count for _, _, count, _ in plan)) as team:
        cells = {cell: _cell(bench, team, *cell) for cell in plan}
        found = bench.measure(cells, min(ROUNDS, bench.rounds))
    tables = []
    for rate in dict.fromkeys(rate for _, rate, _, _ in plan):
        table = Table(f"{TITLE}: {rate:,.0f}/s", "See above for the columns.")
        for cell in (cell for cell in plan if cell[1] == rate and not cell[3]):
            name, _, count, _ = cell
            ours, rounds = found[OURS.name, rate, count, False], found[cell]
            table.rows.append(
                {
                    "": name,
                    "processes": str(count),
                    "granted / budget": figure(rounds, "use"),
                    "ours grants": ratio(ours, rounds, "use") if name != OURS.name else "",
                    "worst 1 s": figure(rounds, "worst_1s"),
                    "Jain": figure(rounds, "jain"),
                    "wait p50 ms": figure(rounds, "p50_ms"),
                    "p99 ms": figure(rounds, "p99_ms"),
                    "worst ms": figure(rounds, "worst_ms"),
                    "calls per grant": figure(rounds, "calls"),
                    "per s and process": figure(rounds, "calls_per_s"),
                    "client CPU s per 1e6": figure(rounds, "client_cpu_s"),
                    "Redis CPU s per 1e6": figure(rounds, "redis_cpu_s"),
                }
            )
        tables.append(table)
    return [*tables, _modest(plan, found)]


Plan = tuple[str, float, int, bool]


def _modest(plan: list[Plan], found: dict[Plan, list[Measured]]) -> Table:
    table = Table(f"{TITLE}: a modest one among greedy ones", "It asks, evenly, for half of an equal part.")
    for cell in (cell for cell in plan if cell[3]):
        name, rate, count, _ = cell
        row: dict[str, Cell] = {"": name, "rate": f"{rate:,.0f}/s", "processes": str(count)}
        for column, quantity in (("got of due", "modest"), ("wait p99 ms", "modest_p99_ms")):
            row[column] = figure(found[cell], quantity)
        table.rows.append(row)
    return table


def _plan(bench: Bench) -> list[Plan]:
    """Return the cells: (subject, rate, processes, with a modest one)."""
    plan: list[Plan] = []
    for rate in bench.pick(tuple(PEERS), (50.0, 100_000.0)):
        counts = bench.pick((*COUNTS, SLOTS) if rate == min(PEERS) else COUNTS, (1, 2))
        peers = [peer.name for peer in installed(*(BY_NAME[name] for name in PEERS[rate]))]
        peers = peers[: bench.pick(len(peers), 1)]
        fewer = dict.fromkeys((*counts[::2], counts[-1]))
        plan += [(OURS.name, rate, count, False) for count in counts]
        plan += [(SMOOTH.name, rate, counts[-1], False)] * (rate == SMOOTH_AT)
        plan += [(name, rate, count, False) for name in peers[:1] for count in fewer]
        plan += [(name, rate, counts[-1], False) for name in peers[1:]]
        plan += [(name, rate, counts[-1], True) for name in (OURS.name, *peers[:2])]
    return plan


def _cell(bench: Bench, team: Team, name: str, rate: float, count: int, with_modest: bool) -> Callable[[], Measured]:
    # With few tokens a second, it takes longer until each has had its turn.
    settle, seconds = bench.pick(4.0 if rate < 100 else 3.0, 0.2), bench.pick(3.0, 0.3)

    def measured() -> Measured:
        key, begin = bench.name(), time.monotonic() + bench.pick(PREPARE, PREPARE / 4)
        settled = begin + settle
        end = settled + seconds
        demands = [float("inf")] * count
        if with_modest:
            demands[0] = rate / count / 2
        reading: Measured = {}

        def read() -> None:
            with bench.client() as client:
                time.sleep(max(0.0, settled - time.monotonic()))
                meter = Meter(client)
                time.sleep(max(0.0, end - time.monotonic()))
                reading.update(meter.read())

        loops = team.run([Order(name, bench.url, key, rate, demand, begin, settled, end) for demand in demands], read)
        return summary(rate, seconds, loops, reading)

    return measured


def summary(rate: float, seconds: float, loops: list[Loop], reading: Measured) -> Measured:
    """Measure the figures of one cell."""
    parts = [each.granted for each in loops]
    total = max(1, sum(parts))
    waits = sorted(wait for each in loops for wait in each.waits)
    shy = [each for each in loops if each.wants != float("inf")]

    def waited_ms(q: float) -> float:
        above = round((1 - q) * total)  # all other acquires took no time
        return waits[-1 - above] * 1e3 if above < len(waits) else 0.0

    return {
        "use": total / (rate * seconds),
        "worst_1s": fullest(loops, min(1.0, seconds)) / rate,
        "jain": total**2 / (len(parts) * sum(part**2 for part in parts)) if any(parts) else 0.0,
        "p50_ms": waited_ms(0.5),
        "p99_ms": waited_ms(0.99),
        "worst_ms": waits[-1] * 1e3 if waits else 0.0,
        "calls": (reading["requests"] - 3) / total,
        "calls_per_s": (reading["requests"] - 3) / seconds / len(loops),
        "client_cpu_s": sum(each.cpu_s for each in loops) / total * 1e6,
        "redis_cpu_s": reading["cpu_s"] / total * 1e6,
        "modest": sum(each.granted for each in shy) / sum(each.wants for each in shy) if shy else 0.0,
        "modest_p99_ms": quantile(sorted(w for each in shy for w in each.waits), 0.99) * 1e3,
    }


def fullest(loops: list[Loop], width_s: float) -> float:
    """Return the largest rate that all processes together were granted in any window of that width."""
    slices: dict[int, int] = {}
    for each in loops:
        for mark, count in each.slices.items():
            slices[mark] = slices.get(mark, 0) + count
    if not slices:
        return 0.0
    width = round(width_s / SLICE)
    sums = [0]
    for mark in range(min(slices), max(slices) + 1):
        sums.append(sums[-1] + slices.get(mark, 0))
    if len(sums) <= width:
        return sums[-1] / width_s
    return max(after - before for before, after in zip(sums, sums[width:], strict=False)) / width_s

"""The table at the end: both runs side by side, with figures that were measured in each run."""

from rich.table import Table

from nexus_redis.demo.measure import WARM_UP_S, Result, RunFigures

ABSENT = "-"
MEANING = (
    f"Records per second and capacity are measured in the same seconds of one run. The first {WARM_UP_S:g} s do not "
    "count, since coordination then finds out what the workers can take. The capacity is what the workers could have "
    "indexed if they had never waited for an empty queue. It differs between runs with all else that the machine does, "
    "so compare its use."
)


def seconds(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def percent(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.1f} %"


def calls(run: RunFigures) -> str:
    if not run.coordinated or run.redis_calls_per_record is None:
        return ABSENT
    return f"{run.redis_calls_per_record:.3f}"


def rows(run: RunFigures) -> list[tuple[str, str]]:
    return [
        ("records sent", f"{run.sent:,}"),
        ("records indexed", f"{run.indexed:,}"),
        ("records lost", f"{run.lost:,}"),
        ("records indexed per second", f"{run.rate:,.0f}"),
        ("capacity in the same run", f"{run.capacity:,.0f}"),
        ("use of the capacity", percent(run.use)),
        ("peak queue", f"{run.queue_peak:,} of {run.queue_limit:,}"),
        ("peak memory of the consumers", f"{run.memory_peak / 2**20:.0f} MiB"),
        ("read to indexed, p50", seconds(run.latency_p50)),
        ("read to indexed, p99", seconds(run.latency_p99)),
        ("fairness between producers (Jain)", ABSENT if run.fairness is None else f"{run.fairness:.3f}"),
        ("Redis calls per record", calls(run)),
    ]


def table_of(result: Result, *, fills: bool = False) -> Table:
    """Return both runs side by side; `fills` makes the table as wide as the terminal."""
    times = result.offered / result.capacity
    table = Table(
        title=f"{result.seconds:g} s each; offered: {result.offered:,.0f} records/s, {times:.0f} x the calibration",
        expand=fills,
    )
    table.add_column("")
    for run in result.runs:
        table.add_column("with coordination" if run.coordinated else "without", justify="right")
    for cells in zip(*(rows(run) for run in result.runs), strict=True):
        style = "bold" if cells[0][0] == "records lost" else ""
        table.add_row(cells[0][0], *(value for _, value in cells), style=style)
    return table


def verdict(result: Result) -> str:
    lost = {run.coordinated: run.lost for run in result.runs}
    if result.exit_code:
        return f"Coordination lost {lost[True]:,} records: it should lose none."
    return f"Without coordination {lost[False]:,} records were lost; with it, none."

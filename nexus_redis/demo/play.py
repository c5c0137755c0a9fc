"""The whole demo: find the lines, open Redis, measure the workers, play both runs, print the table."""

import json
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from nexus_redis.demo.broker import Broker, broker
from nexus_redis.demo.lines import Source, choose_source
from nexus_redis.demo.measure import Result, RunFigures
from nexus_redis.demo.options import Options
from nexus_redis.demo.stage import OFFERED, Accounts, Plan, calibration, fairness, measure_capacity, play_run, real_run
from nexus_redis.demo.table import MEANING, table_of, verdict
from nexus_redis.demo.view import View
from nexus_redis.demo.wire import HOME_PREFIX

TITLES = {False: "1 of 2: every producer for itself", True: "2 of 2: with one shared budget"}


def play(options: Options) -> Result:
    console = Console(stderr=options.json)
    with ends_tidily(), tempfile.TemporaryDirectory(prefix=HOME_PREFIX) as directory:
        home = Path(directory)
        source = choose_source(options.input, home)
        with broker(options) as place:
            introduce(console, options, source, place)
            plan = calibration(options, home, source.files)
            capacity = calibrate(console, plan)
            runs = tuple(
                one_run(console, real_run(options, plan, capacity, coordination), place)
                for coordination in (None, place.coordination)
            )
    result = Result(
        source.name,
        options.seconds,
        options.producers,
        options.consumers,
        capacity=capacity,
        offered=OFFERED * capacity,
        runs=runs,
    )
    console.print(table_of(result, fills=console.is_terminal), "", verdict(result), sep="\n", highlight=False)
    console.print(MEANING, style="dim", highlight=False)
    if options.json:
        json.dump(result.as_json(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    return result


def introduce(console: Console, options: Options, source: Source, place: Broker) -> None:
    console.print(
        f"{options.producers} producers read {source.name}; an indexer with {options.consumers} workers (SQLite FTS5) "
        f"takes the lines. Two runs of {options.seconds:g} s, the same work: first without coordination, then with it. "
        f"In each, one worker slows down half-way and recovers.\n",
        highlight=False,
    )
    console.print("To look inside from another terminal, during the second run:", style="dim")
    for command, shows in place.look_inside():
        console.print(f"  # {shows}", style="dim", highlight=False)
        console.print(f"  {command}", style="cyan", highlight=False, soft_wrap=True)
    console.print()


def calibrate(console: Console, plan: Plan) -> float:
    """Measure, and show meanwhile, how many records per second the workers can take."""
    view = View(console, f"Measuring for {plan.seconds:g} s what the workers can take, through the same path", plan)
    with view.open():
        capacity = measure_capacity(plan, view)
    console.print(
        f"They can take {capacity:,.0f} records/s; the producers will offer {OFFERED * capacity:,.0f}.\n",
        highlight=False,
    )
    return capacity


def one_run(console: Console, plan: Plan, place: Broker) -> RunFigures:
    coordinated = plan.coordination is not None
    view = View(console, TITLES[coordinated], plan)
    if coordinated:
        view = View(console, TITLES[True], plan, hint=place.look_inside()[0][0], budget_line=place.budget_line)
    before = place.script_calls()
    with view.open():
        accounts = play_run(plan, view)
    after = place.script_calls()
    console.print()
    calls = None if before is None or after is None else after - before
    return run_figures(accounts, plan.queue_limit, calls, coordinated=coordinated)


def run_figures(accounts: Accounts, queue_limit: int, calls: int | None, *, coordinated: bool) -> RunFigures:
    service = accounts.service
    return RunFigures(
        coordinated=coordinated,
        sent=accounts.sent,
        indexed=accounts.indexed,
        lost=service["lost"],
        rate=service["rate"],
        capacity=service["capacity"],
        queue_peak=service["queue_peak"],
        queue_limit=queue_limit,
        memory_peak=accounts.memory,
        latency_p50=service["latency_p50"],
        latency_p99=service["latency_p99"],
        busy=service["busy"],
        fairness=fairness(accounts),
        redis_calls=calls,
        redis_calls_per_record=None if calls is None or not accounts.indexed else calls / accounts.indexed,
        drained_after=service["drained_after"],
        indexed_by_producer=tuple(service["by_producer"]),
    )


@contextmanager
def ends_tidily() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does: no process and no file stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The demo: its parts by hand, and one short run of all of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from io import StringIO
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from rich.console import Console

from nexus_redis.demo import Options, Result, RunFigures
from nexus_redis.demo.children import Children
from nexus_redis.demo.index import LineIndex
from nexus_redis.demo.intake import Intake
from nexus_redis.demo.lines import LINE_LIMIT, choose_source, endless_lines
from nexus_redis.demo.measure import capacity, jain, overlap, percentile
from nexus_redis.demo.stage import Moment, Plan
from nexus_redis.demo.table import table_of
from nexus_redis.demo.view import View
from tests.harness.support import LONG_PATIENCE, PATIENCE, eventually

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "nexus_redis.demo")
RUN = RunFigures(
    coordinated=False,
    sent=100,
    indexed=40,
    lost=60,
    rate=40.0,
    capacity=40.0,
    queue_peak=20,
    queue_limit=20,
    memory_peak=2**20,
    latency_p50=0.5,
    latency_p99=1.0,
    busy=1.0,
    fairness=1.0,
    redis_calls=None,
    redis_calls_per_record=None,
    drained_after=0.1,
    indexed_by_producer=(20, 20),
)


# --- the parts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost_with", "status"), [(0, 0), (1, 1)])
def test_a_lost_record_makes_the_exit_code_1(lost_with: int, status: int) -> None:
    """Only a record that was lost under coordination makes the exit code 1."""
    with_it = replace(RUN, coordinated=True, lost=lost_with)
    result = Result("lines", 10, 2, 2, capacity=10, offered=30, runs=(RUN, with_it))
    assert result.exit_code == result.as_json()["exit_code"] == status


@pytest.mark.parametrize("wrong", [{"seconds": 1.9}, {"producers": 0}, {"consumers": 65}])
def test_an_option_out_of_its_range_is_named(wrong: dict[str, Any]) -> None:
    """An option out of its range is named in the error."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)


def test_a_full_intake_drops_and_counts() -> None:
    """A full intake keeps the oldest records and counts those that it drops."""
    intake = Intake(3)
    intake.offer([(0, 0.0, "a"), (0, 0.0, "b")])
    intake.offer([(1, 0.0, "c"), (1, 0.0, "d"), (1, 0.0, "e")])
    assert (intake.received, intake.lost, intake.peak, intake.depth()) == (5, 2, 3, 3)
    assert [line for _, _, line in intake.take(10).records] == ["a", "b", "c"]


def test_waiting_for_an_intake_is_idle_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that waits for an empty intake is idle for that time."""
    now = [100.0]
    monkeypatch.setattr("nexus_redis.demo.intake.time", SimpleNamespace(monotonic=lambda: now[0]))
    intake = Intake(3)
    intake.offer([(0, 0.0, "a")])
    busy = intake.take(1)
    assert busy.idle_from == busy.idle_until == 100

    class Waits:
        """What a worker waits on: half a second later a record is there."""

        def __enter__(self) -> None:
            """Nobody else is here."""

        def __exit__(self, *_: object) -> None:
            """Nor was."""

        def wait(self) -> None:
            now[0] += 0.5
            intake._records.append((0, 0.0, "b"))

        def notify_all(self) -> None:
            """Nobody waits."""

    monkeypatch.setattr(intake, "_changed", Waits())
    idle = intake.take(1)
    assert (idle.idle_from, idle.idle_until) == (100, 100.5)
    assert [line for _, _, line in idle.records] == ["b"]
    intake.close()
    assert not intake.take(1).records


def test_producers_of_one_file_share_its_lines(tmp_path: Path) -> None:
    """Producers of one file share its lines, and read the file again at its end."""
    file = tmp_path / "lines.txt"
    file.write_text("a\n\n  b  \nc\nd\n" + "e" * 2 * LINE_LIMIT + "\n")
    dealt = [list(islice(endless_lines([file], part, 2), 4)) for part in range(2)]
    assert dealt == [["a", "c", "e" * LINE_LIMIT, "a"], ["b", "d", "b", "d"]]


def test_producers_of_many_files(tmp_path: Path) -> None:
    """Producers of many files each read their own file."""
    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_text(file.name)
    assert list(islice(endless_lines(files, 0, 2), 3)) == ["a", "c", "a"]
    assert list(islice(endless_lines(files, 1, 2), 2)) == ["b", "b"]


@pytest.mark.parametrize("content", [None, "", "\n \n"])
def test_a_file_without_a_line_is_refused(tmp_path: Path, content: str | None) -> None:
    """A file without a line is refused before any process starts."""
    file = tmp_path / "none.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=r"none\.txt"):
        choose_source([file], tmp_path)


def test_the_index_finds_any_piece_of_a_line(tmp_path: Path) -> None:
    """The index finds any piece of a line."""
    index = LineIndex(str(tmp_path / "index.db"))
    index.add(["import os.path", "from sys import path"])
    index.add(["x = os_path(3)"], replicas=3)
    assert index.count() == 3
    assert (index.find("ort os"), index.find("os.pa"), index.find("nowhere")) == (1, 2, 0)
    index.close()


def test_the_figures_are_what_they_are_called() -> None:
    """The figures are what their names say."""
    assert percentile([4, 1, 3, 2], 50) == 2
    assert percentile(range(1, 101), 99) == 99
    assert percentile([], 50) is None
    assert jain([5, 5, 5]) == 1
    assert jain([5, 0]) == 0.5
    assert jain([0, 0]) is None
    assert overlap([(0, 1), (2, 5), (7, 9)], 3, 8) == 3
    assert capacity([300, 100, 0], [10.0, 5.0, 0.0]) == 50


# --- what one sees ---------------------------------------------------------------------------------------------------


def plan(**other: Any) -> Plan:
    given: dict[str, Any] = {
        "home": Path(), "files": (), "producers": 8, "workers": 2, "seconds": 10.0, "rate": 30.0, "queue_limit": 100,
        "has_slow_down": True, "coordination": None, **other,
    }  # fmt: skip
    return Plan(**given)


def moment(at: float, depth: int = 0, indexed: int = 0) -> Moment:
    sample = {"received": 500, "lost": 3, "depth": depth, "indexed": [indexed, 0], "slow": [True, False]}
    return Moment(at, sample)


class Clock:
    """The time that a view reads; it shows all it is given, since a second has passed each time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, *, is_terminal: bool, of: Plan, show: Any) -> list[str]:
    """What a view draws on a terminal of so many columns (the last picture), or prints into a pipe."""
    monkeypatch.setattr("nexus_redis.demo.view.time", Clock())
    console = Console(
        width=width, file=(out := StringIO()), force_terminal=is_terminal, color_system=None, legacy_windows=False
    )
    view = View(console, "a run", of)
    with view.open():
        show(view)
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "")
    return text[text.rindex("╭" if is_terminal else "a run") :].splitlines()


def test_the_start_counts_ready_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the processes start, the demo says how many of them are ready."""

    def show(view: View) -> None:
        view.starting(0, 11)
        view.starting(7, 11)

    lines = drawn(monkeypatch, 80, is_terminal=False, of=plan(rate=None), show=show)
    assert [line.partition("  starting: ")[2] for line in lines[1:]] == [
        "0 of 11 processes are ready",
        "7 of 11 processes are ready",
    ]
    assert "7 of 11 processes are ready" in "".join(drawn(monkeypatch, 80, is_terminal=True, of=plan(), show=show))


def test_each_start_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of the processes is shown one by one."""
    children = Children(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(children, "_processes", dict.fromkeys(("service", "worker 0", "producer 0")))
        news = iter(
            [("worker 0", {"kind": "ready"}), None, ("service", {"kind": "ready"}), ("producer 0", {"kind": "ready"})]
        )
        patched.setattr(children, "hear", lambda _timeout: next(news))
        patched.setattr(children, "_write", lambda _name, _message: None)
        shown: list[tuple[int, int]] = []
        children.go(lambda ready, processes: shown.append((ready, processes)))
    assert shown == [(0, 3), (1, 3), (1, 3), (2, 3)]
    with children:
        """Nothing runs; its folder goes."""


def test_the_calibration_shows_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calibration shows how far it is and what it finds."""

    def show(view: View) -> None:
        view.watch(moment(1.0, indexed=100))
        view.watch(moment(2.0, indexed=350))

    lines = drawn(monkeypatch, 80, is_terminal=False, of=plan(rate=None), show=show)
    assert lines[-1].split() == ["2.0", "s", "indexed", "350", "250", "records/s"]
    picture = "\n".join(drawn(monkeypatch, 80, is_terminal=True, of=plan(rate=None), show=show))
    assert "2.0 s" in picture
    assert "250 records/s" in picture
    assert "queue" not in picture
    assert "lost" not in picture


@pytest.mark.parametrize("width", [80, 132, 200])
def test_the_panel_fills_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """The panel fills the terminal, and the curve lies under the time."""

    def show(view: View) -> None:
        for at in range(11):
            view.watch(moment(float(at), depth=100 if at in (5, 6) else 0))

    lines = drawn(monkeypatch, width, is_terminal=True, of=plan(), show=show)
    assert {len(line) for line in lines if line} == {width}
    (bar,) = re.findall("━+", next(line for line in lines if " time " in line))
    (curve,) = re.findall("[▁▂▃▄▅▆▇█]+", next(line for line in lines if " queue " in line))
    assert len(bar) == len(curve) >= width - 45
    assert (curve.count("█") / len(curve), curve.index("█") / len(curve)) == pytest.approx((0.2, 0.5), abs=0.02)


@pytest.mark.parametrize("width", [70, 140])
def test_the_table_fills_the_terminal(width: int) -> None:
    """The table sets what was done beside the capacity of the same run, and fills the terminal."""
    with_it = replace(RUN, coordinated=True, lost=0, rate=480.0, capacity=500.0)
    result = Result(
        "lines", 10, 2, 2, capacity=1000, offered=3000, runs=(replace(RUN, rate=990.0, capacity=990), with_it)
    )
    console = Console(width=width, file=(out := StringIO()), force_terminal=True, color_system=None)
    console.print(table_of(result, fills=True))
    lines = out.getvalue().splitlines()
    assert {len(line) for line in lines[1:]} == {width}
    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:4]] for line in lines if "│" in line
    }
    assert rows["records indexed per second"] == ["990", "480"]
    assert rows["capacity in the same run"] == ["990", "500"]
    assert rows["use of the capacity"] == ["100.0 %", "96.0 %"]
    assert "offered: 3,000 records/s, 3 x the calibration" in lines[0]


# --- all of it, once -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What a short demo left behind."""

    status: int
    table: dict[str, Any]
    progress: str
    files: list[str]

    @property
    def runs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        without, with_it = self.table["runs"]
        return without, with_it


def environment(temporary: Path) -> dict[str, str]:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": paths}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A demo of 3 s, with lines from a pipe and JSON on stdout."""
    temporary = tmp_path_factory.mktemp("demo")
    process = subprocess.run(
        (*COMMAND, "--json", "--seconds", "3", "--producers", "3"),
        input=Path(os.__file__).read_bytes(),
        capture_output=True,
        env=environment(temporary),
        timeout=LONG_PATIENCE,
        check=False,
    )
    assert process.stdout, process.stderr.decode()
    return Shown(
        process.returncode,
        json.loads(process.stdout),
        process.stderr.decode(),
        sorted(path.name for path in temporary.iterdir()),
    )


@pytest.mark.slow
def test_each_record_is_indexed_or_lost(shown: Shown) -> None:
    """Every record that was sent was indexed or is counted as lost."""
    for run in shown.runs:
        assert run["sent"] == run["indexed"] + run["lost"] > 0
        assert sum(run["indexed_by_producer"]) == run["indexed"]


@pytest.mark.slow
def test_a_second_run_asks_redis(shown: Shown) -> None:
    """The queue holds no more than its limit, and the second run asks Redis."""
    without, with_it = shown.runs
    for run in shown.runs:
        assert 0 < run["queue_peak"] <= run["queue_limit"]
    assert (without["redis_calls"] or 0) < with_it["redis_calls"]


@pytest.mark.soak  # on an idle machine: a busy one may be slower in one run than in the other
def test_only_coordination_loses_nothing(shown: Shown) -> None:
    """Without coordination records are lost, and with it none is."""
    without, with_it = shown.runs
    assert without["lost"] > 0
    assert without["queue_peak"] == without["queue_limit"]
    assert with_it["lost"] == 0
    assert with_it["queue_peak"] < with_it["queue_limit"]


@pytest.mark.slow
def test_the_json_has_every_figure(shown: Shown) -> None:
    """The JSON has every figure and the exit code."""
    assert set(shown.table) == {field.name for field in fields(Result)} | {"exit_code"}
    assert [run["coordinated"] for run in shown.runs] == [False, True]
    for run in shown.runs:
        assert set(run) == {field.name for field in fields(RunFigures)}
        assert 0 < run["busy"] <= 1
        assert 0 < run["rate"] <= run["capacity"] * 1.001
        assert 0 < run["fairness"] <= 1
        assert 0 < run["latency_p50"] <= run["latency_p99"]
    assert shown.table["source"] == "stdin"
    assert shown.status == shown.table["exit_code"] == int(shown.runs[1]["lost"] > 0)


@pytest.mark.slow
def test_a_demo_leaves_no_file(shown: Shown) -> None:
    """The demo says how to look inside, and leaves no file."""
    assert "HGETALL 'nexus:{elasticsearch}'" in shown.progress
    calibration = shown.progress.partition("Measuring for ")[2].partition("They can take")[0]
    assert "starting: 0 of 6 processes are ready" in calibration
    assert " records/s" in calibration
    assert shown.files == []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long demo in its calibration, all its processes running."""
    process = subprocess.Popen(
        (*COMMAND, "--seconds", "60", "--producers", "2", "--input", __file__),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**environment(tmp_path), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    assert process.stdout
    try:
        for line in process.stdout:
            if line.startswith("Measuring"):
                break
        children = psutil.Process(process.pid).children
        assert eventually(lambda: any("nexus_redis.demo.producer" in child.cmdline() for child in children()))
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_end_leaves_a_process(started: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    """However the demo ends, no process and no file stays."""
    children = psutil.Process(started.pid).children(recursive=True)
    assert children
    if number == signal.SIGINT:
        os.killpg(started.pid, number)  # as a terminal does
    else:
        started.send_signal(number)
    status = started.wait(PATIENCE)
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    _, alive = psutil.wait_procs(children, PATIENCE)
    assert not alive
    assert not list(tmp_path.iterdir())

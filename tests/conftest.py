"""The test matrix: `server` runs a test on every kind, `real_server` on those with an address, `one_server` on one.

The product gives a call to Redis a quarter of a second, so that an outage is noticed soon. A busy machine stops a test,
or its server, for longer than that, and the test is about something else: here each such limit is a minute (`patient`).
What is about these limits says them itself, in an address (`?socket_timeout=0.1`), or is marked `hurried`.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import settings

from nexus_redis._core import round_trips
from nexus_redis._drivers import tasks, threaded
from nexus_redis._protocol import scripts
from nexus_redis._redis import address, connect, embedded, pubsub
from nexus_redis._redis.embedded import ServerProcess
from nexus_redis._runtime import log_thread
from tests.harness.coordinators import COMPOSED
from tests.harness.fleets import FLEETS, Fleet, FleetServer
from tests.harness.plain_bundle import without_rules
from tests.harness.servers import FAKE, KINDS, MISSING, REAL, Server, binary, launch
from tests.harness.support import PATIENCE
from tools import bundle_lua

MODULES = (embedded, round_trips, pubsub, address, tasks, threaded, connect)
LIMITS = (
    "CALL_TIMEOUT", "CONNECT_TIMEOUT", "FIRST_LIMIT", "LATEST_LIMIT", "PROBE_TIMEOUT_S", "SOONEST_LIMIT",
    "START_TIMEOUT_S", "STOP_PATIENCE", "STOP_TIMEOUT_S",
)  # fmt: skip

# A busy machine makes single examples slow, and CI should fail for what changed and not for what it happened to draw.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
IS_CI = os.environ.get("CI") == "true"
settings.load_profile("ci" if IS_CI else "default")

# `nohup make test &` ignores these, and so would every process that the tests start and then signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait, with many processes, go one after the other in two lanes, beside all the rest."""
    for item in items:
        if item.get_closest_marker("slow"):
            lane = "slow docs" if item.path.parent.name == "docs" else "slow"
            item.add_marker(pytest.mark.xdist_group(lane))
        elif "spare_redis" in getattr(item, "fixturenames", ()):
            item.add_marker(COMPOSED)
        elif is_fast(item):
            item.add_marker("fast")
        kind = getattr(getattr(item, "callspec", None), "params", {}).get("server")
        if kind in FLEETS:
            item.add_marker(pytest.mark.xdist_group("fleets"))  # one worker starts them
            if not item.get_closest_marker("fleets"):
                item.add_marker("soak")


def pytest_collection_finish() -> None:
    """Have the garbage collector leave the tests themselves alone: to look at them again took a quarter of the time."""
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long text by its length: pytest puts a test's name into the environment, whose entries are limited."""
    return f"{argname} of {len(val)}" if isinstance(val, str | bytes) and len(val) > 200 else None


def is_fast(item: pytest.Item) -> bool:
    """Whether it needs nothing but this process: no real server, no other program. And it is not marked as long."""
    fixtures = getattr(item, "fixturenames", ())
    given = getattr(getattr(item, "callspec", None), "params", {})
    kind = given.get("server", given.get("story"))
    uses_server = (
        kind != FAKE if {"server", "story"} & set(fixtures) else "processes" in fixtures or "nexus_server" in fixtures
    )
    starts_others = {"subprocess", "launch", "Workers"} & vars(getattr(item, "module", None)).keys()
    return not (uses_server or starts_others or item.get_closest_marker("soak"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip would be a hole that nobody sees: in CI everything is there, so it fails."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and IS_CI:
        report.outcome, report.longrepr = "failed", f"skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _said() -> Iterator[None]:
    """A test's log is its own: what it caused is said before the next one begins."""
    yield
    log_thread.flush(60)


def after_all_is_said(look: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`look`, when all that was said so far has been handled: that is done by another thread."""

    def wait_and_look(self: Any) -> Any:
        log_thread.flush(60)
        return look(self)

    return wait_and_look


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """pytest's, which waits for the thread that hands our records to its handler."""
    kind = type(caplog)
    for name in ("text", "records", "record_tuples", "messages"):
        monkeypatch.setattr(kind, name, property(after_all_is_said(getattr(kind, name).fget)))
    monkeypatch.setattr(kind, "clear", after_all_is_said(kind.clear))
    return caplog


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest) -> Iterator[None]:
    """A minute for whatever the product has a limit for in real seconds."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("hurried"):
            for module in MODULES:
                for name in vars(module).keys() & set(LIMITS):
                    patch.setattr(module, name, PATIENCE)
        yield


@pytest.fixture(scope="session")
def processes() -> Iterator[dict[str, ServerProcess]]:
    """The real servers by kind, each started by the first test that needs it."""
    running: dict[str, ServerProcess] = {}
    yield running
    for process in running.values():
        process.stop()


@pytest.fixture(scope="session")
def fleets() -> Iterator[dict[str, Fleet]]:
    """Clusters, and primaries behind Sentinels, by kind, each started by the first test that needs it."""
    running: dict[str, Fleet] = {}
    yield running
    for fleet in running.values():
        fleet.stop()


def serve_fleet(kind: str, fleets: dict[str, Fleet]) -> Iterator[Server]:
    """One of FLEETS, empty."""
    program = kind.partition("-")[2]
    if binary(program) is None:
        pytest.skip(MISSING[program])
    if kind in fleets and not fleets[kind].is_alive():
        fleets.pop(kind).stop()
    if kind not in fleets:
        fleets[kind] = FLEETS[kind]()
    server = FleetServer(fleets[kind])
    server.flush()
    yield server
    server.close()


def serve(kind: str, processes: dict[str, ServerProcess]) -> Iterator[Server]:
    """One of KINDS, empty."""
    if kind != FAKE and binary(kind) is None:
        pytest.skip(MISSING[kind])
    process = None if kind == FAKE else _alive(kind, processes)
    server = Server(kind) if process is None else Server(kind, process.port, process.directory)
    server.flush()
    yield server
    server.close()


def _alive(kind: str, processes: dict[str, ServerProcess]) -> ServerProcess:
    if kind in processes and not processes[kind].is_alive():  # a test has killed it
        processes.pop(kind).stop()
    if kind not in processes:
        processes[kind] = launch(kind)
    return processes[kind]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, processes: dict[str, ServerProcess]) -> Iterator[Server]:
    """Each kind in turn, empty."""
    yield from serve(request.param, processes)


@pytest.fixture(params=REAL)
def real_server(request: pytest.FixtureRequest, processes: dict[str, ServerProcess]) -> Iterator[Server]:
    """Each kind that has an address, empty."""
    yield from serve(request.param, processes)


@pytest.fixture
def one_server(processes: dict[str, ServerProcess]) -> Iterator[Server]:
    """One real server, empty: for what does not depend on which."""
    yield from serve("valkey", processes)


PLACEHOLDER = "10007"  # claims a second, a number that stands nowhere else


@functools.cache
def _with_placeholder(name: str) -> str:
    """A script that lets a fleet make so many claims a second as stands there: seconds of work, so done once."""
    real = "local CLAIMS_PER_S = 10000"
    assert real in (bundle_lua.LUA / "lib" / "crowd.lua").read_text()
    source = bundle_lua.source
    with pytest.MonkeyPatch.context() as patch, without_rules():
        instead = f"local CLAIMS_PER_S = {PLACEHOLDER}"
        patch.setattr(bundle_lua, "source", lambda path: source(path).replace(real, instead))
        return bundle_lua.composed(bundle_lua.LUA / f"{name}.lua")


@pytest.fixture
def spare_redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """`spare_redis(100)`: scripts that let a fleet make no more than 100 claims a second, so that 20 are a crowd."""

    def spare(claims_per_s: float) -> None:
        assert PLACEHOLDER in _with_placeholder("claim")
        monkeypatch.setattr(
            scripts, "_bundled", lambda name: _with_placeholder(name).replace(PLACEHOLDER, f"{claims_per_s:g}")
        )
        scripts.script.cache_clear()

    yield spare
    monkeypatch.undo()
    scripts.script.cache_clear()

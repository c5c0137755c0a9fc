"""The test kit that users get: `nexus_redis.testing`."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_redis import AcquireTimeout, InvalidSetting, Nexus
from nexus_redis import asyncio as nexus_asyncio
from nexus_redis._values import error_texts
from nexus_redis.testing import ManualClock, assert_never_exceeded
from tests.harness.fleet import excess
from tests.harness.refusals import refusal
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, PATIENCE, join, run

T = TypeVar("T")


def test_a_log_within_the_budget_passes() -> None:
    """A log within the budget passes, and the result says how much was spare."""
    log = [(at / 100, 1.0) for at in range(1000)]
    assert assert_never_exceeded(log, "100/s", lease=0) == pytest.approx(25)
    assert assert_never_exceeded(log, "100/s") == pytest.approx(75)
    assert assert_never_exceeded([], 5, lease=0) == pytest.approx(2.25)


@pytest.mark.parametrize("entry", [(float("nan"), 1.0), (1.0, float("nan")), (1.0, -5.0), (float("inf"), 1.0)])
def test_a_bad_log_is_refused(entry: tuple[float, float]) -> None:
    """A log that cannot be judged is refused."""
    refused = ("log", error_texts.MALFORMED_LOG)
    assert refusal(lambda: assert_never_exceeded([(0.0, 1.0), entry], 100)) == refused


def test_a_too_full_window_is_named() -> None:
    """A window that holds too much is named with its numbers."""
    log = [(at / 90, 1.0) for at in range(900)] + [(9.995, 80.0)]
    with pytest.raises(AssertionError) as exceeded:
        assert_never_exceeded(log, "100/s")
    first, last = 899 / 90, 9.995
    allowed = 76 + 100 * (last - first)
    told = error_texts.budget_exceeded(81, first, last, allowed, rate=100, burst=0.25, lease=0.5)
    assert str(exceeded.value) == told
    assert_never_exceeded(log, "100/s", largest=80)


def test_the_order_of_a_log_is_free() -> None:
    """The order of the entries of a log does not matter."""
    log = [(3.0, 2.0), (1.0, 1.0), (2.0, 1.0)]
    assert assert_never_exceeded(log, 2) == assert_never_exceeded(sorted(log), 2)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 50)), min_size=1, max_size=30),
    st.floats(0.1, 100),
    st.floats(0, 2),
    st.floats(0, 1),
)
def test_it_finds_the_fullest_window(log: list[tuple[float, float]], rate: float, burst: float, lease: float) -> None:
    """The check finds what looking at every window finds."""
    log.sort()
    spare = min(
        1 + (burst + lease) * rate + rate * (log[j][0] - log[i][0]) - sum(tokens for _, tokens in log[i : j + 1])
        for i in range(len(log))
        for j in range(i, len(log))
    )
    if abs(spare) < 1e-4:  # a knife's edge says nothing
        return
    if spare < 0:
        with pytest.raises(AssertionError):
            assert_never_exceeded(log, rate, burst=burst, lease=lease)
    else:
        assert assert_never_exceeded(log, rate, burst=burst, lease=lease) == pytest.approx(min(spare, 1e9), abs=1e-3)


def test_both_judges_agree() -> None:
    """The check agrees with the judge of the fleet's own tests."""
    log = [(at / 50, 1.0) for at in range(500)]
    own = excess(log, lambda t: 40 * t, 0.5, 1 + 0.25 * 40)
    with pytest.raises(AssertionError):
        assert_never_exceeded(log, 40)
    assert own > 0
    assert assert_never_exceeded(log, 50) == pytest.approx(-excess(log, lambda t: 50 * t, 0.5, 13.5))


@pytest.mark.parametrize("wrong", [{"rate": -1}, {"rate": 1, "burst": -1}, {"rate": 1, "lease": float("nan")}])
def test_a_bad_bound_is_refused(wrong: dict[str, float]) -> None:
    """A bound that is impossible is refused."""
    rate = wrong.pop("rate")
    with pytest.raises(InvalidSetting):
        assert_never_exceeded([], rate, **wrong)


# --- the clock: what it is by itself; budgets live by it in tests/contract/test_hours.py


def test_time_stands_still_until_somebody_waits(one_server: Server) -> None:
    """Time stands still until a caller waits."""
    with ManualClock() as clock, Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate="1/s")
        assert clock.now == 0
        budget.acquire()
        at = clock.now
        budget.snapshot()
        with budget.consumer(capacity=1) as consumer:
            consumer.report(load=10)
        assert clock.now == at
        assert budget.acquire().waited == pytest.approx(clock.now - at)
        with pytest.raises(AcquireTimeout) as late:
            budget.acquire(5, timeout=0.25)
        assert late.value.waited == pytest.approx(0.25)
        clock.advance(10)
        assert clock.now == pytest.approx(at + 11.25, abs=0.1)


def test_work_takes_time_by_the_clock(one_server: Server) -> None:
    """Work takes the time that passes by the clock."""
    with ManualClock() as clock, Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("index")
        with budget.consumer() as consumer:
            with consumer.work(10):
                clock.advance(2)
            clock.advance(1)
            latency_ms = budget.snapshot().consumers[0].fields["latency_ms"]
        assert float(latency_ms) == pytest.approx(2000, rel=0.02)


def test_a_nexus_keeps_its_clock(one_server: Server) -> None:
    """A nexus lives by the clock that was there when it was made."""
    with Nexus.from_url(one_server.url) as before, ManualClock() as clock:
        before.budget("real", rate=1000).acquire(260)
        assert clock.now == 0
        with Nexus.from_url(one_server.url) as during:
            budget = during.budget("manual", rate=1)
    with Nexus.from_url(one_server.url) as after:
        after.budget("real", rate=1000).acquire()
    assert clock.now == 0
    assert budget.name == "manual"


def test_a_fleet_by_the_clock_is_repeatable(one_server: Server) -> None:
    """A fleet on one clock is the same each time."""

    def story() -> list[tuple[float, int]]:
        one_server.flush()
        with ManualClock() as clock, Nexus.from_url(one_server.url) as nexus:
            producers = [nexus.budget("stripe", rate=20).producer(f"p{i}", weight=1 + i) for i in range(3)]
            served = []
            for i in range(100):
                producers[i % 3].acquire(1 + i % 2)
                served.append((clock.now, i))
            return served

    assert story() == story()


def test_a_hopeless_wait_is_told(one_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A caller who waits for tokens that will not come is told so."""
    caplog.set_level(logging.ERROR)  # that the budget has no rate is said too
    with ManualClock(patience=60) as clock, Nexus.from_url(one_server.url) as nexus:
        with pytest.raises(AssertionError) as hopeless:
            nexus.budget("nobody").acquire()
        assert str(hopeless.value) == error_texts.not_served(60)
        assert clock.now == pytest.approx(60)
        nexus.budget("stripe", rate="1/min").acquire()
        nexus.budget("stripe").acquire(timeout=120)  # a timeout is the test's own patience

    async def main() -> None:
        with ManualClock(patience=60):
            async with nexus_asyncio.Nexus.from_url(one_server.url) as nexus:
                with pytest.raises(AssertionError) as hopeless:
                    await nexus.budget("nobody").acquire()
                assert str(hopeless.value) == error_texts.not_served(60)

    run(main())


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf")])
def test_time_does_not_go_back(wrong: float) -> None:
    """Time does not go back."""
    assert refusal(lambda: ManualClock().advance(wrong)) == ("seconds", error_texts.TIME_GOES_BACK)


def test_sleepers_do_not_stop_waiters(one_server: Server) -> None:
    """Tasks that wait are served in turn while another task sleeps."""
    log: list[tuple[float, float]] = []

    async def work(budget: nexus_asyncio.Budget, clock: ManualClock) -> None:
        while clock.now < 60:
            await budget.acquire()
            log.append((clock.now, 1.0))

    async def main() -> None:
        with ManualClock() as clock:
            async with nexus_asyncio.Nexus.from_url(one_server.url) as nexus:
                budget = nexus.budget("stripe", rate=10)
                tasks = [asyncio.create_task(work(budget, clock)) for _ in range(5)]
                await clock.sleep(30)
                assert clock.now == 30
                half = len(log)
                await asyncio.gather(*tasks)
                assert half == pytest.approx(len(log) / 2, abs=10)

    run(main())
    assert_never_exceeded(log, 10)
    assert len(log) == pytest.approx(600, abs=15)


def test_a_cancelled_task_takes_nothing(one_server: Server) -> None:
    """A task that is cancelled while time stands still takes no tokens."""

    async def main() -> None:
        with ManualClock() as clock:
            async with nexus_asyncio.Nexus.from_url(one_server.url) as nexus:
                budget = nexus.budget("stripe", rate="1/min")
                await budget.acquire()
                waits = asyncio.create_task(budget.acquire())
                await clock.sleep(5)
                waits.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waits
                at = clock.now
                await budget.acquire()
                assert clock.now - at < 60

    run(main())


def test_threads_share_one_clock(one_server: Server) -> None:
    """Threads wait on one clock and never exceed the budget."""
    log: list[tuple[float, float]] = []
    with ManualClock() as clock, Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate=10)

        def work() -> None:
            for _ in range(50):
                budget.acquire()
                log.append((clock.now, 1.0))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        join(*threads)
    assert len(log) == 200
    assert_never_exceeded(log, 10)


def test_work_between_waits_takes_no_time(one_server: Server) -> None:
    """What threads do between two waits takes no time."""
    with ManualClock() as clock, Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate=100)

        def work() -> None:
            with budget.producer() as producer:
                for _ in range(10):
                    producer.acquire()
                    sum(range(5000))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        join(*threads)
        assert clock.now < 4  # 0.8 s, and never through a timer of a minute that nobody waits for


def test_cancelled_tasks_may_still_wait(one_server: Server) -> None:
    """Tasks that are all cancelled may wait by the clock while they end."""

    def others() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {asyncio.current_task()}

    async def main() -> float:
        with ManualClock() as clock:
            async with nexus_asyncio.Nexus.from_url(one_server.url) as nexus:
                budget = nexus.budget("stripe", rate=0)

                async def wait() -> None:
                    try:
                        await budget.acquire()
                    finally:
                        await clock.sleep(1)

                tasks = [asyncio.create_task(wait()) for _ in range(2)]
                await clock.sleep(5)
                for each in others():
                    each.cancel()  # the clock's own as well
                async with asyncio.timeout(PATIENCE):
                    await asyncio.gather(*tasks, return_exceptions=True)
                return clock.now

    assert run(main()) == pytest.approx(6, abs=0.1)


def test_event_loops_in_threads_share_no_time(one_server: Server) -> None:
    """Event loops in threads of their own do not move time for one another."""

    async def open_budget() -> nexus_asyncio.Budget:
        return nexus_asyncio.Nexus.from_url(one_server.url).budget("stripe", rate=20)

    loops = [asyncio.new_event_loop() for _ in range(2)]
    threads = [threading.Thread(target=loop.run_forever) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        with ManualClock() as clock:

            def call(at: int, task: Coroutine[Any, Any, T]) -> T:
                return asyncio.run_coroutine_threadsafe(task, loops[at]).result(PATIENCE)

            budgets = [call(at, open_budget()) for at in (0, 1)]
            for _ in range(60):
                for at in (0, 1):
                    call(at, budgets[at].try_acquire())
                clock.advance(0.03)
            assert clock.now == pytest.approx(60 * 0.03)
            for at in (0, 1):
                call(at, budgets[at]._nexus.close())
    finally:
        for loop in loops:
            loop.call_soon_threadsafe(loop.stop)
        join(*threads)
        for loop in loops:
            loop.close()


def test_the_clock_may_stand_in_for_sleep(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock may stand in for `sleep`."""
    with ManualClock() as clock, Nexus.from_url(one_server.url) as nexus:
        monkeypatch.setattr(time, "sleep", clock.advance)
        monkeypatch.setattr(asyncio, "sleep", clock.sleep)
        budget = nexus.budget("stripe", rate="6/min")
        for _ in range(20):
            while not budget.try_acquire():
                time.sleep(1)
        assert clock.now == pytest.approx(19 * 10, abs=2)
        run(asyncio.sleep(100))
        assert clock.now == pytest.approx(19 * 10 + 100, abs=2)


# --- in a project of one's own

USERS_TESTS = """
import os, time
import nexus_redis
from nexus_redis.testing import assert_never_exceeded

def test_the_server_is_real_and_empty(nexus_server):
    with nexus_redis.Nexus.from_url() as nexus:  # the environment leads there
        assert nexus.url == nexus_server.url
        assert nexus.budgets() == []
        nexus.budget("stripe", rate=5).acquire()
        assert nexus.budgets() == ["stripe"]

def test_and_empty_again(nexus, nexus_server):
    assert nexus.budgets() == []
    log = [(time.monotonic(), 1.0) for _ in nexus.budget("stripe", rate=50).pace(range(40))]
    assert_never_exceeded(log, 50)

def test_an_hour_passes_in_a_moment(nexus, clock):  # the clock comes first, whatever the order
    budget = nexus.budget("reports", rate="60/h")
    log = [(clock.now, 1.0) for _ in budget.pace(range(10))]
    assert_never_exceeded(log, "60/h")
    clock.advance(3600)
    assert 3600 + 9 * 60 - 2 <= clock.now < 3600 + 9 * 60 + 2

def test_time_is_real_again(nexus):
    nexus.budget("reports", rate=1000).acquire()

def test_the_environment_is_as_it_was():
    assert "NEXUS_REDIS_URL" not in os.environ
"""


def test_a_project_gets_the_fixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's project gets the fixtures with one line."""
    monkeypatch.delenv("NEXUS_REDIS_URL", raising=False)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["nexus_redis.testing"]\n')
    (tmp_path / "test_ours.py").write_text(USERS_TESTS)
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    page = re.sub(r"^```python\n.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)  # programs, run by test_docs.py
    blocks = re.findall(r"(?:^(?:    .*)?\n)*^    .*def test_(?:.*\n(?:    |$))*.*\n", page, re.MULTILINE)
    assert "".join(blocks).count("def test_") == page.count("def test_") == 3
    (tmp_path / "test_page.py").write_text(textwrap.dedent("".join(blocks)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, check=False, timeout=LONG_PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 passed" in done.stdout


def test_the_kit_works_without_pytest(one_server: Server) -> None:
    """The clock and `assert_never_exceeded` work where pytest is not installed."""
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    [program] = [
        code for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "unittest" in code
    ]
    hidden = "import sys; sys.modules['pytest'] = sys.modules['_pytest'] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", hidden + program], capture_output=True, text=True, check=False,
        env={**os.environ, "NEXUS_REDIS_URL": one_server.url},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr

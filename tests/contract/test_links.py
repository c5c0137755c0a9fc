"""What it costs when real processes lose a real server: the worst window of each fault beside its published bound.

The bounds are those of docs/operations.md, "What an outage can cost". Each test prints a row for each rate:

    pytest -m soak tests/contract/test_links.py -s

tests/lua/test_outage.py has the same in virtual time, with more rates and at each moment.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks.failover import worst_window
from nexus_redis._protocol.calls import DEFAULT_BURST as BURST
from nexus_redis._protocol.calls import LEASE
from tests.harness.linked import CUTS, Linked, let_pass
from tests.harness.servers import Server, launch
from tests.harness.support import now, row

pytestmark = [pytest.mark.soak, pytest.mark.slow]

RATES: Final = (5.0, 500.0, 5000.0)
DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")
SETTLED: Final = 2.0  # seconds until each has its share


def bound(rate: float) -> float:
    """What any window may hold beyond R w: the bucket, and 1.5 R."""
    return 1 + rate / 4 + 1.5 * rate


def bound_of_shares(rate: float, count: int) -> float:
    """What it may hold beyond R/2 w where nobody reaches Redis: R/8, and a token for each process."""
    return BURST * rate / 2 + count


def bound_of_leases(rate: float) -> float:
    """What it may hold where Redis answers all who live: the bucket and a lease."""
    return 1 + rate / 4 + rate * LEASE


@pytest.fixture(scope="module", params=[2, 6, 32])
def running(request: pytest.FixtureRequest) -> Iterator[Linked]:
    """So many, which run through all faults, one after another: to start 32 takes longer than most of these last."""
    server = launch("valkey")
    try:
        with Linked(server.port, request.param, RATES) as linked:
            yield linked
    finally:
        server.stop()


@pytest.fixture
def linked(running: Linked) -> Linked:
    """All links are up, and each has its share."""
    for i in range(len(running.links)):
        running.mend(i)
    let_pass(SETTLED)
    running.begin()
    return running


@pytest.fixture
def six(one_server: Server) -> Iterator[Linked]:
    """A process each."""
    with Linked(one_server.port, 6, RATES) as linked:
        let_pass(SETTLED)
        linked.begin()
        yield linked


def assert_bound(linked: Linked, fault: str, allowed: Callable[[float], float] = bound) -> None:
    """Print a row for each rate, and compare."""
    count, broken = len(linked.links), []
    for rate in linked.rates:
        times, alone = linked.times(rate), linked.times(rate, is_degraded=True)
        worst, most = worst_window(times, rate), allowed(rate)
        row(f"{fault}, {count} processes, R {rate:g}", worst, most, f"{len(alone)} of {len(times)} without Redis")
        if worst > most:
            broken.append(f"R {rate:g}: {worst:.1f} of {most:.1f}")
    assert not broken


def assert_half(linked: Linked, fault: str, began: float, ended: float) -> None:
    """While none of them reaches Redis: half of the rate in all."""
    count, broken = len(linked.links), []
    for rate in linked.rates:
        times = [at for at in linked.times(rate) if began <= at < ended]
        worst, most = worst_window(times, rate / 2), bound_of_shares(rate, count)
        row(f"{fault}, beyond R/2, {count} processes, R {rate:g}", worst, most, f"{len(times)} in all")
        if worst > most:
            broken.append(f"R {rate:g}: {worst:.1f} of {most:.1f}")
        assert len(times) >= (ended - began) * rate / 5 - count
    assert not broken


def test_links_cut_one_after_another(linked: Linked) -> None:
    """The bound holds for links that are cut one after another."""
    count = len(linked.links)
    for i in range(count):
        linked.cut(i, CUTS[i % len(CUTS)])
        let_pass(5 / count)
    began = now() + LEASE - 5 / count
    let_pass(6)
    ended = now()
    for i in range(count):
        linked.mend(i)
        let_pass(1.5 / count)
    let_pass(2)
    assert_bound(linked, "cut one after another")
    assert_half(linked, "cut one after another", began, ended)


def test_links_all_cut_at_once(linked: Linked) -> None:
    """The bound holds for links that are all cut at once."""
    for i in range(len(linked.links)):
        linked.cut(i, "refused")
    began = now() + LEASE
    let_pass(14)  # in which each of 32 has earned its first token of 5/s
    ended = now()
    for i in range(len(linked.links)):
        linked.mend(i)
    let_pass(3)
    assert_bound(linked, "all cut at once")
    assert_half(linked, "all cut at once", began, ended)


def test_half_of_the_links_cut(linked: Linked) -> None:
    """The bound holds when half of the links are cut for six seconds."""
    count = len(linked.links)
    for i in range(count // 2):
        linked.cut(i, CUTS[i % len(CUTS)])
    let_pass(6)
    for i in range(count // 2):
        linked.mend(i)
    let_pass(3)
    assert_bound(linked, "half cut off for 6 s")


def test_flapping_links(linked: Linked) -> None:
    """The bound holds for links that flap."""
    dice, count = random.Random(len(linked.links)), len(linked.links)
    until = now() + 12
    while now() < until:
        for i in range(count):
            linked.mend(i)
            if (how := dice.choice(["up", "up", *CUTS])) != "up":
                linked.cut(i, how)
        let_pass(dice.choice([0.1, 0.3, 0.9, 2.5]) * dice.random())
    for i in range(count):
        linked.mend(i)
    let_pass(2)
    assert_bound(linked, "flapping for 12 s")


def test_dropped_replies(linked: Linked) -> None:
    """The bound holds for replies that are dropped."""
    for link in linked.links:
        link.loss = 0.3
    let_pass(7)
    for link in linked.links[::2]:
        link.loss = 1.0
    let_pass(4)
    for i in range(len(linked.links)):
        linked.mend(i)
    let_pass(2)
    assert_bound(linked, "replies dropped for 11 s")


def test_killed_processes(six: Linked) -> None:
    """The bound holds for processes that are killed."""
    for i in range(3):
        six.signal(i, signal.SIGKILL)
        let_pass(0.7)
    let_pass(4)
    assert_bound(six, "3 killed one after another", bound_of_leases)


def test_stopped_processes(six: Linked) -> None:
    """The bound holds for processes that stand still."""
    for _ in range(3):
        for i in range(3):
            six.signal(i, signal.SIGSTOP)
        let_pass(1.7)
        for i in range(3):
            six.signal(i, signal.SIGCONT)
        let_pass(0.8)
    assert_bound(six, "3 stopped for 1.7 s, three times", bound_of_leases)


@pytest.mark.parametrize("how", ["stopped for 3 s", "started again with its data", "started again empty"])
def test_a_server_goes_away(how: str, tmp_path: Path) -> None:
    """The bound holds for a server that goes away."""
    server = launch("valkey", *DURABLE)
    try:
        with Linked(server.port, 6, RATES) as linked:
            let_pass(SETTLED)
            linked.begin()
            assert server.pid is not None
            if how == "stopped for 3 s":
                os.kill(server.pid, signal.SIGSTOP)
                let_pass(3)
                os.kill(server.pid, signal.SIGCONT)
            else:
                os.kill(server.pid, signal.SIGKILL)
                if how == "started again with its data":
                    shutil.copytree(server.directory, tmp_path, dirs_exist_ok=True)
                server.stop()
                let_pass(2)
                server = launch("valkey", *DURABLE, "--dir", str(tmp_path))
                for link in linked.links:
                    link.target = server.port
            let_pass(4)
            assert_bound(linked, f"the server is {how}")
    finally:
        server.stop()

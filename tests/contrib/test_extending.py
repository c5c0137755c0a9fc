"""The public names for authors of a helper, sync and async."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import nexus_redis
import nexus_redis.asyncio
from nexus_redis import InvalidSetting, extending
from nexus_redis.errors import SECONDS, Closed
from nexus_redis.testing import ManualClock
from tests.harness.servers import Server
from tests.harness.support import eventually, run

NOWHERE = "redis://nowhere.example"
FACES: list[Any] = [nexus_redis, nexus_redis.asyncio]


@pytest.fixture
def clock() -> Iterator[ManualClock]:
    with ManualClock() as clock:
        yield clock


@pytest.mark.parametrize("value", ["soon", "30", -1, 90_000, True, None], ids=str)
def test_refused_duration(value: Any) -> None:
    """A refused duration is an error of the field that the helper names."""
    with pytest.raises(InvalidSetting) as caught:
        extending.parse_seconds(value, "lock_wait")
    assert caught.value.field == "lock_wait"
    assert caught.value.remedy.startswith(SECONDS.remedy)


def test_durations() -> None:
    """A duration is a number of seconds or a text with its unit."""
    assert [extending.parse_seconds(value, "lock_wait") for value in (0, 2.5, "90s", "1h30m")] == [0, 2.5, 90, 5400]


@pytest.mark.parametrize("face", FACES, ids=["sync", "async"])
def test_before_an_answer(face: Any) -> None:
    """Before the first answer, the rate is that of the code, and no wait is known."""
    nexus = face.Nexus.from_url(NOWHERE)
    budget = nexus.budget("api", rate="6/min")
    assert extending.known_rate(budget) == pytest.approx(0.1)
    assert extending.known_rate(budget.producer()) == pytest.approx(0.1)
    assert extending.known_rate(nexus.budget("other")) == 0
    assert extending.expected_wait(budget, 1) == 0


def test_after_an_answer(one_server: Server, clock: ManualClock) -> None:
    """After an answer, the rate is the budget's, and a wait is as long as a try would say."""
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("api", rate="6/min")
        budget.acquire()
        denied = budget.try_acquire()
        assert isinstance(denied, nexus_redis.Denied)
        assert extending.expected_wait(budget, 1) == pytest.approx(denied.retry_after, abs=1)
        with nexus_redis.Nexus.from_url(one_server.url) as other:
            unset = other.budget("api")
            unset.try_acquire()
            assert extending.known_rate(unset) == pytest.approx(0.1)


@pytest.mark.parametrize("face", FACES, ids=["sync", "async"])
def test_one_observer(face: Any) -> None:
    """A process has one observer for a budget, whichever object of the budget it asks."""
    nexus = face.Nexus.from_url(NOWHERE)
    first = nexus.budget("api").observer()
    assert first is nexus.budget("api").observer()
    assert first is not nexus.budget("other").observer()
    assert (type(first), first.name) == (face.Consumer, "api")


def test_start(one_server: Server) -> None:
    """A consumer reports from `start` on, before any work, and no more after its `close`."""
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        budget, consumer = nexus.budget("web", rate=10), nexus.budget("web").consumer("es-1", interval=0.05)
        assert budget.snapshot().consumers == ()
        consumer.start()
        consumer.start()
        assert eventually(lambda: [each.id for each in budget.snapshot().consumers] == ["es-1"])
        consumer.close()
        with pytest.raises(Closed):
            consumer.start()
        assert budget.snapshot().consumers == ()


def test_start_async(one_server: Server) -> None:
    """`start` makes an async consumer report."""

    async def main() -> list[str]:
        async with nexus_redis.asyncio.Nexus.from_url(one_server.url) as nexus:
            nexus.budget("web", rate=10).consumer("es-1", interval=0.05).start()
            with nexus_redis.Nexus.from_url(one_server.url) as other:
                assert eventually(lambda: len(other.budget("web").snapshot().consumers) == 1)
                return [each.id for each in other.budget("web").snapshot().consumers]

    assert run(main()) == ["es-1"]


def test_log_is_the_packages_own() -> None:
    """`extending.log` is the logger of the package."""
    assert extending.log.name == "nexus_redis"

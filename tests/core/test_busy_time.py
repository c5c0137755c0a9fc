"""The busy time that a consumer measures: work done per second of it is its capacity."""

from __future__ import annotations

import heapq
import random

import pytest

from nexus_redis._core.busy_time import Busy, Moment


def capacity(
    rate: float,
    workers: int,
    each: float,
    *,
    batch: int = 1,
    fixed: float = 0.0,
    seconds: float = 20.0,
    scatter: float = 0.0,
) -> float | None:
    """What is measured of workers that take up to `batch` items, `each` seconds for one, where `rate` come a second."""
    busy, chance = Busy(), random.Random(1)
    waiting = at_work = done = 0
    events: list[tuple[float, int, int]] = [
        (0.0, 0, 0)
    ]  # a report for -1 items, an arrival for 0, else the end of a piece
    heapq.heappush(events, (0.25, 1, -1))
    measured: float | None = None
    first: tuple[float, int] | None = None
    order = 1
    began: dict[int, Moment] = {}
    while events and events[0][0] <= seconds:
        now, which, items = heapq.heappop(events)
        order += 1
        if items < 0:
            measured = busy.look(waiting)
            heapq.heappush(events, (now + 0.25, order, -1))
            if measured is None:
                first = None
            elif now > seconds / 2 and first is None:
                first = (measured, done)
        elif items == 0:
            waiting += 1
            heapq.heappush(events, (now + chance.expovariate(rate), order, 0))
        else:
            since = began.pop(which)
            busy.add(items, now - since.at, since, now)
            busy.end(now)
            at_work -= 1
            done += items
        if waiting and at_work < workers:
            size = min(batch, waiting)
            waiting -= size
            at_work += 1
            moment = busy.begin(now)
            took = (size * each + fixed) * (1 - scatter + scatter * chance.expovariate(1.0))
            order += 1
            began[order] = moment
            heapq.heappush(events, (now + took, order, size))
    if measured is None or first is None:
        return None
    return (done - first[1]) / (measured - first[0])


@pytest.mark.parametrize("workers", [1, 4, 64])
@pytest.mark.parametrize("load", [0.3, 0.95, 2.0])
@pytest.mark.parametrize("scatter", [0.0, 1.0])
def test_any_use_shows_the_capacity(workers: int, load: float, scatter: float) -> None:
    """Busy time gives the capacity, whatever part of it is used."""
    found = capacity(load * workers * 10, workers, 0.1, scatter=scatter, seconds=40)
    assert found is not None
    if workers > 1 and load < 0.9:  # items have not waited: there may be twice as many workers as were at work
        assert 1.5 * load * workers * 10 < found < 2.1 * workers * 10
    else:
        assert found == pytest.approx(workers * 10, rel=0.12 if scatter else 0.05)


@pytest.mark.parametrize("batch", [5, 500])
@pytest.mark.parametrize("load", [0.3, 0.95])
def test_batches_are_measured_by_their_items(batch: int, load: float) -> None:
    """Batches are measured by their items."""
    assert capacity(load * 100, 1, 0.01, batch=batch) == pytest.approx(100, rel=0.05)


def test_equal_durations_measure_nothing() -> None:
    """There is no measure where a larger piece takes hardly longer."""
    assert capacity(100, 1, 0.0001, batch=500, fixed=0.1) is None


def test_a_smaller_crew_is_noticed() -> None:
    """A smaller crew is noticed when items wait."""
    busy, now = Busy(), 0.0
    for workers, rounds in ((8, 3), (2, 20)):
        for _ in range(rounds):
            moments = [busy.begin(now) for _ in range(workers)]
            busy.look(5)
            now += 0.1
            for moment in moments:
                busy.add(1, 0.1, moment, now)
                busy.end(now)
    before = busy.seconds
    busy.add(1, 0.1, busy.begin(now), now + 0.1)
    assert busy.seconds - before == pytest.approx(0.05, rel=0.02)


def test_failed_work_counts_for_nothing() -> None:
    """Work that did not end well counts for nothing."""
    busy = Busy()
    for second in range(5):
        busy.begin(second)
        busy.end(second + 0.5)
    assert busy.seconds == 0
    moment = busy.begin(6)
    busy.look(1)
    busy.add(1, 0.1, moment, 6.1)
    assert busy.seconds == pytest.approx(0.1)

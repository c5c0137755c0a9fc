"""What is on its way to Redis: when an answer is overdue, and when the next batch may go."""

from __future__ import annotations

import random

import pytest

from nexus_redis._core.round_trips import (
    ABREAST,
    APART,
    FIRST_LIMIT,
    LATEST_LIMIT,
    MOST_OUT,
    SOONEST_LIMIT,
    Exchange,
    InFlight,
    RoundTrip,
)  # fmt: skip
from nexus_redis._core.session import Send, Session
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import Command

pytestmark = pytest.mark.hurried  # the limits are what is tested; there is no other clock than the test's


class One(Session):
    """Somebody who waits for an answer."""


def sent(way: InFlight, now: float, member: Session | None = None) -> Exchange:
    return way.send([(member or One(), Send([Command(("TIME",), bool)]))], now)


def measured(*round_trips: float) -> RoundTrip:
    trip = RoundTrip()
    for each in round_trips:
        trip.note(each)
    return trip


def test_a_first_answer_may_connect() -> None:
    """Before the first answer there is time to make a connection."""
    assert measured().limit == FIRST_LIMIT


def test_a_near_answer_is_soon_overdue() -> None:
    """Near Redis, an answer is overdue after a quarter of a second."""
    assert measured(*[0.0003] * 50).limit == pytest.approx(SOONEST_LIMIT, abs=0.001)


def test_connecting_is_forgotten() -> None:
    """The time to make the connection is forgotten with the second answer."""
    assert measured(1.2, 0.2).mean == 0.2


def test_varying_answers_get_more_time() -> None:
    """Answers that vary by much are waited for longer."""
    chance = random.Random(1)
    trips = [0.24 + chance.uniform(-0.1, 0.1) for _ in range(500)]
    trip = measured(*trips)
    assert trip.limit == pytest.approx(0.24 + max(SOONEST_LIMIT, 4 * 0.05), rel=0.2)
    assert max(trips) < trip.limit


def test_no_wait_exceeds_a_second() -> None:
    """Nothing is waited for longer than a second."""
    assert measured(*[0.9, 3.0] * 50).limit == LATEST_LIMIT


def test_an_overdue_answer_is_told_once() -> None:
    """An answer that is overdue is reported once, and its member may ask again."""
    way, member = InFlight(), One()
    exchange = sent(way, 0.0, member)
    assert way.take_overdue(FIRST_LIMIT - 0.01) == []
    assert way.has(member)
    assert way.overdue_at(NEVER) == FIRST_LIMIT
    assert way.take_overdue(FIRST_LIMIT) == [exchange]
    assert way.take_overdue(FIRST_LIMIT + 9) == []
    assert (exchange.is_overdue, way.has(member), bool(way)) == (True, False, False)


def test_near_batches_wait_for_each_other() -> None:
    """Near Redis, a batch waits for the one before, unless that takes long."""
    way = InFlight()
    assert way.free_at(NEVER) == -NEVER
    first = sent(way, 10.0)
    assert way.free_at(NEVER) == 10.0 + APART
    way.end(first)
    assert way.free_at(NEVER) == -NEVER


def test_far_batches_overlap() -> None:
    """Far away, the batches of a round trip go one after the other without an answer."""
    way = InFlight()
    way.trip = measured(*[0.6] * 9)
    for i in range(ABREAST):
        at = i * 0.6 / ABREAST
        assert way.free_at(NEVER) <= at + 1e-9
        sent(way, at)


def test_calls_in_flight_are_limited() -> None:
    """There is a limit to the calls in flight, and overdue calls count."""
    way = InFlight()
    for i in range(MOST_OUT):
        sent(way, i * 10.0)
        way.take_overdue(i * 10.0 + FIRST_LIMIT)
    assert way.free_at(NEVER) == NEVER


def test_far_connections_are_made_early() -> None:
    """Far away, connections are made before they are needed."""
    way = InFlight()
    assert way.warm(0.0) is None  # nobody knows how far it is
    way.trip = measured(*[0.5] * 9)
    warming = [way.warm(0.0) for _ in range(2 * ABREAST)]
    assert sum(each is not None for each in warming) == ABREAST
    assert not way  # nobody waits for them
    way.lose_connections()
    assert way.warm(0.0) is not None


def test_near_redis_one_connection_is_enough() -> None:
    """Near Redis, one connection is enough."""
    way = InFlight()
    way.trip = measured(*[0.01] * 9)
    assert way.warm(0.0) is None

"""A batch on a cluster: each command to its node, redirects followed, a node that fails fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from nexus_redis._protocol.plans import Fault
from nexus_redis._redis.address import Host, endpoint_of_url
from nexus_redis._redis.cluster_map import REDIRECTS, Batch, Redirect, Slots, key_of, redirect_of
from nexus_redis._redis.faults import classify

A, B, C = ("10.0.0.1", 7000), ("10.0.0.2", 7000), ("10.0.0.3", 7000)
HALVES = [[0, 8191, [b"10.0.0.1", 7000, b"id-a"]], [8192, 16_383, [b"10.0.0.2", 7000, b"id-b", [b"hostname", b"b"]]]]
IN_A, IN_B = ("GET", "{b}"), ("GET", "{a}")  # slots 3300 and 15495


@pytest.fixture
def slots() -> Slots:
    slots = Slots(endpoint_of_url("redis+cluster://10.0.0.1:7000,10.0.0.9:7000"))
    slots.learn(HALVES, A)
    return slots


def run(batch: Batch, answers: dict[Host, Any]) -> list[dict[Host, list[tuple[Any, ...]]]]:
    """Answer each node's part by a function of its commands; what was written to each, by round trip."""
    trips = []
    for groups in batch.rounds():
        trips.append({host: list(batch.written(part)) for host, part in groups.items()})
        for host, part in groups.items():
            answer = answers[host]
            replies = answer(list(batch.written(part))) if callable(answer) else answer
            if isinstance(replies, Exception):
                batch.fail(part, replies)
            else:
                batch.take(host, part, replies)
    return trips


def replied(text: str) -> Any:
    return BaseParser.parse_error(text)  # type: ignore[no-untyped-call]  # redis-py


def each(reply: Any) -> Any:
    return lambda commands: [reply] * len(commands)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("EVALSHA", "ab12", 2, "nexus:{s}", "nexus:{s}:producers", 5), b"nexus:{s}"),
        (("EVAL", "return 1", 0), None),
        (("TYPE", "nexus:{s}"), b"nexus:{s}"),
        (("SCAN", "0", "MATCH", "nexus:{s}:*", "COUNT", 1000), b"nexus:{s}:*"),
        (("XINFO", "GROUPS", "jobs"), b"jobs"),
        ((b"HGET", b"nexus:{s}", b"rate_per_s"), b"nexus:{s}"),
        (("TIME",), None),
        (("SCRIPT", "LOAD", "return 1"), None),
    ],
)
def test_a_command_goes_by_its_first_key(command: Sequence[Any], key: bytes | None) -> None:
    """A command goes to the node of its first key."""
    assert key_of(command) == key


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(True, 3999, ("127.0.0.1", 6381))),
        ("ASK 3999 ::1:6381", Redirect(False, 3999, ("::1", 6381))),
        ("MOVED 3999 :6381", Redirect(True, 3999, ("", 6381))),
        ("MOVED", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
        ("ERR unknown command", None),
    ],
)
def test_a_redirect_is_read(reply: str, found: Redirect | None) -> None:
    """A redirect is read as a class of redis-py and as text."""
    if found is not None:
        assert redirect_of(replied(reply)) == found
    assert redirect_of(exceptions.ResponseError(reply)) == found  # as redis-py 5 has it outside a cluster client


def test_each_command_goes_to_its_node(slots: Slots) -> None:
    """Each command goes to its node in one round trip."""
    batch = Batch(slots, [IN_A, IN_B, ("GET", "{b}2"), ("TIME",)])
    trips = run(batch, {A: [1, 3, 4], B: [2]})
    assert trips == [{A: [IN_A, ("GET", "{b}2"), ("TIME",)], B: [IN_B]}]
    assert batch.replies == [1, 2, 3, 4]


def test_a_dead_node_fails_its_own_calls(slots: Slots) -> None:
    """A node that is down fails its own calls and no others."""
    down = exceptions.ConnectionError("down")
    batch = Batch(slots, [IN_A, IN_B])
    run(batch, {A: down, B: [2]})
    assert batch.replies == [down, 2]
    assert slots.is_stale


def test_moved_is_followed_and_remembered(slots: Slots) -> None:
    """A MOVED is followed and remembered."""
    batch = Batch(slots, [IN_A, IN_B])
    trips = run(batch, {A: each(replied("MOVED 3300 10.0.0.3:7000")), B: [2], C: [1]})
    assert trips == [{A: [IN_A], B: [IN_B]}, {C: [IN_A]}]
    assert batch.replies == [1, 2]
    assert slots.owner(b"{b}") == C
    assert slots.is_stale


def test_ask_is_followed_once_and_not_remembered(slots: Slots) -> None:
    """An ASK is followed once and not remembered."""
    batch = Batch(slots, [IN_A])
    trips = run(batch, {A: each(replied("ASK 3300 10.0.0.3:7000")), C: [True, 1]})
    assert trips[1] == {C: [("ASKING",), IN_A]}
    assert batch.replies == [1]
    assert slots.owner(b"{b}") == A


def test_an_endless_move_is_not_executed(slots: Slots) -> None:
    """A call for a slot that never stops moving is given up as not executed."""
    batch = Batch(slots, [IN_A, IN_B])
    to = {A: "MOVED 3300 10.0.0.3:7000", C: "MOVED 3300 10.0.0.1:7000"}
    trips = run(batch, {A: each(replied(to[A])), C: each(replied(to[C])), B: [2]})
    assert len(trips) == REDIRECTS + 1
    assert batch.replies[1] == 2
    assert classify(batch.replies[0]) is Fault.NOT_EXECUTED


def test_try_again_is_an_outcome_of_its_call(slots: Slots) -> None:
    """An answer that says to try again is the outcome of its call."""
    again = replied("TRYAGAIN Multiple keys request during rehashing of slot")
    batch = Batch(slots, [IN_A, IN_B])
    assert len(run(batch, {A: [again], B: [2]})) == 1
    assert batch.replies == [again, 2]
    assert classify(again) is Fault.NOT_EXECUTED


def test_a_slot_that_nobody_serves_fails_alone() -> None:
    """A slot that no node serves fails alone."""
    slots = Slots(endpoint_of_url("redis+cluster://10.0.0.1:7000"))
    slots.learn(HALVES[:1], A)
    batch = Batch(slots, [IN_A, IN_B])
    run(batch, {A: [1]})
    assert batch.replies[0] == 1
    assert classify(batch.replies[1]) is Fault.NOT_EXECUTED


@pytest.mark.parametrize("nameless", [b"", None, b"?"])
def test_a_node_without_a_name(nameless: bytes | None) -> None:
    """A node that does not name itself is the one that was asked."""
    slots = Slots(endpoint_of_url("redis+cluster://proxy:7000"))
    slots.learn([[0, 16_383, [nameless, 7001, b"id"]]], ("proxy", 7000))
    assert slots.owner(b"any") == ("proxy", 7001)


def test_the_slots_are_asked_for_again(slots: Slots) -> None:
    """The slots are asked for again while an answer says that they changed."""
    assert not slots.is_due(10.0)
    run(Batch(slots, [IN_A]), {A: each(exceptions.ReadOnlyError("You can't write against a read only replica."))})
    assert slots.is_due(10.0)
    assert not slots.is_due(10.05)
    slots.learn([], A)  # a node that knows nothing is not believed
    assert slots.is_due(10.2)
    slots.learn(HALVES, A)
    assert not slots.is_due(10.4)

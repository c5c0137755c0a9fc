"""One key of several is gone, as after an eviction: what goes on, what begins again, and what still expires."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from tests.harness.script_driver import MICRO, ScriptDriver

FULL: dict[str, Any] = {"done": 0, "errors": 0, "in_flight": 0, "queue_depth": 50, "queue_limit": 50}


def test_a_lost_hash_ends_a_life(story: ScriptDriver) -> None:
    """Without its hash a budget begins another life at the end of the epoch."""
    birth = story.configure(rate=100).birth
    for i in range(10):
        story.at(1 + i / 10).claim("p", tokens=5)
    story.client.delete(story.keys.budget)
    for i in range(4):
        last = story.at(2 + i / 10).claim("p", tokens=5)
    assert last.birth != birth
    assert last.budget_rate == 0  # until its code opens it again
    story.configure(rate=100)
    got = sum(story.at(3 + i / 10).claim("p", tokens=50).granted for i in range(20))
    assert got >= 180 * MICRO  # no share is held back for producers of the life before
    assert story.reserved == 0


@pytest.mark.parametrize("call", ["report", "configure"])
def test_a_lost_hash_begins_another_life(story: ScriptDriver, call: str) -> None:
    """Without its hash a budget begins another life with any other call."""
    birth = story.configure(rate=100).birth
    story.at(1).report("c", load=0, capacity=50)
    story.client.delete(story.keys.budget)
    story.at(1.1)
    if call == "report":
        assert story.report("c", load=0, capacity=50).birth != birth
    else:
        assert story.configure(rate=100).birth != birth
    assert story.shown("birth") != birth


def test_an_operators_settings_do_not_expire(story: ScriptDriver) -> None:
    """An operator's settings do not expire, although the state was lost."""
    story.configure("operator", rate=50)
    story.at(1).claim("p", tokens=1)
    story.client.delete(story.keys.state)
    story.at(1.1).claim("p", tokens=1)
    assert [story.client.pttl(key) for key in (story.keys.budget, story.keys.state)] == [-1, -1]
    story.client.delete(story.keys.budget)
    story.at(2).configure(rate=5)
    assert int(story.client.pttl(story.keys.budget)) > 0


def test_a_floor_opens_no_lossless_budget(story: ScriptDriver) -> None:
    """A lossless budget with a floor grants nothing while its consumer is full."""
    story.configure("operator", rate=100, min_rate=50, lossless=True)
    story.report("c", **FULL)
    story.client.delete(story.keys.state)
    answers = [story.at(5 + i / 10).claim("p", tokens=5) for i in range(60)]
    assert sum(answer.granted for answer in answers) == 0
    assert answers[-1].is_lossless


def test_a_remade_producer_expires(story: ScriptDriver) -> None:
    """The hash of a producer that was made again expires."""
    story.configure(rate=100)
    story.claim("p", tokens=1)
    story.client.delete(story.keys.producer("p"))
    story.at(1).claim("p", tokens=1)
    for key in (story.keys.producer("p"), story.keys.producer_state("p")):
        assert 0 < int(story.client.pttl(key)) <= 600_000


def test_gone_producers_show_no_demand(story: ScriptDriver) -> None:
    """The summary shows no demand of producers that are gone."""
    story.configure(rate=100)
    for i in range(10):
        story.at(i / 10).claim("p", tokens=5)
    assert float(story.field("demand_per_s")) > 0
    assert story.field("producers_in_demand") == "1"
    story.at(600).report("c", load=0, capacity=50)
    shown = [story.field(name) for name in ("demand_per_s", "producers_in_demand", "granted_per_s")]
    assert shown[:2] == ["0", "0"]
    assert float(shown[2]) < 1


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_a_hash_of_another_type_is_refused(real_story: ScriptDriver, kind: str) -> None:
    """A member's hash of another type is refused before anything is written."""
    story = real_story
    story.configure(rate=100)
    story.report("a", load=0, capacity=50)
    story.claim("p", tokens=1)
    key = story.keys.producer("p") if kind == "producer" else story.keys.consumer("a")
    story.client.delete(key)
    story.client.lpush(key, "x")
    story.at(9)  # a deadline has passed meanwhile
    before = story.state
    with pytest.raises(redis.exceptions.ResponseError, match=f"NEXUS_DAMAGED {key}"):
        story.claim("p", tokens=1) if kind == "producer" else story.report("a", load=0, capacity=50)
    assert story.state == before

"""leave.lua: who goes takes along what is its own, at once."""

from __future__ import annotations

import pytest

from nexus_redis._protocol import calls
from tests.harness.script_driver import MICRO, ScriptDriver


def test_a_leaver_hands_back_and_is_gone(story: ScriptDriver) -> None:
    """A producer hands back what it may hold and is gone."""
    story.configure(rate=100, burst=2)
    story.at(1).claim("a", tokens=50, need=50)
    assert story.at(1.1).leave("a", unused=1000) == 50 * MICRO
    assert story.tokens == 101_020_000 + 10 * MICRO
    assert story.inspect().producers == {}
    assert not story.client.exists(story.keys.producer("a"))
    assert story.leave("a", unused=1000) == 0


def test_too_late_nothing_is_credited(story: ScriptDriver) -> None:
    """Tokens that come back too late are not credited."""
    story.configure(rate=100, burst=2)
    story.at(1).claim("a", tokens=50, need=50)
    assert story.at(2.6).leave("a", unused=50) == 0
    assert story.inspect().producers == {}


def test_lost_tokens_enter_no_next_life(story: ScriptDriver) -> None:
    """What the budget lost is not handed back to its next life."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=5, need=5)
    story.lose()
    story.at(1.1).configure(rate=100)
    assert story.leave("a", unused=5) == 0
    assert story.tokens == 1_020_000
    assert not story.client.exists(story.keys.producer("a"))


@pytest.mark.parametrize("who", ["b", ""])
def test_another_ones_entry_stays(story: ScriptDriver, who: str) -> None:
    """An entry of another incarnation stays."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=5, need=5)
    story.report("c", load=0, capacity=10)
    before = story.state
    assert story.leave("a", unused=5, incarnation=who) == 0
    assert story.leave(consumer="c", incarnation=who) is False
    assert story.state == before


def test_a_star_is_whoever_it_is(story: ScriptDriver) -> None:
    """A star as the incarnation stands for any incarnation."""
    story.report("c", load=0, capacity=10)
    assert story.leave(consumer="c", incarnation="*") is True
    assert story.inspect().consumer_count == 0
    assert story.field("last_consumer_end") == "forgotten"
    assert story.notes[-1]["by"] == "operator"


def test_nobody_leaves_a_budget_that_is_not_there(story: ScriptDriver) -> None:
    """Nobody leaves a budget that is not there."""
    assert story.leave("a", unused=5) == 0
    assert story.leave(consumer="c") is False
    assert story.state == {}


def test_one_that_nobody_knows_changes_nothing(story: ScriptDriver) -> None:
    """The leaving of an unknown member changes nothing."""
    story.configure(rate=100)
    before = story.state
    assert story.leave("a", unused=5) == 0
    assert story.leave(consumer="c", incarnation="*") is False
    assert story.state == before


def test_a_member_without_a_hash_may_leave(story: ScriptDriver) -> None:
    """A member whose hash is lost may still leave."""
    story.configure(rate=100)
    story.claim("a")
    story.report("c", load=0, capacity=10)
    story.client.delete(story.keys.producer("a"), story.keys.consumer("c"))
    story.client.delete(story.keys.producer_state("a"), story.keys.consumer_state("c"))
    assert story.leave("a", unused=5) == 0
    assert story.leave(consumer="c") is True
    assert (story.inspect().producer_count, story.inspect().consumer_count) == (0, 0)


def test_a_consumers_part_is_out_at_once(story: ScriptDriver) -> None:
    """A consumer's part is out at once."""
    story.report("a", load=0, capacity=10)
    story.report("b", load=0, capacity=20)
    story.leave(consumer="b")
    assert story.claim("p").budget_rate == 10 * MICRO
    assert story.notes[-1]["by"] == "leave"
    assert story.field("last_consumer_end") == ""


def test_due_deadlines_go_first(story: ScriptDriver) -> None:
    """A deadline that has passed is settled first."""
    story.configure(rate=100)
    story.report("dead", load=0, capacity=10)
    story.at(1).report("c", load=0, capacity=20)
    story.at(2.5).leave(consumer="c")
    assert story.inspect().live == frozenset()
    assert story.field("last_consumer_end") == "left"


def test_the_rate_that_remains_is_in_the_answer(story: ScriptDriver) -> None:
    """The rate that remains is in the answer."""
    story.configure(rate=100)
    story.report("c", load=0, capacity=20)
    call = calls.leave_consumer(story.keys, "c", "c", at_us=story.at_us)
    assert [calls.text(word) for word in story.raw(call)] == ["1", "0", "20000000"]

"""What is published when a rate falls: each drop once, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis

from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import UNTIL_RESUMED, Drop
from nexus_redis._protocol.scripts import NAMES, script
from tests.harness.script_driver import MICRO, START_US, ScriptDriver
from tests.harness.support import eventually

BIRTH = str(START_US)


class Ear:
    """Listens to the story's channel; `heard()` is what came since it was last asked."""

    def __init__(self, story: ScriptDriver) -> None:
        self.channel = story.keys.flow
        self.pubsub = story.client.pubsub()  # type: ignore[no-untyped-call]  # redis-py
        self.pubsub.subscribe(self.channel)
        assert eventually(lambda: self.next() is not None)

    def next(self) -> Any:
        return self.pubsub.get_message(timeout=0.05)

    def heard(self) -> list[Drop]:
        """A message of our own behind all others marks the end: order is kept."""
        self.pubsub.ping("end")
        found: list[Any] = []

        def is_at_the_end() -> bool:
            found.extend(message for message in [self.next()] if message is not None)
            return bool(found) and found[-1]["type"] == "pong"

        assert eventually(is_at_the_end)
        assert {calls.text(message["channel"]) for message in found[:-1]} <= {self.channel}
        return [calls.dropped(message["data"]) for message in found[:-1]]


@pytest.fixture
def ear(story: ScriptDriver) -> Any:
    ear = Ear(story)
    yield ear
    ear.pubsub.close()


def rates(drops: list[Drop]) -> list[float]:
    return [drop.budget_rate / MICRO for drop in drops]


def test_a_drop_carries_its_judgement(story: ScriptDriver, ear: Ear) -> None:
    """A drop is published with all that is needed to judge it."""
    story.configure(rate=100)
    story.at(1).claim(tokens=5)
    story.configure(rate=50)
    assert ear.heard() == [Drop(BIRTH, 5, 50 * MICRO, 0, "rate")]


def test_the_message_is_five_words(story: ScriptDriver) -> None:
    """The message is five words."""
    pubsub = story.client.pubsub()  # type: ignore[no-untyped-call]  # redis-py
    pubsub.subscribe("test:{story}:flow")
    story.configure(rate=100)
    story.configure(pause=UNTIL_RESUMED)
    found: list[str] = []

    def is_there() -> bool:
        message = pubsub.get_message(timeout=0.05)
        if message is not None and message["type"] == "message":
            found.append(calls.text(message["data"]))
        return bool(found)

    assert eventually(is_there)
    pubsub.close()
    assert found == [f"{BIRTH} 0 0 3 paused"]


def test_a_tenth_less_is_a_drop(story: ScriptDriver, ear: Ear) -> None:
    """A tenth less is a drop, and a little less than that is none."""
    story.configure(rate=100)
    story.configure(rate=90.1)
    assert ear.heard() == []
    story.configure(rate=100)
    story.configure(rate=90)
    assert rates(ear.heard()) == [90]


def test_a_rise_is_not_published(story: ScriptDriver, ear: Ear) -> None:
    """Neither a rise nor an unchanged rate is published."""
    for rate in (100, 100, 101, 5000, 5000):
        story.configure(rate=rate)
    story.configure(rate=5000, burst=2)
    story.configure(rate=5000, burst=0.1)
    assert ear.heard() == []


def test_small_steps_add_up_to_drops(story: ScriptDriver, ear: Ear) -> None:
    """Many small steps are a drop each time they come to a tenth."""
    for rate in range(1000, 699, -10):
        story.configure(rate=rate)
    assert rates(ear.heard()) == [900, 810, 720]


def test_steps_down_count_from_the_highest_rate(story: ScriptDriver, ear: Ear) -> None:
    """Steps down count from the highest rate since the last drop was told."""
    for rate in (1000, 500, 2000, 1900, 1800):
        story.configure(rate=rate)
    assert rates(ear.heard()) == [500, 1800]


def test_a_pause_is_published_once(story: ScriptDriver, ear: Ear) -> None:
    """A pause is published once, however often it is set."""
    story.configure(rate=100)
    story.configure(pause=10)
    story.at(1).configure("operator", pause=60)
    story.configure(pause=UNTIL_RESUMED)
    assert ear.heard() == [Drop(BIRTH, 0, 0, 3, "paused")]
    story.at(2).configure("operator", pause=0)
    assert ear.heard() == [Drop(BIRTH, 0, 100 * MICRO, 0, "rate")]
    story.configure(pause=1)
    assert [drop.reason for drop in ear.heard()] == ["paused"]


def test_a_rise_from_0_is_published(story: ScriptDriver, ear: Ear) -> None:
    """A rise from 0 is published, and any other rise is not.

    Producers that wait at a rate of 0 wait for nothing else.
    """
    story.configure(rate=100)
    story.configure(pause=1)
    ear.heard()
    assert story.at(2).claim().budget_rate == 100 * MICRO
    assert [drop.budget_rate for drop in ear.heard()] == [100 * MICRO]
    story.configure(rate=1000)
    assert ear.heard() == []
    story.configure(rate=0)
    story.configure(rate=0.5)
    assert [drop.budget_rate for drop in ear.heard()] == [0, MICRO // 2]


def test_no_rate_publishes_nothing(story: ScriptDriver, ear: Ear) -> None:
    """A budget without a rate publishes nothing."""
    story.claim()
    story.configure()
    story.configure(pause=5)
    story.at(10).claim()
    assert ear.heard() == []


def test_a_report_publishes_its_drop(story: ScriptDriver, ear: Ear) -> None:
    """A drop that a consumer reports is published by the report."""
    story.report(load=10, capacity=400)
    story.at(0.3).report(load=80, capacity=400)
    assert ear.heard() == []
    story.at(0.6).report(load=95, capacity=400)
    assert ear.heard() == [Drop(BIRTH, 0, 100 * MICRO, 2, "load")]
    story.at(0.9).report(load=95, capacity=400)
    story.at(1.2).report(load=85, capacity=400)
    assert ear.heard() == []


def test_silence_is_published_by_the_next(story: ScriptDriver, ear: Ear) -> None:
    """A consumer that falls silent is published by the next caller, whichever it is."""
    story.report(load=10, capacity=400)
    story.at(5).claim()
    story.at(6).claim()
    assert ear.heard() == [Drop(BIRTH, 0, 0, 3, "no_consumers")]


def test_leaving_is_published_at_once(story: ScriptDriver, ear: Ear) -> None:
    """A consumer that leaves is published by its deregistration."""
    story.report("a", load=10, capacity=300)
    story.report("b", load=10, capacity=100)
    story.leave(consumer="b")
    story.leave(consumer="a")
    assert [(drop.budget_rate / MICRO, drop.reason) for drop in ear.heard()] == [(300, "load"), (0, "no_consumers")]


def test_a_paused_part_goes_out_at_once(story: ScriptDriver, ear: Ear) -> None:
    """A consumer that pauses takes its part out at once."""
    story.report("a", load=10, capacity=300)
    story.report("b", load=10, capacity=300)
    story.at(0.3).report("a", load=10, capacity=300, pause_ms=1000)
    assert rates(ear.heard()) == [300]


def test_level_3_is_published_at_one_rate(story: ScriptDriver, ear: Ear) -> None:
    """Level 3 is published, even where the rate stays."""
    story.configure(rate=100, min_rate=100)
    story.report(load=50, capacity=400)
    story.at(0.3).report(load=100, capacity=400)
    story.at(0.6).report(load=100, capacity=400)
    assert [(drop.budget_rate / MICRO, drop.level) for drop in ear.heard()] == [(100, 3)]


def test_the_settings_of_a_new_life_are_no_drop(story: ScriptDriver, ear: Ear) -> None:
    """The settings of a new life are not a drop."""
    story.configure(rate=100)
    story.client.flushall()
    story.at(1).configure(rate=10)
    assert ear.heard() == []


def test_each_budget_has_a_channel_of_its_own(story: ScriptDriver, ear: Ear) -> None:
    """Each budget has a channel of its own."""
    other = ScriptDriver(story.client, "other")
    other.configure(rate=100)
    other.configure(pause=1)
    assert ear.heard() == []
    assert other.keys.flow == "test:{other}:flow"


def test_who_may_not_publish_has_everything_else(real_story: ScriptDriver) -> None:
    """A client that may not publish can do everything else."""
    admin: Any = real_story.client
    admin.execute_command("ACL", "SETUSER", "mute", "reset", "on", ">secret", "~*", "+@all", "resetchannels")
    try:
        pool = admin.connection_pool.connection_kwargs
        with redis.Redis(host=pool["host"], port=pool["port"], username="mute", password="secret") as client:
            story, ear = ScriptDriver(client), Ear(real_story)
            story.configure(rate=100)
            assert story.configure(pause=5).reason == "paused"
            assert story.at(1).claim().budget_rate == 0
            assert story.at(6).claim().budget_rate == 100 * MICRO
            assert [entry["reason"] for entry in story.notes] == ["rate", "paused", "rate"]
            assert ear.heard() == []
            ear.pubsub.close()
    finally:
        admin.execute_command("ACL", "DELUSER", "mute")


@pytest.mark.parametrize("name", NAMES)
def test_only_what_may_lower_a_rate_can_publish(name: str) -> None:
    """Only a script that may lower a rate can publish, and a failure to publish fails no call."""
    said = re.findall(r"redis\.(p?call)\('PUBLISH'", script(name).text)
    assert said == ([] if name == "inspect" else ["pcall"])

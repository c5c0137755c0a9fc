"""inspect.lua reads and writes nothing."""

from __future__ import annotations

from typing import Any

from nexus_redis._protocol import calls
from nexus_redis._protocol.plans import Call
from nexus_redis._values.settings import BudgetSettings
from tests.harness.script_driver import MICRO, START_US, ScriptDriver


def test_a_missing_budget(story: ScriptDriver) -> None:
    """A budget that is not there is told as missing."""
    seen = story.inspect()
    assert seen == (START_US / MICRO, {}, {}, {}, 0, 0, frozenset())
    assert story.state == {}


def test_inspect_writes_nothing(story: ScriptDriver) -> None:
    """`inspect` tells all of it at one instant, and writes nothing."""
    story.configure(rate=100)
    story.claim("a")
    story.report("c", load=0, capacity=5)
    before = story.state
    seen = story.at(99).inspect()
    assert story.state == before  # not even what is due
    assert seen.now == START_US / MICRO + 99
    assert seen.fields["rate_per_s"] == "5"
    assert seen.consumers == {"c": START_US / MICRO + 2}
    assert seen.producers == {"a": START_US / MICRO}
    assert (seen.consumer_count, seen.producer_count, seen.live) == (1, 1, frozenset({"c"}))


def test_members_come_in_pages(story: ScriptDriver) -> None:
    """Members come in pages."""
    story.configure(rate=100)
    for i in range(7):
        story.at(i * 0.25).claim(f"p{i}")
        story.report(f"c{i}", load=0, capacity=1)
    seen = [story.run(calls.inspect(story.keys, offset, 3, at_us=story.at_us)) for offset in (0, 3, 6, 9)]
    assert [list(page.producers) for page in seen] == [["p0", "p1", "p2"], ["p3", "p4", "p5"], ["p6"], []]
    assert [list(page.consumers) for page in seen] == [["c0", "c1", "c2"], ["c3", "c4", "c5"], ["c6"], []]
    assert {(page.consumer_count, page.producer_count) for page in seen} == {(7, 7)}


def test_zero_is_the_clock_of_the_server(story: ScriptDriver) -> None:
    """Zero is the clock of the server."""
    several: dict[str, Call[Any]] = {
        "configure": calls.configure(story.keys, BudgetSettings(rate=1e6)),
        "claim": calls.claim(story.keys, "p", calls.Claim(incarnation="p", seq=1)),
        "report": calls.report(story.keys, "c", {"load": 0, "capacity": 5}),
        "inspect": calls.inspect(story.keys),
        "leave": calls.leave_consumer(story.keys, "c", ""),
    }

    def server_us() -> int:
        seconds, micros = story.client.time()
        return seconds * MICRO + micros

    for name, call in several.items():
        before = server_us()
        reply = story.raw(call)
        after = server_us()
        if name == "inspect":
            assert before <= call.decode(reply).now * MICRO <= after
        else:
            assert before <= story.numbers("bucket")[1] <= after, name


def test_the_silent_are_told_from_the_live(story: ScriptDriver) -> None:
    """Silent consumers are told from live ones."""
    story.report("dead", load=0, capacity=1)
    story.at(1).report("c", load=0, capacity=1)
    story.at(2.5).claim("a")
    seen = story.inspect()
    assert set(seen.consumers) == {"dead", "c"}
    assert seen.live == {"c"}

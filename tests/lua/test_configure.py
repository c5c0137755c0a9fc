"""configure.lua: who owns a setting, what does not go together, pauses."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import UNTIL_RESUMED
from tests.harness.script_driver import MICRO, START_US, ScriptDriver


def refused(story: ScriptDriver, *args: Any, **settings: Any) -> str:
    """The code that it is refused with; a refusal changes nothing."""
    before = story.state
    with pytest.raises(redis.exceptions.ResponseError) as refusal:
        story.configure(*args, **settings)
    assert story.state == before
    return str(refusal.value)


def test_opening_a_budget_makes_it(story: ScriptDriver) -> None:
    """Opening a budget makes it."""
    opened = story.configure(rate=100, burst=2)
    assert tuple(opened) == (100, 0, "rate", str(START_US), (), ())
    fields = story.inspect().fields
    assert (fields["rate_by_code"], fields["burst_by_code"], fields["schema"]) == ("100", "2", "3")
    assert (fields["rate_per_s"], fields["burst_s"], fields["level"], fields["reason"]) == ("100", "2", "0", "rate")


def test_opening_bare_keeps_the_settings(story: ScriptDriver) -> None:
    """Opening without settings keeps the settings that there are."""
    story.configure(rate=100)
    assert story.at(1).configure() == (100, 0, "rate", str(START_US), (), ())
    story.client.flushall()
    assert story.configure() == (0, 3, "unset", str(START_US + MICRO), (), ())


def test_the_latest_opener_wins(story: ScriptDriver) -> None:
    """The latest opener wins, and is told what it replaced."""
    story.configure(rate=100, burst=2)
    assert story.configure(rate=50, burst=2, law="aimd").changed == ("rate",)
    assert story.configure(rate=60, burst=1).changed == ("burst", "rate")
    assert story.field("rate_per_s") == "60"


def test_an_operators_value_stays(story: ScriptDriver) -> None:
    """Code never replaces an operator's value, and is told so."""
    story.configure(rate=100)
    story.configure("operator", rate=7, law="aimd")
    opened = story.configure(rate=200, law="drain", burst=1)
    assert (opened.rate, opened.changed, opened.overruled) == (7, ("rate",), ("law", "rate"))
    assert story.inspect().fields["rate_by_code"] == "200"


def test_an_unset_brings_the_code_back(story: ScriptDriver) -> None:
    """The value of code is back when an operator takes his away."""
    story.configure(rate=100)
    story.configure("operator", rate=7)
    assert story.configure("operator", unset=("rate",)) == (100, 0, "rate", str(START_US), ("rate",), ())
    assert "rate_by_operator" not in story.inspect().fields
    assert story.configure(unset=("rate", "burst")).reason == "unset"
    assert story.configure(unset=("rate",)).changed == ()


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("rate", 0.000001, "0.000001"), ("rate", 1e9, "1000000000"), ("min_rate", 2.5, "2.5"),
        ("burst", 86_400, "86400"),
        ("law", "range", "range"), ("combine", "spread", "spread"), ("latency_target_ms", 0.5, "0.5"),
        ("lossless", True, "1"), ("lossless", False, "0"), ("transit", 0.5, "0.5"), ("grace", 60, "60"),
    ],
)  # fmt: skip
def test_each_setting_is_kept_with_its_source(story: ScriptDriver, name: str, value: Any, stored: str) -> None:
    """Each setting is kept with its source."""
    for source in ("code", "operator"):
        story.configure(source, **{name: value})
        assert story.inspect().fields[f"{name}_by_{source}"] == stored


@pytest.mark.parametrize("source", ["code", "operator"])
def test_contradictions_are_refused(story: ScriptDriver, source: str) -> None:
    """Settings that cannot go together are refused."""
    story.configure(source, min_rate=10)
    assert refused(story, source, rate=9.999999) == "NEXUS_INVALID_MIN_RATE"
    story.configure(source, rate=10)
    story.configure(source, burst=86_400)
    assert refused(story, source, rate=200_000) == "NEXUS_INVALID_BURST"
    story.configure(source, rate=100_000)


def test_a_floor_in_code_yields_to_an_operator(story: ScriptDriver) -> None:
    """A floor in code gives way to an operator's ceiling, whichever of the two comes first.

    In an incident `set --rate 5` must go through, and a deployment must not stop because of it.
    """
    story.configure(rate=100, min_rate=10)
    assert story.configure("operator", rate=5).rate == 5
    assert story.configure(rate=100, min_rate=20).rate == 5
    story.report(load=99, capacity=2000)
    assert story.field("rate_per_s") == "5"  # the ceiling, which is now the floor as well
    assert story.configure("operator", unset=("rate",)).rate == 20  # the consumer's 5 is under the floor again


def test_an_impossible_floor_is_told(story: ScriptDriver) -> None:
    """An operator hears of a floor that cannot be."""
    story.configure(rate=100)
    assert refused(story, "operator", min_rate=101) == "NEXUS_INVALID_MIN_RATE"


def test_a_burst_is_cut_to_what_a_bucket_can_hold(story: ScriptDriver) -> None:
    """A burst from one source is cut to what a bucket of the other source's rate can hold."""
    story.configure(rate=1e7)
    story.configure("operator", rate=10, burst=86_400)
    assert story.configure("operator", unset=("rate",)).rate == 1e7
    assert story.claim("p", tokens=1).burst == 9e15


def test_a_floor_yields_to_a_pause(story: ScriptDriver) -> None:
    """A floor holds under the laws, and under no pause."""
    assert story.configure(min_rate=5) == (5, 3, "unset", str(START_US), (), ())
    assert story.report(load=99.9, capacity=100).budget_rate == 5
    assert story.configure(pause=1).rate == 0


# --- pauses


def test_a_pause_holds_as_long_as_it_was_said(story: ScriptDriver) -> None:
    """A pause holds for as long as it was set."""
    story.configure(rate=100)
    assert story.configure(pause=0.5) == (0, 3, "paused", str(START_US), (), ())
    assert story.at(0.499999).configure().reason == "paused"
    assert story.at(0.5).configure() == (100, 0, "rate", str(START_US), (), ())


def test_code_only_prolongs_a_pause(story: ScriptDriver) -> None:
    """Code prolongs a pause and cuts none short.

    A 429 that names a second must not end a pause of thirty that another 429 named.
    """
    story.configure(rate=100, pause=30)
    story.at(1).configure(pause=1)
    assert story.at(29.9).configure().reason == "paused"
    story.configure(pause=1)
    assert story.at(30.8).configure().reason == "paused"
    assert story.at(30.9).configure().rate == 100
    story.configure(pause=100)
    assert story.configure(pause=0).rate == 100


def test_an_operators_pause_stays(story: ScriptDriver) -> None:
    """A pause by an operator lasts until an operator ends it, or until its time is over."""
    story.configure(rate=100)
    story.configure("operator", pause=UNTIL_RESUMED)
    assert story.configure(pause=1).overruled == ()  # it is paused, as code wants it
    assert story.at(5).configure(pause=0).overruled == ("pause",)
    assert story.field("pause_by") == "operator"
    assert story.configure("operator", pause=1).reason == "paused"  # shorter, by his own word
    assert story.at(6).configure().rate == 100
    story.configure("operator", pause=10)
    assert story.configure("operator", pause=0).rate == 100


@pytest.mark.parametrize("longer", [61, UNTIL_RESUMED])
def test_code_shortens_only_its_own_pause(story: ScriptDriver, longer: float) -> None:
    """Code takes back no more of a pause than it gave."""
    story.configure(rate=100)
    story.configure("operator", pause=60)
    story.at(1).configure(pause=longer)
    assert story.field("pause_by") == "code"
    assert story.at(2).configure(pause=0).overruled == ("pause",)
    assert story.field("pause_by") == "operator"
    assert story.at(59.9).configure().reason == "paused"
    assert story.at(60.1).configure().rate == 100
    story.configure(pause=30)  # nothing of the operator's is left
    assert story.at(61).configure(pause=0).rate == 100


def test_a_pause_says_who_and_why(story: ScriptDriver) -> None:
    """A pause says who paused and why."""
    story.run(calls.configure(story.keys, pause=30, note="429 Retry-After", at_us=story.at_us))
    fields = story.inspect().fields
    assert (fields["pause_by"], fields["pause_reason"]) == ("code", "429 Retry-After")
    assert fields["paused_until_us"] == str(START_US + 30 * MICRO)
    assert (story.notes[-1]["by"], story.notes[-1]["why"]) == ("code", "429 Retry-After")


def test_a_pause_alone_leaves_a_budget_unset(story: ScriptDriver) -> None:
    """A pause alone makes a budget that is unset afterwards."""
    assert story.configure(pause=1) == (0, 3, "paused", str(START_US), (), ())
    assert story.at(0.5).claim().reason == "paused"
    assert story.at(1).claim().reason == "unset"
    assert story.configure(rate=10).rate == 10
    assert story.tokens == 1_020_000


def test_a_pause_ends_beside_deadlines(story: ScriptDriver) -> None:
    """A pause ends beside the deadlines of consumers."""
    story.report(load=0, capacity=10)
    story.configure(pause=1)
    assert story.at(0.9).claim().budget_rate == 0
    assert story.at(1).claim().budget_rate == 10 * MICRO
    story.configure(pause=60)
    story.at(2).claim()
    assert story.inspect().live == frozenset()
    story.at(59).report(load=0, capacity=10)
    assert story.at(60.9).claim().budget_rate == 0
    assert story.at(60.99).report(load=0, capacity=10).budget_rate == 0
    assert story.at(61).claim().budget_rate == 10 * MICRO


# --- an operator's word


def test_a_setting_lifts_a_silent_stop(story: ScriptDriver) -> None:
    """An operator's setting lifts the stop that a silent consumer left."""
    story.configure(rate=100)
    story.report(load=0, capacity=10)
    assert story.at(5).configure(rate=90).reason == "no_consumers"
    assert story.configure("operator", pause=0).reason == "no_consumers"
    assert story.configure("operator", rate=80) == (80, 0, "rate", str(START_US), (), ("rate",)[:0])
    assert story.field("last_consumer_end") == "overruled"
    story.client.flushall()
    story.at(0).configure(rate=100)
    story.report(load=0, capacity=10)
    assert story.at(5).configure("operator", rate=80).rate == 80  # the same call that saw it silent


def test_a_setting_lifts_no_later_stop(story: ScriptDriver) -> None:
    """An operator's setting does not lift the stop of a consumer that lived at that time and fell silent later."""
    story.configure(rate=100)
    story.report(load=0, capacity=10)
    story.at(1).configure("operator", rate=80)
    assert story.at(5).claim().reason == "no_consumers"


def test_due_deadlines_go_first(story: ScriptDriver) -> None:
    """A deadline that has passed is settled first."""
    story.report(load=0, capacity=10)
    story.at(2).configure(min_rate=1)
    assert story.inspect().live == frozenset()
    assert story.field("last_consumer_end") == "silent"


@pytest.mark.parametrize("act", [{"rate": 5}, {"unset": ("rate",)}, {"pause": 1}, {"pause": UNTIL_RESUMED}])
def test_an_operators_act_outlives_silence(story: ScriptDriver, act: dict[str, Any]) -> None:
    """What an operator did outlives any silence."""
    story.configure(rate=1)
    assert int(story.client.pttl(story.keys.budget)) > 0
    story.configure("operator", **act)
    assert story.client.pttl(story.keys.budget) == -1
    assert story.client.pttl(story.keys.history) == -1
    story.configure(rate=2)
    story.at(100).claim()
    assert story.client.pttl(story.keys.budget) == -1


# --- who, what, why


def act(story: ScriptDriver) -> tuple[str, str, str, str]:
    """The newest entry of the history."""
    note = story.notes[-1]
    return note["by"], note.get("who", ""), note.get("what", ""), note.get("why", "")


def test_the_history_has_each_change(story: ScriptDriver) -> None:
    """The history tells who changed a setting, from what to what, and why."""
    story.configure(rate=150, who="app@web-1")
    assert act(story) == ("code", "app@web-1", "rate unset -> 150", "")
    story.configure(rate=200, burst=2, who="app@web-2")
    assert act(story) == ("code", "app@web-2", "rate 150 -> 200, burst unset -> 2", "")
    story.configure("operator", rate=30, who="anna@ops1", why="maintenance")
    assert act(story) == ("operator", "anna@ops1", "rate 200 -> 30", "maintenance")
    story.configure("operator", min_rate=3, rate=30, who="bob@ops2")
    assert act(story) == ("operator", "bob@ops2", "rate 30, min_rate unset -> 3", "")
    story.configure(rate=250)
    assert act(story) == ("code", "", "rate 200 -> 250 (hidden by 30)", "")
    story.configure("operator", unset=("rate", "min_rate"), who="bob@ops2")
    assert act(story) == ("operator", "bob@ops2", "rate 30 -> 250, min_rate 3 -> unset", "")
    story.configure("operator", law="aimd", combine="min", lossless=False, unset=("burst",))
    assert act(story)[2] == "burst 2, law unset -> aimd, combine unset -> min, lossless unset -> 0"


def test_the_history_has_each_pause(story: ScriptDriver) -> None:
    """The history tells how long a pause is and who ended it."""
    story.configure(rate=100)
    story.configure("operator", pause=90.5, who="anna@ops1", why="card network down")
    assert act(story) == ("operator", "anna@ops1", "paused for 90.5 s", "card network down")
    story.configure("operator", pause=UNTIL_RESUMED, who="anna@ops1")
    assert act(story) == ("operator", "anna@ops1", "paused until it is resumed", "")
    story.configure(pause=0, who="app@web-1")
    assert act(story)[0] == "operator"  # nothing came of it
    story.configure("operator", pause=0, who="bob@ops2", why="up again")
    assert act(story) == ("operator", "bob@ops2", "resumed", "up again")


def test_an_operators_setting_has_its_story(story: ScriptDriver) -> None:
    """A setting of an operator keeps whose it is, since when, and why."""
    when = "2027-01-15T08:00:05.000Z"
    story.configure(rate=100, who="app@web-1")
    assert story.field("rate_set_by") == ""
    story.at(5).configure("operator", rate=20, who="anna@ops1", why="maintenance")
    assert story.field("rate_set_by") == f"{when} anna@ops1: maintenance"
    story.configure(rate=120, who="app@web-2")
    story.configure("operator", burst=1, who="bob@ops2")
    assert (story.field("rate_set_by"), story.field("burst_set_by")) == (
        f"{when} anna@ops1: maintenance",
        f"{when} bob@ops2",
    )
    story.configure("operator", unset=("rate",))
    story.configure("operator", burst=2)
    assert (story.field("rate_set_by"), story.field("burst_set_by")) == ("", f"{when} operator")


def test_code_ends_its_own_pause_only(story: ScriptDriver) -> None:
    """Where code ends its own pause, an operator's pause is the operator's again."""
    story.configure(rate=100)
    story.configure("operator", pause=60, who="anna@ops1", why="card network down")
    story.configure(pause=300, who="app@web-1", why="429")
    assert [story.field(f"pause_{name}") for name in ("by", "who", "reason")] == ["code", "app@web-1", "429"]
    assert story.at(10).configure(pause=0).reason == "paused"
    told = [story.field(f"pause_{name}") for name in ("by", "who", "reason")]
    assert told == ["operator", "anna@ops1", "card network down"]
    assert act(story)[2] == "resumed, hidden by the pause of an operator"
    assert story.at(60).configure().reason == "rate"


def test_the_history_names_consumers(story: ScriptDriver) -> None:
    """The history names the consumer that reported or left, and the operator that forgot a consumer."""
    for consumer in ("es-1", "es-2"):
        story.report(consumer, load=95, capacity=400)
    assert act(story) == ("report", "es-2", "", "")
    story.leave(consumer="es-2")
    assert act(story) == ("leave", "es-2", "", "")
    story.run(calls.leave_consumer(story.keys, "es-1", "*", story.at_us, who="anna@ops1", note="its disk is gone"))
    assert act(story) == ("operator", "anna@ops1", "forgot es-1", "its disk is gone")

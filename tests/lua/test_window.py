"""The window of a lossless budget: what its consumers cannot hold is not admitted.

T_x, after which a token has arrived or never will, is 2.25 s here: four quarters of 0.5625 s.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.script_driver import MICRO, ScriptDriver
from tests.lua.test_report import window

TOLD: dict[str, Any] = {"done": 0, "errors": 0, "in_flight": 0, "queue_depth": 0, "queue_limit": 100, "capacity": 1000}


def live(story: ScriptDriver, until: float, names: str = "c", **said: Any) -> ScriptDriver:
    """Everyone reports four times a second, the last time at `until`."""
    while story.now < until - 1e-9:
        story.at(min(until, story.now + 0.25))
        for name in names:
            story.report(name, **TOLD | said)
    return story


def opened(story: ScriptDriver, names: str = "c", **settings: Any) -> ScriptDriver:
    """A lossless budget whose quiet time is over: it may admit from 1.5 s on."""
    story.configure(lossless=True, **settings)
    for name in names:
        story.report(name, **TOLD)
    return live(story, 1.5, names)


def take(story: ScriptDriver, tokens: float, name: str = "p", **ask: Any) -> float:
    """Whole tokens that one claim of up to `tokens` gets; its needs are small, its demand is great."""
    return story.claim(name, tokens=tokens, requested_rate=1e6, **ask).granted / MICRO


def drain(story: ScriptDriver) -> float:
    """All that any number of newcomers get now."""
    total = got = take(story, 1000, f"q{story.now}-0")
    i = 1
    while got and i < 50:
        got = take(story, 1000, f"q{story.now}-{i}")
        total, i = total + got, i + 1
    return total


def test_lost_state_admits_nothing(story: ScriptDriver) -> None:
    """Nothing is admitted while tokens of a lost state may be in flight."""
    story.configure(lossless=True)
    story.report(**TOLD)
    live(story, 0.75)
    assert story.claim("q").retry_after == 0.75
    live(story, 1.499999)
    answer = story.claim()
    assert (answer.granted, answer.reason, answer.is_lossless) == (0, "window", True)
    assert answer.retry_after == pytest.approx(0.1)
    assert take(live(story, 1.5), 1) == 1


def test_quiet_counts_from_the_windows_birth(story: ScriptDriver) -> None:
    """The quiet time counts from the birth of the window."""
    story.configure(rate=100)
    assert take(story.at(100), 5) == 5
    story.configure(lossless=True)
    story.report(**TOLD)
    assert take(live(story, 101.4), 5, "q") == 0
    assert take(live(story, 101.5), 5, "r") == 5


def test_consumers_get_what_they_can_hold(story: ScriptDriver) -> None:
    """As much is admitted as the consumers can hold."""
    opened(story)
    assert drain(story) == 100
    answer = story.at(1.6).claim("z")
    assert (answer.granted, answer.reason) == (0, "window")
    assert take(live(story, 1.75, queue_depth=60, done=20), 1000, "z") == 20  # 80 came, of which 20 are done


def test_work_in_hand_takes_room(story: ScriptDriver) -> None:
    """Work that arrived and is not done takes room."""
    opened(story)
    drain(story)
    live(story, 1.75, queue_depth=100)
    assert take(story, 5, "z") == 0
    live(story, 2.0, queue_depth=70, in_flight=20, done=10)
    assert drain(story) == 30


def test_a_claim_for_all_or_nothing_is_not_cut(story: ScriptDriver) -> None:
    """A claim for all or nothing is not cut."""
    opened(story)
    assert take(story, 60, "a", need=60, whole=True) == 60
    assert take(story, 60, "b", need=60, whole=True) == 0
    assert take(story, 40, "c", need=40, whole=True) == 40


def test_a_cut_leaves_whole_tokens(story: ScriptDriver) -> None:
    """A cut leaves whole tokens, or parts of a small need."""
    opened(story, rate=1000)
    assert take(live(story, 1.75, queue_depth=97.5), 50, "a") == 2
    assert take(story, 50, "b", need=0.2) == pytest.approx(0.4)


def test_returned_tokens_make_room(story: ScriptDriver) -> None:
    """What comes back or burns makes room at once."""
    opened(story)
    assert take(story, 60, "a", need=60) == 60
    assert take(story, 40, "b", need=40) == 40
    story.at(1.6).claim("a", tokens=0, unused=25, held=35)
    assert window(story)["net"] == 75 * MICRO
    story.claim("b", tokens=0, burned=15, held=25)
    assert window(story)["net"] == 60 * MICRO
    assert drain(story) == 40


def test_a_return_makes_no_room_twice(story: ScriptDriver) -> None:
    """Tokens that come back although their work seemed to be seen make no room twice."""
    opened(story)
    assert take(story, 60, "a", need=60) == 60
    live(story, 1.75, done=1000)  # others send to it as well
    assert window(story)["A"] == 60 * MICRO
    story.claim("a", tokens=0, unused=25, held=35)
    assert drain(story) == 100


def test_no_more_can_burn_than_was_held(story: ScriptDriver) -> None:
    """No more can burn than was held."""
    opened(story)
    take(story, 40, "a", need=40)
    story.at(1.6).claim("a", tokens=0, burned=1000, unused=30)
    assert window(story)["net"] == 0


def test_old_burned_tokens_make_no_room(story: ScriptDriver) -> None:
    """What burned long ago was written off already."""
    opened(story)
    take(story, 40, "a", need=40)
    live(story, 3.25)
    story.claim("a", tokens=0, burned=40)
    assert window(story)["net"] == 40 * MICRO


def test_a_producer_that_leaves_makes_room(story: ScriptDriver) -> None:
    """A producer that leaves makes room."""
    opened(story)
    take(story, 40, "a", need=40)
    story.at(1.6).leave("a", unused=30)
    assert window(story)["net"] == 10 * MICRO


def test_old_grants_have_arrived(story: ScriptDriver) -> None:
    """What was granted long ago has arrived or never will."""
    opened(story)
    assert drain(story) == 100
    assert drain(live(story, 3.5)) == 0
    assert drain(live(story, 4.5)) == 100


def test_no_write_off_beside_silence(story: ScriptDriver) -> None:
    """Nothing is written off while a consumer is silent or late."""
    opened(story, "ab")
    assert drain(story) == 200
    live(story, 1.75, "b")
    live(story, 5, "a")  # b is silent since 3.75
    assert window(story)["A"] == 0
    story.client.flushall()
    story = ScriptDriver(story.client)
    opened(story, "ab")
    assert drain(story) == 200
    live(story, 3.0, "ab")
    live(story, 4.3, "a")  # b lives still, but what came to it since 3.0 s is not known
    assert window(story)["A"] == 0
    live(story, 4.35, "b")
    assert window(story)["A"] == 200 * MICRO


def test_a_late_one_is_heard_by_its_report(story: ScriptDriver) -> None:
    """A consumer that was late itself is heard by its report."""
    opened(story)
    drain(story)
    live(story, 3.0)
    story.at(4.9).report(**TOLD)
    assert window(story)["A"] == 100 * MICRO


def test_arrivals_count_once(story: ScriptDriver) -> None:
    """Arrivals are counted once, though they were written off."""
    opened(story)
    drain(story)
    live(story, 4.5)
    live(story, 4.75, queue_depth=10)
    assert window(story)["A"] == 100 * MICRO  # never more than was granted
    assert drain(story) == 90


def test_a_forgotten_one_starts_again(story: ScriptDriver) -> None:
    """A producer that was forgotten starts again."""
    opened(story, "ab")
    drain(story)
    live(story, 1.75, "b")
    live(story, 20, "a")
    assert window(story)["A"] == 200 * MICRO
    drain(story)
    net = window(story)["net"]
    story.at(20.25).report("b", **TOLD | {"done": 60})  # what came to it meanwhile was written off
    assert window(story)["A"] == 200 * MICRO
    assert window(story)["net"] == net == 300 * MICRO


def test_spread_follows_the_fullest(story: ScriptDriver) -> None:
    """Under `spread` the fullest consumer rules, and silent consumers count."""
    opened(story, "ab", combine="spread")
    assert drain(story) == 100
    story.at(1.75).report("a", **TOLD | {"done": 50})
    story.report("b", **TOLD | {"done": 50, "queue_limit": 30})
    assert drain(story) == 30
    story.at(2).report("a", **TOLD | {"done": 65})
    live(story, 3.9, "a", done=65)
    assert window(story)["edge"] == (115 + 30) * MICRO


def test_under_min_each_has_its_own_edge(story: ScriptDriver) -> None:
    """Under `min` each consumer has its own edge."""
    opened(story, "ab", combine="min")
    assert drain(story) == 100
    story.at(1.75).report("a", **TOLD | {"done": 100})
    story.report("b", **TOLD | {"done": 20, "queue_depth": 50})
    assert drain(story) == 20  # b: 70 came, 50 more would fit: 120
    live(story, 4.75, "a", done=120)
    assert window(story)["edge"] == 120 * MICRO  # b is silent, and may be full
    assert story.claim("z").granted == 0


def test_min_counts_an_unknown_as_full(story: ScriptDriver) -> None:
    """Under `min`, a consumer that never reported what it holds may be full."""
    story.configure(combine="min")
    story.report("a", **TOLD)
    story.report("b", load=0, capacity=10)
    assert window(story)["active"] == 0
    assert window(story)["edge"] == 0


def test_a_cold_consumer_has_a_window(story: ScriptDriver) -> None:
    """A cold consumer has a window without `lossless` too."""
    told = {name: value for name, value in TOLD.items() if name != "capacity"}
    story.report(**told)
    assert window(story)["active"] == 1
    for i in range(60):
        story.at(0.02 * i).claim(f"p{i}", tokens=10, need=1, requested_rate=1e6)
    assert window(story)["net"] == 10 * MICRO  # a tenth of what it says it holds
    answer = story.claim("z")
    assert (answer.granted, answer.reason, answer.is_lossless) == (0, "window", False)


def test_a_cold_queue_takes_one_need(story: ScriptDriver) -> None:
    """One need goes into a cold queue, however small the queue is.

    Otherwise a window smaller than the need would never open, because work must come first.
    """
    told = {name: value for name, value in TOLD.items() if name != "capacity"} | {"queue_limit": 8}
    story.report(**told)
    assert story.at(1).claim("a", tokens=1, need=1, requested_rate=1e6).granted == MICRO
    answer = story.at(1.5).claim("b", tokens=1, need=1, requested_rate=1e6)
    assert (answer.granted, answer.reason) == (0, "window")  # while one is on the way
    story.at(1.6).report(**told | {"queue_depth": 1})
    assert story.claim("b", tokens=1, need=1, requested_rate=1e6).granted == 0  # one waits, and the window is smaller
    story.at(1.85).report(**told | {"done": 1})
    assert story.claim("b", tokens=1, need=1, requested_rate=1e6).granted == MICRO


def test_a_second_need_gets_the_room_left(story: ScriptDriver) -> None:
    """While one need is in flight to a cold queue, another one gets no more than there is room for."""
    told = {name: value for name, value in TOLD.items() if name != "capacity"} | {"queue_limit": 30}
    story.report(**told)
    assert story.at(1).claim("a", tokens=1, need=1, requested_rate=1e6).granted == MICRO
    assert story.at(1.2).claim("b", tokens=3, need=3, requested_rate=1e6).granted <= 2 * MICRO  # 3 fit, and 1 is coming


def test_lossless_grants_only_what_fits(story: ScriptDriver) -> None:
    """A lossless budget grants no need that its queue cannot hold."""
    opened(story)
    live(story, 1.75, queue_depth=98, done=20)
    answer = story.at(1.8).claim("z", tokens=3, need=3, whole=True, requested_rate=1e6)
    assert (answer.granted, answer.reason) == (0, "window")


def test_only_lossless_keeps_the_window(story: ScriptDriver) -> None:
    """A known consumer has no window unless the budget is lossless."""
    story.report(**TOLD)
    assert window(story)["active"] == 0
    assert take(live(story, 1), 200, need=200) == 200


def test_lossless_needs_a_full_report(story: ScriptDriver) -> None:
    """`lossless` is refused while a consumer does not report what it holds."""
    story.report("a", **TOLD)
    story.report("b", load=0, capacity=10)
    with pytest.raises(Exception, match="NEXUS_INVALID_LOSSLESS"):
        story.configure(lossless=True)
    story.leave(consumer="b")
    story.configure(lossless=True)
    assert window(story)["lossless"] == 1


def test_snapshots_are_quarters_of_a_horizon(story: ScriptDriver) -> None:
    """Snapshots are a quarter of the horizon apart."""
    opened(story)
    slot = window(story)["slot_us"]
    assert slot == 562_500
    take(story, 7)
    net = window(story)["net"]
    seen = []
    for i in range(1, 6):
        story.at(1.5 + i * 0.5625).claim("z", tokens=0)
        seen.append([window(story)[f"s{k}"] for k in range(1, 6)])
    assert seen == [[net] * i + [0] * (5 - i) for i in range(1, 6)]


def test_a_slower_reporter_stretches_the_horizon(story: ScriptDriver) -> None:
    """A consumer that reports less often stretches the horizon and forgets snapshots that are too young."""
    opened(story)
    take(story, 7)
    live(story, 2.75)
    assert window(story)["s1"] > 0
    story.report("slow", **TOLD | {"interval_ms": 1000})
    w = window(story)
    assert w["slot_us"] == (500_000 + 1_000_000 + 3_000_000) / 4
    assert [w[f"s{k}"] for k in range(1, 6)] == [0] * 5


def test_another_transit_moves_the_horizon(story: ScriptDriver) -> None:
    """Another `transit` moves the horizon up and down."""
    opened(story)
    for transit in (5, 0.5, 1):
        story.configure(transit=transit)
        assert window(story)["slot_us"] == pytest.approx((0.5 + transit + 0.75) / 4 * MICRO, abs=2)


def lived(story: ScriptDriver, combine: str, more: int) -> dict[str, int]:
    """The window after some seconds of a life, its counters beside net; `more` was granted long before them."""
    told: dict[str, Any] = {"done": 100 if combine == "min" else 50}
    opened(story, "ab", combine=combine)
    drain(story)
    for i in range(6):
        live(story, 2.5 + 0.6 * i, "ab", **told)
        take(story, 2, f"y{i}")
    for place in (1, 2, 3, *range(8, 13)):
        story.change("window", place, story.numbers("window")[place] + more)
    if combine == "min":
        for name in "ab":
            story.client.zincrby(f"{story.keys.budget}:edges", more, name)
    live(story, 5.7, "ab", **told)
    w = window(story)
    assert 0 <= w["net"] < 10**12
    return {
        name: w[name] - w["net"]
        for name in ("edge", "s1", "s2", "s3", "s4", "s5", *(["A"] if combine != "min" else []))
    }


@pytest.mark.parametrize("combine", ["sum", "spread", "min"])
def test_counters_restart_in_time(story: ScriptDriver, combine: str) -> None:
    """Counters start again long before a double is not exact."""
    as_ever = lived(story, combine, 0)
    assert as_ever["s5"] < as_ever["s1"] <= 0
    assert lived(ScriptDriver(story.client, "long"), combine, 5 * 10**15) == as_ever


@pytest.mark.parametrize("step", [0.3, 5, 86_400])
def test_a_clock_that_steps_back_admits_no_more(story: ScriptDriver, step: float) -> None:
    """A clock that steps back admits no more."""
    story.at(100_000)
    story.configure(lossless=True)
    story.report(**TOLD)
    live(story, 100_005)
    assert drain(story) == 100
    story.at(story.now - step)
    live(story, story.now + 2)
    assert drain(story) == 0
    live(story, story.now + 7)
    assert drain(story) == 100


def test_lossless_without_reports_gives_zero(story: ScriptDriver) -> None:
    """A lossless budget that no consumer reports to answers that nothing comes.

    Its answer has no rate of which nothing can be had.
    """
    assert story.configure(rate=100, lossless=True, grace=0)[:3] == (0, 3, "window")
    answer = story.claim("p")
    assert (answer.granted, answer.budget_rate, answer.reason) == (0, 0, "window")
    story.report("c", queue_limit=100, queue_depth=0, in_flight=0, done=0, errors=0)
    assert story.field("reason") != "window"
    story.leave(consumer="c")
    assert story.field("reason") == "window"
    assert story.configure(unset=("lossless",))[:3] == (100, 0, "rate")

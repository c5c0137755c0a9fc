"""report.lua, rule by rule: what consumers say becomes the rate of the budget."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import redis

from nexus_redis._protocol import calls
from tests.harness.script_driver import MICRO, START_US, ScriptDriver

QUEUE: dict[str, Any] = {"done": 0, "errors": 0, "in_flight": 0, "queue_depth": 0, "queue_limit": 100}


def refused(story: ScriptDriver, *args: Any, **said: Any) -> str:
    """The code that a report is refused with; a refusal changes nothing."""
    before = story.state
    with pytest.raises(redis.exceptions.ResponseError) as refusal:
        story.report(*args, **said)
    assert story.state == before
    return str(refusal.value)


def parts(story: ScriptDriver) -> dict[str, int]:
    """The sums over consumers."""
    names = ("live", "rate", "capacity", "load", "arrivals", "bounded", "free", "load_level", "noted", "told")
    return dict(zip(names, story.numbers("sums"), strict=True))


def window(story: ScriptDriver) -> dict[str, int]:
    """The window of what the consumers can hold; the snapshots are s1, the youngest, to s5."""
    names = (
        "active",
        "edge",
        "net",
        "A",
        "slot",
        "slot_us",
        "lossless",
        "born",
        "s1",
        "s2",
        "s3",
        "s4",
        "s5",
    )
    return dict(zip(names, story.numbers("window"), strict=True))


def standing(story: ScriptDriver) -> tuple[float, int, str]:
    """Rate, level and reason of the budget after somebody has looked at it."""
    answer = story.claim("eye", tokens=0)
    return answer.budget_rate / MICRO, answer.level, story.field("reason")


def consumer(story: ScriptDriver, name: str = "c") -> dict[str, str]:
    fields: Any = story.client.hgetall(story.keys.consumer(name))
    return {calls.text(k): calls.text(v) for k, v in fields.items()}


# --- the published example


def test_the_example_of_the_protocol(story: ScriptDriver) -> None:
    """The first report is answered as in the protocol's own example."""
    report = story.report("es-1", load=95, capacity=400)
    assert (report.rate, report.capacity, report.budget_rate) == (100, 400, 100)
    assert (report.level, report.load, report.law, report.reason) == (2, 95, "range", "load")
    answer = story.claim("filebeat-1", tokens=0, requested_rate=10_000)
    assert (answer.recommended_rate, answer.level, answer.load) == (100 * MICRO, 2, 95)


# --- levels


def test_levels_rise_fast_and_fall_late(story: ScriptDriver) -> None:
    """Levels rise at once and fall five points later."""
    levels = [
        (0, 0), (69.9, 0), (70, 1), (66, 1), (65, 1), (64.9, 0), (90, 2), (86, 2), (85, 2), (84.9, 1), (65, 1),
        (64.9, 0), (100, 3), (95.1, 3), (95, 3), (94.9, 2), (0, 0), (100, 3),
    ]  # fmt: skip
    for load, level in levels:
        assert story.at(story.now + 0.25).report(load=load, capacity=100).level == level, load


def test_the_load_is_told_though_the_rate_stays(story: ScriptDriver) -> None:
    """The load is told, though the rate stays."""
    story.configure(rate=10)
    assert [story.at(i).report(load=load, capacity=1000).load for i, load in enumerate((0, 5, 10.5))] == [0, 5, 10.5]
    assert story.claim(tokens=0).load == 10.5
    assert story.at(9).report("d", done=1, errors=0).load == 0  # it says nothing of how full it is


def test_a_full_consumer_is_not_a_paused_one(story: ScriptDriver) -> None:
    """A full consumer is not a paused one."""
    report = story.report(load=100, capacity=1000)
    assert (report.level, report.reason) == (3, "load")
    assert 0 < report.budget_rate < 1


# --- several consumers


def test_a_pool_adds_up(story: ScriptDriver) -> None:
    """A pool adds up, and its load is weighed by capacity."""
    story.report("a", load=90, capacity=100)
    report = story.report("b", load=0, capacity=300)
    assert (report.budget_rate, report.load) == (350, 22.5)
    assert standing(story) == (350, 0, "load")


def test_pushed_work_follows_the_fullest(story: ScriptDriver) -> None:
    """Pushed work goes as fast as the fullest part allows."""
    story.configure(combine="spread")
    for i in range(5):
        story.at(0.25 * i)
        story.report("a", load=0, capacity=300, done=150 * i)
        report = story.report("b", load=0, capacity=100, done=50 * i)
    assert report.budget_rate == pytest.approx(400, rel=0.01)  # 3 to 1 and 3 to 1: both are full at once
    for i in range(5, 60):
        story.at(0.25 * i)
        story.report("a", load=0, capacity=300, done=150 * i)
        report = story.report("b", load=90, capacity=100, done=50 * i)
    assert report.rate == 50
    assert report.budget_rate == pytest.approx(200, rel=0.01)  # b takes a quarter of all
    assert report.load == 90


def test_a_starved_part_counts_two_percent(story: ScriptDriver) -> None:
    """A consumer that gets next to nothing counts for two percent."""
    story.configure(combine="spread")
    for i in range(60):
        story.at(0.25 * i)
        story.report("a", load=0, capacity=10_000, done=1000 * i)
        report = story.report("b", load=0, capacity=10, done=i // 40)
    assert report.budget_rate == pytest.approx(500)


def test_unknown_arrivals_are_a_sum(story: ScriptDriver) -> None:
    """Without arrivals, pushed work is a sum unless one consumer is far slower."""
    story.configure(combine="spread")
    story.report("a", load=0, capacity=100)
    assert story.report("b", load=0, capacity=300).budget_rate == 400
    assert story.report("c", load=0, capacity=1).budget_rate == 50


def test_min_follows_the_slowest(story: ScriptDriver) -> None:
    """Work that touches all consumers goes as fast as the slowest."""
    story.configure(combine="min")
    story.report("a", load=90, capacity=100)
    report = story.report("b", load=0, capacity=300)
    assert (report.budget_rate, report.load, report.level) == (50, 90, 2)
    story.at(1.9).report("a", load=0, capacity=100)
    assert standing(story.at(1.99)) == (100, 0, "load")
    assert standing(story.at(2)) == (0, 3, "no_consumers")  # b is silent, and may be full
    story.at(3.8).report("a", load=0, capacity=100)
    assert standing(story.at(5)) == (0, 3, "no_consumers")
    for i in range(30):
        story.at(5 + 0.25 * i).report("a", load=0, capacity=100)
    assert standing(story) == (100, 0, "load")  # forgotten ten seconds later


def test_the_ceiling_bounds_each_part(story: ScriptDriver) -> None:
    """The ceiling of the budget is a ceiling of each part."""
    story.configure(rate=100)
    report = story.report("liar", load=0, capacity=1e9)
    assert (report.rate, report.budget_rate, report.reason) == (100, 100, "rate")
    assert parts(story)["rate"] == 100 * MICRO


def test_a_liar_moves_its_own_part(story: ScriptDriver) -> None:
    """A liar moves the budget by its own part only."""
    for name in ("a", "b"):
        story.report(name, load=50, capacity=100)
    honest = story.report("c", load=50, capacity=100).budget_rate
    for lie in (0, 79, 99.9, 100):
        report = story.at(story.now + 0.25).report("c", load=lie, capacity=100)
        assert honest - 100 <= report.budget_rate <= honest


def test_rates_stay_in_range(story: ScriptDriver) -> None:
    """Rates never leave the range of the protocol."""
    for i in range(12):
        report = story.report(f"c{i}", load=0, capacity=1e9, queue_limit=2.0**53, errors=2.0**53, slots=2.0**53)
    assert report.budget_rate == 1e9
    for i in range(12):
        story.leave(consumer=f"c{i}")
    assert parts(story) | {"noted": 0, "told": 0} == dict.fromkeys(parts(story), 0)


def test_a_capacity_is_exact_to_the_micro_token(story: ScriptDriver) -> None:
    """A capacity is exact to the micro-token."""
    for capacity in (0.29, 0.57, 1.1, 4.35, 33.333333, 0.000001, 1e9):
        report = story.at(story.now + 0.25).report(load=0, capacity=capacity)
        assert (report.rate, report.capacity, report.budget_rate) == (capacity, capacity, capacity)
        assert story.configure(rate=capacity).reason == "rate"
        report = story.at(story.now + 0.25).report(load=0, capacity=1e9)
        assert (report.budget_rate, report.reason) == (capacity, "rate")
        story.configure(unset=("rate",))


# --- a consumer's end


def test_a_silent_consumer_is_out(story: ScriptDriver) -> None:
    """A silent consumer is out after its deadline, whichever call comes next (G5).

    A claim, a report of another and a configure see it.
    """

    def by_claim() -> float:
        return standing(story)[0]

    def by_report() -> float:
        return story.report("other", load=0, capacity=1).budget_rate - 1

    def by_configure() -> float:
        return story.configure().rate

    for ask in (by_claim, by_report, by_configure):
        story.client.flushall()
        story.at(0).report(load=0, capacity=100)
        story.at(1.999999)
        assert ask() == 100
        story.at(2)
        assert ask() == 0
        assert "c" not in story.inspect().live


def test_a_deadline_is_three_intervals(story: ScriptDriver) -> None:
    """The deadline is three intervals and no less than two seconds."""
    story.report("quick", load=0, capacity=1, interval_ms=10)
    story.report("usual", load=0, capacity=1)
    story.report("slow", load=0, capacity=1, interval_ms=60_000)
    ends = {name: end - START_US / MICRO for name, end in story.inspect().consumers.items()}
    assert ends == {"quick": 2, "usual": 2, "slow": 180}


def test_a_silent_consumer_is_forgotten(story: ScriptDriver) -> None:
    """A silent consumer is forgotten ten seconds later."""
    story.report(load=0, capacity=100)
    story.at(2).claim(tokens=0)
    assert story.inspect().consumers == {"c": START_US / MICRO + 12}
    story.at(11.999999).claim(tokens=0)
    assert story.inspect().consumer_count == 1
    story.at(12).claim(tokens=0)
    assert story.inspect().consumer_count == 0


def test_many_silent_ones_go_slowly(story: ScriptDriver) -> None:
    """Many that fall silent together go a few a call."""
    for i in range(40):
        story.report(f"c{i}", load=0, capacity=1)
    live = []
    for i in range(4):
        story.at(2 + 0.001 * i).claim(tokens=0)
        live.append(parts(story)["live"])
    assert live == [24, 8, 0, 0]
    assert standing(story)[0] == 0


def test_a_silent_end_stops_the_budget(story: ScriptDriver) -> None:
    """A silent end stops the budget until a report."""
    story.configure(rate=100, min_rate=3)
    story.report(load=0, capacity=500)
    assert standing(story.at(5)) == (3, 3, "no_consumers")
    assert story.field("last_consumer_end") == "silent"
    assert standing(story.at(1000)) == (3, 3, "no_consumers")
    assert story.at(1001).report(load=0, capacity=500).budget_rate == 100


@pytest.mark.parametrize(("given", "grace"), [(None, 10), (3, 3), (60, 60)])
def test_a_clean_leave_keeps_the_rate_for_a_grace(story: ScriptDriver, given: float | None, grace: float) -> None:
    """A clean leave keeps what that consumer could take for a grace, and then gives the rate that is set."""
    story.configure(rate=100, grace=given)
    story.report(load=95, capacity=40)
    assert story.at(1).leave(consumer="c")
    assert story.field("last_consumer_end") == "left"
    assert standing(story) == (10, 0, "load")
    assert standing(story.at(0.99 + grace)) == (10, 0, "load")
    assert standing(story.at(1 + grace)) == (100, 0, "rate")
    assert standing(story.at(100)) == (100, 0, "rate")


@pytest.mark.parametrize("combine", ["sum", "spread", "min"])
def test_the_rate_in_a_rolling_restart(story: ScriptDriver, combine: str) -> None:
    """In a rolling restart of the only consumer, the rate is what that consumer can take."""
    story.configure(rate=1000, combine=combine)
    for life in range(5):
        story.report(load=90, capacity=40, incarnation=f"life-{life}", seq=1)
        assert standing(story) == (20, 2, "load")
        story.at(story.now + 5).report(load=90, capacity=40, incarnation=f"life-{life}", seq=2)
        assert story.leave(consumer="c", incarnation=f"life-{life}")
        for _ in range(3):
            assert standing(story.at(story.now + 3)) == (20, 0, "load")


def test_a_grace_has_three_ends(story: ScriptDriver) -> None:
    """A grace ends with a report, a silence, or a word of the operator."""
    story.configure(rate=100, min_rate=15)
    story.report(load=95, capacity=40)
    story.at(1).leave(consumer="c")
    assert standing(story) == (15, 0, "load")  # no less than the floor
    assert story.at(2).report(load=0, capacity=70).budget_rate == 70
    story.at(2.5).leave(consumer="c")
    assert standing(story) == (70, 0, "load")
    story.configure("operator", grace=0)
    assert standing(story) == (100, 0, "rate")
    story.configure("operator", unset=("grace",))
    assert standing(story) == (70, 0, "load")
    story.report(load=0, capacity=70, incarnation="again", seq=1)
    assert standing(story.at(5)) == (15, 3, "no_consumers")
    story.leave(consumer="c", incarnation="*")
    assert standing(story) == (100, 0, "rate")


def test_a_grace_opens_no_other_budget(story: ScriptDriver) -> None:
    """A grace opens no budget whose consumer could take more, or that is paused or lossless."""
    story.configure(rate=100)
    story.report(load=0, capacity=400)
    story.leave(consumer="c")
    assert standing(story) == (100, 0, "rate")
    story.configure(pause=5)
    assert standing(story) == (0, 3, "paused")
    story.at(6).report(**QUEUE, incarnation="next", seq=1)
    story.configure(lossless=True)
    story.leave(consumer="c", incarnation="next")
    assert standing(story) == (0, 3, "window")


def test_a_clean_leave_leaves_the_floor(story: ScriptDriver) -> None:
    """A clean leave without a rate leaves the floor."""
    story.configure(min_rate=2)
    story.report(load=0, capacity=500)
    story.leave(consumer="c")
    assert standing(story) == (2, 3, "no_consumers")


@pytest.mark.parametrize("after", [3, 13])
def test_a_silent_one_may_leave(story: ScriptDriver, after: float) -> None:
    """A consumer that fell silent may still leave or be forgotten."""
    for end, incarnation in (("left", "c"), ("forgotten", "*")):
        story.client.flushall()
        story.at(0).configure(rate=100)
        story.report(load=95, capacity=100)
        assert standing(story.at(after))[2] == "no_consumers"
        assert story.leave(consumer="c", incarnation=incarnation)
        assert story.field("last_consumer_end") == end
        assert standing(story) == (100, 0, "rate")


def test_the_end_of_the_last_one_counts(story: ScriptDriver) -> None:
    """The end of the last consumer counts."""
    story.configure(rate=100)
    story.report("a", load=0, capacity=500)
    story.at(1).report("b", load=0, capacity=500)
    story.at(2.5).leave(consumer="b")
    assert story.field("last_consumer_end") == "left"
    story.at(3).report("a", load=0, capacity=500, seq=2)
    story.report("b", load=0, capacity=500, seq=2)
    story.leave(consumer="b")
    assert story.field("last_consumer_end") == "left"
    assert standing(story.at(6)) == (0, 3, "no_consumers")
    assert story.field("last_consumer_end") == "silent"


# --- pauses of one consumer


def test_a_pause_takes_a_part_out(story: ScriptDriver) -> None:
    """A paused consumer takes its part out and puts it back."""
    story.report("a", load=0, capacity=100)
    report = story.report("b", load=0, capacity=300, pause_ms=1000)
    assert (report.rate, report.budget_rate, report.reason) == (0, 100, "load")
    story.at(0.5).report("a", load=0, capacity=100)
    assert story.at(0.999).report("b", load=0, capacity=300).budget_rate == 100
    assert story.at(1.25).report("b", load=0, capacity=300).budget_rate == 400
    story.at(1.5).report("b", load=0, capacity=300, pause_ms=60_000)
    assert story.at(1.75).report("b", load=0, capacity=300, pause_ms=0).budget_rate == 400


def test_all_paused_means_paused(story: ScriptDriver) -> None:
    """When all consumers that there are have paused, the budget is paused."""
    story.configure(rate=100, min_rate=5)
    report = story.report(load=20, capacity=100, pause_ms=1000)
    assert (report.budget_rate, report.level, report.reason, report.load) == (0, 3, "paused", 20)


@pytest.mark.parametrize("combine", ["spread", "min"])
def test_one_pause_stops_pushed_work(story: ScriptDriver, combine: str) -> None:
    """Where its part cannot be left out, one paused consumer stops all."""
    story.configure(combine=combine)
    for i in range(8):
        story.at(0.25 * i).report("a", load=0, capacity=100, done=10 * i)
        report = story.report("b", load=0, capacity=300, done=10 * i, pause_ms=1000 if i == 7 else None)
    assert (report.budget_rate, report.reason) == (0, "paused")
    story.at(2.75).report("a", load=0, capacity=100, done=90)
    assert story.at(3).report("b", load=0, capacity=300, done=90).budget_rate > 0


def test_a_ceiling_of_nothing_is_no_pause(story: ScriptDriver) -> None:
    """A ceiling of nothing is not a pause."""
    story.configure(rate=0)
    report = story.report(load=20, capacity=100)
    assert (report.budget_rate, report.level, report.reason) == (0, 0, "rate")


def test_an_early_report_changes_nothing(story: ScriptDriver) -> None:
    """A report that comes too soon changes nothing, unless it pauses."""
    story.report(**QUEUE)
    before = story.state
    first = story.at(0.1).report(**QUEUE)
    assert story.state == before
    assert first.budget_rate == pytest.approx(40)
    assert story.at(0.11).report(**QUEUE, pause_ms=500).reason == "paused"
    assert story.at(0.4).report(**QUEUE).reason == "paused"


def test_load_alone_counts_at_once_however_soon(story: ScriptDriver) -> None:
    """A load alone counts at once, however soon it comes."""
    story.report(load=0, capacity=100)
    assert story.at(0.001).report(load=90, capacity=100).budget_rate == 50


# --- who reports


def test_the_same_report_changes_nothing(story: ScriptDriver) -> None:
    """The same report changes nothing."""
    story.report(load=0, capacity=100)
    story.at(0.25).report(load=50, capacity=100)
    before = story.state
    for later in (0.25, 1, 100):
        again = story.at(later).report(load=99, capacity=7, seq=2)
        assert (again.rate, again.budget_rate) == (100, 100)
        assert story.state == before


def test_a_lower_seq_is_stale(story: ScriptDriver) -> None:
    """A lower seq is stale."""
    story.report(load=0, capacity=100, seq=5)
    assert refused(story.at(1), load=0, capacity=100, seq=4) == "NEXUS_STALE"


def test_an_id_is_taken_while_its_reports_live(story: ScriptDriver) -> None:
    """An id is taken while its reports live."""
    story.report(load=0, capacity=100)
    assert refused(story.at(1.999999), load=0, capacity=9, incarnation="other", seq=1) == "NEXUS_ID_TAKEN"
    assert refused(story, load=0, capacity=9, incarnation="", seq=0) == "NEXUS_ID_TAKEN"
    assert story.at(2).report(load=0, capacity=9, incarnation="other", seq=1).budget_rate == 9
    assert refused(story, load=0, capacity=9, incarnation="c", seq=9) == "NEXUS_ID_TAKEN"


def test_a_silent_owner_frees_its_id(story: ScriptDriver) -> None:
    """An id is free once its owner was seen silent or left."""
    story.report(load=0, capacity=100)
    story.at(2.5).claim(tokens=0)
    assert story.at(2.6).report(load=0, capacity=9, incarnation="other", seq=1).budget_rate == 9
    story.leave(consumer="c", incarnation="other")
    assert story.report(load=0, capacity=8, incarnation="third", seq=1).budget_rate == 8


def test_one_shot_senders_own_nothing(story: ScriptDriver) -> None:
    """Senders of one report own nothing and are never a retry."""
    story.report(load=0, capacity=100, incarnation="", seq=0)
    assert story.report(load=50, capacity=50, incarnation="", seq=0).budget_rate == 50
    assert story.report(load=50, capacity=40, incarnation="x", seq=0).budget_rate == 40


def test_a_first_report_is_a_base(story: ScriptDriver) -> None:
    """The first report of an incarnation is a base."""
    story.configure(lossless=True)
    story.report(**QUEUE)
    story.at(1.9).claim("p", tokens=8, need=8)
    assert window(story)["net"] == 8 * MICRO
    story.at(1.95).report(**QUEUE | {"done": 4})
    assert window(story)["A"] == 4 * MICRO
    story.leave(consumer="c")
    story.at(2.1).report(**QUEUE | {"done": 1000, "queue_depth": 7}, incarnation="second", seq=1)
    assert window(story)["A"] == 4 * MICRO  # how many of those were seen before is not known
    story.at(2.35).report(**QUEUE | {"done": 1003, "queue_depth": 7}, incarnation="second", seq=2)
    assert window(story)["A"] == 7 * MICRO


@pytest.mark.parametrize("back", [{"done": 3}, {"errors": 3}, {"uptime_ms": 1}])
def test_falling_counters_are_a_base(story: ScriptDriver, back: dict[str, float]) -> None:
    """Counters or an uptime that fall are a base too."""
    story.configure(lossless=True)
    told: dict[str, Any] = QUEUE | {"done": 5, "errors": 5}
    story.report(**told)
    story.at(1.9).claim("p", tokens=20, need=20)
    story.at(1.95).report(**told | {"in_flight": 9} | back)
    assert window(story)["A"] == 0


def drained(
    story: ScriptDriver, count: int, done: int, *, leaps: float = 0, doubled: bool = False
) -> tuple[int, list[float]]:
    """Reports of a consumer of 100/s beside a queue that is never empty; what it was given after each of them."""
    rates = []
    for _ in range(count):
        done += 25
        said: dict[str, Any] = QUEUE | {"done": done, "queue_depth": 40, "uptime_ms": 1e6 + story.now * 1e3 + leaps}
        rates += [story.report(**said).rate for _ in range(1 + doubled)]
        story.at(story.now + 0.25)
    return done, rates


@pytest.mark.parametrize("leap", [6, 3_600, 1e9])
def test_a_leaping_uptime_is_a_base(real_story: ScriptDriver, leap: float) -> None:
    """An uptime that leaps is a base and moves nothing."""
    story = real_story
    done, _ = drained(story, 40, 0)
    done, rates = drained(story, 40, done, leaps=leap * 1e3)
    assert max(rates) <= 130
    assert min(rates) >= 70
    _, rates = drained(story, 40, done)
    assert max(rates) <= 130
    assert min(rates) >= 70


def test_a_leaping_uptime_opens_no_window(story: ScriptDriver) -> None:
    """An uptime that leaps opens no window of a cold consumer."""
    cold = QUEUE | {"queue_limit": 1_000}
    assert story.report(**cold).rate == 400
    assert story.at(0.25).report(**cold | {"in_flight": 1}).rate < 900
    assert story.at(0.5).report(**cold | {"in_flight": 2}, uptime_ms=3.6e6).rate < 900
    assert story.at(0.75).report(**cold | {"in_flight": 3}, uptime_ms=3.6e6 + 250).rate < 2_000


def test_a_repeated_report_moves_nothing(real_story: ScriptDriver) -> None:
    """A report that comes twice or late moves nothing."""
    story = real_story
    done, _ = drained(story, 40, 0)
    done, rates = drained(story, 8, done, doubled=True)
    for _ in range(5):  # held up for a second, and the next ones close behind
        story.at(story.now + 1)
        done, later = drained(story, 1, done, leaps=-1_000)
        story.at(story.now - 0.24)
        done, more = drained(story, 8, done)
        rates += later + more
    assert max(rates) <= 130
    assert min(rates) >= 70


def test_a_jump_takes_little_pushed_work(real_story: ScriptDriver) -> None:
    """A counter that jumps takes no pushed work from an honest consumer for long."""
    story, rates = real_story, []
    story.configure(combine="spread")
    for i in range(100):
        for name in ("honest", "jumping"):
            done = 25 * (i + 1) + (1_000_000 if name == "jumping" and i >= 60 else 0)
            story.report(name, **QUEUE | {"done": done, "queue_depth": 40})
        rates.append(standing(story)[0])
        story.at(story.now + 0.25)
    assert min(rates[40:]) >= 90
    assert min(rates[72:]) >= 0.9 * rates[59]


def test_a_jump_floods_no_budget(real_story: ScriptDriver) -> None:
    """A counter that jumps floods no budget beside an honest consumer."""
    story = real_story
    honest, jumping, rates = 0, 0, []
    for i in range(200):
        honest, jumping = honest + 25, jumping + (1_000_000 if i in {80, 120, 121} else 25)
        for name, done in (("honest", honest), ("jumping", jumping)):
            story.report(name, **QUEUE | {"done": done, "queue_depth": 40})
        rates.append(standing(story)[0])
        story.at(story.now + 0.25)
    assert max(rates[60:121]) <= 260
    assert max(rates[60:]) <= 1_000
    assert max(rates[180:]) <= 260


# --- what a report must say


@pytest.mark.parametrize("said", [{}, {"load": 95}, {"done": 5}, {"in_flight": 3}, {"latency_ms": 9, "errors": 1}])
def test_a_report_without_a_law_is_refused(story: ScriptDriver, said: dict[str, float]) -> None:
    """A report from which no rate follows is refused."""
    assert refused(story, **said) == "NEXUS_NO_LAW"


def test_load_alone_needs_a_rate(story: ScriptDriver) -> None:
    """A load alone gives the speed where the budget has a rate."""
    story.configure(rate=400)
    assert story.report(load=95).budget_rate == 100


def test_a_law_moves_only_up(story: ScriptDriver) -> None:
    """The law is the first that fits, and a chosen law moves only up."""
    assert story.report(done=0, errors=0).law == "aimd"
    assert story.at(0.25).report(load=10, capacity=5, done=0, errors=0).law == "range"
    assert story.at(0.5).report(**QUEUE).law == "drain"
    assert story.at(0.75).report(done=1, errors=0, load=5, capacity=9).law == "drain"
    story.configure(law="aimd")
    assert story.at(1).report(**QUEUE | {"done": 2}).law == "aimd"


def test_an_uncounted_queue_has_a_load(story: ScriptDriver) -> None:
    """A queue whose work is never counted says how full it is, where the budget has a rate."""
    nothing = QUEUE | {"done": 0, "errors": 0, "in_flight": 0}
    assert story.report(**nothing).law == "drain"
    assert story.at(2.25).report(**nothing).law == "drain"  # no rate, no capacity: nothing else would fit
    story.configure(rate=1000)
    assert story.at(2.5).report(**nothing).law == "range"
    assert story.at(2.75).report(**nothing | {"in_flight": 1}).law == "drain"
    assert story.at(3.0).report(**nothing | {"done": 1}).law == "drain"


def test_lossless_needs_all_counters(story: ScriptDriver) -> None:
    """A lossless budget needs to know all that its consumers hold."""
    story.configure(lossless=True)
    for field in QUEUE:
        told = {name: value for name, value in QUEUE.items() if name != field}
        assert refused(story, **told) == f"NEXUS_MISSING_{field.upper()}"
    story.report(**QUEUE)


def test_load_is_the_fuller_of_two(story: ScriptDriver) -> None:
    """The load follows from the queue or the slots, whichever is fuller."""
    assert story.report(queue_depth=45, queue_limit=50, capacity=100).load == 90
    assert story.at(1).report(in_flight=2, slots=4, queue_depth=5, queue_limit=50, capacity=100).load == 50
    assert story.at(2).report(queue_depth=75, queue_limit=50, capacity=100).load == 100
    assert story.at(3).report(queue_depth=75, capacity=100, load=3, queue_limit=80).load == 3
    assert story.at(4).report(in_flight=1, queue_depth=45, queue_limit=50, capacity=100).load == 90


def test_a_consumers_hash_says_what_it_reported(story: ScriptDriver) -> None:
    """A consumer's hash says what the consumer reported."""
    told = calls.report(
        story.keys, "c", {"load": 12.5, "capacity": 100.25, "done": 7, "errors": 1, "in_flight": 2, "latency_ms": 3.5},
        "me", 3, '{"zone":"b"}', at_us=story.at_us,
    )  # fmt: skip
    story.run(told)
    shown = consumer(story)
    assert shown == {
        "law": "range", "rate_per_s": "100.25", "capacity_per_s": "100.25", "load_percent": "12.5",
        "labels": '{"zone":"b"}', "joined_at": "2027-01-15T08:00:00.000Z", "reported_at": "2027-01-15T08:00:00.000Z",
        "arrivals_per_s": "0", "done": "7", "errors": "1", "in_flight": "2", "latency_ms": "3.5",
    }  # fmt: skip
    state: Any = story.client.get(story.keys.consumer_state("c"))
    words = calls.text(state).split("\n")[0]
    assert words == f"me 3 100250000 100250000 0 0 {START_US} {START_US} - 12.5 100.25 - - 7 1 2 - 3.5 - - - - - -"


def test_an_old_field_disappears(story: ScriptDriver) -> None:
    """A field that is no longer reported is no longer shown."""
    story.report(**QUEUE)
    story.at(1).report(done=1, errors=0)
    assert "queue_depth" not in consumer(story)
    assert window(story)["active"] == 0
    assert parts(story)["bounded"] == 0


def test_a_rare_reporter_keeps_its_place(story: ScriptDriver) -> None:
    """A consumer that reports rarely is remembered until its deadline."""
    story.report(load=0, capacity=100, interval_ms=3_600_000)
    left: Any = story.client.pttl(story.keys.consumer("c"))
    assert left > 3 * 3_600_000


# --- the sums


@pytest.mark.parametrize("combine", ["sum", "spread", "min"])
def test_sums_stay_exact(real_story: ScriptDriver, combine: str) -> None:
    """Sums stay exact over any number of joins, leaves and deaths."""
    story, rng = real_story, random.Random(combine)
    story.configure(combine=combine)
    done: dict[str, float] = {}
    for i in range(800):
        name = f"c{rng.randrange(12)}"
        story.at(story.now + rng.choice([0, 0.1, 0.25, 0.25, 0.9]))
        done[name] = done.get(name, 0) + rng.choice([0, 1, 0.1, 33.333333, 1e6]) * rng.random()
        if rng.random() < 0.2:
            story.leave(consumer=name, incarnation="")
        elif rng.random() < 0.02:
            story.at(story.now + 20).claim(tokens=0)
        else:
            story.report(
                name, incarnation="", seq=0, uptime_ms=None, done=done[name],
                load=rng.choice([0, 50, 100]) * rng.random(),
                capacity=round(10 ** rng.uniform(-3, 9), 6), pause_ms=rng.choice([None, None, 0, 400]),
                queue_depth=rng.choice([None, 0, 1e5 * rng.random()]), queue_limit=rng.choice([None, 1e4, 2.0**53]),
            )  # fmt: skip
        if i % 50 == 0:
            assert sums(story) == {k: v for k, v in parts(story).items() if k not in ("load_level", "noted", "told")}
    for name in done:
        story.leave(consumer=name, incarnation="*")
    assert {k: v for k, v in parts(story).items() if k not in ("load_level", "noted", "told")} == dict.fromkeys(
        sums(story), 0
    )


def sums(story: ScriptDriver) -> dict[str, int]:
    """The sums, from the sets."""

    def scores(place: str) -> dict[bytes, float]:
        pairs: Any = story.client.zrange(f"{story.keys.budget}:{place}", 0, -1, withscores=True)
        return dict(pairs)

    rates, loads, capacities, ratios, frees = map(scores, ("rates", "loads", "capacities", "ratios", "frees"))
    weights = {i: -int(-capacities[i] // MICRO) for i in rates}
    return {
        "live": len(rates), "rate": int(sum(rates.values())), "capacity": sum(weights.values()),
        "load": sum(int(weights[i] * loads[i]) for i in rates),
        "arrivals": sum(math.floor(rates[i] / ratios[i]) for i in rates),
        "bounded": len(frees), "free": int(sum(frees.values())),
    }  # fmt: skip


@pytest.mark.parametrize("lost", ["", ":rates", ":consumers", ":loads", ":capacities", ":ratios", ":frees"])
def test_a_lost_key_costs_a_round(story: ScriptDriver, lost: str) -> None:
    """A key that is lost costs one round of reports."""
    told: dict[str, Any] = QUEUE | {"capacity": 100}

    def all_report(now: float) -> calls.Standing:
        story.at(now)
        return [story.report(name, **told) for name in ("a", "b", "d")][-1]

    assert all_report(0).budget_rate == pytest.approx(300)
    story.client.delete(f"{story.keys.budget}{lost}")
    assert all_report(0.25).budget_rate == pytest.approx(300)
    assert sums(story) == {k: v for k, v in parts(story).items() if k not in ("load_level", "noted", "told")}
    assert standing(story.at(5)) == (0, 3, "no_consumers")


def test_a_lost_key_stops_the_budget(story: ScriptDriver) -> None:
    """A lost key stops the budget until a consumer reports."""
    story.configure(rate=1000)
    story.report(load=0, capacity=100)
    story.client.delete(f"{story.keys.budget}:rates")
    story.at(0.1).configure()
    assert standing(story) == (0, 3, "no_consumers")
    story.at(0.2).configure()
    assert standing(story) == (0, 3, "no_consumers")
    assert story.at(0.25).report(load=0, capacity=100).budget_rate == 100


# --- the history


def test_the_history_has_turns_and_moves(story: ScriptDriver) -> None:
    """The history notes turns, acts, and moves of a tenth."""
    story.configure(rate=1000)
    for load in (0, 81, 82.5, 84.9, 90):
        story.at(story.now + 0.25).report(load=load, capacity=200)
    story.at(story.now + 0.25).configure("operator", rate=100)
    story.configure("operator", rate=100)
    story.configure(pause=5)
    story.claim(tokens=0)
    story.at(story.now + 5).claim(tokens=0)
    assert [(n["by"], n["rate_per_s"], n["level"], n["reason"]) for n in story.notes] == [
        ("code", "1000", "0", "rate"),
        ("report", "200", "0", "load"),
        ("report", "190", "1", "load"),  # another level
        ("report", "151", "1", "load"),  # 175 was no tenth less than 190
        ("report", "100", "2", "load"),
        ("operator", "100", "2", "rate"),
        ("operator", "100", "2", "rate"),
        ("code", "0", "3", "paused"),
        ("deadline", "0", "3", "no_consumers"),
    ]


def jitter(story: ScriptDriver, times: int) -> None:
    """Report loads whose rates differ by more than a tenth, at one level."""
    for turn in range(times):
        story.at(story.now + 0.5).report(load=(81, 85)[turn % 2], capacity=200)


def test_jitter_leaves_acts_in_the_history(story: ScriptDriver) -> None:
    """A load that jitters does not fill the history. Its last entry is there, and so is what a person did before."""
    story.report(load=0, capacity=200)
    story.configure("operator", burst=0.3, why="the provider asked for it")
    jitter(story, 40)
    told = [(note["by"], note["rate_per_s"]) for note in story.notes]
    assert ("operator", "200") in told
    assert told[-1] == ("report", "150")
    assert len(told) <= 6


def test_slow_moves_stay_in_the_history(story: ScriptDriver) -> None:
    """The history keeps entries of reports that stand ten seconds apart."""
    story.report(load=0, capacity=200)
    jitter(story, 1)
    notes: list[Any] = story.notes[-2:]
    seconds, _ = story.client.time()
    story.client.delete(story.keys.history)
    for age, note in zip((31, 20), notes, strict=True):  # their ids say when they were written
        story.client.xadd(story.keys.history, note, id=f"{seconds - age}000-1")
    jitter(story, 4)
    assert [note["rate_per_s"] for note in story.notes] == ["200", "190", "150", "150"]


def test_the_history_has_a_thousand_entries(real_story: ScriptDriver) -> None:
    """The history keeps about a thousand entries."""
    for _ in range(1300):
        real_story.configure("operator", rate=5)
    assert 1000 <= len(real_story.notes) < 1200


# --- a clock that steps


@pytest.mark.parametrize("step", [60, 86_400])
def test_a_step_back_revives_nobody(story: ScriptDriver, step: float) -> None:
    """The dead do not live on when the clock steps back."""
    story.at(100_000).report(load=0, capacity=100)
    story.at(100_001).set_back(step).configure(pause=10)
    assert standing(story)[2] == "paused"
    assert story.client.zscore(f"{story.keys.budget}:consumers", "c") is not None
    assert standing(story.at(story.now + 11))[2] == "no_consumers"


@pytest.mark.parametrize("step", [60, 86_400])
def test_a_step_back_keeps_a_deadline(story: ScriptDriver, step: float) -> None:
    """After a step back a deadline is as far away as before."""
    story.at(100_000).report(load=0, capacity=100)
    story.at(100_001).claim(tokens=0)
    story.set_back(step)
    assert standing(story)[0] == 100
    assert standing(story.at(story.now + 0.999))[0] == 100
    assert standing(story.at(story.now + 0.001)) == (0, 3, "no_consumers")


@pytest.mark.parametrize("step", [0.4, 1, 4])
def test_a_clock_that_swings_moves_no_deadline(story: ScriptDriver, step: float) -> None:
    """A clock that swings moves no deadline."""
    story.at(100_000).report(load=0, capacity=100)
    story.at(100_001).claim(tokens=0)
    assert standing(story.at(100_001 - step))[0] == 100
    assert standing(story.at(100_001.999))[0] == 100
    assert standing(story.at(100_002)) == (0, 3, "no_consumers")


def test_a_pause_is_as_long_after_a_step_back(story: ScriptDriver) -> None:
    """A pause is as long after a step back."""
    story.at(100_000).configure(rate=100, pause=30)
    story.at(100_010).set_back(50_010)
    assert standing(story)[2] == "paused"
    assert standing(story.at(50_024.9))[2] == "paused"
    assert standing(story.at(50_025)) == (100, 0, "rate")


def test_a_step_back_keeps_a_pause(story: ScriptDriver) -> None:
    """A pause of one consumer is as long after a step back."""
    story.at(100_000).report(load=0, capacity=100, pause_ms=30_000)
    story.set_back(50_000)
    assert story.report(load=0, capacity=100, uptime_ms=100_010_000).rate == 0
    assert story.at(50_034.9).report(load=0, capacity=100, uptime_ms=100_031_000).rate == 0
    assert story.at(50_035.1).report(load=0, capacity=100, uptime_ms=100_031_250).rate == 100


def test_a_grace_is_as_long_after_a_step_back(story: ScriptDriver) -> None:
    """A grace is as long after a step back."""
    story.at(100_000).configure(rate=100)
    story.report(load=95, capacity=40)
    story.leave(consumer="c")
    story.at(100_004).set_back(50_004)
    assert standing(story.at(50_010.9)) == (10, 0, "load")
    assert standing(story.at(50_011)) == (100, 0, "rate")


def test_a_step_back_keeps_an_endless_pause(story: ScriptDriver) -> None:
    """A pause without an end has none after a step back."""
    story.at(100_000).configure(rate=100, pause=calls.UNTIL_RESUMED)
    story.set_back(50_000)
    assert story.field("paused_until_us") == "9000000000000000"


def test_a_step_below_a_second_moves_no_deadline(story: ScriptDriver) -> None:
    """A step below a second moves no deadline."""
    story.at(10).report(load=0, capacity=100)
    story.at(9.5).claim(tokens=0)
    assert story.inspect().consumers == {"c": START_US / MICRO + 12}


def test_a_step_forward_silences_all(story: ScriptDriver) -> None:
    """A step forward makes all consumers silent until they report."""
    story.report(load=0, capacity=100)
    assert standing(story.at(86_400)) == (0, 3, "no_consumers")
    assert story.at(86_400.25).report(load=0, capacity=100, uptime_ms=500).budget_rate == 100


@pytest.mark.parametrize(("interval_ms", "kept_ms"), [(250, 600_000), (3_600_000, 6 * 3_600_000)])
def test_a_consumer_is_known_for_a_while(story: ScriptDriver, interval_ms: float, kept_ms: int) -> None:
    """A consumer is known for ten minutes or six reports."""
    story.configure(rate=100)
    story.report("c", **QUEUE, interval_ms=interval_ms)
    for key in (story.keys.consumer("c"), story.keys.consumer_state("c")):
        left: Any = story.client.pttl(key)
        assert kept_ms - 60_000 < left <= kept_ms


def test_no_claims_show_no_demand(story: ScriptDriver) -> None:
    """A budget that no producer claims of shows no demand.

    A report writes that, where no claim has closed an epoch for two epochs.
    """
    story.configure(rate=100)
    for i in range(8):
        story.at(0.3 * i).claim(tokens=2, requested_rate=7)
    story.report("c", **QUEUE)
    assert (story.field("demand_per_s"), story.field("producers_in_demand")) == ("7", "1")
    story.at(2.1 + 3).report("c", **QUEUE)
    assert (story.field("demand_per_s"), story.field("producers_in_demand")) == ("0", "0")

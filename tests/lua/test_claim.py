"""claim.lua, rule by rule: a story of one budget, the instants pinned, the amounts exact to the micro-token."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

import pytest
import redis

from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import UNTIL_RESUMED, Claim
from nexus_redis._values.settings import micro
from tests.harness.script_driver import MICRO, START_US, ScriptDriver
from tests.models.fair_share import max_min

BURST = 26 * MICRO  # of 100/s: a token and a quarter of a second


def refused(story: ScriptDriver, *args: Any, **ask: Any) -> str:
    """The code that a claim is refused with; a refusal changes nothing."""
    before = story.state
    with pytest.raises(redis.exceptions.ResponseError) as refusal:
        story.claim(*args, **ask)
    assert story.state == before
    return str(refusal.value)


# --- birth and learning


def test_a_birth_gives_one_token_and_two_percent(story: ScriptDriver) -> None:
    """A budget is born with one token and its two percent."""
    story.configure(rate=10)
    assert story.shown("tokens") == "1.020000"
    answer = story.claim(tokens=5)
    assert answer.granted == MICRO
    assert answer.birth == story.field("birth") == str(START_US)
    assert story.shown("tokens") == "0.020000"
    story.at(0.25).claim("b", tokens=0)  # closes the epoch
    assert story.field("tokens") == "2.520000"


def test_the_first_token_waits_for_the_first_rate(story: ScriptDriver) -> None:
    """The first token waits for the first rate."""
    assert story.claim().granted == 0
    assert story.tokens == 0
    story.at(3600).configure(rate=0.5)
    assert story.tokens == 1_020_000
    story.at(3601).configure(rate=0)
    assert story.at(3602).configure(rate=0.5).rate == 0.5
    assert story.tokens == 1_125_000  # what was earned stays, and the first token is not given a second time


def test_a_paced_caller_is_never_early(story: ScriptDriver) -> None:
    """A producer that calls at its pace is never a millisecond early."""
    story.configure(rate=10)
    for i in range(50):
        assert story.at(0.1 * i - 0.001 * (i % 2)).claim(whole=True).granted == MICRO


def test_a_new_life_charges_what_is_held(story: ScriptDriver) -> None:
    """In a new life, a first claim pays for what it holds."""
    story.configure(rate=100)
    answer = story.at(0.1).claim("a", held=20)
    assert (answer.granted, answer.reason) == (0, "learning")
    assert story.tokens == 1_020_000 + 10 * MICRO - 20 * MICRO
    story.claim("a", held=20)
    assert story.tokens == -8_980_000  # once
    story.claim("b", held=1000)
    assert story.tokens == -BURST  # and no deeper than a bucket
    story.at(0.4).claim("c", tokens=0, held=1)
    assert story.tokens == -BURST + 30 * MICRO - MICRO


def test_learning_lasts_one_lease(story: ScriptDriver) -> None:
    """Learning lasts one lease."""
    story.configure(rate=100)
    story.at(0.499999).claim("a", tokens=0, held=2)
    assert story.tokens == BURST - 2 * MICRO
    story.at(0.5).claim("b", tokens=0, held=2)
    assert story.tokens == BURST - 2 * MICRO + 100
    assert story.claim("c", held=50).reason != "learning"


def test_only_paid_tokens_come_back(story: ScriptDriver) -> None:
    """What was paid for while learning may come back, and no more."""
    story.configure(rate=100)
    story.at(0.01).claim("a", tokens=0, held=5, unused=7)  # unused of a life that is lost: nobody paid for it here
    assert story.tokens == 2_020_000 - 5 * MICRO
    story.at(0.02).claim("a", tokens=0, unused=7)
    assert story.tokens == 3_020_000


def test_a_first_claim_learns_nothing(story: ScriptDriver) -> None:
    """A claim that makes the budget learns nothing from a missing rate."""
    answer = story.claim(held=50)
    assert (answer.granted, answer.budget_rate, answer.level, answer.reason) == (0, 0, 3, "unset")
    assert answer.retry_after == 1
    assert story.shown("tokens") == "0.000000"


# --- retries and ids


def test_a_retry_has_the_same_answer(story: ScriptDriver) -> None:
    """A retry is answered with the same bytes and changes nothing."""
    story.configure(rate=100)
    ask = Claim(need=MICRO, tokens=3 * MICRO, requested_rate=50 * MICRO, incarnation="x", seq=7)
    first = story.raw(calls.claim(story.keys, "p", ask, at_us=story.at(0.3).at_us))
    before = story.state
    for later in (0.3, 0.4, 500):
        other = ask._replace(tokens=10**9, unused=10**9, weight=5_000_000, priority="high", granted_total=10**6)
        assert story.raw(calls.claim(story.keys, "p", other, at_us=story.at(later).at_us)) == first
        assert story.state == before


def test_a_late_retry_has_its_answer(story: ScriptDriver) -> None:
    """A retry gets its answer after everything else moved on."""
    story.configure(rate=100)
    first = story.at(0.3).claim("a", tokens=3)
    story.configure(rate=7, pause=3600)
    story.at(0.4).claim("b")
    before = story.state
    again = story.claim("a", seq=1)
    assert again == first._replace(budget_rate=0, level=3, granted_total=again.granted_total)  # as they are now
    assert story.state == before


def test_a_retry_is_free_in_the_next_life(story: ScriptDriver) -> None:
    """A retry after the budget was lost is not charged to its next life."""
    story.configure(rate=100)
    first = story.at(0.3).claim("a", tokens=3)
    story.lose()
    story.at(0.4).configure(rate=100)
    assert story.claim("a", seq=1) == first._replace(granted_total=0)
    assert story.tokens == 1_020_000


def test_a_lower_seq_is_stale(story: ScriptDriver) -> None:
    """A lower seq is stale."""
    story.configure(rate=100)
    story.claim("a", seq=5)
    assert refused(story, "a", seq=4) == "NEXUS_STALE"
    story.claim("a", seq=6)


def test_no_incarnation_means_no_retry(story: ScriptDriver) -> None:
    """A claim without an incarnation is never taken for a retry."""
    story.configure(rate=100)
    assert [story.at(i).claim(incarnation="", seq=0).granted for i in (1, 2)] == [MICRO, MICRO]
    assert story.at(2.1).claim("q", incarnation="x").granted
    assert story.at(2.1).claim(incarnation="x").granted  # nor does it hold its id


def test_a_lease_includes_the_round_trip(story: ScriptDriver) -> None:
    """A lease is longer by the round trip of the producer that claims."""
    assert story.at(1).claim("near").lease == 0.5
    assert story.claim("far", trip=300_000, incarnation="f", seq=1).lease == 0.8
    assert story.at(1.2).claim("far", trip=300_000, incarnation="f", seq=1).lease == 0.8  # the same once more


def test_an_id_is_taken_while_its_lease_lives(story: ScriptDriver) -> None:
    """An id is taken while its lease lives."""
    story.configure(rate=100)
    story.at(1).claim("a", incarnation="first")
    assert refused(story.at(1), "a", incarnation="second", seq=1) == "NEXUS_ID_TAKEN"
    assert refused(story.at(1.499999), "a", incarnation="second", seq=1) == "NEXUS_ID_TAKEN"
    assert refused(story, "a", incarnation="", seq=1) == "NEXUS_ID_TAKEN"
    assert story.at(1.5).claim("a", incarnation="second", seq=1).granted == MICRO
    assert refused(story, "a", incarnation="first", seq=2) == "NEXUS_ID_TAKEN"


def test_a_new_incarnation_inherits_debts(story: ScriptDriver) -> None:
    """A new incarnation inherits debts and no tokens."""
    story.configure(rate=100, burst=2)
    story.at(2).claim("a", tokens=100, need=100, requested_rate=10)
    debt = story.numbers("entry", "a")[2]
    assert debt < 0
    before = story.at(2.5).tokens
    story.claim("a", tokens=0, incarnation="second", unused=100)
    assert story.tokens == before + 50 * MICRO
    credit = story.numbers("entry", "a")[2]
    assert debt <= credit < 0


def test_a_new_incarnation_inherits_no_credit(story: ScriptDriver) -> None:
    """A new incarnation inherits no credit."""
    story.configure(rate=100)
    story.claim("a", tokens=0, requested_rate=100)
    story.at(0.3).claim("a", tokens=0, requested_rate=100)
    story.at(0.8).claim("a", tokens=0, requested_rate=100, incarnation="second")
    credit = story.numbers("entry", "a")[2]
    assert credit == 50 * MICRO  # of the half second since the last claim


# --- what comes back


def holding_101_of_201(story: ScriptDriver) -> ScriptDriver:
    """100/s, a bucket of 201, and one that took 101 of 101.02 at 1 s. It may come back until 2.5 s."""
    story.configure(rate=100, burst=2)
    assert story.at(1).claim(tokens=101, need=101, whole=True).granted == 101 * MICRO
    assert story.tokens == 20_000
    return story


def credited(story: ScriptDriver, **ask: Any) -> int:
    """What a claim that takes nothing adds to the bucket beside what this earned meanwhile."""
    before, at = story.tokens, story.numbers("bucket")[1]
    story.claim(tokens=0, **ask)
    earned: int = min(before + (story.at_us - at) * 100, 201 * MICRO)
    return story.tokens - earned


@pytest.mark.parametrize(
    ("at", "unused", "credit"),
    [
        (1.1, 50, 50_000_000),  # all of it
        (1.1, 101, 99_980_000),  # what the bucket had no room for at its fullest, 101.02 of 201, is lost
        (1.5, 101, 99_980_000),
        (1.6, 101, 99_980_000),  # a lease later that is the fullest of the lease before
        (1.999999, 101, 99_980_000),
        (2.0, 101, 100_980_000),  # two leases later only what it holds now counts: 100.02
        (2.5, 101, 50_980_000),
        (2.500001, 101, 0),  # lease and wait are over
    ],
)
def test_returned_tokens_fit_the_bucket(story: ScriptDriver, at: float, unused: float, credit: int) -> None:
    """Returned tokens are credited as far as the bucket had room for them all the time."""
    assert credited(holding_101_of_201(story).at(at), unused=unused) == credit


def test_the_fullest_time_since_a_grant_counts(story: ScriptDriver) -> None:
    """The fullest time since the grant counts, and not the time before."""
    story = holding_101_of_201(story)
    story.at(1.3).claim("q", tokens=0)
    story.at(1.6).claim("q", tokens=0)
    assert credited(story.at(2.2), unused=101) == 201 * MICRO - 120_020_000


def test_a_full_bucket_takes_nothing_back(story: ScriptDriver) -> None:
    """A bucket that was full takes nothing back."""
    story.configure(rate=100)
    assert story.at(1).claim(tokens=5, need=5).granted == 5 * MICRO
    story.at(1.04).claim(tokens=0, unused=5)
    assert story.tokens == BURST - MICRO  # it was full at 1 s: what is missing then is its producer's


def test_nothing_comes_back_twice(story: ScriptDriver) -> None:
    """Nothing comes back twice, or beyond what the producer may hold."""
    story = holding_101_of_201(story)
    assert credited(story.at(1.01), unused=30, held=71) == 30 * MICRO
    assert credited(story.at(1.02), unused=1000) == 71 * MICRO
    assert credited(story.at(1.03), unused=1000) == 0


def test_unreported_tokens_stay_away(story: ScriptDriver) -> None:
    """Tokens that the producer no longer reports as held cannot come back."""
    story = holding_101_of_201(story)
    assert credited(story.at(1.01), held=30) == 0
    assert credited(story.at(1.02), unused=101) == 30 * MICRO


def test_returned_tokens_belong_to_the_budget(story: ScriptDriver) -> None:
    """What comes back belongs to the budget and is no credit of its producer."""
    story = holding_101_of_201(story)
    before = story.numbers("entry", "p")[2]
    story.claim(tokens=0, unused=50)
    assert story.numbers("entry", "p")[2] == before


def test_tokens_of_one_call_touch_the_bucket(story: ScriptDriver) -> None:
    """What came back and went in one call was in the bucket."""
    story = holding_101_of_201(story)
    answer = story.at(2).claim(tokens=140, need=140, unused=50, held=51, requested_rate=1000)
    assert answer.granted == 140 * MICRO  # of 150.02
    assert credited(story, unused=191) == 201 * MICRO - 150_020_000


def test_a_claim_may_hand_back_and_take_at_once(story: ScriptDriver) -> None:
    """A claim may hand back and take at once."""
    story = holding_101_of_201(story)
    answer = story.at(1.1).claim(tokens=40, need=40, unused=50, held=51, requested_rate=1000)
    assert answer.granted + story.tokens == 20_000 + 10 * MICRO + 50 * MICRO
    assert story.numbers("entry", "p")[3] == 51 * MICRO + answer.granted


def test_a_rare_caller_has_a_share(story: ScriptDriver) -> None:
    """A producer that comes rarely has a share to fall back on."""
    story.configure(rate=100)
    answer = story.at(1).claim(tokens=1, need=1)
    assert (answer.granted, answer.fallback_rate) == (MICRO, 2 * MICRO)  # one in a round of 250 ms is 4/s; half of that


def test_only_the_highest_class_is_trimmed(story: ScriptDriver) -> None:
    """Only the highest class that wants more is trimmed."""
    story.configure(rate=100)
    for i in range(12):
        for priority in ("high", "low"):
            story.at(0.3 * i).claim(priority, tokens=1, need=1, requested_rate=1e6, priority=priority)
    assert story.numbers("class_high")[3] > 0 == story.numbers("class_low")[3]


# --- grants that a failover forgot


def test_unknown_grants_cost_the_bucket(story: ScriptDriver) -> None:
    """A higher count of grants is taken from the bucket."""
    story.configure(rate=100)
    answer = story.at(1).claim(tokens=3, need=3)
    assert answer.granted_total == 3
    answer = story.claim("q", tokens=0, birth=answer.birth, granted_total=8)
    assert answer.granted_total == 8
    assert story.tokens == BURST - 3 * MICRO - 5 * MICRO
    story.claim("r", tokens=0, birth=answer.birth, granted_total=7)
    assert story.shown("granted_total") == "8"
    assert story.tokens == BURST - 8 * MICRO


def test_a_repair_takes_a_bucket_at_most(story: ScriptDriver) -> None:
    """After a gap, a repair takes all that may have been granted, and no more than a bucket."""
    story.configure(rate=100)
    birth = story.at(1).claim(tokens=0).birth
    answer = story.at(4).claim("q", tokens=0, birth=birth, granted_total=320)
    assert answer.granted_total == 320
    assert story.tokens == -BURST
    story.configure(rate=10)
    assert story.tokens == -BURST  # a smaller bucket forgives no debt
    story.at(8).claim("q", tokens=0, birth=birth, granted_total=10**9)
    assert story.tokens <= -BURST + 4 * 10 * MICRO


@pytest.mark.parametrize("gap", [0, 0.1, 0.49])
def test_a_count_of_grants_costs_its_own_share(story: ScriptDriver, gap: float) -> None:
    """What a producer states of grants costs its own share."""
    story.configure(rate=100)
    for i in range(7):  # somebody is served all the time, for longer than those who know more are waited for
        birth = story.at(1 + 0.4 * i).claim("q", tokens=0).birth
    answer = story.at(3.4 + gap).claim("q", tokens=0, birth=birth, granted_total=2**53)
    assert answer.granted_total <= 26
    assert story.tokens == 0
    story.at(4.1 + gap).claim("p", tokens=0)
    assert story.tokens == BURST


def test_a_liar_about_grants_stops_nobody(real_story: ScriptDriver) -> None:
    """A producer that lies about grants stops nobody, and counts as a producer that takes its share."""
    story, got = real_story, {"liar": 0.0, "a": 0.0, "b": 0.0}
    birth = story.configure(rate=100).birth
    for i in range(400):
        for j, name in enumerate(got):
            lies = {"birth": birth, "granted_total": 2**53} if name == "liar" else {}
            got[name] += (
                story.at(1 + i / 10 + j / 30).claim(name, tokens=10, requested_rate=100, **lies).granted / MICRO
            )
    assert got["a"] + got["b"] >= 0.6 * 100 * 40
    assert story.claim("a", tokens=0).granted_total <= 101 * 41 + 26


@pytest.mark.parametrize("gap", [0.5, 1, 3])
@pytest.mark.parametrize("producers", [1, 5])
def test_forgotten_grants_are_paid_once(story: ScriptDriver, gap: float, producers: int) -> None:
    """The grants that a failover forgot are paid back, whichever producer reports them first."""
    story.configure(rate=100)
    for _ in range(10):
        birth = story.at(story.now + 0.1).claim("p0", tokens=10).birth
    known, bucket = int(story.shown("granted_total")), story.tokens
    lost = bucket / MICRO + 100 * gap
    story.at(story.now + gap)
    for i in range(producers):
        story.claim(f"p{i}", tokens=0, birth=birth, granted_total=known + int(lost))
    assert int(story.shown("granted_total")) == known + int(lost)
    assert -BURST <= story.tokens <= MICRO


def test_the_count_of_another_life_says_nothing(story: ScriptDriver) -> None:
    """The count of another life says nothing."""
    story.configure(rate=100)
    story.at(1)
    for birth in ("", str(START_US + 1), "x"):
        story.claim(tokens=0, birth=birth, granted_total=10**6)
    assert story.tokens == BURST
    assert story.shown("granted_total") == "0"


def test_the_count_is_exact_in_parts_of_a_token(story: ScriptDriver) -> None:
    """The count is exact in parts of a token."""
    story.configure(rate=100)
    answers = [story.at(1).claim(tokens=0.4, need=0.4) for _ in range(5)]
    totals, answer = [a.granted_total for a in answers], answers[-1]
    assert totals == [0, 0, 1, 1, 2]
    birth = story.field("birth")
    for total in (2, 2, 3):  # a client that knows as much changes nothing
        answer = story.claim(tokens=0.4, need=0.4, birth=birth, granted_total=answer.granted_total)
        assert answer.granted_total == total


# --- grants


def test_all_or_nothing(story: ScriptDriver) -> None:
    """A claim for all or nothing gets all or nothing."""
    story.configure(rate=100)
    assert story.at(1).claim(tokens=27, need=27, whole=True).granted == 0
    assert story.tokens == BURST
    assert story.claim("q", tokens=99, need=26, whole=True).granted == BURST
    assert story.claim("r", tokens=1, need=1, whole=True).granted == 0


def test_an_empty_claim_gets_no_slot(story: ScriptDriver) -> None:
    """A claim that wants nothing gets nothing and waits for nothing."""
    story.configure(rate=100)
    answer = story.at(1).claim(tokens=0, requested_rate=20)
    assert (answer.granted, answer.retry_after, answer.recommended_rate, answer.reason) == (0, 0, 20 * MICRO, "ok")
    assert (answer.lease, answer.refresh) == (0.5, 0.1)


def test_tokens_beyond_the_need_come_whole(story: ScriptDriver) -> None:
    """Tokens beyond the need come as whole tokens, or as multiples of a need below one token."""
    story.configure(rate=100)
    assert story.at(1).claim("a", tokens=5.5, need=2.5).granted == 5_500_000
    assert story.claim("b", tokens=9, need=0.3).granted % 300_000 == 0
    assert story.claim("c", tokens=9, need=0).granted % MICRO == 0


def test_the_upper_half_of_the_bucket_is_lent(story: ScriptDriver) -> None:
    """The upper half of the bucket is lent, and more only to a producer that needs it."""
    story.configure(rate=100)
    assert story.at(1).claim("a", tokens=100).granted == 13 * MICRO
    assert story.claim("b", tokens=100).granted == MICRO
    assert story.claim("c", tokens=6, need=6).granted == 6 * MICRO


def test_a_longer_burst_empties_the_bucket(story: ScriptDriver) -> None:
    """A longer burst lets all of the bucket go at once."""
    story.configure(rate="10/min", burst=60)
    assert story.at(60).claim(tokens=10).granted == 10 * MICRO


def test_each_is_told_its_own_slot(story: ScriptDriver) -> None:
    """Each producer is told its own slot."""
    story.configure(rate=10)
    assert story.claim("a").granted == MICRO
    answer = story.claim("b", requested_rate=1000)
    assert answer.granted == 0
    assert answer.retry_after == pytest.approx(0.098)  # 0.02 of a token is there


def test_an_empty_grant_is_never_ok(story: ScriptDriver) -> None:
    """A claim that got nothing never has the reason ok."""
    story.configure(rate=10)
    story.at(1).claim("a", tokens=3, need=3)
    for seq, whole in enumerate((False, True), start=1):
        answer = story.claim("b", requested_rate=0.1, whole=whole, seq=seq)
        assert (answer.granted, answer.reason) == (0, "rate")
    assert story.at(3).claim("b", requested_rate=0.1).reason == "ok"


def test_the_slot_waits_for_the_bucket(story: ScriptDriver) -> None:
    """The slot waits for the bucket where that takes longer."""
    story.configure(rate=10)
    story.at(0.5).claim("a", tokens=3, need=3)
    story.at(0.51).claim("b", requested_rate=1000)
    answer = story.at(5).claim("c", tokens=3, need=3, whole=True, requested_rate=1000)
    assert answer.granted == 3 * MICRO
    answer = story.claim("b", tokens=1, requested_rate=1000)
    assert answer.granted == 0
    assert answer.retry_after == pytest.approx(0.05)


def test_no_slot_is_beyond_a_second(story: ScriptDriver) -> None:
    """No producer is told to stay away longer than a second."""
    story.configure(rate=0.01)
    assert story.claim("a").granted == MICRO
    assert story.claim("b").retry_after == 1


def test_all_or_nothing_is_told_its_time(story: ScriptDriver) -> None:
    """A producer that wants all or nothing is told when all will be there."""
    story.configure(rate=0.1)
    ask: dict[str, Any] = {"tokens": 1, "need": 1, "whole": True}
    assert story.claim("a", **ask).granted == MICRO
    early = story.at(2).claim("a", **ask)
    assert (early.granted, early.retry_after) == (0, 1)
    assert early.wait == pytest.approx(8, abs=0.3)
    late = story.at(9.5).claim("a", **ask)
    assert (late.granted, late.retry_after) == (0, late.wait)
    assert late.wait == pytest.approx(0.5, abs=0.3)
    assert story.at(9.5 + late.wait).claim("a", **ask).granted == MICRO


def test_a_large_need_is_collected(real_story: ScriptDriver) -> None:
    """A large need is collected beside small ones and in order.

    1000 tokens of 100/s, ten seconds of it, beside three that want 10/s: it has the 70/s that they leave.
    """
    story = real_story
    story.configure(rate=100)
    queue = [(0.01 * i, name) for i, name in enumerate(("big", "a", "b", "c"))]
    got = dict.fromkeys(("big", "a", "b", "c"), 0)
    complete = 0.0
    while queue[0][0] < 16:
        now, name = heapq.heappop(queue)
        left = 1000 - got["big"] / MICRO
        if name != "big":
            answer = story.at(now).claim(name, requested_rate=10)
        elif not left:
            continue
        else:
            answer = story.at(now).claim(name, tokens=left, need=left, requested_rate=1e9, held=1000 - left)
            complete = now
        got[name] += answer.granted
        pause = 0.1 if name != "big" else max(0.085, answer.retry_after)
        heapq.heappush(queue, (now + pause, name))
    assert got["big"] == 1000 * MICRO
    assert complete == pytest.approx(1000 / 70, rel=0.05)
    for name in ("a", "b", "c"):
        assert got[name] >= 0.95 * 160 * MICRO


# --- the fair share


def told(story: ScriptDriver, wants: dict[str, dict[str, Any]], epochs: int = 4) -> dict[str, calls.Answer]:
    """What each is told after some epochs of claims that only ask."""
    answers = {}
    for _ in range(epochs):
        story.at(story.now + 0.25)
        for name, ask in wants.items():
            answers[name] = story.claim(name, **{"tokens": 0, **ask})
    return answers


def rates(answers: dict[str, calls.Answer]) -> dict[str, float]:
    return {name: answer.recommended_rate / MICRO for name, answer in answers.items()}


def test_what_demand_leaves_goes_to_the_greedy(story: ScriptDriver) -> None:
    """The budget is shared by demand, and the rest goes to the greedy producers."""
    story.configure(rate=120)
    answers = told(story, {name: {"requested_rate": d} for name, d in (("a", 1000), ("b", 50), ("c", 10))})
    assert rates(answers) == {"a": 60, "b": 50, "c": 10}
    assert [answer.fallback_rate for answer in answers.values()] == [30 * MICRO, 25 * MICRO, 5 * MICRO]
    assert [answer.reason for answer in answers.values()] == ["contended", "ok", "ok"]


def test_weights_divide_what_is_contended(story: ScriptDriver) -> None:
    """Weights divide what is contended."""
    story.configure(rate=100)
    wants = {name: {"requested_rate": 500, "weight": w} for name, w in (("a", 1), ("b", 3), ("c", 0.01), ("d", 1000))}
    whole = 1004.01
    assert rates(told(story, wants)) == pytest.approx(
        {"a": 100 / whole, "b": 300 / whole, "c": 1 / whole, "d": 100_000 / whole}, abs=1e-5
    )


@pytest.mark.parametrize("weight", [1, 0.1])
def test_shares_go_as_high_as_rates_do(story: ScriptDriver, weight: float) -> None:
    """Kept in 53 bits, a level stood still at 9,007,199/s: four who copied bytes got 90 of their 100 MB/s."""
    story.configure(rate=1e9)
    answers = told(story, {name: {"requested_rate": 1e9, "weight": weight} for name in "abcd"})
    assert rates(answers) == pytest.approx(dict.fromkeys("abcd", 2.5e8))


def test_classes_keep_their_parts(story: ScriptDriver) -> None:
    """Classes come in order, and each class in demand keeps its part."""
    story.configure(rate=100)
    wants = {c: {"requested_rate": d, "priority": c} for c, d in (("high", 60), ("normal", 1000), ("low", 1000))}
    assert rates(told(story, wants)) == pytest.approx({"high": 60, "normal": 35, "low": 5})
    wants["high"]["requested_rate"] = 1000
    assert rates(told(story, wants)) == pytest.approx({"high": 90, "normal": 5, "low": 5})
    wants["normal"]["requested_rate"], wants["low"]["requested_rate"] = 2, 1
    assert rates(told(story, wants)) == pytest.approx({"high": 97, "normal": 2, "low": 1})


def test_a_second_claim_replaces_the_first(story: ScriptDriver) -> None:
    """A second claim in an epoch replaces the first."""
    story.configure(rate=100)
    twice = {name: {"requested_rate": 1000} for name in ("a", "b")}
    told(story, twice)
    story.at(story.now + 0.25)
    for _ in range(3):
        story.claim("a", tokens=0, requested_rate=1000)
    story.claim("b", tokens=0, requested_rate=1000)
    story.claim("b", tokens=0, requested_rate=30)
    assert rates(told(story, twice, 1)) == {"a": 70, "b": 70}  # by the epoch before, in which b ended with 30
    assert rates(told(story, twice, 2)) == {"a": 50, "b": 50}


def test_a_rare_claim_counts_in_full(story: ScriptDriver) -> None:
    """A producer that claims rarely is counted at its full need for the epoch in which it claims."""
    story.configure(rate=10)
    wants: dict[str, dict[str, Any]] = {"seldom": {"tokens": 5, "need": 5, "requested_rate": 0.1}}
    wants["greedy"] = {"requested_rate": 1000}
    assert rates(told(story, wants)) == {"seldom": 0.1, "greedy": 5}


def test_one_that_leaves_takes_its_demand_along(story: ScriptDriver) -> None:
    """A producer that leaves takes its demand along."""
    story.configure(rate=100)
    wants = {name: {"requested_rate": 1000} for name in ("a", "b")}
    told(story, wants)
    story.at(story.now + 0.25)
    story.claim("a", tokens=0, requested_rate=1000)
    story.claim("b", tokens=0, requested_rate=1000)
    story.leave("b")
    assert rates(told(story, {"a": wants["a"]}, 1)) == {"a": 100}


def test_a_lone_producer_may_have_the_rest(story: ScriptDriver) -> None:
    """Alone, a producer may have all that is left over."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=0, requested_rate=10)
    assert float(story.client.hget(story.keys.producer("a"), "share_per_s") or 0) == 100
    assert story.claim("a", tokens=0, requested_rate=1e6).recommended_rate == 100 * MICRO
    assert story.claim("a", tokens=0, requested_rate=1e6).reason == "rate"


def test_an_epoch_that_nobody_closed_is_forgotten(story: ScriptDriver) -> None:
    """An epoch that nobody closed is forgotten."""
    story.configure(rate=100)
    told(story, {name: {"requested_rate": 1000} for name in ("a", "b")})
    assert story.at(60).claim("a", tokens=0, requested_rate=1000).recommended_rate == 100 * MICRO


@pytest.mark.parametrize("seed", range(4))
def test_rates_sum_to_the_rate(story: ScriptDriver, seed: int) -> None:
    """From the second epoch on, the rates that all producers are told sum to the budget's rate at most."""
    rng = random.Random(seed)
    story.configure(rate=1000)
    wants = {
        f"p{i}": {
            "requested_rate": 10 ** rng.uniform(-1, 4), "weight": rng.choice([1, 1, 10, 0.1]),
            "priority": rng.choice(["high", "normal", "normal", "low"]),
        }
        for i in range(rng.choice([2, 10, 25]))
    }  # fmt: skip
    told(story, wants, 2)
    for _ in range(4):
        answers = told(story, wants, 1)
        assert sum(answer.recommended_rate for answer in answers.values()) <= 1000 * MICRO
        assert sum(answer.fallback_rate for answer in answers.values()) <= 500 * MICRO


# --- rates that change


def test_a_new_rate_keeps_tokens(story: ScriptDriver) -> None:
    """A new rate keeps the tokens, cut to the new bucket, and scales the shares."""
    story.configure(rate=100)
    told(story, {name: {"requested_rate": 1000} for name in ("a", "b")})
    story.configure(rate=40)
    assert story.tokens == 11 * MICRO
    assert story.claim("a", tokens=0, requested_rate=1000).recommended_rate == 20 * MICRO
    story.configure(rate=400)
    assert story.tokens == 11 * MICRO
    assert story.claim("b", tokens=0, requested_rate=1000).recommended_rate == 200 * MICRO


@pytest.mark.parametrize(("middle", "after"), [(50, 30), (100, 480)], ids=["falls", "rises"])
def test_the_first_round_under_a_new_rate(story: ScriptDriver, middle: float, after: float) -> None:
    """The first round under a new rate shares that rate as if it had always been so."""
    demands = {"small": 5, "middle": middle, "large": 1000}
    wants = {name: {"requested_rate": demand} for name, demand in demands.items()}

    def fair(rate: float) -> list[float]:
        return max_min(rate, [(demand, 1) for demand in demands.values()])

    story.configure(rate=120)
    assert [*rates(told(story, wants)).values()] == pytest.approx(fair(120))
    story.configure(rate=after)
    for name, ask in wants.items():
        story.claim(name, tokens=0, **ask)
    assert [*rates(told(story, wants, epochs=1)).values()] == pytest.approx(fair(after))


def test_tokens_are_earned_at_the_rate_that_ruled(story: ScriptDriver) -> None:
    """Tokens are earned at the rate that ruled."""
    story.configure(rate=100, burst=100)
    story.at(1).configure(rate=10, burst=1000)
    story.at(3).configure(rate=1000, burst=10)
    assert story.tokens == 1_020_000 + 100 * MICRO + 20 * MICRO


def test_a_slow_budget_earns_all_of_its_rate(story: ScriptDriver) -> None:
    """A slow budget that is asked each millisecond earns all of its rate."""
    story.configure(rate="7/h", burst=3600)
    for i in range(1, 101):
        story.at(i * 0.0013).claim(tokens=0)
    rate = 1945  # 7/h in micro-tokens a second, rounded up
    assert story.tokens == 1_020_000 + int(rate * 0.13)


def test_no_rate_grants_and_owes_nothing(story: ScriptDriver) -> None:
    """Without a rate nothing is granted and nothing is owed."""
    story.configure(rate=0)
    answer = story.at(5).claim(tokens=3)
    assert (answer.granted, answer.retry_after, answer.recommended_rate, answer.fallback_rate) == (0, 1, 0, 0)
    assert (answer.budget_rate, answer.reason) == (0, "rate")
    assert story.claim("q", tokens=0).retry_after == 0
    story.at(10).configure(rate=10)
    assert story.claim("q").granted == MICRO


def test_the_slowest_budget_there_is(story: ScriptDriver) -> None:
    """The slowest budget that there is earns a token in twelve days."""
    assert story.configure(rate=0.000001).rate == 0.000001
    assert story.claim().granted == MICRO
    assert story.claim().retry_after == 1
    for day in range(1, 13):
        story.at(86_400 * day).claim(tokens=0)
    assert story.tokens == 1_000_000
    assert story.claim(whole=True).granted == MICRO


# --- reasons


def test_a_pause_grants_nothing(story: ScriptDriver) -> None:
    """A paused budget grants nothing until its pause is over."""
    story.configure(rate=100)
    story.at(1).configure(pause=30)
    answer = story.at(30.9).claim()
    assert (answer.granted, answer.budget_rate, answer.level, answer.reason) == (0, 0, 3, "paused")
    answer = story.at(31).claim()
    assert (answer.granted, answer.budget_rate, answer.level, answer.reason) == (MICRO, 100 * MICRO, 0, "ok")
    assert story.tokens == 25 * MICRO  # the bucket that was full before it, and nothing was earned meanwhile


def test_a_pause_keeps_tokens_and_earns_none(story: ScriptDriver) -> None:
    """Tokens that were earned before a pause are there after it, and none are earned meanwhile."""
    story.configure(rate=100, burst=10)
    story.at(5).configure(pause=3)
    before = story.tokens
    assert before == 501_020_000
    story.at(7).claim()
    assert story.at(8).configure(rate=100).rate == 100
    assert story.tokens == before


def test_the_bucket_earns_from_the_end_of_a_pause(story: ScriptDriver) -> None:
    """The bucket earns from the end of a pause on, however late the first call is."""
    story.configure(rate=1, burst=100)
    story.at(10).configure(pause=2)
    before = story.tokens
    story.at(52).claim(tokens=0)
    assert story.tokens == before + 40 * MICRO


def test_a_rate_of_0_keeps_what_was_earned(story: ScriptDriver) -> None:
    """A consumer that falls silent is one, and a floor of 0: when it is back, its producers go on."""
    story.report(capacity=100, load=0)
    story.at(0.3).claim()
    before = story.at(1).configure().rate, story.tokens
    story.at(4).claim()
    assert story.field("reason") == "no_consumers"
    assert before == (100, story.tokens) == (100, 26 * MICRO)


def test_a_resume_ends_an_endless_pause(story: ScriptDriver) -> None:
    """A pause without an end is ended by a resume."""
    story.configure(rate=100, pause=UNTIL_RESUMED)
    assert story.at(86_400 * 365).claim().reason == "paused"
    story.configure(pause=0)
    assert story.claim().budget_rate == 100 * MICRO


def test_the_reasons_name_who_rules(story: ScriptDriver) -> None:
    """The reasons name what rules the rate."""
    assert story.claim("a").reason == "unset"
    story.configure(rate=100)
    assert story.at(1).claim("a", tokens=0, requested_rate=50).reason == "ok"
    assert story.claim("a", tokens=0, requested_rate=500).reason == "rate"
    story.report(load=95, capacity=200)
    answer = story.at(1.1).claim("a", tokens=0, requested_rate=500)
    assert (answer.reason, answer.budget_rate, answer.load) == ("load", 50 * MICRO, 95)
    answer = story.at(10).claim("a", tokens=0, requested_rate=500)
    assert (answer.reason, answer.budget_rate, answer.level, answer.load) == ("no_consumers", 0, 3, 0)


def test_no_consumers_is_told_despite_a_floor(story: ScriptDriver) -> None:
    """The reason `no_consumers` is given even while a floor lets some tokens through."""
    story.configure(rate=100, min_rate=5)
    story.report(load=10, capacity=50)
    answer = story.at(2).claim("a", requested_rate=1)
    assert (answer.reason, answer.budget_rate, answer.level) == ("no_consumers", 5 * MICRO, 3)


# --- what is kept, and for how long


def ttls(story: ScriptDriver) -> dict[str, int]:
    """Milliseconds by key, without the prefix of the budget."""
    names: Any = story.client.keys("*")
    return {calls.text(name).removeprefix(story.keys.budget): int(story.client.pttl(name)) for name in names}


WEEK, TEN_MINUTES = 604_800_000, 600_000


def test_every_key_ends_by_itself(story: ScriptDriver) -> None:
    """Every key ends by itself."""
    story.configure(rate=100)
    story.report(load=10, capacity=50, queue_depth=1, queue_limit=9)
    for name in ("a", "b"):
        story.at(1).claim(name, tokens=3)
    story.client.delete(f"{story.keys.budget}:producers")
    story.at(1.3).claim("a")  # comes back without its neighbours
    found = ttls(story)
    assert set(found) == {
        "", ":consumers", ":rates", ":capacities", ":loads", ":ratios", ":frees", ":history", ":producers",
        ":state", ":producer:a", ":producer:b", ":consumer:c", ":producer:a:state", ":producer:b:state",
        ":consumer:c:state",
    }  # fmt: skip
    for key, ttl in found.items():
        most = TEN_MINUTES if "r:" in key else WEEK
        assert most - 60_000 < ttl <= most, key


def test_expiry_is_renewed_each_minute(story: ScriptDriver) -> None:
    """The times to live are written again each minute, and not with each claim."""
    story.configure(rate=100)
    story.claim("a")
    for key in (story.keys.budget, story.keys.producer("a")):
        story.client.pexpire(key, 1_000_000)
    story.at(59.9).claim("a")
    assert max(ttls(story)[""], ttls(story)[":producer:a"]) <= 1_000_000
    story.at(60.3).claim("a")
    assert ttls(story)[""] > 1_000_000
    assert TEN_MINUTES - 60_000 < ttls(story)[":producer:a"] <= TEN_MINUTES


def test_an_operators_settings_do_not_end(story: ScriptDriver) -> None:
    """The keys of a budget that an operator has set do not expire, and the keys of its members do."""
    story.claim("a")
    story.configure("operator", rate=100)
    story.at(1).claim("a")
    story.report(load=10, capacity=50)
    story.at(100).claim("b")
    found = ttls(story)
    assert {key for key, ttl in found.items() if ttl == -1} == {key for key in found if "r:" not in key}
    assert all(0 < found[key] <= TEN_MINUTES for key in found if "r:" in key)


def test_the_dead_are_swept_slowly(story: ScriptDriver) -> None:
    """Producers that left without a word are swept a few at a time."""
    story.configure(rate=100)
    for i in range(20):
        story.claim(f"gone{i:02}")
    story.at(599.99).claim("a")
    assert story.inspect().producer_count == 21
    story.at(600.3).claim("a")
    assert story.inspect().producer_count == 13
    story.claim("a")
    assert story.inspect().producer_count == 13  # once an epoch
    story.at(601).claim("a")
    story.at(602).claim("a")
    assert list(story.inspect().producers) == ["a"]
    story.at(1300).claim("b")
    story.at(1301).claim("b")
    assert list(story.inspect().producers) == ["b"]


def test_a_producer_has_its_last_time(story: ScriptDriver) -> None:
    """A producer is listed with the time at which it was last seen."""
    story.configure(rate=100)
    story.claim("a", tokens=1)
    for now in (1.0, 2.0, 2.0001, 3.0):
        story.at(now).claim("a", tokens=1)
        assert story.inspect().producers["a"] * MICRO == pytest.approx(START_US + now * MICRO, abs=300_000)


def test_a_producers_hash_says_what_it_is(story: ScriptDriver) -> None:
    """A producer's hash says what the producer is."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=3, need=3, weight=2.5, priority="high", held=1.5, requested_rate=12.25)
    fields: Any = story.client.hgetall(story.keys.producer("a"))
    shown = {calls.text(k): calls.text(v) for k, v in fields.items()}
    assert shown == {"weight": "2.5", "priority": "high", "demand_per_s": "12.25", "share_per_s": "100", "held": "3"}


# --- a lost key


def test_a_lost_budget_owes_one_token(story: ScriptDriver) -> None:
    """A lost budget is a new life that owes at most a token."""
    story.configure(rate=100)
    first = story.at(1).claim("a", tokens=10)
    story.lose()
    story.at(1.1).configure(rate=100)
    answer = story.claim("a", tokens=100, held=5, birth=first.birth, granted_total=first.granted_total)
    assert answer.birth != first.birth
    assert answer.granted == 0
    assert story.tokens == 1_020_000 - 5 * MICRO


def test_a_lost_producer_is_a_new_one(story: ScriptDriver) -> None:
    """A lost producer is a new one."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=10)
    story.client.delete(story.keys.producer_state("a"))
    before = story.tokens
    story.claim("a", tokens=0, unused=10, held=10)
    assert story.tokens == before


# --- a clock that steps


@pytest.mark.parametrize("step", [60, 86_400])
def test_a_step_back_teaches_nothing(story: ScriptDriver, step: float) -> None:
    """A clock that steps back earns nothing and learns nothing again."""
    story.at(100_000).configure(rate=100)
    story.at(100_001).claim("a", tokens=13)
    before = story.tokens
    story.at(100_001 - step).claim("b", tokens=0, held=20)
    assert story.tokens == before
    story.at(100_006 - step).claim("b", tokens=0)
    assert story.tokens == before
    story.at(100_006.05 - step).claim("b", tokens=0)
    assert story.tokens == before + 5 * MICRO
    assert story.at(100_007 - step).claim("c").granted == MICRO


@pytest.mark.parametrize("step", [0.001, 0.4, 1, 4])
def test_repeated_time_earns_once(story: ScriptDriver, step: float) -> None:
    """Time that a server lives twice earns once."""
    story.at(100_000).configure(rate=100)
    story.at(100_001).claim("a", tokens=13)
    before = story.tokens
    for swing in range(20):
        story.at(100_001 - step * swing / 20).claim("b", tokens=0, held=20)
        assert story.tokens == before
        story.at(100_001).claim("b", tokens=0)
        assert story.tokens == before
    story.at(100_001.05).claim("b", tokens=0)
    assert story.tokens == before + 5 * MICRO


def spent_beside_the_rate(
    story: ScriptDriver, rate: float, clock: Callable[[float], float], seconds: float = 40
) -> float:
    """The most that a greedy producer was granted in any window, beyond `rate` times the true time."""
    story.at(1_000).configure(rate=rate)
    granted, least, most = 0.0, 0.0, 0.0
    for i in range(round(seconds * 20)):
        now = 2 + i / 20
        granted += story.at(1_000 + clock(now)).claim("greedy", tokens=rate).granted / MICRO
        least = min(least, granted - rate * now)
        most = max(most, granted - rate * now - least)
    return most


@pytest.mark.parametrize("swing", [0.4, 2])
@pytest.mark.parametrize("period", [0.2, 1, 7])
def test_a_swinging_clock_pays_one_bucket(real_story: ScriptDriver, swing: float, period: float) -> None:
    """A clock that swings pays no more than one bucket."""
    most = spent_beside_the_rate(real_story, 500, lambda t: t + (swing if t % period < period / 2 else -swing))
    assert most <= 376


@pytest.mark.parametrize("dwell", [3, 8, 20])
def test_swings_of_hours_pay_one_bucket(real_story: ScriptDriver, dwell: float) -> None:
    """A clock that swings by hours does not pay a bucket for each step forward."""
    real_story.configure(burst=2)
    most = spent_beside_the_rate(real_story, 500, lambda t: t + (0 if t % dwell < dwell / 2 else -3_600), 120)
    assert most <= 2 * 500 + 376


@pytest.mark.parametrize("back", [6, 3_600])
def test_a_lasting_step_back_costs_seconds(story: ScriptDriver, back: float) -> None:
    """A step back that lasts costs a few seconds of service and no more."""
    story.at(100_000).configure(rate=100)
    assert story.at(100_001).claim("a", tokens=13).granted > 0
    granted = [story.at(100_001 - back + i / 4).claim("a", tokens=25).granted / MICRO for i in range(60)]
    assert sum(granted[:20]) <= 26
    assert sum(granted[22:]) >= 0.95 * 100 * 38 / 4


@pytest.mark.parametrize("step", [60, 86_400])
def test_a_step_forward_earns_a_bucket(story: ScriptDriver, step: float) -> None:
    """A clock that steps forward earns a bucket and no more."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=13)
    story.at(1 + step).claim("a", tokens=0)
    assert story.tokens == BURST


def test_a_step_back_lets_ids_and_leases_end(story: ScriptDriver) -> None:
    """A clock that stepped back keeps no id and no lease alive."""
    story.at(1000).configure(rate=100)
    story.at(1001).claim("a", tokens=5)
    story.set_back(101)
    assert story.claim("a", incarnation="second", seq=1).budget_rate == 100 * MICRO
    assert story.at(905.1).claim("a", tokens=0, incarnation="second", seq=2).lease == 0.5


def test_shares_return_after_a_step_back(story: ScriptDriver) -> None:
    """Shares are found again after the clock stepped back."""
    story.at(1000).configure(rate=100)
    wants = {name: {"requested_rate": 1000} for name in ("a", "b")}
    told(story, wants)
    story.set_back(100)
    assert rates(told(story, {**wants, "c": {"requested_rate": 10}}, 3)) == {"a": 45, "b": 45, "c": 10}


def test_the_largest_amounts_are_exact(story: ScriptDriver) -> None:
    """Amounts at the end of the range are exact."""
    story.configure(rate=1e9, burst=8)
    assert story.field("rate_per_s") == "1000000000"
    answer = story.at(100).claim(tokens=8e9, need=1e9, requested_rate=1e9)
    assert answer.granted == 8_000_000_000 * MICRO
    assert answer.budget_rate == 1_000_000_000 * MICRO
    assert story.shown("tokens") == "1.000000"
    assert story.shown("granted_total") == "8000000000"
    assert micro(1e9) == 10**15
    most = Claim(10**15, 10**16, 10**16, held=10**16, unused=10**16, burned=10**16, seq=2**53, granted_total=2**53)
    assert story.claim_of("q", most).budget_rate == 10**15


# --- with few of its keys


def few(story: ScriptDriver, **ask: Any) -> calls.Answer:
    answer: calls.Answer = story.run(calls.claim(story.keys, "p", calls.Claim(MICRO, MICRO, **ask), story.at_us))
    return answer


def test_three_keys_are_often_enough(story: ScriptDriver) -> None:
    """Three keys are enough until something is due."""
    story.configure(rate=100)
    story.report("c", load=10, capacity=50)
    assert few(story, incarnation="p", seq=1).granted
    before = story.at(3).state
    with pytest.raises(redis.exceptions.ResponseError, match="NEXUS_NEEDS_KEYS"):
        few(story, incarnation="p", seq=2)
    assert story.state == before
    assert story.claim("p", seq=2).reason == "no_consumers"
    assert few(story, incarnation="p", seq=3).reason == "no_consumers"


def test_all_keys_are_renewed_each_minute(story: ScriptDriver) -> None:
    """Once a minute a claim renews the expiry of all keys."""
    story.configure(rate=100)
    assert few(story, incarnation="p", seq=1).granted
    story.client.pexpire(story.keys.history, 5000)
    story.at(61)
    with pytest.raises(redis.exceptions.ResponseError, match="NEXUS_NEEDS_KEYS"):
        few(story, incarnation="p", seq=2)
    assert story.claim("p", seq=2).granted
    assert story.client.pttl(story.keys.history) > 5000
    assert few(story, incarnation="p", seq=3).granted is not None


def test_few_keys_do_not_delay_renewal(story: ScriptDriver) -> None:
    """A newcomer with few keys does not put that renewal off."""
    story.configure(rate=100)
    newcomer = calls.claim(story.keys, "q", calls.Claim(MICRO, MICRO, incarnation="q", seq=1), story.at(30).at_us)
    assert story.run(newcomer).granted
    with pytest.raises(redis.exceptions.ResponseError, match="NEXUS_NEEDS_KEYS"):
        few(story.at(61), incarnation="p", seq=1)


def test_a_producer_packs_small(real_story: ScriptDriver) -> None:
    """A server packs what is known of a producer: no value is longer than the 64 bytes up to which it does."""
    real_story.configure(rate=1e6)
    for second in range(3):
        answer = real_story.at(second).claim("web-1234", tokens=100_000, incarnation="0123456789abcdef")
    assert answer.granted == 100_000 * MICRO
    encoding: Any = real_story.client.object("ENCODING", real_story.keys.producer("web-1234"))
    assert calls.text(encoding) in ("listpack", "ziplist")


def test_a_signal_leaves_a_short_record(real_story: ScriptDriver) -> None:
    """A caller who signals once under an id leaves its expiry to the producer that uses the id.

    `nexus-redis signal --id` marks what it leaves as short-lived; the next producer of that id is not.
    """
    real_story.configure(rate=100)
    real_story.claim("fb", tokens=0, incarnation="", requested_rate=50)
    keys = (real_story.keys.producer("fb"), real_story.keys.producer_state("fb"))
    for key in keys:
        ends_ms: Any = real_story.client.pttl(key)
        assert ends_ms != -1  # -2 where it has gone already
        assert ends_ms <= 5000
    real_story.at(1).claim("fb", incarnation="k3f9")
    for key in keys:
        ends_ms = real_story.client.pttl(key)
        assert ends_ms > 500_000


def test_a_heavy_producer_gets_its_part(real_story: ScriptDriver) -> None:
    """A heavy producer beside light ones gets its part, however far their weights are apart.

    The level of two of weight 0.01, times 1000, is 50,000 times the rate: no number of that size is kept.
    """
    story = real_story  # fakeredis takes a quarter of a minute
    rate, now, got = 1e8, 0.0, 0
    story.configure(rate=rate)

    def light() -> None:
        for name in "ab":
            story.at(now).claim(name, tokens=rate, requested_rate=4 * rate, weight=0.01)

    while now < 6 or story.numbers("terms")[8] - story.at_us < 200_000:  # and then to the beginning of an epoch
        now += 0.02
        light()
    for turn in range(60):
        now += 0.09
        got += story.at(now).claim("heavy", tokens=rate, requested_rate=4 * rate, weight=1000).granted
        assert abs(story.numbers("entry", "heavy")[2]) <= rate * MICRO
        if turn % 3 == 0:
            light()
    assert got > 0.95 * rate * MICRO * 60 * 0.09

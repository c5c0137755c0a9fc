"""Outage shares: what processes may spend without Redis adds up to half of the budget, whoever lost it and when."""

from __future__ import annotations

import math
import random

import pytest

from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import DEFAULT_BURST as BURST
from nexus_redis._protocol.calls import LEASE
from tests.harness.fleet import excess
from tests.harness.outage import Outages
from tests.harness.script_driver import MICRO, ScriptDriver
from tests.harness.servers import Server

LARGE = [(500, 2), (700, 32), (5000, 5)]  # minutes of work
FLEETS = [(5, 6), (10, 16), (60, 3), (200, 8), *(pytest.param(*each, marks=pytest.mark.soak) for each in LARGE)]
ROUNDED = 1e-6  # a producer's share is kept as a float of four bytes
CUTS = ["refused", "hole", "deaf"]


def fleet(server: Server, rate: float, count: int, until: float = 4) -> Outages:
    """So many greedy processes, which have found their shares."""
    outages = Outages(server.fast_client(), rate, seed=count)
    for _ in range(count):
        outages.add()
    outages.advance(until)
    return outages


def bound(outages: Outages) -> float:
    """What docs/operations.md allows beyond the rate, for callers that wait: B + 1.5 R."""
    return 1 + outages.rate / 4 + 1.5 * outages.rate


def bound_of_shares(outages: Outages) -> float:
    """What it allows beyond half of the rate where nobody reaches Redis: R/8 and a token for each process."""
    return BURST * outages.rate / 2 + len(outages.processes)


def over(outages: Outages, start: float = 0.0, *, part: float = 1.0) -> float:
    """The worst window of any length, beyond the rate or a part of it."""
    log = [entry for entry in outages.log if entry[0] >= start]
    return excess(log, lambda t: part * outages.rate * t, 0.0, 0.0)


@pytest.mark.parametrize(("rate", "count"), FLEETS)
def test_shares_add_up_to_half(one_server: Server, rate: float, count: int) -> None:
    """At every moment all shares add up to half of the rate."""
    outages, dice = fleet(one_server, rate, count, 0.5), random.Random(count)
    for _ in range(60):
        outages.advance(outages.now + dice.uniform(0.05, 0.4))
        assert outages.promised() <= rate / 2 * (1 + ROUNDED)
        if dice.random() < 0.3:
            dice.choice(outages.processes).link = dice.choice(["up", *CUTS])


@pytest.mark.parametrize("link", CUTS)
@pytest.mark.parametrize(("rate", "count"), FLEETS)
def test_cut_off_in_turn_uses_half(one_server: Server, rate: float, count: int, link: str) -> None:
    """Processes that are cut off one after another go on at half of the rate in all."""
    outages = fleet(one_server, rate, count)
    for process in outages.processes:
        process.link = link
        outages.advance(outages.now + 0.4)
    began = outages.now + LEASE
    outages.advance(began + 8)
    assert outages.admitted(began, began + 8) >= 8 * rate * 0.4 - count
    assert over(outages, began, part=0.5) <= bound_of_shares(outages)
    assert over(outages) <= bound(outages)


@pytest.mark.parametrize("link", CUTS)
@pytest.mark.parametrize(("rate", "count"), [(5, 6), (5, 32), (12, 32), (200, 8)])
def test_first_tokens_of_an_outage_are_spread(one_server: Server, rate: float, count: int, link: str) -> None:
    """Processes that lose Redis at one moment do not admit their first tokens at one moment."""
    outages = fleet(one_server, rate, count)
    for process in outages.processes:
        process.link = link
    began = outages.now + LEASE
    outages.advance(began + 26)  # in which each of 32 has earned two tokens of 5/s
    assert outages.admitted(began, began + 26) >= 26 * rate / 5
    assert over(outages, began, part=0.5) <= bound_of_shares(outages)
    assert over(outages) <= bound(outages)


def test_a_rush_after_a_pause_is_bounded(
    one_server: Server,
) -> None:
    """Callers that come to all processes at once after a pause get a token each, or a quarter of a second."""
    outages = fleet(one_server, 12, 32)
    for process in outages.processes:
        process.link, process.demand = "refused", 0
    outages.advance(outages.now + 20)
    began = outages.now
    for process in outages.processes:
        for _ in range(5):
            process.call()
    outages.advance(began + 0.1)
    assert 0 < outages.admitted(began, began + 0.1) <= bound_of_shares(outages) + 0.1 * 12 / 2


@pytest.mark.parametrize("link", ["refused", "hole"])
@pytest.mark.parametrize(("rate", "count"), FLEETS)
def test_outage_spending_is_missing_elsewhere(one_server: Server, rate: float, count: int, link: str) -> None:
    """What some producers spend without Redis is missing for the others."""
    outages = fleet(one_server, rate, count)
    for process in outages.processes[: count // 2]:
        process.link = link
    outages.advance(12)
    assert over(outages) <= bound(outages)
    assert outages.admitted(7, 12) <= 5 * rate * 1.02 + count
    assert outages.admitted(7, 12) >= 5 * rate * 0.75 - count
    for process in outages.processes:
        process.link = "up"
    outages.advance(16)
    began, seconds = len(outages.alone), max(4, 100 / rate)  # in which at least a hundred whole tokens go
    outages.advance(16 + seconds)
    assert len(outages.alone) == began
    assert outages.admitted(16, 16 + seconds) >= 0.97 * seconds * rate - 1  # all of it is theirs again
    assert over(outages) <= bound(outages)


@pytest.mark.parametrize(("rate", "count"), FLEETS)
def test_flapping_costs_no_more_with_time(one_server: Server, rate: float, count: int) -> None:
    """Links that flap or lose replies cost no more the longer they do."""
    outages, dice = fleet(one_server, rate, count), random.Random(count)
    for _ in range(40):
        for process in outages.processes:
            process.link = dice.choice(["up", "up", *CUTS])
        outages.advance(outages.now + dice.choice([0.1, 0.3, 0.9, 2.5]) * dice.random())
    assert outages.alone
    assert over(outages) <= bound(outages)


def test_a_short_fault_costs_each_time(one_server: Server) -> None:
    """A fault that is shorter than the server notices is paid for each time."""
    outages = fleet(one_server, 200, 8)
    for i in range(60):  # one half or the other is cut off for most of a second, by turns
        for k, process in enumerate(outages.processes):
            process.link = "refused" if (k + i) % 2 else "up"
        outages.advance(outages.now + 0.9)
    assert over(outages) <= bound(outages)


@pytest.mark.parametrize("demand", [0.5, 5, 20])
def test_idle_producers_go_on_in_an_outage(one_server: Server, demand: float) -> None:
    """A producer that is idle when Redis dies goes on all the same."""
    outages = Outages(one_server.fast_client(), 500)
    for _ in range(12):
        outages.add(demand)
    outages.advance(20)
    for process in outages.processes:
        process.link = "refused"
    outages.advance(32)
    assert all(process.session.ledger.share(outages.now) > 0 for process in outages.processes)
    assert all(process.alone for process in outages.processes)
    assert outages.promised() <= 250


@pytest.mark.parametrize("link", CUTS)
@pytest.mark.parametrize(("rate", "count"), [(12, 20), (200, 8)])
def test_late_demand_costs_a_quarter_more(one_server: Server, rate: float, count: int, link: str) -> None:
    """Processes that become busy after they were cut off cost a quarter of the rate more."""
    outages = Outages(one_server.fast_client(), rate, seed=count)
    idle = [outages.add(0.5) for _ in range(count // 2)]
    for _ in range(count // 2):
        outages.add()
    outages.advance(20)
    for process in idle:
        process.link, process.demand = link, math.inf
        process.want()
    outages.advance(45)
    assert sum(process.alone for process in idle) > 5
    assert over(outages, part=1.25) <= bound(outages)


@pytest.mark.parametrize("idle", [0.15, 10, 50])
def test_an_idle_producer_keeps_a_share(one_server: Server, idle: float) -> None:
    """A producer that was busy and is idle has a share."""
    outages = fleet(one_server, 500, 1)
    outages.processes[0].demand = 0
    outages.advance(4 + idle)
    assert outages.promised() >= 0.99 * 500 / 4 / 2 ** (idle // 30)
    outages.processes[0].link = "refused"
    for _ in range(4):  # the first may find a token that was in hand
        outages.processes[0].call()
        outages.advance(outages.now + 0.3)
    assert outages.processes[0].alone


def test_idle_web_workers_use_all(one_server: Server) -> None:
    """A fleet of web workers that are mostly idle uses the whole budget.

    A hundred, each with a caller every two seconds, beside one that takes all that they leave.
    """
    outages = Outages(one_server.fast_client(), 200)
    for _ in range(100):
        outages.add(0.5)
    outages.add()
    outages.advance(25)
    assert outages.admitted(10, 25) >= 0.97 * 200 * 15
    assert not outages.alone


def test_leaving_frees_the_share(story: ScriptDriver) -> None:
    """A process that left keeps no share, and nothing is reserved for it."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=50, requested_rate=1000)
    assert story.claim("b", tokens=50, requested_rate=1000).fallback_rate == 0
    story.leave("a")
    assert story.claim("b", tokens=50, requested_rate=1000).fallback_rate == 50 * MICRO
    story.leave("b")
    for now in (2, 3, 4, 5):
        story.at(now).claim("c", tokens=0)
    assert story.reserved == 0


def test_idle_shares_are_split_evenly(story: ScriptDriver) -> None:
    """Of a rate of 100/s, idle producers share 25/s. The second is told 12.5/s, although the first has only 10/s."""
    story.configure(rate=100)
    demands = {"a": 20, "b": 1000, "c": 1000}  # of callers that try, so Redis does not count on their return
    told = [
        story.at(now).claim(name, tokens=1, whole=True, requested_rate=demand).fallback_rate / MICRO
        for now in (1, 2)
        for name, demand in demands.items()
    ]
    assert told == pytest.approx([10, 12.5, 2.5, 25 / 3, 25 / 3, 25 / 3])


def test_a_lost_answer_keeps_the_reserve(story: ScriptDriver) -> None:
    """An answer that was lost takes nothing from what is reserved.

    The producer has the share of the answer before, whatever it has been told since.
    """
    story.configure(rate=100)
    story.at(1).claim("a", tokens=50, requested_rate=1000)
    for i in range(1, 8):
        ask = {"tokens": 50, "requested_rate": 1000.0, "fallback_rate": 50 * MICRO, "weight": 1}
        story.at(1 + i / 10).claim("b", **{**ask, "fallback_rate": 0})
        story.claim("a", **ask)
    answers = [story.claim(name, tokens=50, requested_rate=1000) for name in "bc"]
    assert sum(answer.fallback_rate for answer in answers) <= 50 * MICRO - 50 * MICRO


def test_a_share_is_reserved_until_it_has_ended(story: ScriptDriver) -> None:
    """A share is reserved until it has ended."""
    story.configure(rate=100)
    story.at(1).claim("a", tokens=50, requested_rate=1000)
    reserved = []
    for second in range(2, 320):
        story.at(second).claim("b", tokens=0)
        reserved.append(story.reserved / MICRO)
    assert reserved[3:28] == [50] * 25
    assert reserved[60] <= 25
    assert reserved[-1] < 0.1
    for age in range(5, 300):  # never less than what the producer itself takes it for
        assert reserved[age] >= 50 * 0.5 ** ((age + 1) // 30) - 1


def test_a_liar_costs_at_most_its_share(story: ScriptDriver) -> None:
    """A liar makes nobody owe more than its share could have given."""
    story.configure(rate=100)
    share = story.at(1).claim("a", tokens=50, requested_rate=1000).fallback_rate
    story.at(1.1).claim("b", tokens=50, requested_rate=1000)
    story.at(1.2).claim("b", tokens=0, requested_rate=1000)
    before = story.tokens
    story.claim("a", tokens=0, requested_rate=1000, degraded=10**15)
    assert before - story.tokens <= share * 0.2 + 1


def test_shorter_claims_are_served(story: ScriptDriver) -> None:
    """Claims without the last two fields are served."""
    story.configure(rate=100)
    story.at(1)
    ask = calls.claim(story.keys, "p", calls.Claim(need=MICRO, tokens=MICRO, incarnation="p", seq=1), story.at_us)
    older = ask.__class__(ask.script, ask.keys, (ask.args[0], str(ask.args[1]).replace(",0,0]", "]")), ask.decode)
    assert str(older.args[1]).count(",") == 13
    assert story.run(older).granted == MICRO


@pytest.mark.parametrize("story", ["valkey"], indirect=True)  # hundreds of claims each: a second on the fake
@pytest.mark.parametrize("silence", [0, 20, 45, 95, 200, 310, 3600, 86400])
def test_a_killed_share_ends_with_its_time(story: ScriptDriver, silence: float) -> None:
    """The share of a killed process is missing no longer than the process could live on it.

    A nightly job that was killed last night, or anybody who comes long after the last one.
    """
    rate, at = 100, 0.0
    story.configure(rate=rate)

    def spend(name: str, seconds: float, at: float) -> float:
        got, until = 0.0, at + seconds
        while at < until - 1e-9:
            at += 0.1
            got += story.at(at).claim(name, tokens=30, need=1, requested_rate=2 * rate).granted / MICRO
        return got / seconds

    spend("killed", 10, at)
    at = 10 + silence
    found = spend("new", 10, at)
    alive = rate / 2 * 0.5 ** max(0, (silence - 2) // 30) if silence < 300 else 0.0
    assert found >= 0.99 * (rate - alive)
    back = spend("killed", 5, at + 10) + spend("new", 5, at + 15)
    assert back > 0.9 * rate
    bucket, terms = story.numbers("bucket"), story.numbers("terms")
    assert min(bucket[14], bucket[15], bucket[16], bucket[17], terms[21]) >= -ROUNDED * rate * MICRO

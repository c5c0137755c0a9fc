"""The ledger, stepped by hand: no clock, no network. Times are in seconds, amounts in tokens unless they say MICRO."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from nexus_redis._core.ledger import CLAIM_GAP, Ledger
from nexus_redis._core.token_cache import EMPTY_CACHE, LEAST, MOST, TokenCache
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.calls import LEASE, REFRESH, Answer, Claim, Drop
from nexus_redis._values.parse import MICRO
from tests.harness.stepping import Line, answered

BEGIN = 100.0


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(BEGIN)


def balance(ledger: Ledger) -> int:
    """0, or the law of conservation is broken."""
    return ledger.granted - ledger.used - ledger.returned - ledger.burned - ledger.held


def wait(ledger: Ledger, cost: float, now: float, *, whole: bool = False) -> Line:
    line = Line(cost, now, whole=whole)
    assert not ledger.spend(line.cost, now)
    ledger.wait(line)
    return line


def exchange(ledger: Ledger, granted: float, now: float, came: float | None = None, **fields: Any) -> list[Waiter]:
    """One claim, sent at `now` and answered at `came`."""
    assert ledger.claim(now) is not None
    return ledger.receive(answered(granted, **fields), now if came is None else came)


def holding(tokens: float, now: float = BEGIN) -> Ledger:
    """A ledger with so many tokens in hand, claimed at `now`."""
    ledger = Ledger(now)
    line = wait(ledger, 1, now)
    exchange(ledger, tokens + 1, now)
    assert line.is_served
    return ledger


# --- spending


def test_nothing_is_spent_before_the_first_grant(ledger: Ledger) -> None:
    """Nothing is spent before the first grant."""
    assert not ledger.spend(MICRO, BEGIN)
    assert ledger.claim(BEGIN) is None or ledger.in_flight is not None
    assert balance(ledger) == 0


def test_tokens_in_hand_are_spent_exactly() -> None:
    """Tokens in hand are spent at once and exactly."""
    ledger = holding(3)
    assert [ledger.spend(MICRO, BEGIN) for _ in range(4)] == [True, True, True, False]
    assert (ledger.used, ledger.held) == (4 * MICRO, 0)
    assert balance(ledger) == 0


def test_a_too_large_cost_takes_nothing() -> None:
    """A cost above the tokens in hand takes nothing."""
    ledger = holding(3)
    assert not ledger.spend(4 * MICRO, BEGIN)
    assert ledger.held == 3 * MICRO


def test_the_oldest_lease_is_spent_first() -> None:
    """The oldest lease is spent first."""
    ledger = holding(2)
    wait(ledger, 3, BEGIN + 0.2)
    exchange(ledger, 3, BEGIN + 0.2)
    assert ledger.used == 4 * MICRO
    assert [(lease.tokens, lease.expires) for lease in ledger.leases] == [(2 * MICRO, BEGIN + 0.2 + LEASE)]


def test_nobody_spends_past_those_in_line() -> None:
    """No caller spends tokens past the callers in line."""
    ledger = holding(2)
    wait(ledger, 5, BEGIN)
    assert not ledger.spend(MICRO, BEGIN)


# --- the tray: what is spent without asking


def taken(tray: TokenCache, portions: int) -> None:
    for _ in range(portions):
        tray.pop()


def laid_out(tokens: float, cost: float = 1) -> Ledger:
    """A ledger that has served one of `cost`, and has more of them on its tray."""
    ledger = holding(tokens)
    assert ledger.spend(round(cost * MICRO), BEGIN)
    ledger.fill_cache(cost)
    return ledger


def test_spending_makes_a_token_cache() -> None:
    """A caller who has spent tokens finds more of the same in the token cache, as old as their lease."""
    ledger = laid_out(100)
    tray = ledger.cache
    assert (tray.cost, tray.micro, tray.left, tray.expires) == (1, MICRO, LEAST * MICRO, BEGIN + LEASE)
    taken(tray, 3)
    assert (ledger.used, ledger.held, balance(ledger)) == (5 * MICRO, 96 * MICRO, 0)


def test_an_empty_token_cache_doubles() -> None:
    """A token cache that becomes empty says so, and the next one is twice as large, up to a limit."""
    ledger, portions = laid_out(10_000), LEAST
    for _ in range(12):
        assert ledger.cache.count == portions
        taken(ledger.cache, portions)
        with pytest.raises(IndexError):
            ledger.cache.pop()
        assert ledger.spend(MICRO, BEGIN)
        ledger.fill_cache(1)
        portions = min(MOST, 2 * portions)
    assert portions == MOST


def test_tokens_taken_are_demand() -> None:
    """The tokens that the token cache takes are demand, and others can spend those that are left in it."""
    ledger = laid_out(30)
    tray = ledger.cache
    taken(tray, 3)
    attempts = ledger.demand.attempts
    assert ledger.spend(26 * MICRO, BEGIN)  # of 29 that were left beside it
    assert ledger.demand.attempts == attempts + 3 * MICRO + 26 * MICRO
    with pytest.raises(IndexError):
        tray.pop()  # who comes late with it
    assert (ledger.used, ledger.held, balance(ledger)) == (31 * MICRO, 0, 0)


def test_waiters_and_debts_empty_the_cache() -> None:
    """The token cache holds nothing while a caller waits or something is owed."""
    ledger = laid_out(30)
    tray = ledger.cache
    line = Line(29, BEGIN)
    ledger.wait(line)
    assert tray.left == 0
    assert ledger.serve(BEGIN) == [line]
    wait(ledger, 5, BEGIN)
    ledger.fill_cache(1)
    assert ledger.cache is EMPTY_CACHE


def test_a_claim_reclaims_the_token_cache() -> None:
    """A claim takes the token cache in and hands back what lies idle."""
    ledger = laid_out(30)
    tray = ledger.cache
    ask = ledger.claim(BEGIN + 0.2)
    assert ask is not None
    assert (ask.unused, tray.left, ledger.held) == (29 * MICRO, 0, 0)


def test_an_untouched_cache_means_idle() -> None:
    """An idle producer is one whose token cache was not touched."""
    ledger = laid_out(30)
    taken(ledger.cache, 1)
    ask = ledger.claim(BEGIN + 0.2)
    assert ask is None or ask.unused == 0


def test_the_cache_stops_where_a_claim_is_due() -> None:
    """The token cache stops where a claim is wanted, and the next caller wakes that claim."""
    ledger = laid_out(15)
    assert (ledger.leases.total, ledger.low, ledger.cache.count) == (6 * MICRO, 16 * MICRO // 3, LEAST)
    taken(ledger.cache, LEAST)
    due = ledger.due
    assert ledger.spend(MICRO, BEGIN)
    assert ledger.due < due


# --- smooth: what came at once is spent evenly


def test_smoothed_tokens_open_evenly() -> None:
    """Smoothed tokens open evenly over a refresh."""
    ledger = Ledger(BEGIN, smooth=True)
    line = wait(ledger, 1, BEGIN)
    exchange(ledger, 11, BEGIN)
    assert line.is_served
    ledger.fill_cache(1)
    assert ledger.cache is EMPTY_CACHE  # nothing is spent without asking
    spent = [ms for ms in range(200) if ledger.spend(MICRO, BEGIN + ms / 1e3)]
    gaps = {later - sooner for sooner, later in itertools.pairwise([0, *spent])}
    assert len(spent) == 10
    assert max(gaps) <= 10  # eleven in a tenth of a second
    assert min(gaps) >= 7  # two milliseconds sooner at most
    assert balance(ledger) == 0


def test_a_smooth_ledger_serves_as_it_opens() -> None:
    """Callers that wait for smoothed tokens are served as these open."""
    ledger = Ledger(BEGIN, smooth=True)
    lines = [Line(1, BEGIN) for _ in range(4)]
    for line in lines:
        ledger.wait(line)
    exchange(ledger, 4, BEGIN)
    at = []
    while ledger.opens < NEVER:
        at.append(ledger.opens - BEGIN)
        assert ledger.serve(ledger.opens)
    assert [line.is_served for line in lines] == [True] * 4
    assert at == pytest.approx([REFRESH / 4, REFRESH / 2, 3 * REFRESH / 4])


def test_smoothed_tokens_open_one_at_a_time() -> None:
    """Smoothed tokens that lay still open one at a time all the same."""
    ledger = Ledger(BEGIN, smooth=True)
    wait(ledger, 1, BEGIN)
    exchange(ledger, 11, BEGIN)
    assert [ledger.spend(MICRO, BEGIN + 0.09) for _ in range(3)] == [True, False, False]


def test_many_smoothed_tokens_open_together() -> None:
    """At a high rate, several smoothed tokens open at once."""
    ledger = Ledger(BEGIN, smooth=True)
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1001, BEGIN)  # ten in a millisecond
    first = sum(ledger.spend(MICRO, BEGIN) for _ in range(1000))
    later = sum(ledger.spend(MICRO, BEGIN + 0.01) for _ in range(1000))
    assert 15 <= first <= 25  # no more than two milliseconds' worth
    assert later <= 105


# --- leases


def test_a_lease_counts_from_the_first_send() -> None:
    """A lease counts from before the first send, however late the answer comes."""
    ledger = Ledger(BEGIN)
    line = wait(ledger, 1, BEGIN)
    exchange(ledger, 5, BEGIN, came=BEGIN + LEASE - 0.001)
    assert line.is_served
    assert not ledger.spend(MICRO, BEGIN + LEASE)
    assert ledger.burned == 4 * MICRO


def test_a_late_answer_burns() -> None:
    """An answer that comes later than its lease burns as it comes."""
    ledger = Ledger(BEGIN)
    line = wait(ledger, 1, BEGIN)
    exchange(ledger, 5, BEGIN, came=BEGIN + LEASE)
    assert not line.is_served
    assert (ledger.held, ledger.burned, balance(ledger)) == (0, 5 * MICRO, 0)


def test_a_repeated_claim_keeps_its_lease(ledger: Ledger) -> None:
    """A claim that is sent again has the lease of its first send."""
    wait(ledger, 1, BEGIN)
    first = ledger.claim(BEGIN)
    assert ledger.claim(BEGIN + 0.3) is first
    ledger.receive(answered(5), BEGIN + 0.35)
    assert next(iter(ledger.leases)).expires == BEGIN + LEASE


# --- far away: several claims on their way


def far(trip: float = 0.5, now: float = BEGIN) -> Ledger:
    """A ledger whose claims take so long, with nothing in hand."""
    ledger = Ledger(now)
    for i in range(9):
        wait(ledger, 1, now + i * trip)
        claim = ledger.claim(now + i * trip)
        assert claim is not None
        ledger.receive(answered(claim.tokens / MICRO, lease=LEASE + trip), now + (i + 1) * trip)
        if ledger.leases.total:
            assert ledger.spend(ledger.leases.total, now + (i + 1) * trip)
    assert ledger.flights.trip == pytest.approx(trip, rel=0.1)
    assert not ledger.held
    return ledger


def test_far_claims_overlap() -> None:
    """Far away, the next claim does not wait for the answer and is sent a refresh later."""
    ledger, now = far(), BEGIN + 5
    wait(ledger, 500, now)
    seqs = []
    for _ in range(5):
        claim = ledger.claim(now)
        assert claim is not None
        seqs.append(claim.seq)
        assert REFRESH <= ledger.due - now <= 1.1 * REFRESH + 1e-9
        now = ledger.due
        wait(ledger, 500, now)
    assert seqs == list(range(seqs[0], seqs[0] + 5))
    assert len(ledger.flights) == 5


def test_tokens_in_flight_are_not_claimed_again() -> None:
    """What is in flight is not claimed again."""
    ledger, now = far(), BEGIN + 5
    wait(ledger, 20, now)
    first = ledger.claim(now)
    assert first is not None
    assert first.tokens >= 20 * MICRO
    second = ledger.claim(ledger.due)
    assert second is None or second.need == 0


def test_answers_in_any_order_give_all() -> None:
    """Answers that come out of order give all their tokens."""
    ledger, now = far(), BEGIN + 5
    lines = [wait(ledger, 30, now), wait(ledger, 30, now + REFRESH)]
    first = ledger.claim(now)
    second = ledger.claim(now + 1.1 * REFRESH)
    assert first is not None
    assert second is not None
    ledger.receive(answered(30, budget_rate=70 * MICRO, lease=1.0), now + 0.6, second)
    ledger.receive(answered(30, lease=1.0), now + 0.61, first)
    assert [line.is_served for line in lines] == [True, True]
    assert ledger.answer is not None
    assert ledger.answer.budget_rate == 70 * MICRO  # the newer one's
    assert balance(ledger) == 0


def test_the_newest_lost_claim_goes_again() -> None:
    """Of claims that were lost, the newest is sent again as it was."""
    ledger, now = far(), BEGIN + 5
    wait(ledger, 30, now)
    first = ledger.claim(now)
    wait(ledger, 30, now + 0.05)
    second = ledger.claim(now + 1.1 * REFRESH)
    assert first is not None
    assert second is not None
    ledger.lose(first)
    ledger.lose(second)
    assert ledger.claim(now + 0.2) is second
    assert [each.claim for each in ledger.flights] == [second]
    assert ledger.receive(answered(30), now + 0.7, first) == []  # what it brought is written off
    assert balance(ledger) == 0


def test_only_a_far_claim_says_how_far() -> None:
    """A claim says how far away Redis is, and near Redis it says nothing."""
    ledger = far(0.5)
    wait(ledger, 1, BEGIN + 5)
    claim = ledger.claim(BEGIN + 5)
    assert claim is not None
    assert claim.trip == pytest.approx(500_000, rel=0.1)
    near = holding(1)
    wait(near, 5, BEGIN + 1)
    told = near.claim(BEGIN + 1)
    assert told is not None
    assert told.trip == 0


def test_a_claim_is_given_up_with_its_lease(ledger: Ledger) -> None:
    """A claim without an answer is given up when its tokens would have expired."""
    wait(ledger, 1, BEGIN)
    first = ledger.claim(BEGIN)
    assert first is not None
    second = ledger.claim(BEGIN + LEASE)
    assert second is not None
    assert second.seq == first.seq + 1


def test_burned_tokens_are_told_once() -> None:
    """Tokens that burned are told once and never handed back."""
    ledger = holding(3)
    wait(ledger, 1, BEGIN + 1)
    ask = ledger.claim(BEGIN + 1)
    assert ask is not None
    assert (ask.burned, ask.unused, ask.held) == (3 * MICRO, 0, 0)
    ledger.receive(answered(1), BEGIN + 1)
    wait(ledger, 1, BEGIN + 1)
    again = ledger.claim(BEGIN + 1.2)
    assert again is not None
    assert again.burned == 0


def test_burned_tokens_are_told_again() -> None:
    """Burned tokens are told again when the claim that told them was not executed."""
    ledger = holding(3)
    wait(ledger, 1, BEGIN + 1)
    ledger.claim(BEGIN + 1)
    ledger.forget(was_executed=False, now=BEGIN + 1)
    ask = ledger.claim(BEGIN + 1.1)
    assert ask is not None
    assert ask.burned == 3 * MICRO


def test_cancelling_keeps_the_age_of_tokens() -> None:
    """The tokens of a served and cancelled waiter are no younger than they were."""
    ledger = holding(2)
    line = wait(ledger, 3, BEGIN + 0.3)
    ledger.serve(BEGIN + 0.3)  # two of them are set aside, of the first lease
    exchange(ledger, 1, BEGIN + 0.3)
    ledger.cancel(line, BEGIN + 0.4)
    assert next(iter(ledger.leases)).expires <= BEGIN + 0.3 + LEASE
    assert not line.is_served
    assert balance(ledger) == 0


def test_a_claim_in_flight_rejuvenates_nothing() -> None:
    """A claim in flight makes no cancelled token younger."""
    old = holding(2)
    taken = Line(2, BEGIN)
    old.waiters.join(taken)
    old.serve(BEGIN + 0.4)
    assert old.signal(BEGIN + 0.4, MICRO)  # a claim in flight is no news about what was there before
    old.cancel(taken, BEGIN + 0.4)
    assert next(iter(old.leases)).expires == BEGIN + LEASE


# --- the line


def test_waiters_are_served_in_order() -> None:
    """Waiters are served in the order in which they came."""
    ledger = Ledger(BEGIN)
    lines = [wait(ledger, cost, BEGIN) for cost in (2, 1, 3)]
    assert exchange(ledger, 3.5, BEGIN) + ledger.serve(BEGIN + 0.06) == lines[:2]
    assert not lines[2].is_served
    assert exchange(ledger, 3, BEGIN + 0.1) == lines[2:]
    assert balance(ledger) == 0


def test_a_large_cost_is_collected(ledger: Ledger) -> None:
    """A large cost holds its place and is collected over several claims."""
    large, small = wait(ledger, 10, BEGIN), wait(ledger, 1, BEGIN)
    for i in range(9):
        assert exchange(ledger, 1, BEGIN + 0.3 * i) == []
        assert ledger.reserved == (i + 1) * MICRO
    assert exchange(ledger, 2, BEGIN + 2.7) + ledger.serve(BEGIN + 2.8) == [large, small]
    assert (ledger.held, ledger.burned, balance(ledger)) == (0, 0, 0)


def test_a_claim_asks_for_what_the_head_needs(ledger: Ledger) -> None:
    """Each claim asks for what is missing at the head."""
    wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    ask = ledger.claim(BEGIN + 0.1)
    assert ask is not None
    assert (ask.need, ask.held) == (6 * MICRO, 4 * MICRO)


def test_reserved_tokens_outlive_their_lease(ledger: Ledger) -> None:
    """Reserved tokens outlive their lease while claims report them."""
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    for i in range(1, 10):
        exchange(ledger, 0, BEGIN + 0.4 * i)
    ledger.expire(BEGIN + 3.9)
    assert ledger.reserved == 4 * MICRO
    assert not line.is_served
    ledger.cancel(line, BEGIN + 4.0)
    assert ledger.spend(4 * MICRO, BEGIN + 4.0)  # the last claim, at 3.6, has renewed it


def test_a_waiter_who_gives_up_returns_tokens(ledger: Ledger) -> None:
    """Reserved tokens are available again when their waiter gives up."""
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    assert ledger.cancel(line, BEGIN + 0.2)
    assert (ledger.leases.total, ledger.reserved) == (4 * MICRO, 0)
    assert ledger.spend(4 * MICRO, BEGIN + 0.2)


def test_old_reserved_tokens_burn(ledger: Ledger) -> None:
    """Tokens that were reserved burn when their waiter gives up after the last lease."""
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    ledger.cancel(line, BEGIN + LEASE)
    assert not ledger.spend(MICRO, BEGIN + LEASE)
    assert (ledger.burned, balance(ledger)) == (4 * MICRO, 0)


def test_reserved_tokens_go_to_the_next(ledger: Ledger) -> None:
    """The next in line gets the tokens that were reserved for a caller who gave up."""
    first, second = wait(ledger, 10, BEGIN), wait(ledger, 3, BEGIN)
    exchange(ledger, 4, BEGIN)
    ledger.cancel(first, BEGIN + 0.1)
    assert ledger.serve(BEGIN + 0.1) == [second]


def test_a_lossless_budget_collects_one_lease(ledger: Ledger) -> None:
    """A lossless budget collects nothing beyond the lease."""
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN, is_lossless=True)
    assert (ledger.leases.total, ledger.reserved) == (4 * MICRO, 0)
    ledger.expire(BEGIN + LEASE)
    assert ledger.burned == 4 * MICRO
    assert not line.is_served


def test_a_claim_waits_for_its_slot(ledger: Ledger) -> None:
    """No waiter is claimed for before the slot that the answer named.

    The refresh that was planned before the answer came changes nothing: at 50/s and 20 processes it made 1.7 calls a
    grant.
    """
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1, BEGIN, retry_after=0.4)
    assert ledger.due == BEGIN + REFRESH
    wait(ledger, 1, BEGIN + 0.01)
    assert ledger.claim(BEGIN + REFRESH) is None
    assert ledger.due == BEGIN + 0.4
    assert ledger.claim(BEGIN + 0.4) is not None


def test_giving_up_leaves_the_others_alone(ledger: Ledger) -> None:
    """A caller who gives up in the middle of the line changes nothing for the others."""
    lines = [wait(ledger, 1, BEGIN) for _ in range(5)]
    assert ledger.cancel(lines[2], BEGIN)
    assert not ledger.cancel(lines[2], BEGIN)
    assert exchange(ledger, 4, BEGIN) == [lines[0], lines[1], lines[3], lines[4]]


def test_giving_up_keeps_tokens_in_flight(ledger: Ledger) -> None:
    """If a caller gives up while its claim is in flight, the tokens stay in hand."""
    line = wait(ledger, 2, BEGIN)
    ledger.claim(BEGIN)
    ledger.cancel(line, BEGIN)
    assert ledger.receive(answered(2), BEGIN + 0.01) == []
    assert ledger.leases.total == 2 * MICRO


def test_unused_tokens_of_a_quitter_go_back(ledger: Ledger) -> None:
    """The tokens of a caller who gave up go back when they lie idle."""
    line = wait(ledger, 2, BEGIN)
    exchange(ledger, 2, BEGIN)
    ledger.due = NEVER
    ledger.cancel(line, BEGIN + 0.2)
    assert ledger.due < NEVER
    ask = ledger.claim(BEGIN + 0.3)
    assert ask is not None
    assert (ask.unused, ask.tokens, ask.requested_rate) == (2 * MICRO, 0, 0)
    assert (ledger.returned, ledger.held, balance(ledger)) == (2 * MICRO, 0, 0)


def test_degraded_service_is_not_taken_back(ledger: Ledger) -> None:
    """A cancel does not take degraded service back."""
    line = wait(ledger, 2, BEGIN)
    ledger.cancel(line, BEGIN)
    line.is_served = line.is_degraded = True
    assert not ledger.cancel(line, BEGIN)
    assert balance(ledger) == ledger.used == 0


# --- all or nothing


def test_a_try_claims_exactly_its_cost(ledger: Ledger) -> None:
    """A try claims exactly its cost."""
    wait(ledger, 7, BEGIN, whole=True)
    ask = ledger.claim(BEGIN)
    assert ask is not None
    assert (ask.need, ask.tokens, ask.whole) == (7 * MICRO, 7 * MICRO, True)


def test_a_try_is_settled_by_one_answer(ledger: Ledger) -> None:
    """A try is served or denied by the first answer."""
    line = wait(ledger, 7, BEGIN, whole=True)
    assert exchange(ledger, 0, BEGIN, retry_after=0.8, came=BEGIN + 0.3) == [line]
    assert line.denied == pytest.approx(0.5)
    assert not ledger.waiters
    other = wait(ledger, 7, BEGIN + 1, whole=True)
    assert exchange(ledger, 7, BEGIN + 1) == [other]
    assert other.is_served


def test_a_try_adds_to_what_is_in_hand() -> None:
    """A try adds to the tokens in hand, and leaves them there when it is denied."""
    ledger = holding(3)
    line = wait(ledger, 7, BEGIN + 0.1, whole=True)
    ledger.serve(BEGIN + 0.1)
    ask = ledger.claim(BEGIN + 0.1)
    assert ask is not None
    assert (ask.need, ask.held) == (4 * MICRO, 3 * MICRO)
    ledger.receive(answered(0), BEGIN + 0.1)
    assert line.denied is not None
    assert (ledger.leases.total, ledger.reserved, balance(ledger)) == (3 * MICRO, 0, 0)


def test_tokens_live_while_a_try_is_out() -> None:
    """Tokens in hand do not burn under a try whose claim is in flight."""
    ledger = holding(3)
    line = wait(ledger, 7, BEGIN + 0.45, whole=True)
    ledger.serve(BEGIN + 0.45)
    exchange(ledger, 4, BEGIN + 0.45, came=BEGIN + 0.6)
    assert line.is_served
    assert ledger.burned == 0


def test_who_waits_behind_a_denied_try_is_next(ledger: Ledger) -> None:
    """A caller who waits behind a denied try is next."""
    first, second = wait(ledger, 7, BEGIN, whole=True), wait(ledger, 2, BEGIN)
    exchange(ledger, 0, BEGIN)
    assert first.denied is not None
    assert not second.is_settled
    assert exchange(ledger, 2, BEGIN + 0.1) == [second]


# --- when and how much to claim


def test_nothing_is_asked_without_a_need(ledger: Ledger) -> None:
    """Nothing is asked without a need."""
    assert ledger.claim(BEGIN) is None
    assert ledger.due == NEVER


def test_claims_keep_their_distance(ledger: Ledger) -> None:
    """Two claims keep their distance where tokens are short."""
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1, BEGIN, retry_after=0.03)
    wait(ledger, 1, BEGIN + 0.01)
    assert ledger.due == pytest.approx(BEGIN + CLAIM_GAP)


def test_plenty_is_claimed_twofold(ledger: Ledger) -> None:
    """Where there is plenty, a claim goes at once for a waiter and asks for twice as much."""
    now, wanted = BEGIN, []
    for _ in range(6):
        wait(ledger, 1, now)
        assert ledger.due == now
        ask = ledger.claim(now)
        assert ask is not None
        wanted.append(ask.tokens // MICRO)
        ledger.receive(answered(wanted[-1]), now)
        while ledger.spend(MICRO, now):
            pass
        now += 0.001
    assert wanted == [1, 2, 4, 8, 16, 32]


def test_an_empty_ledger_returns_at_its_slot(ledger: Ledger) -> None:
    """A ledger with nothing in hand claims again at its slot."""
    wait(ledger, 1, BEGIN)
    exchange(ledger, 0, BEGIN, retry_after=0.7)
    assert ledger.due == pytest.approx(BEGIN + 0.7)
    wait(ledger, 1, BEGIN + 0.1)
    assert ledger.due == pytest.approx(BEGIN + 0.7)


def test_low_tokens_claim_early() -> None:
    """A producer whose tokens in hand fall below a third claims early."""
    ledger = holding(8)  # of a lease of 9
    ledger.due = BEGIN + 10
    ledger.spend(5 * MICRO, BEGIN + 0.2)
    assert ledger.due == BEGIN + 10
    ledger.spend(1 * MICRO, BEGIN + 0.2)
    assert ledger.due == BEGIN + 0.2


def test_idle_tokens_go_back_after_a_refresh() -> None:
    """Idle tokens go back after a refresh, and then nothing is sent."""
    ledger = holding(5)
    ask = ledger.claim(ledger.due + REFRESH / 100)
    assert ask is not None
    assert (ask.unused, ask.held) == (5 * MICRO, 0)
    ledger.receive(answered(0), ledger.flights[0].sent)
    assert ledger.claim(ledger.due) is None
    assert ledger.due == NEVER


def test_a_reservation_is_use() -> None:
    """A claim hands nothing back while callers reserve: a producer that they use is not idle."""
    ledger = holding(9)
    waiter = Line(1, BEGIN + 0.25)
    assert ledger.take(waiter, waiter.since)
    ledger.claim(BEGIN + 0.3)
    assert ledger.returned == 0
    assert ledger.held == 8 * MICRO


def test_a_loop_of_acquires_claims_ahead(ledger: Ledger) -> None:
    """A loop of `acquire` comes to claim for more than the one caller that waits."""
    wants = []
    now = BEGIN
    for _ in range(12):
        wait(ledger, 1, now)
        ask = ledger.claim(now)
        assert ask is not None
        wants.append(ask.tokens / MICRO)
        ledger.receive(answered(ask.tokens / MICRO, budget_rate=1000 * MICRO), now)
        while ledger.spend(MICRO, now + 0.05):
            pass
        now += 0.1
    assert wants[-1] > 50 * wants[0]


def test_demand_doubles_through_a_denial(ledger: Ledger) -> None:
    """Demand doubles only for callers who waited through a denial."""
    wait(ledger, 1, BEGIN)
    exchange(ledger, 0, BEGIN, retry_after=0.1)
    asks = []
    for i in range(1, 4):
        ask = ledger.claim(BEGIN + 0.1 * i)
        assert ask is not None
        asks.append(ask.requested_rate)
        ledger.receive(answered(0, retry_after=0.1), BEGIN + 0.1 * i)
    assert asks[1] == pytest.approx(2 * asks[0], rel=0.3)
    assert asks[2] == pytest.approx(2 * asks[1], rel=0.01)


# --- only asking


def test_a_signal_takes_and_gives_no_tokens() -> None:
    """A signal takes no tokens and hands none back."""
    ledger = holding(3)
    ask = ledger.signal(BEGIN + 0.1, 10_000 * MICRO)
    assert ask is not None
    assert (ask.tokens, ask.need, ask.unused, ask.held) == (0, 0, 0, 3 * MICRO)
    ledger.receive(answered(0), BEGIN + 0.1)
    assert (ledger.held, balance(ledger)) == (3 * MICRO, 0)


def test_a_signal_waits_for_the_claim_in_flight(ledger: Ledger) -> None:
    """A signal waits for the claim in flight."""
    wait(ledger, 1, BEGIN)
    ledger.claim(BEGIN)
    assert ledger.signal(BEGIN, MICRO) is None


def test_a_signal_delays_no_claim(ledger: Ledger) -> None:
    """A signal does not put off the claim of the callers who wait."""
    wait(ledger, 1, BEGIN)
    due = ledger.due
    ledger.signal(BEGIN, MICRO)
    ledger.receive(answered(0), BEGIN + 0.01)
    assert ledger.due == due


# --- the life of the budget's state


def test_the_count_of_grants_only_rises(ledger: Ledger) -> None:
    """The highest count of grants is carried as long as the state lives."""
    wait(ledger, 9, BEGIN)
    exchange(ledger, 0, BEGIN, granted_total=50)
    exchange(ledger, 0, BEGIN + 0.1, granted_total=40)
    assert ledger.granted_total == 50
    exchange(ledger, 0, BEGIN + 0.2, granted_total=3, birth="2")
    assert (ledger.birth, ledger.granted_total) == ("2", 3)


# --- giving up


def test_a_lost_hand_back_burns() -> None:
    """What a claim handed back burns when the claim surely was not executed."""
    ledger = holding(5)
    assert ledger.claim(ledger.due + REFRESH / 100) is not None
    ledger.forget(was_executed=False, now=BEGIN + 0.2)
    assert (ledger.returned, ledger.burned, balance(ledger)) == (0, 5 * MICRO, 0)


def test_everything_goes_back_at_the_end(ledger: Ledger) -> None:
    """Everything goes back at the end."""
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    ledger.cancel(line, BEGIN + 0.1)
    assert ledger.hand_back_all(BEGIN + 0.1) == (4 * MICRO, 0)
    assert (ledger.held, ledger.returned, ledger.due, balance(ledger)) == (0, 4 * MICRO, NEVER, 0)


def test_a_new_stay_counts_its_calls_from_one(ledger: Ledger) -> None:
    """A new stay counts its calls from one."""
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1, BEGIN)
    ledger.begin("another")
    wait(ledger, 1, BEGIN + 1)
    ask = ledger.claim(BEGIN + 1)
    assert ask is not None
    assert (ask.incarnation, ask.seq) == ("another", 1)


# --- reservations


def reserved(cost: float, held: float, now: float = BEGIN) -> tuple[Ledger, Line]:
    """A ledger with so much in hand, and one who took `cost` of it and may settle."""
    ledger, line = holding(held, now), Line(cost, now)
    assert ledger.take(line, now)
    return ledger, line


def admitted(ledger: Ledger) -> int:
    return ledger.used + ledger.owed + ledger.settlement.written_off - MICRO  # but for the one that `holding` served


def test_returned_tokens_keep_their_age() -> None:
    """What the estimate took too much goes back as old as it is."""
    ledger, line = reserved(4, held=5)
    ledger.settle(line, MICRO, BEGIN + 0.1)
    assert (ledger.leases.total, admitted(ledger), balance(ledger)) == (4 * MICRO, MICRO, 0)
    assert {lease.expires for lease in ledger.leases} == {BEGIN + LEASE}


def test_a_debt_is_paid_from_the_tokens_in_hand() -> None:
    """What the estimate took too little is paid from the tokens in hand at once."""
    ledger, line = reserved(4, held=6)
    ledger.settle(line, 5 * MICRO, BEGIN)
    ledger.serve(BEGIN)
    assert (ledger.owed, ledger.leases.total, admitted(ledger), balance(ledger)) == (0, MICRO, 5 * MICRO, 0)


def test_a_debt_goes_before_the_waiters() -> None:
    """A debt is paid before any waiter is served."""
    ledger, line = reserved(4, held=4)
    first = wait(ledger, 2, BEGIN)
    ledger.settle(line, 7 * MICRO, BEGIN)
    assert ledger.owed == 3 * MICRO
    assert not ledger.spend(1, BEGIN)
    exchange(ledger, 2, BEGIN + 0.1)  # a part of it
    assert (ledger.owed, ledger.held, first.is_served) == (MICRO, 0, False)
    ask = ledger.claim(BEGIN + 0.3)
    assert ask is not None
    assert ask.need == MICRO
    ledger.receive(answered(3), BEGIN + 0.3)
    assert (ledger.owed, first.is_served, ledger.leases.total) == (0, True, 0)
    assert (admitted(ledger), balance(ledger)) == (9 * MICRO, 0)


def test_collected_tokens_pay_a_debt_first() -> None:
    """Tokens that were collected for another caller pay a debt first."""
    ledger, line = reserved(4, held=4)
    wait(ledger, 5, BEGIN)
    exchange(ledger, 2, BEGIN)
    assert ledger.reserved == 2 * MICRO
    ledger.settle(line, 7 * MICRO, BEGIN)
    ledger.serve(BEGIN)
    assert (ledger.reserved, ledger.owed, balance(ledger)) == (0, MICRO, 0)


def test_a_rest_pays_what_another_owes() -> None:
    """A rest pays what another caller owes, however late the rest comes."""
    ledger, first = reserved(4, held=8)
    second = Line(4, BEGIN)
    assert ledger.take(second, BEGIN)
    ledger.settle(first, 6 * MICRO, BEGIN)
    ledger.settle(second, MICRO, BEGIN + 60)
    assert (ledger.owed, admitted(ledger), balance(ledger)) == (0, 7 * MICRO, 0)
    assert (ledger.leases.total, ledger.burned) == (MICRO, 0)


def test_a_late_rest_serves_waiters() -> None:
    """A rest that comes after its lease serves a caller who waits."""
    ledger, line = reserved(4000, held=4000)
    waiting = wait(ledger, 3000, BEGIN + 20)
    ledger.settle(line, 1000 * MICRO, BEGIN + 20)
    assert ledger.serve(BEGIN + 20) == [waiting]
    assert (admitted(ledger), ledger.burned, balance(ledger)) == (4000 * MICRO, 0, 0)


def test_a_late_rest_is_kept_up_to_a_bucket() -> None:
    """A late rest that no caller waits for is kept as far as a bucket holds."""
    ledger, line = reserved(4000, held=4000)
    ledger.settle(line, 0, BEGIN + 20)
    assert (ledger.leases.total, ledger.burned, balance(ledger)) == (26 * MICRO, 3974 * MICRO, 0)
    assert next(iter(ledger.leases)).expires == BEGIN + 20 + LEASE
    assert ledger.burned_reported == 3974 * MICRO  # the server has forgotten them long ago


def test_a_late_lossless_rest_has_arrived() -> None:
    """On a lossless budget a late rest counts as arrived."""
    ledger, line = reserved(4, held=4)
    wait(ledger, 1, BEGIN + 0.2)
    exchange(ledger, 1, BEGIN + 0.2, is_lossless=True)
    ledger.settle(line, 0, BEGIN + 20)
    assert (ledger.leases.total, ledger.burned, balance(ledger)) == (0, 4 * MICRO, 0)


def test_the_last_settlement_counts() -> None:
    """Where work is settled again, the last settlement counts."""
    ledger, line = reserved(4, held=6)
    for used in (1, 2, 5, 5, 3):
        ledger.settle(line, used * MICRO, BEGIN)
        ledger.serve(BEGIN)
        assert (admitted(ledger), balance(ledger)) == (used * MICRO, 0)
    assert ledger.leases.total == 3 * MICRO


def test_a_hopeless_debt_is_written_off() -> None:
    """At the end, a debt that nobody can pay is written off and counted."""
    ledger, line = reserved(4, held=4)
    ledger.settle(line, 6 * MICRO, BEGIN)
    assert ledger.hand_back_all(BEGIN) == (0, 0)
    assert (ledger.owed, ledger.settlement.written_off, admitted(ledger), balance(ledger)) == (
        0,
        2 * MICRO,
        6 * MICRO,
        0,
    )
    ledger.settle(line, 9 * MICRO, BEGIN, is_open=False)
    assert (ledger.owed, admitted(ledger)) == (0, 9 * MICRO)
    ledger.settle(line, MICRO, BEGIN, is_open=False)
    assert (ledger.held, balance(ledger)) == (0, 0)


def test_a_written_off_debt_stays_off() -> None:
    """What was written off does not come back as a rest."""
    ledger, line = reserved(1, held=1)
    ledger.settle(line, 3 * MICRO, BEGIN, is_open=False)
    ledger.settle(line, 0, BEGIN)
    assert (ledger.leases.total, ledger.settlement.written_off, admitted(ledger), balance(ledger)) == (MICRO, 0, 0, 0)


def test_outage_admissions_are_not_made_up_for() -> None:
    """What the outage mode admitted is not made up for."""
    ledger, line = Ledger(BEGIN), Line(4, BEGIN)
    line.is_served = line.is_degraded = True
    ledger.settle(line, 9 * MICRO, BEGIN)
    assert (ledger.owed, balance(ledger)) == (0, 0)


def test_a_try_behind_a_debt_is_answered() -> None:
    """A try behind a debt is answered."""
    ledger, line = reserved(4, held=4)
    tried = wait(ledger, 1, BEGIN, whole=True)
    assert ledger.claim(BEGIN + 0.1) is not None
    ledger.settle(line, 5 * MICRO, BEGIN + 0.1)
    assert ledger.receive(answered(0, retry_after=0.3), BEGIN + 0.1) == [tried]
    assert tried.denied is not None


# --- a drop of the rate


def fallen(rate: float, granted_total: int = 0, birth: str = "1", level: int = 0, reason: str = "rate") -> Drop:
    """A message: the budget of 100/s falls to `rate`."""
    return Drop(birth, granted_total, round(rate * MICRO), level, reason)


def test_a_drop_withdraws_a_part() -> None:
    """A drop withdraws the same part of the tokens in hand, and the next claim hands it back."""
    ledger = holding(20)
    ledger.on_rate_drop(fallen(25), BEGIN + 0.01)
    assert (ledger.leases.total, ledger.held, ledger.withdrawn) == (5 * MICRO, 5 * MICRO, 15 * MICRO)
    assert balance(ledger) == 0
    assert [ledger.spend(MICRO, BEGIN + 0.01) for _ in range(6)] == [True] * 5 + [False]
    ask = ledger.claim(BEGIN + 0.1)
    assert ask is not None
    assert (ask.unused, ask.held, ledger.withdrawn) == (15 * MICRO, 0, 0)
    ledger.receive(answered(), BEGIN + 0.1)
    assert (ledger.returned, balance(ledger)) == (15 * MICRO, 0)


def test_a_drop_leaves_whole_units() -> None:
    """A drop leaves whole units."""
    ledger = holding(7)
    ledger.on_rate_drop(fallen(50), BEGIN)
    assert ledger.leases.total == 3 * MICRO
    ledger = holding(1)
    ledger.on_rate_drop(fallen(50), BEGIN)
    assert ledger.leases.total == 0
    ledger = holding(1)
    assert ledger.spend(MICRO // 4, BEGIN)
    ledger.on_rate_drop(fallen(70), BEGIN)
    assert ledger.leases.total == MICRO // 2


def test_a_pause_takes_all_tokens() -> None:
    """A pause takes all tokens in hand and in the token cache."""
    ledger = holding(40)
    assert ledger.spend(MICRO, BEGIN)
    ledger.fill_cache(1)
    tray = ledger.cache
    assert tray.left
    ledger.on_rate_drop(fallen(0, level=3, reason="paused"), BEGIN)
    assert (tray.left, ledger.held, ledger.withdrawn, balance(ledger)) == (0, 0, 39 * MICRO, 0)
    assert not ledger.spend(1, BEGIN)
    assert ledger.answer is not None
    assert (ledger.answer.budget_rate, ledger.answer.level, ledger.answer.reason) == (0, 3, "paused")
    assert ledger.answer.fallback_rate == 0  # should Redis go away now, the pause goes on


def test_a_drop_tells_the_share_of_an_outage_too() -> None:
    """A drop tells the share of an outage too."""
    ledger = holding(40)
    ledger.on_rate_drop(fallen(10, level=2, reason="load"), BEGIN)
    assert ledger.answer is not None
    assert (ledger.answer.fallback_rate, ledger.answer.recommended_rate) == (5 * MICRO, 10 * MICRO)


@pytest.mark.parametrize(
    "drop",
    [
        fallen(50, birth="2"),  # another life, or another database
        fallen(50, granted_total=-1),  # older than the last answer
        fallen(95),  # the steps before it have been answered already
        fallen(100),
        fallen(10_000),  # never more
    ],
)
def test_old_news_changes_nothing(drop: Drop) -> None:
    """A message that says nothing new changes nothing."""
    ledger = holding(20)
    ledger.on_rate_drop(drop, BEGIN)
    assert (ledger.leases.total, ledger.withdrawn) == (20 * MICRO, 0)
    assert ledger.answer is not None
    assert ledger.answer.budget_rate <= 100 * MICRO


def test_early_news_changes_nothing() -> None:
    """A message before the first answer changes nothing."""
    ledger = Ledger(BEGIN)
    ledger.on_rate_drop(fallen(0, birth=""), BEGIN)
    assert (ledger.answer, ledger.withdrawn) == (None, 0)


def test_a_message_that_comes_twice_counts_once() -> None:
    """A message that comes twice counts once."""
    ledger = holding(20)
    for _ in range(3):
        ledger.on_rate_drop(fallen(50), BEGIN)
    assert (ledger.leases.total, ledger.withdrawn) == (10 * MICRO, 10 * MICRO)


def test_the_next_answer_brings_lost_news() -> None:
    """Without a message, the next answer brings the same news."""
    ledger = holding(20)
    line = wait(ledger, 25, BEGIN)
    assert ledger.claim(BEGIN + 0.1) is not None
    ledger.cancel(line, BEGIN + 0.1)
    ledger.receive(answered(3, budget_rate=25 * MICRO), BEGIN + 0.1)
    assert (ledger.leases.total, ledger.withdrawn, balance(ledger)) == (8 * MICRO, 15 * MICRO, 0)


def test_an_older_answer_shrinks_too() -> None:
    """An answer that is older than the message grants by the old rate, so its tokens shrink too."""
    ledger = holding(0)
    line = wait(ledger, 40, BEGIN)
    assert ledger.claim(BEGIN + 0.1) is not None
    ledger.on_rate_drop(fallen(0, granted_total=20, level=3, reason="paused"), BEGIN + 0.101)
    assert ledger.receive(answered(20, granted_total=20), BEGIN + 0.102) == []
    assert (ledger.leases.total, ledger.withdrawn, balance(ledger)) == (0, 20 * MICRO, 0)
    assert not line.is_settled
    assert ledger.answer is not None
    assert ledger.answer.reason == "paused"


def test_a_younger_answer_stands() -> None:
    """An answer that is younger than the message stands."""
    ledger = holding(0)
    line = wait(ledger, 20, BEGIN)
    assert ledger.claim(BEGIN + 0.1) is not None
    ledger.on_rate_drop(fallen(0, granted_total=20, level=3, reason="paused"), BEGIN + 0.101)
    assert ledger.receive(answered(20, granted_total=40), BEGIN + 0.102) == [line]  # resumed meanwhile
    assert ledger.answer is not None
    assert ledger.answer.reason == "rate"


def test_reserved_tokens_stay_reserved() -> None:
    """Tokens that are reserved for a waiter stay reserved."""
    ledger = holding(0)
    wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN + 0.1)
    ledger.on_rate_drop(fallen(0), BEGIN + 0.1)
    assert (ledger.reserved, ledger.withdrawn, balance(ledger)) == (4 * MICRO, 0, 0)


@pytest.mark.parametrize("whole", [True, False])
def test_returned_tokens_respect_a_pause(whole: bool) -> None:
    """Tokens that come back in a pause are not spent any more."""
    ledger = holding(0)
    line = wait(ledger, 10, BEGIN, whole=whole)
    exchange(ledger, 4, BEGIN + 0.1, retry_after=0.0 if whole else 0.5)
    if whole:  # one that tries: denied, and what there was is in hand
        assert ledger.leases.total == 4 * MICRO
        line = wait(ledger, 10, BEGIN + 0.1, whole=True)
        ledger.serve(BEGIN + 0.1)
        assert ledger.reserved == 4 * MICRO
    ledger.on_rate_drop(fallen(0), BEGIN + 0.1)
    ledger.cancel(line, BEGIN + 0.1)
    assert (ledger.held, ledger.withdrawn, balance(ledger)) == (0, 4 * MICRO, 0)


@pytest.mark.parametrize("later", [0.1, 20.0])
def test_a_rest_respects_a_pause(later: float) -> None:
    """A rest that is settled in a pause is not spent either."""
    ledger, line = reserved(4, held=4)
    ledger.on_rate_drop(fallen(0), BEGIN)
    waiting = wait(ledger, 1, BEGIN + later)
    ledger.settle(line, MICRO, BEGIN + later)
    assert ledger.serve(BEGIN + later) == []
    assert (ledger.held, ledger.withdrawn, balance(ledger)) == (0, 3 * MICRO, 0)
    ask = ledger.claim(BEGIN + later)
    assert ask is not None
    assert ask.unused == 3 * MICRO
    assert not waiting.is_settled


def test_withdrawn_tokens_burn_with_age() -> None:
    """Withdrawn tokens that are too old by the next claim burn."""
    ledger = holding(20)
    ledger.on_rate_drop(fallen(0), BEGIN)
    assert ledger.claim(BEGIN + LEASE) is not None
    assert ledger.in_flight is not None
    assert (ledger.in_flight.unused, ledger.in_flight.burned) == (0, 20 * MICRO)
    assert (ledger.returned, ledger.burned, balance(ledger)) == (0, 20 * MICRO, 0)


def test_withdrawn_tokens_have_the_older_age() -> None:
    """Tokens that were withdrawn at two times are as old as the older ones."""
    ledger, line = reserved(4, held=8)
    ledger.on_rate_drop(fallen(0), BEGIN)
    ledger.settle(line, 0, BEGIN + 20)
    assert ledger.withdrawn == 8 * MICRO
    ask = ledger.claim(BEGIN + 20)
    assert ask is not None
    assert (ask.unused, ask.burned, balance(ledger)) == (0, 8 * MICRO, 0)


def test_any_call_hands_withdrawn_tokens_back() -> None:
    """Withdrawn tokens go back with a signal or a deregistration as well."""
    ledger = holding(20)
    ledger.on_rate_drop(fallen(50), BEGIN)
    ask = ledger.signal(BEGIN, 0)
    assert ask is not None
    assert (ask.unused, ask.held) == (10 * MICRO, 10 * MICRO)
    ledger = holding(20)
    ledger.on_rate_drop(fallen(50), BEGIN)
    assert ledger.hand_back_all(BEGIN) == (20 * MICRO, 0)
    assert balance(ledger) == 0


def test_handing_back_is_not_idleness() -> None:
    """Tokens handed back because of a drop do not make a producer seem idle."""
    ledger = holding(20)
    for _ in range(10):
        ledger.spend(MICRO, BEGIN + 0.09)
    ledger.on_rate_drop(fallen(50), BEGIN + 0.09)
    ask = ledger.claim(BEGIN + 0.1)
    assert ask is not None
    assert ask.unused == 5 * MICRO
    assert ask.requested_rate > 0
    assert ask.tokens > 0


def test_smoothed_rests_are_spent_evenly() -> None:
    """What a drop leaves of smoothed tokens is spent evenly too."""
    ledger = Ledger(BEGIN, smooth=True)
    line = wait(ledger, 1, BEGIN)
    exchange(ledger, 21, BEGIN)
    assert line.is_served
    ledger.on_rate_drop(fallen(25), BEGIN)
    assert (ledger.leases.total, ledger.pace) == (5 * MICRO, 5 * MICRO / REFRESH)
    ledger.on_rate_drop(fallen(0), BEGIN)
    assert (ledger.leases.total, ledger.pace, balance(ledger)) == (0, 0, 0)


def test_rests_after_a_drop_cause_no_claim() -> None:
    """What is left after a drop is no reason to claim before the refresh."""
    ledger = holding(30)
    due = ledger.due
    ledger.on_rate_drop(fallen(10), BEGIN + 0.01)
    assert ledger.spend(MICRO, BEGIN + 0.01)
    assert ledger.due == due


# --- whatever happens


class Books(RuleBasedStateMachine):
    """A ledger and a server, with a network between them that loses, repeats and delays; after each step the books are
    balanced to the micro-token, on both sides."""

    lines = Bundle("lines")

    @initialize()
    def begin(self) -> None:
        self.now = BEGIN
        self.ledger = Ledger(self.now, incarnation="a")
        self.latest = self.now  # when the youngest lease ends
        self.parents: list[tuple[Ledger, tuple[int, ...]]] = []
        self.restart_server()
        self.spent = 0
        self.served: list[Line] = []
        self.joined: list[Line] = []
        self.settled: set[Line] = set()
        self.trays: list[TokenCache] = []  # all that ever were: a thread may come with an old one
        self.rate = 100 * MICRO

    def restart_server(self) -> None:
        self.executed: dict[int, Answer] = {}
        self.server_granted = self.forgotten = self.told_unused = 0

    def execute(self, ask: Claim, granted: int) -> Answer:
        """The server's side: a seq is charged once, whatever arrives how often."""
        self.latest = max(self.latest, *(each.sent + LEASE for each in self.ledger.flights))
        if ask.seq not in self.executed:
            granted = min(granted, ask.tokens)
            if ask.whole and granted < ask.need:
                granted = 0
            self.server_granted += granted
            self.executed[ask.seq] = answered(
                granted / MICRO, retry_after=0.05, budget_rate=self.rate, granted_total=self.server_granted // MICRO
            )
        return self.executed[ask.seq]

    def note(self, settled: list[Waiter]) -> None:
        self.served += [line for line in settled if isinstance(line, Line) and line.is_served]

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.05, 0.11, 0.3, 0.6]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(cost=st.integers(1, 5 * MICRO))
    def spend(self, cost: int) -> None:
        tray = self.ledger.cache
        fresh = sum(lease.tokens for lease in self.ledger.leases if lease.expires > self.now)
        fresh += tray.left if tray.expires > self.now else 0
        if self.ledger.spend(cost, self.now):
            assert cost <= fresh  # never an expired one
            self.spent += cost

    @precondition(lambda self: self.ledger.leases.total)
    @rule(part=st.integers(10, 100))
    def spend_and_lay_out(self, part: int) -> None:
        before = self.spent
        self.spend(self.ledger.leases.total // part + 1)
        if self.spent > before:
            self.ledger.fill_cache(part)
            self.trays.append(self.ledger.cache)

    @precondition(lambda self: self.trays)
    @rule(which=st.integers(0), times=st.integers(1, 20))
    def take_from_a_tray(self, which: int, times: int) -> None:
        tray = self.trays[-1 - which % len(self.trays)]
        for _ in range(times if self.now < tray.expires else 0):
            try:
                tray.pop()
            except IndexError:
                return
            assert tray is self.ledger.cache  # what was taken in has nothing left
            assert not self.ledger.waiters  # nobody overtakes the line
            self.spent += tray.micro

    @precondition(lambda self: self.ledger.in_flight is None)
    @rule(tokens=st.integers(1, 30))
    def bustle(self, tokens: int) -> None:
        """Much is wanted and all of it granted, so that the other rules find something in hand."""
        self.now += 0.1
        for _ in range(tokens):
            self.spend(MICRO)
        line = Line(0.001, self.now)
        self.joined.append(line)
        self.ledger.wait(line)
        self.note(self.ledger.serve(self.now))
        self.now = max(self.now, self.ledger.next_slot)
        ask = self.ledger.claim(self.now)
        if ask is not None:
            self.told_unused += ask.unused
            self.note(self.ledger.receive(self.execute(ask, ask.tokens), self.now))

    @rule(target=lines, cost=st.integers(1, 20 * MICRO), whole=st.booleans())
    def wait(self, cost: int, whole: bool) -> Line:
        line = Line(cost / MICRO, self.now, whole=whole)
        self.joined.append(line)
        self.ledger.wait(line)
        self.note(self.ledger.serve(self.now))
        return line

    @rule(line=consumes(lines))
    def give_up(self, line: Line) -> None:
        if line in self.settled:  # whoever settles was served long ago
            return
        if line in self.served:
            self.served.remove(line)
        if line in self.joined:
            self.joined.remove(line)
            self.ledger.cancel(line, self.now)
            self.note(self.ledger.serve(self.now))

    @property
    def under_way(self) -> list[Claim]:
        return [each.claim for each in self.ledger.flights]

    def do(self, step: Callable[[], Claim | None]) -> None:
        """A step that may send a claim, and may give others up."""
        before = self.under_way
        ask = step()
        for each in before:
            if each not in self.under_way and each.seq in self.executed:
                self.forgotten += self.executed[each.seq].granted
        if ask is not None and ask not in before:
            self.told_unused += ask.unused

    def chosen(self, which: int) -> Claim:
        return self.under_way[which % len(self.under_way)]

    def is_overtaken(self, ask: Claim) -> bool:
        """The server has executed a later one, so that it refuses this one."""
        return ask.seq not in self.executed and ask.seq < max(self.executed, default=0)

    @rule()
    def claim(self) -> None:
        self.do(lambda: self.ledger.claim(self.now))

    @rule(rate=st.integers(0, 10**12))
    def only_ask(self, rate: int) -> None:
        if self.ledger.in_flight is None:
            self.do(lambda: self.ledger.signal(self.now, rate))

    @rule(rate=st.sampled_from([0, 1, 10, 50, 89, 95, 100, 1000]))
    def change_the_rate(self, rate: int) -> None:
        """What nobody hears of before the next answer."""
        self.rate = rate * MICRO

    @rule(rate=st.sampled_from([0, 1, 10, 50, 89, 95]), late=st.integers(-30, 30))
    def hear_of_a_drop(self, rate: int, late: int) -> None:
        """In time, too late, or before the answer that is older."""
        before, was = self.ledger.held, self.ledger.granted
        self.ledger.on_rate_drop(fallen(rate, self.server_granted // MICRO + late), self.now)
        assert self.ledger.held <= before
        assert self.ledger.granted == was
        known = self.ledger.answer
        if known is not None and known.birth == "1" and late >= 0:
            self.rate = min(self.rate, rate * MICRO)
            assert known.budget_rate <= rate * MICRO
            assert rate or not (self.ledger.leases.total or self.ledger.cache.left)

    @precondition(lambda self: self.ledger.in_flight is not None)
    @rule(which=st.integers(0), granted=st.integers(0, 30 * MICRO))
    def reply_is_lost(self, which: int, granted: int) -> None:
        ask = self.chosen(which)
        if not self.is_overtaken(ask):
            self.execute(ask, granted)
        self.do(lambda: self.ledger.lose(ask))

    @precondition(lambda self: self.ledger.in_flight is not None)
    @rule(which=st.integers(0), granted=st.integers(0, 30 * MICRO), late=st.sampled_from([0.0, 0.01, 0.2, 0.7]))
    def reply_comes(self, which: int, granted: int, late: float) -> None:
        ask = self.chosen(which)
        if self.is_overtaken(ask):
            self.ledger.forget(was_executed=True, now=self.now, ask=ask)
            return
        answer = self.execute(ask, granted)
        self.now += late
        self.note(self.ledger.receive(answer, self.now, ask))

    @precondition(lambda self: self.ledger.in_flight is not None)
    @rule(which=st.integers(0))
    def give_a_claim_up(self, which: int) -> None:
        ask = self.chosen(which)
        was_executed = ask.seq in self.executed
        if was_executed:
            self.forgotten += self.executed[ask.seq].granted
        else:
            self.told_unused -= ask.unused
        self.ledger.forget(was_executed=was_executed, now=self.now, ask=ask)

    @precondition(lambda self: self.served)
    @rule(which=st.integers(0), cost=st.integers(0, 30 * MICRO), is_open=st.booleans())
    def settle(self, which: int, cost: int, is_open: bool) -> None:
        line = self.served[which % len(self.served)]
        self.settled.add(line)
        self.latest = max(self.latest, self.now + LEASE)
        self.ledger.settle(line, cost, self.now, is_open=is_open)
        self.note(self.ledger.serve(self.now))

    @precondition(lambda self: self.ledger.in_flight is None and not self.ledger.callers)
    @rule()
    def leave(self) -> None:
        self.told_unused += self.ledger.hand_back_all(self.now)[0]

    @rule()
    def fork(self) -> None:
        book = self.ledger
        self.parents.append((book, (book.granted, book.used, book.returned, book.burned, book.held)))
        self.ledger = Ledger(self.now, incarnation=f"child {len(self.parents)}")
        self.restart_server()
        self.spent, self.served, self.joined, self.trays = 0, [], [], []

    @invariant()
    def books_are_balanced(self) -> None:
        ledger = self.ledger
        assert balance(ledger) == 0
        assert ledger.leases.total == sum(lease.tokens for lease in ledger.leases)
        assert min([ledger.leases.total, ledger.reserved, ledger.burned, ledger.returned, ledger.used]) >= 0
        assert ledger.used + ledger.owed + ledger.settlement.written_off == self.spent + sum(
            line.cost for line in self.served
        )
        assert not ledger.owed or not ledger.leases.total  # it is paid before anything else
        assert ledger.returned == self.told_unused + ledger.withdrawn

    @invariant()
    def the_server_granted_what_the_client_got_and_what_was_lost(self) -> None:
        under_way = sum(self.executed[ask.seq].granted for ask in self.under_way if ask.seq in self.executed)
        assert self.server_granted == self.ledger.granted + self.forgotten + under_way

    @invariant()
    def leases_are_in_order(self) -> None:
        ends = [lease.expires for lease in self.ledger.leases]
        assert ends == sorted(ends)
        assert all(end <= self.latest for end in ends)

    @invariant()
    def first_come_is_first_served(self) -> None:
        assert self.ledger.callers == [line for line in self.joined if not line.is_settled]
        order = [self.joined.index(line) for line in self.served]
        assert order == sorted(order)

    @invariant()
    def a_parent_is_not_touched_by_its_child(self) -> None:
        for book, was in self.parents:
            assert (book.granted, book.used, book.returned, book.burned, book.held) == was


Books.TestCase.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
TestBooks = pytest.mark.slow(Books.TestCase)


# --- a paced hand


def short_of_tokens(granted: float, now: float = BEGIN, **settings: Any) -> Ledger:
    """A ledger that asked for more than the `granted` tokens that it got."""
    ledger = Ledger(now, **settings)
    for _ in range(200):
        wait(ledger, 1, now)
    exchange(ledger, granted, now, retry_after=0.016)
    return ledger


def spent_by(ledger: Ledger, now: float) -> int:
    """Tokens that are spent by then, with the hand opened when it is due."""
    while ledger.opens <= now:
        ledger.serve(ledger.opens)
    return ledger.spent // MICRO


def test_few_short_tokens_are_spent_evenly() -> None:
    """Where tokens are short and few, they are spent evenly until the next claim."""
    ledger = short_of_tokens(6)
    assert [spent_by(ledger, BEGIN + ms / 1000) for ms in (0, 20, 40, 60, 80)] == [1, 2, 3, 5, 6]
    assert balance(ledger) == 0


def test_many_short_tokens_go_as_they_come() -> None:
    """Where tokens are short and many, they are spent as they come."""
    ledger = short_of_tokens(60)
    assert spent_by(ledger, BEGIN) == 60


def test_ample_tokens_go_as_they_come() -> None:
    """Where nothing is short, tokens are spent as they come."""
    ledger = Ledger(BEGIN)
    lines = [wait(ledger, 1, BEGIN) for _ in range(6)]
    exchange(ledger, 6, BEGIN)
    assert all(line.is_served for line in lines)


def test_a_long_claim_stops_the_pacing() -> None:
    """Tokens are not paced where a claim is in flight for long.

    The loop that opens them waits for the answer as well.
    """
    ledger = Ledger(BEGIN)
    for _ in range(3):
        wait(ledger, 1, BEGIN)
        exchange(ledger, 1, BEGIN, came=BEGIN + 0.1)
    for _ in range(200):
        wait(ledger, 1, BEGIN + 0.1)
    exchange(ledger, 6, BEGIN + 0.2, came=BEGIN + 0.3, retry_after=0.1)
    assert ledger.held == 0


# --- a rise from 0


def test_waiters_ask_when_the_rate_returns(ledger: Ledger) -> None:
    """Waiters ask again when the rate is no longer 0."""
    wait(ledger, 1, BEGIN)
    exchange(ledger, 0, BEGIN, retry_after=1, budget_rate=0, birth="1", granted_total=3)
    assert ledger.due == BEGIN + 1
    ledger.on_rate_drop(Drop("2", 3, 100 * MICRO, 0, "rate"), BEGIN + 0.2, 0.005)  # of another life of the budget
    assert ledger.due == BEGIN + 1
    ledger.on_rate_drop(Drop("1", 3, 100 * MICRO, 0, "rate"), BEGIN + 0.2, 0.005)
    assert ledger.due == pytest.approx(BEGIN + 0.205)
    assert ledger.held == 0


def test_a_rise_during_a_claim_is_not_lost(ledger: Ledger) -> None:
    """A rise that is heard while a claim is in flight is not lost."""
    wait(ledger, 1, BEGIN)
    exchange(ledger, 0, BEGIN, retry_after=1, budget_rate=0, birth="1")
    assert ledger.claim(BEGIN + 1) is not None
    ledger.on_rate_drop(Drop("1", 0, 100 * MICRO, 0, "rate"), BEGIN + 1.001)
    ledger.receive(answered(0, 1, budget_rate=0, birth="1"), BEGIN + 1.002)
    assert ledger.due < BEGIN + 1.2


# --- tries


def test_tries_together_are_one_claim(ledger: Ledger) -> None:
    """Tries that come together are one claim, and those that come later are another."""
    first = [wait(ledger, 1, BEGIN, whole=True) for _ in range(3)]
    ask = ledger.claim(BEGIN)
    assert ask is not None
    assert (ask.need, ask.tokens, ask.whole) == (MICRO, 3 * MICRO, True)
    late = wait(ledger, 1, BEGIN, whole=True)
    ledger.receive(answered(2, 0.01), BEGIN)
    assert [line.is_served for line in first] == [True, True, False]
    assert first[2].denied == pytest.approx(0.01, abs=1e-6)
    assert late.denied is not None  # the answer says that the next one must wait
    assert balance(ledger) == 0


def test_a_try_follows_a_full_claim_at_once(ledger: Ledger) -> None:
    """A try that comes while a claim is in flight is claimed for at once where that claim got all that it asked for."""
    wait(ledger, 1, BEGIN, whole=True)
    ledger.claim(BEGIN)
    late = wait(ledger, 1, BEGIN, whole=True)
    ledger.receive(answered(1), BEGIN + 0.001)
    assert (late.denied, late.is_served, ledger.due) == (None, False, BEGIN + 0.001)
    exchange(ledger, 1, BEGIN + 0.001)
    assert late.is_served


def test_rare_tries_ask_for_nothing_ahead(ledger: Ledger) -> None:
    """A process that only tries now and then asks for nothing ahead."""
    asked = []
    for number in range(60):
        now = BEGIN + 0.1 * number
        wait(ledger, 1, now, whole=True)
        ask = ledger.claim(now)
        assert ask is not None
        asked.append(ask.tokens)
        ledger.receive(answered(ask.tokens / MICRO), now)
        assert ledger.claim(now + 0.09) is None
    assert set(asked) == {MICRO}

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
    assert not ledger.spend(MICRO, BEGIN)
    assert ledger.claim(BEGIN) is None or ledger.in_flight is not None
    assert balance(ledger) == 0


def test_tokens_in_hand_are_spent_at_once_and_exactly() -> None:
    ledger = holding(3)
    assert [ledger.spend(MICRO, BEGIN) for _ in range(4)] == [True, True, True, False]
    assert (ledger.used, ledger.held) == (4 * MICRO, 0)
    assert balance(ledger) == 0


def test_a_cost_above_the_hand_takes_nothing() -> None:
    ledger = holding(3)
    assert not ledger.spend(4 * MICRO, BEGIN)
    assert ledger.held == 3 * MICRO


def test_the_oldest_lease_is_spent_first() -> None:
    ledger = holding(2)
    wait(ledger, 3, BEGIN + 0.2)
    exchange(ledger, 3, BEGIN + 0.2)
    assert ledger.used == 4 * MICRO
    assert [(lease.tokens, lease.expires) for lease in ledger.leases] == [(2 * MICRO, BEGIN + 0.2 + LEASE)]


def test_nobody_spends_past_those_in_line() -> None:
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


def test_who_has_spent_finds_more_of_the_same_on_the_tray_as_old_as_its_lease() -> None:
    ledger = laid_out(100)
    tray = ledger.cache
    assert (tray.cost, tray.micro, tray.left, tray.expires) == (1, MICRO, LEAST * MICRO, BEGIN + LEASE)
    taken(tray, 3)
    assert (ledger.used, ledger.held, balance(ledger)) == (5 * MICRO, 96 * MICRO, 0)


def test_an_empty_tray_says_so_and_the_next_is_twice_as_large_up_to_a_limit() -> None:
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


def test_what_is_taken_is_demand_and_what_is_left_can_be_spent_by_others() -> None:
    ledger = laid_out(30)
    tray = ledger.cache
    taken(tray, 3)
    attempts = ledger.demand.attempts
    assert ledger.spend(26 * MICRO, BEGIN)  # of 29 that were left beside it
    assert ledger.demand.attempts == attempts + 3 * MICRO + 26 * MICRO
    with pytest.raises(IndexError):
        tray.pop()  # who comes late with it
    assert (ledger.used, ledger.held, balance(ledger)) == (31 * MICRO, 0, 0)


def test_nothing_lies_out_while_somebody_waits_or_something_is_owed() -> None:
    ledger = laid_out(30)
    tray = ledger.cache
    line = Line(29, BEGIN)
    ledger.wait(line)
    assert tray.left == 0
    assert ledger.serve(BEGIN) == [line]
    wait(ledger, 5, BEGIN)
    ledger.fill_cache(1)
    assert ledger.cache is EMPTY_CACHE


def test_a_claim_takes_the_tray_in_and_hands_back_what_lies_idle() -> None:
    ledger = laid_out(30)
    tray = ledger.cache
    ask = ledger.claim(BEGIN + 0.2)
    assert ask is not None
    assert (ask.unused, tray.left, ledger.held) == (29 * MICRO, 0, 0)


def test_an_idle_producer_is_one_whose_tray_was_not_touched() -> None:
    ledger = laid_out(30)
    taken(ledger.cache, 1)
    ask = ledger.claim(BEGIN + 0.2)
    assert ask is None or ask.unused == 0


def test_a_tray_stops_where_a_claim_is_wanted_and_who_comes_then_wakes_it() -> None:
    ledger = laid_out(15)
    assert (ledger.leases.total, ledger.low, ledger.cache.count) == (6 * MICRO, 16 * MICRO // 3, LEAST)
    taken(ledger.cache, LEAST)
    due = ledger.due
    assert ledger.spend(MICRO, BEGIN)
    assert ledger.due < due


# --- smooth: what came at once is spent evenly


def test_a_smooth_hand_opens_evenly_over_a_refresh() -> None:
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


def test_those_who_wait_for_a_smooth_hand_are_served_as_it_opens() -> None:
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


def test_a_smooth_hand_that_lay_still_opens_one_at_a_time_all_the_same() -> None:
    ledger = Ledger(BEGIN, smooth=True)
    wait(ledger, 1, BEGIN)
    exchange(ledger, 11, BEGIN)
    assert [ledger.spend(MICRO, BEGIN + 0.09) for _ in range(3)] == [True, False, False]


def test_a_fast_smooth_hand_opens_for_several_at_once() -> None:
    ledger = Ledger(BEGIN, smooth=True)
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1001, BEGIN)  # ten in a millisecond
    first = sum(ledger.spend(MICRO, BEGIN) for _ in range(1000))
    later = sum(ledger.spend(MICRO, BEGIN + 0.01) for _ in range(1000))
    assert 15 <= first <= 25  # no more than two milliseconds' worth
    assert later <= 105


# --- leases


def test_a_lease_counts_from_before_the_first_send_however_late_the_answer() -> None:
    ledger = Ledger(BEGIN)
    line = wait(ledger, 1, BEGIN)
    exchange(ledger, 5, BEGIN, came=BEGIN + LEASE - 0.001)
    assert line.is_served
    assert not ledger.spend(MICRO, BEGIN + LEASE)
    assert ledger.burned == 4 * MICRO


def test_an_answer_later_than_its_lease_burns_as_it_comes() -> None:
    ledger = Ledger(BEGIN)
    line = wait(ledger, 1, BEGIN)
    exchange(ledger, 5, BEGIN, came=BEGIN + LEASE)
    assert not line.is_served
    assert (ledger.held, ledger.burned, balance(ledger)) == (0, 5 * MICRO, 0)


def test_a_claim_that_is_sent_again_has_the_lease_of_its_first_send(ledger: Ledger) -> None:
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


def test_far_away_the_next_claim_does_not_wait_for_the_answer_and_comes_a_refresh_later() -> None:
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


def test_what_is_on_its_way_is_not_asked_for_again() -> None:
    ledger, now = far(), BEGIN + 5
    wait(ledger, 20, now)
    first = ledger.claim(now)
    assert first is not None
    assert first.tokens >= 20 * MICRO
    second = ledger.claim(ledger.due)
    assert second is None or second.need == 0


def test_answers_that_come_out_of_order_give_all_their_tokens() -> None:
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


def test_of_claims_that_were_lost_the_newest_is_sent_again_as_it_was() -> None:
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


def test_far_away_a_claim_says_how_far_and_near_it_says_nothing() -> None:
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


def test_an_unanswered_claim_is_given_up_when_its_tokens_would_have_expired(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    first = ledger.claim(BEGIN)
    assert first is not None
    second = ledger.claim(BEGIN + LEASE)
    assert second is not None
    assert second.seq == first.seq + 1


def test_what_burned_is_told_once_and_never_handed_back() -> None:
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


def test_burned_tokens_are_told_again_when_the_claim_that_told_them_was_not_executed() -> None:
    ledger = holding(3)
    wait(ledger, 1, BEGIN + 1)
    ledger.claim(BEGIN + 1)
    ledger.forget(was_executed=False, now=BEGIN + 1)
    ask = ledger.claim(BEGIN + 1.1)
    assert ask is not None
    assert ask.burned == 3 * MICRO


def test_the_tokens_of_a_served_and_cancelled_waiter_are_no_younger_than_they_were() -> None:
    ledger = holding(2)
    line = wait(ledger, 3, BEGIN + 0.3)
    ledger.serve(BEGIN + 0.3)  # two of them are set aside, of the first lease
    exchange(ledger, 1, BEGIN + 0.3)
    ledger.cancel(line, BEGIN + 0.4)
    assert next(iter(ledger.leases)).expires <= BEGIN + 0.3 + LEASE
    assert not line.is_served
    assert balance(ledger) == 0


def test_a_claim_in_flight_makes_no_cancelled_token_younger() -> None:
    old = holding(2)
    taken = Line(2, BEGIN)
    old.waiters.join(taken)
    old.serve(BEGIN + 0.4)
    assert old.signal(BEGIN + 0.4, MICRO)  # a claim in flight is no news about what was there before
    old.cancel(taken, BEGIN + 0.4)
    assert next(iter(old.leases)).expires == BEGIN + LEASE


# --- the line


def test_waiters_are_served_in_the_order_of_their_coming() -> None:
    ledger = Ledger(BEGIN)
    lines = [wait(ledger, cost, BEGIN) for cost in (2, 1, 3)]
    assert exchange(ledger, 3.5, BEGIN) + ledger.serve(BEGIN + 0.06) == lines[:2]
    assert not lines[2].is_served
    assert exchange(ledger, 3, BEGIN + 0.1) == lines[2:]
    assert balance(ledger) == 0


def test_a_large_cost_holds_its_place_and_is_collected_over_several_claims(ledger: Ledger) -> None:
    large, small = wait(ledger, 10, BEGIN), wait(ledger, 1, BEGIN)
    for i in range(9):
        assert exchange(ledger, 1, BEGIN + 0.3 * i) == []
        assert ledger.reserved == (i + 1) * MICRO
    assert exchange(ledger, 2, BEGIN + 2.7) + ledger.serve(BEGIN + 2.8) == [large, small]
    assert (ledger.held, ledger.burned, balance(ledger)) == (0, 0, 0)


def test_each_claim_asks_for_what_is_missing_at_the_head(ledger: Ledger) -> None:
    wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    ask = ledger.claim(BEGIN + 0.1)
    assert ask is not None
    assert (ask.need, ask.held) == (6 * MICRO, 4 * MICRO)


def test_what_is_set_aside_outlives_its_lease_while_claims_report_it(ledger: Ledger) -> None:
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    for i in range(1, 10):
        exchange(ledger, 0, BEGIN + 0.4 * i)
    ledger.expire(BEGIN + 3.9)
    assert ledger.reserved == 4 * MICRO
    assert not line.is_served
    ledger.cancel(line, BEGIN + 4.0)
    assert ledger.spend(4 * MICRO, BEGIN + 4.0)  # the last claim, at 3.6, has renewed it


def test_what_is_set_aside_returns_to_the_hand_when_its_waiter_gives_up(ledger: Ledger) -> None:
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    assert ledger.cancel(line, BEGIN + 0.2)
    assert (ledger.leases.total, ledger.reserved) == (4 * MICRO, 0)
    assert ledger.spend(4 * MICRO, BEGIN + 0.2)


def test_what_was_set_aside_burns_when_its_waiter_gives_up_after_the_last_lease(ledger: Ledger) -> None:
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    ledger.cancel(line, BEGIN + LEASE)
    assert not ledger.spend(MICRO, BEGIN + LEASE)
    assert (ledger.burned, balance(ledger)) == (4 * MICRO, 0)


def test_the_next_in_line_gets_what_was_set_aside_for_one_that_gave_up(ledger: Ledger) -> None:
    first, second = wait(ledger, 10, BEGIN), wait(ledger, 3, BEGIN)
    exchange(ledger, 4, BEGIN)
    ledger.cancel(first, BEGIN + 0.1)
    assert ledger.serve(BEGIN + 0.1) == [second]


def test_a_lossless_budget_collects_nothing_beyond_the_lease(ledger: Ledger) -> None:
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN, is_lossless=True)
    assert (ledger.leases.total, ledger.reserved) == (4 * MICRO, 0)
    ledger.expire(BEGIN + LEASE)
    assert ledger.burned == 4 * MICRO
    assert not line.is_served


def test_nobody_who_waits_is_asked_for_before_the_slot_that_the_answer_named(ledger: Ledger) -> None:
    """Nor by the refresh that was planned before it came: at 50/s and 20 processes that made 1.7 calls a grant."""
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1, BEGIN, retry_after=0.4)
    assert ledger.due == BEGIN + REFRESH
    wait(ledger, 1, BEGIN + 0.01)
    assert ledger.claim(BEGIN + REFRESH) is None
    assert ledger.due == BEGIN + 0.4
    assert ledger.claim(BEGIN + 0.4) is not None


def test_one_that_gives_up_in_the_middle_of_the_line_changes_nothing_for_the_others(ledger: Ledger) -> None:
    lines = [wait(ledger, 1, BEGIN) for _ in range(5)]
    assert ledger.cancel(lines[2], BEGIN)
    assert not ledger.cancel(lines[2], BEGIN)
    assert exchange(ledger, 4, BEGIN) == [lines[0], lines[1], lines[3], lines[4]]


def test_one_that_gives_up_while_its_claim_is_in_flight_leaves_the_tokens_in_hand(ledger: Ledger) -> None:
    line = wait(ledger, 2, BEGIN)
    ledger.claim(BEGIN)
    ledger.cancel(line, BEGIN)
    assert ledger.receive(answered(2), BEGIN + 0.01) == []
    assert ledger.leases.total == 2 * MICRO


def test_tokens_of_one_that_gave_up_go_back_when_they_lie_idle(ledger: Ledger) -> None:
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
    line = wait(ledger, 2, BEGIN)
    ledger.cancel(line, BEGIN)
    line.is_served = line.is_degraded = True
    assert not ledger.cancel(line, BEGIN)
    assert balance(ledger) == ledger.used == 0


# --- all or nothing


def test_a_try_claims_exactly_its_cost(ledger: Ledger) -> None:
    wait(ledger, 7, BEGIN, whole=True)
    ask = ledger.claim(BEGIN)
    assert ask is not None
    assert (ask.need, ask.tokens, ask.whole) == (7 * MICRO, 7 * MICRO, True)


def test_a_try_is_served_or_denied_by_the_first_answer(ledger: Ledger) -> None:
    line = wait(ledger, 7, BEGIN, whole=True)
    assert exchange(ledger, 0, BEGIN, retry_after=0.8, came=BEGIN + 0.3) == [line]
    assert line.denied == pytest.approx(0.5)
    assert not ledger.waiters
    other = wait(ledger, 7, BEGIN + 1, whole=True)
    assert exchange(ledger, 7, BEGIN + 1) == [other]
    assert other.is_served


def test_a_try_adds_to_what_is_in_hand_and_leaves_it_there_when_denied() -> None:
    ledger = holding(3)
    line = wait(ledger, 7, BEGIN + 0.1, whole=True)
    ledger.serve(BEGIN + 0.1)
    ask = ledger.claim(BEGIN + 0.1)
    assert ask is not None
    assert (ask.need, ask.held) == (4 * MICRO, 3 * MICRO)
    ledger.receive(answered(0), BEGIN + 0.1)
    assert line.denied is not None
    assert (ledger.leases.total, ledger.reserved, balance(ledger)) == (3 * MICRO, 0, 0)


def test_what_is_in_hand_does_not_burn_under_a_try_whose_claim_is_in_flight() -> None:
    ledger = holding(3)
    line = wait(ledger, 7, BEGIN + 0.45, whole=True)
    ledger.serve(BEGIN + 0.45)
    exchange(ledger, 4, BEGIN + 0.45, came=BEGIN + 0.6)
    assert line.is_served
    assert ledger.burned == 0


def test_who_waits_behind_a_denied_try_is_next(ledger: Ledger) -> None:
    first, second = wait(ledger, 7, BEGIN, whole=True), wait(ledger, 2, BEGIN)
    exchange(ledger, 0, BEGIN)
    assert first.denied is not None
    assert not second.is_settled
    assert exchange(ledger, 2, BEGIN + 0.1) == [second]


# --- when and how much to claim


def test_nothing_is_asked_without_a_need(ledger: Ledger) -> None:
    assert ledger.claim(BEGIN) is None
    assert ledger.due == NEVER


def test_two_claims_keep_their_distance_where_tokens_are_short(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1, BEGIN, retry_after=0.03)
    wait(ledger, 1, BEGIN + 0.01)
    assert ledger.due == pytest.approx(BEGIN + CLAIM_GAP)


def test_where_there_is_plenty_a_waiter_is_claimed_for_at_once_and_for_twice_as_much(ledger: Ledger) -> None:
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


def test_one_with_nothing_in_hand_comes_back_at_its_slot(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    exchange(ledger, 0, BEGIN, retry_after=0.7)
    assert ledger.due == pytest.approx(BEGIN + 0.7)
    wait(ledger, 1, BEGIN + 0.1)
    assert ledger.due == pytest.approx(BEGIN + 0.7)


def test_a_hand_that_falls_below_a_third_claims_early() -> None:
    ledger = holding(8)  # of a lease of 9
    ledger.due = BEGIN + 10
    ledger.spend(5 * MICRO, BEGIN + 0.2)
    assert ledger.due == BEGIN + 10
    ledger.spend(1 * MICRO, BEGIN + 0.2)
    assert ledger.due == BEGIN + 0.2


def test_an_idle_hand_goes_back_after_a_refresh_and_then_there_is_silence() -> None:
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


def test_a_loop_of_acquire_comes_to_claim_for_more_than_the_one_that_waits(ledger: Ledger) -> None:
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


def test_demand_doubles_only_for_those_who_waited_through_a_denial(ledger: Ledger) -> None:
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
    ledger = holding(3)
    ask = ledger.signal(BEGIN + 0.1, 10_000 * MICRO)
    assert ask is not None
    assert (ask.tokens, ask.need, ask.unused, ask.held) == (0, 0, 0, 3 * MICRO)
    ledger.receive(answered(0), BEGIN + 0.1)
    assert (ledger.held, balance(ledger)) == (3 * MICRO, 0)


def test_a_signal_waits_for_the_claim_in_flight(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    ledger.claim(BEGIN)
    assert ledger.signal(BEGIN, MICRO) is None


def test_a_signal_does_not_put_off_the_claim_of_those_who_wait(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    due = ledger.due
    ledger.signal(BEGIN, MICRO)
    ledger.receive(answered(0), BEGIN + 0.01)
    assert ledger.due == due


# --- the life of the budget's state


def test_the_highest_count_of_grants_is_carried_as_long_as_the_state_lives(ledger: Ledger) -> None:
    wait(ledger, 9, BEGIN)
    exchange(ledger, 0, BEGIN, granted_total=50)
    exchange(ledger, 0, BEGIN + 0.1, granted_total=40)
    assert ledger.granted_total == 50
    exchange(ledger, 0, BEGIN + 0.2, granted_total=3, birth="2")
    assert (ledger.birth, ledger.granted_total) == ("2", 3)


# --- giving up


def test_what_a_claim_handed_back_burns_when_it_surely_was_not_executed() -> None:
    ledger = holding(5)
    assert ledger.claim(ledger.due + REFRESH / 100) is not None
    ledger.forget(was_executed=False, now=BEGIN + 0.2)
    assert (ledger.returned, ledger.burned, balance(ledger)) == (0, 5 * MICRO, 0)


def test_everything_goes_back_at_the_end(ledger: Ledger) -> None:
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    ledger.cancel(line, BEGIN + 0.1)
    assert ledger.hand_back_all(BEGIN + 0.1) == (4 * MICRO, 0)
    assert (ledger.held, ledger.returned, ledger.due, balance(ledger)) == (0, 4 * MICRO, NEVER, 0)


def test_a_new_stay_counts_its_calls_from_one(ledger: Ledger) -> None:
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


def test_what_was_too_much_goes_back_as_old_as_it_is() -> None:
    ledger, line = reserved(4, held=5)
    ledger.settle(line, MICRO, BEGIN + 0.1)
    assert (ledger.leases.total, admitted(ledger), balance(ledger)) == (4 * MICRO, MICRO, 0)
    assert {lease.expires for lease in ledger.leases} == {BEGIN + LEASE}


def test_what_was_too_little_is_paid_from_the_hand_at_once() -> None:
    ledger, line = reserved(4, held=6)
    ledger.settle(line, 5 * MICRO, BEGIN)
    ledger.serve(BEGIN)
    assert (ledger.owed, ledger.leases.total, admitted(ledger), balance(ledger)) == (0, MICRO, 5 * MICRO, 0)


def test_what_is_owed_is_paid_before_whoever_waits_is_served() -> None:
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


def test_what_was_collected_for_another_pays_a_debt_first() -> None:
    ledger, line = reserved(4, held=4)
    wait(ledger, 5, BEGIN)
    exchange(ledger, 2, BEGIN)
    assert ledger.reserved == 2 * MICRO
    ledger.settle(line, 7 * MICRO, BEGIN)
    ledger.serve(BEGIN)
    assert (ledger.reserved, ledger.owed, balance(ledger)) == (0, MICRO, 0)


def test_a_rest_pays_what_another_owes_however_late_it_comes() -> None:
    ledger, first = reserved(4, held=8)
    second = Line(4, BEGIN)
    assert ledger.take(second, BEGIN)
    ledger.settle(first, 6 * MICRO, BEGIN)
    ledger.settle(second, MICRO, BEGIN + 60)
    assert (ledger.owed, admitted(ledger), balance(ledger)) == (0, 7 * MICRO, 0)
    assert (ledger.leases.total, ledger.burned) == (MICRO, 0)


def test_a_rest_that_comes_after_its_lease_serves_who_waits() -> None:
    ledger, line = reserved(4000, held=4000)
    waiting = wait(ledger, 3000, BEGIN + 20)
    ledger.settle(line, 1000 * MICRO, BEGIN + 20)
    assert ledger.serve(BEGIN + 20) == [waiting]
    assert (admitted(ledger), ledger.burned, balance(ledger)) == (4000 * MICRO, 0, 0)


def test_a_late_rest_that_nobody_waits_for_is_kept_as_far_as_a_bucket_holds() -> None:
    ledger, line = reserved(4000, held=4000)
    ledger.settle(line, 0, BEGIN + 20)
    assert (ledger.leases.total, ledger.burned, balance(ledger)) == (26 * MICRO, 3974 * MICRO, 0)
    assert next(iter(ledger.leases)).expires == BEGIN + 20 + LEASE
    assert ledger.burned_reported == 3974 * MICRO  # the server has forgotten them long ago


def test_on_a_lossless_budget_a_late_rest_counts_as_arrived() -> None:
    ledger, line = reserved(4, held=4)
    wait(ledger, 1, BEGIN + 0.2)
    exchange(ledger, 1, BEGIN + 0.2, is_lossless=True)
    ledger.settle(line, 0, BEGIN + 20)
    assert (ledger.leases.total, ledger.burned, balance(ledger)) == (0, 4 * MICRO, 0)


def test_settled_again_the_last_word_counts() -> None:
    ledger, line = reserved(4, held=6)
    for used in (1, 2, 5, 5, 3):
        ledger.settle(line, used * MICRO, BEGIN)
        ledger.serve(BEGIN)
        assert (admitted(ledger), balance(ledger)) == (used * MICRO, 0)
    assert ledger.leases.total == 3 * MICRO


def test_at_the_end_a_debt_that_nobody_can_pay_is_excused_and_counted() -> None:
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


def test_what_was_excused_does_not_come_back_as_a_rest() -> None:
    ledger, line = reserved(1, held=1)
    ledger.settle(line, 3 * MICRO, BEGIN, is_open=False)
    ledger.settle(line, 0, BEGIN)
    assert (ledger.leases.total, ledger.settlement.written_off, admitted(ledger), balance(ledger)) == (MICRO, 0, 0, 0)


def test_what_the_outage_mode_admitted_is_not_made_up_for() -> None:
    ledger, line = Ledger(BEGIN), Line(4, BEGIN)
    line.is_served = line.is_degraded = True
    ledger.settle(line, 9 * MICRO, BEGIN)
    assert (ledger.owed, balance(ledger)) == (0, 0)


def test_a_try_behind_a_debt_is_answered() -> None:
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


def test_a_drop_withdraws_the_same_part_of_the_hand_and_the_next_claim_hands_it_back() -> None:
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


def test_a_pause_takes_everything_in_hand_and_on_the_tray() -> None:
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
def test_a_message_that_says_nothing_new_changes_nothing(drop: Drop) -> None:
    ledger = holding(20)
    ledger.on_rate_drop(drop, BEGIN)
    assert (ledger.leases.total, ledger.withdrawn) == (20 * MICRO, 0)
    assert ledger.answer is not None
    assert ledger.answer.budget_rate <= 100 * MICRO


def test_a_message_before_the_first_answer_says_nothing() -> None:
    ledger = Ledger(BEGIN)
    ledger.on_rate_drop(fallen(0, birth=""), BEGIN)
    assert (ledger.answer, ledger.withdrawn) == (None, 0)


def test_a_message_that_comes_twice_counts_once() -> None:
    ledger = holding(20)
    for _ in range(3):
        ledger.on_rate_drop(fallen(50), BEGIN)
    assert (ledger.leases.total, ledger.withdrawn) == (10 * MICRO, 10 * MICRO)


def test_without_a_message_the_next_answer_tells_the_same() -> None:
    ledger = holding(20)
    line = wait(ledger, 25, BEGIN)
    assert ledger.claim(BEGIN + 0.1) is not None
    ledger.cancel(line, BEGIN + 0.1)
    ledger.receive(answered(3, budget_rate=25 * MICRO), BEGIN + 0.1)
    assert (ledger.leases.total, ledger.withdrawn, balance(ledger)) == (8 * MICRO, 15 * MICRO, 0)


def test_an_answer_that_is_older_than_the_message_grants_by_the_old_rate_so_it_shrinks_too() -> None:
    ledger = holding(0)
    line = wait(ledger, 40, BEGIN)
    assert ledger.claim(BEGIN + 0.1) is not None
    ledger.on_rate_drop(fallen(0, granted_total=20, level=3, reason="paused"), BEGIN + 0.101)
    assert ledger.receive(answered(20, granted_total=20), BEGIN + 0.102) == []
    assert (ledger.leases.total, ledger.withdrawn, balance(ledger)) == (0, 20 * MICRO, 0)
    assert not line.is_settled
    assert ledger.answer is not None
    assert ledger.answer.reason == "paused"


def test_an_answer_that_is_younger_than_the_message_stands() -> None:
    ledger = holding(0)
    line = wait(ledger, 20, BEGIN)
    assert ledger.claim(BEGIN + 0.1) is not None
    ledger.on_rate_drop(fallen(0, granted_total=20, level=3, reason="paused"), BEGIN + 0.101)
    assert ledger.receive(answered(20, granted_total=40), BEGIN + 0.102) == [line]  # resumed meanwhile
    assert ledger.answer is not None
    assert ledger.answer.reason == "rate"


def test_what_is_set_aside_for_who_waits_stays_aside() -> None:
    ledger = holding(0)
    wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN + 0.1)
    ledger.on_rate_drop(fallen(0), BEGIN + 0.1)
    assert (ledger.reserved, ledger.withdrawn, balance(ledger)) == (4 * MICRO, 0, 0)


@pytest.mark.parametrize("whole", [True, False])
def test_what_comes_back_in_a_pause_is_not_spent_any_more(whole: bool) -> None:
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
def test_a_rest_that_is_settled_in_a_pause_is_not_spent_either(later: float) -> None:
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


def test_what_was_withdrawn_and_is_too_old_by_the_next_claim_burns() -> None:
    ledger = holding(20)
    ledger.on_rate_drop(fallen(0), BEGIN)
    assert ledger.claim(BEGIN + LEASE) is not None
    assert ledger.in_flight is not None
    assert (ledger.in_flight.unused, ledger.in_flight.burned) == (0, 20 * MICRO)
    assert (ledger.returned, ledger.burned, balance(ledger)) == (0, 20 * MICRO, 0)


def test_what_was_withdrawn_at_two_times_is_as_old_as_the_older() -> None:
    ledger, line = reserved(4, held=8)
    ledger.on_rate_drop(fallen(0), BEGIN)
    ledger.settle(line, 0, BEGIN + 20)
    assert ledger.withdrawn == 8 * MICRO
    ask = ledger.claim(BEGIN + 20)
    assert ask is not None
    assert (ask.unused, ask.burned, balance(ledger)) == (0, 8 * MICRO, 0)


def test_what_was_withdrawn_goes_back_with_a_signal_or_a_goodbye_as_well() -> None:
    ledger = holding(20)
    ledger.on_rate_drop(fallen(50), BEGIN)
    ask = ledger.signal(BEGIN, 0)
    assert ask is not None
    assert (ask.unused, ask.held) == (10 * MICRO, 10 * MICRO)
    ledger = holding(20)
    ledger.on_rate_drop(fallen(50), BEGIN)
    assert ledger.hand_back_all(BEGIN) == (20 * MICRO, 0)
    assert balance(ledger) == 0


def test_a_hand_back_because_of_a_drop_does_not_make_a_producer_seem_idle() -> None:
    ledger = holding(20)
    for _ in range(10):
        ledger.spend(MICRO, BEGIN + 0.09)
    ledger.on_rate_drop(fallen(50), BEGIN + 0.09)
    ask = ledger.claim(BEGIN + 0.1)
    assert ask is not None
    assert ask.unused == 5 * MICRO
    assert ask.requested_rate > 0
    assert ask.tokens > 0


def test_what_is_left_of_a_smooth_hand_is_spent_evenly_too() -> None:
    ledger = Ledger(BEGIN, smooth=True)
    line = wait(ledger, 1, BEGIN)
    exchange(ledger, 21, BEGIN)
    assert line.is_served
    ledger.on_rate_drop(fallen(25), BEGIN)
    assert (ledger.leases.total, ledger.pace) == (5 * MICRO, 5 * MICRO / REFRESH)
    ledger.on_rate_drop(fallen(0), BEGIN)
    assert (ledger.leases.total, ledger.pace, balance(ledger)) == (0, 0, 0)


def test_what_is_left_after_a_drop_is_no_reason_to_claim_before_the_refresh() -> None:
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


def test_where_tokens_are_short_and_few_they_are_spent_evenly_until_the_next_claim() -> None:
    ledger = short_of_tokens(6)
    assert [spent_by(ledger, BEGIN + ms / 1000) for ms in (0, 20, 40, 60, 80)] == [1, 2, 3, 5, 6]
    assert balance(ledger) == 0


def test_where_tokens_are_short_and_many_they_are_spent_as_they_come() -> None:
    ledger = short_of_tokens(60)
    assert spent_by(ledger, BEGIN) == 60


def test_where_nothing_is_short_tokens_are_spent_as_they_come() -> None:
    ledger = Ledger(BEGIN)
    lines = [wait(ledger, 1, BEGIN) for _ in range(6)]
    exchange(ledger, 6, BEGIN)
    assert all(line.is_served for line in lines)


def test_a_hand_is_not_paced_where_a_claim_is_long_on_its_way() -> None:
    """The loop that opens the hand waits for the answer as well."""
    ledger = Ledger(BEGIN)
    for _ in range(3):
        wait(ledger, 1, BEGIN)
        exchange(ledger, 1, BEGIN, came=BEGIN + 0.1)
    for _ in range(200):
        wait(ledger, 1, BEGIN + 0.1)
    exchange(ledger, 6, BEGIN + 0.2, came=BEGIN + 0.3, retry_after=0.1)
    assert ledger.held == 0


# --- a rise from 0


def test_waiters_ask_again_when_the_rate_is_no_longer_0(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    exchange(ledger, 0, BEGIN, retry_after=1, budget_rate=0, birth="1", granted_total=3)
    assert ledger.due == BEGIN + 1
    ledger.on_rate_drop(Drop("2", 3, 100 * MICRO, 0, "rate"), BEGIN + 0.2, 0.005)  # of another life of the budget
    assert ledger.due == BEGIN + 1
    ledger.on_rate_drop(Drop("1", 3, 100 * MICRO, 0, "rate"), BEGIN + 0.2, 0.005)
    assert ledger.due == pytest.approx(BEGIN + 0.205)
    assert ledger.held == 0


def test_a_rise_that_is_heard_while_a_claim_is_out_is_not_lost(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    exchange(ledger, 0, BEGIN, retry_after=1, budget_rate=0, birth="1")
    assert ledger.claim(BEGIN + 1) is not None
    ledger.on_rate_drop(Drop("1", 0, 100 * MICRO, 0, "rate"), BEGIN + 1.001)
    ledger.receive(answered(0, 1, budget_rate=0, birth="1"), BEGIN + 1.002)
    assert ledger.due < BEGIN + 1.2


# --- tries


def test_tries_that_come_together_are_one_claim_and_those_that_come_later_another(ledger: Ledger) -> None:
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


def test_a_try_that_comes_while_a_claim_is_out_is_asked_for_at_once_where_that_one_got_all(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN, whole=True)
    ledger.claim(BEGIN)
    late = wait(ledger, 1, BEGIN, whole=True)
    ledger.receive(answered(1), BEGIN + 0.001)
    assert (late.denied, late.is_served, ledger.due) == (None, False, BEGIN + 0.001)
    exchange(ledger, 1, BEGIN + 0.001)
    assert late.is_served


def test_a_process_that_only_tries_now_and_then_asks_for_nothing_ahead(ledger: Ledger) -> None:
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

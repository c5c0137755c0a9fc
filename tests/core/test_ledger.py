"""The ledger, stepped by hand: no clock, no network. Times are in seconds, amounts in tokens unless they say MICRO."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from nexus_redis.calls import Answer, Claim
from nexus_redis.ledger import CLAIM_GAP, LEASE, MICRO, NEVER, REFRESH, Ledger, Waiter
from tests.stepping import Line, answered

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
    assert ledger.leases[0].expires == BEGIN + LEASE


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
    assert ledger.leases[0].expires <= BEGIN + 0.3 + LEASE
    assert not line.is_served
    assert balance(ledger) == 0


def test_a_claim_in_flight_makes_no_cancelled_token_younger() -> None:
    old = holding(2)
    taken = Line(2, BEGIN)
    old.waiters[taken] = None
    old.serve(BEGIN + 0.4)
    assert old.signal(BEGIN + 0.4, MICRO)  # a claim in flight is no news about what was there before
    old.cancel(taken, BEGIN + 0.4)
    assert old.leases[0].expires == BEGIN + LEASE


# --- the line


def test_waiters_are_served_in_the_order_of_their_coming() -> None:
    ledger = Ledger(BEGIN)
    lines = [wait(ledger, cost, BEGIN) for cost in (2, 1, 3)]
    assert exchange(ledger, 3.5, BEGIN) == lines[:2]
    assert not lines[2].is_served
    assert exchange(ledger, 3, BEGIN + 0.1) == lines[2:]
    assert balance(ledger) == 0


def test_a_large_cost_holds_its_place_and_is_collected_over_several_claims(ledger: Ledger) -> None:
    large, small = wait(ledger, 10, BEGIN), wait(ledger, 1, BEGIN)
    for i in range(9):
        assert exchange(ledger, 1, BEGIN + 0.3 * i) == []
        assert ledger.aside == (i + 1) * MICRO
    assert exchange(ledger, 2, BEGIN + 2.7) == [large, small]
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
    assert ledger.aside == 4 * MICRO
    assert not line.is_served
    ledger.cancel(line, BEGIN + 4.0)
    assert ledger.spend(4 * MICRO, BEGIN + 4.0)  # the last claim, at 3.6, has renewed it


def test_what_is_set_aside_returns_to_the_hand_when_its_waiter_gives_up(ledger: Ledger) -> None:
    line = wait(ledger, 10, BEGIN)
    exchange(ledger, 4, BEGIN)
    assert ledger.cancel(line, BEGIN + 0.2)
    assert (ledger.hand, ledger.aside) == (4 * MICRO, 0)
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
    assert (ledger.hand, ledger.aside) == (4 * MICRO, 0)
    ledger.expire(BEGIN + LEASE)
    assert ledger.burned == 4 * MICRO
    assert not line.is_served


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
    assert ledger.hand == 2 * MICRO


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
    assert (ledger.hand, ledger.aside, balance(ledger)) == (3 * MICRO, 0, 0)


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


def test_two_claims_keep_their_distance(ledger: Ledger) -> None:
    wait(ledger, 1, BEGIN)
    exchange(ledger, 1, BEGIN)
    wait(ledger, 1, BEGIN + 0.01)
    assert ledger.due == pytest.approx(BEGIN + CLAIM_GAP)


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
    ledger.receive(answered(0), ledger.sent)
    assert ledger.claim(ledger.due) is None
    assert ledger.due == NEVER


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


# --- whatever happens


class Books(RuleBasedStateMachine):
    """A ledger and a server, with a network between them that loses, repeats and delays; after each step the books are
    balanced to the micro-token, on both sides."""

    lines = Bundle("lines")

    @initialize()
    def begin(self) -> None:
        self.now = BEGIN
        self.ledger = Ledger(self.now, incarnation="a")
        self.parents: list[tuple[Ledger, tuple[int, ...]]] = []
        self.restart_server()
        self.spent = 0
        self.served: list[Line] = []
        self.joined: list[Line] = []

    def restart_server(self) -> None:
        self.executed: dict[int, Answer] = {}
        self.server_granted = self.forgotten = 0

    def execute(self, ask: Claim, granted: int) -> Answer:
        """The server's side: a seq is charged once, whatever arrives how often."""
        if ask.seq not in self.executed:
            granted = min(granted, ask.tokens)
            if ask.whole and granted < ask.need:
                granted = 0
            self.executed[ask.seq] = answered(granted / MICRO, retry_after=0.05)
            self.server_granted += self.executed[ask.seq].granted
        return self.executed[ask.seq]

    def note(self, settled: list[Waiter]) -> None:
        self.served += [line for line in settled if isinstance(line, Line) and line.is_served]

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.05, 0.11, 0.3, 0.6]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(cost=st.integers(1, 5 * MICRO))
    def spend(self, cost: int) -> None:
        fresh = sum(lease.tokens for lease in self.ledger.leases if lease.expires > self.now)
        if self.ledger.spend(cost, self.now):
            assert cost <= fresh  # never an expired one
            self.spent += cost

    @rule(target=lines, cost=st.integers(1, 20 * MICRO), whole=st.booleans())
    def wait(self, cost: int, whole: bool) -> Line:
        line = Line(cost / MICRO, self.now, whole=whole)
        self.joined.append(line)
        self.ledger.wait(line)
        self.note(self.ledger.serve(self.now))
        return line

    @rule(line=consumes(lines))
    def give_up(self, line: Line) -> None:
        if line in self.served:
            self.served.remove(line)
        if line in self.joined:
            self.joined.remove(line)
            self.ledger.cancel(line, self.now)
            self.note(self.ledger.serve(self.now))

    @rule()
    def claim(self) -> None:
        before = self.ledger.in_flight
        ask = self.ledger.claim(self.now)
        if before is not None and ask is not before and before.seq in self.executed:
            self.forgotten += self.executed[before.seq].granted

    @rule(rate=st.integers(0, 10**12))
    def only_ask(self, rate: int) -> None:
        if self.ledger.in_flight is None:
            self.ledger.signal(self.now, rate)

    @precondition(lambda self: self.ledger.in_flight is not None)
    @rule(granted=st.integers(0, 30 * MICRO))
    def reply_is_lost(self, granted: int) -> None:
        assert self.ledger.in_flight is not None
        self.execute(self.ledger.in_flight, granted)

    @precondition(lambda self: self.ledger.in_flight is not None)
    @rule(granted=st.integers(0, 30 * MICRO), late=st.sampled_from([0.0, 0.01, 0.2, 0.7]))
    def reply_comes(self, granted: int, late: float) -> None:
        assert self.ledger.in_flight is not None
        answer = self.execute(self.ledger.in_flight, granted)
        self.now += late
        self.note(self.ledger.receive(answer, self.now))

    @precondition(lambda self: self.ledger.in_flight is not None)
    @rule()
    def give_the_claim_up(self) -> None:
        ask = self.ledger.in_flight
        assert ask is not None
        was_executed = ask.seq in self.executed
        if was_executed:
            self.forgotten += self.executed[ask.seq].granted
        self.ledger.forget(was_executed=was_executed, now=self.now)

    @precondition(lambda self: self.ledger.in_flight is None and not self.ledger.waiters)
    @rule()
    def leave(self) -> None:
        self.ledger.hand_back_all(self.now)

    @rule()
    def fork(self) -> None:
        book = self.ledger
        self.parents.append((book, (book.granted, book.used, book.returned, book.burned, book.held)))
        self.ledger = Ledger(self.now, incarnation=f"child {len(self.parents)}")
        self.restart_server()
        self.spent, self.served, self.joined = 0, [], []

    @invariant()
    def books_are_balanced(self) -> None:
        ledger = self.ledger
        assert balance(ledger) == 0
        assert ledger.hand == sum(lease.tokens for lease in ledger.leases)
        assert min([ledger.hand, ledger.aside, ledger.burned, ledger.returned, ledger.used]) >= 0
        assert ledger.used == self.spent + sum(line.cost for line in self.served)

    @invariant()
    def the_server_granted_what_the_client_got_and_what_was_lost(self) -> None:
        ask = self.ledger.in_flight
        under_way = self.executed[ask.seq].granted if ask is not None and ask.seq in self.executed else 0
        assert self.server_granted == self.ledger.granted + self.forgotten + under_way

    @invariant()
    def leases_are_in_order(self) -> None:
        ends = [lease.expires for lease in self.ledger.leases]
        assert ends == sorted(ends)

    @invariant()
    def first_come_is_first_served(self) -> None:
        assert list(self.ledger.waiters) == [line for line in self.joined if not line.is_settled]
        order = [self.joined.index(line) for line in self.served]
        assert order == sorted(order)

    @invariant()
    def a_parent_is_not_touched_by_its_child(self) -> None:
        for book, was in self.parents:
            assert (book.granted, book.used, book.returned, book.burned, book.held) == was


Books.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase

"""Several budgets at once, stepped by hand: all or nothing, nothing held in vain, nobody waits in a circle."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import exceptions

from nexus_redis._core.multi_acquire import MultiAcquire
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.registration import Registration
from nexus_redis._protocol.calls import Answer
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Job, Outcome
from nexus_redis._values.parse import MICRO
from nexus_redis._values.settings import BudgetSettings, ProducerSettings
from nexus_redis.errors import Closed, Unavailable
from tests.harness.stepping import START, Line, Stepper, answered, asked, fails, is_balanced, join, kind_of


class Buckets:
    """A server with one bucket for each budget, a quarter second deep; in the manner of lua/claim.lua."""

    def __init__(self, stepper: Stepper, **rates: float) -> None:
        self.stepper, self.rates = stepper, rates
        self.tokens = dict.fromkeys(rates, 1.0)
        self.at = dict.fromkeys(rates, stepper.now)
        self.granted = dict.fromkeys(rates, 0)

    def __call__(self, job: Job) -> Outcome:
        if kind_of(job) != "claim":
            return 0
        ask, name = asked(job), job.keys[0].split("{")[1][:-1]  # type: ignore[union-attr]  # a claim is a Call
        rate, depth = self.rates[name], 1 + self.rates[name] / 4
        passed = self.stepper.now - self.at[name]
        self.at[name] = self.stepper.now
        self.tokens[name] = min(depth, self.tokens[name] + rate * passed)
        need, want = ask.need / MICRO, ask.tokens / MICRO
        piece = min(need, max(1.0, depth / 4))
        granted = min(want, int(self.tokens[name] * MICRO) / MICRO) if self.tokens[name] >= piece else 0.0
        self.tokens[name] -= granted
        self.granted[name] += round(granted * MICRO)
        retry = min(1.0, max(0.0, piece - self.tokens[name]) / rate) if rate and want else 1.0
        told = round(rate * MICRO)
        answer: Answer = answered(granted, retry_after=retry, recommended_rate=told, budget_rate=told,
                                  burst=round(depth * MICRO), reason="rate" if rate else "paused")  # fmt: skip
        return answer


class Together(MultiAcquire):
    """One that counts how often it was told."""

    def __init__(self, costs: Mapping[ProducerSession, int], since: float) -> None:
        super().__init__(costs, since)
        self.woken = 0
        self.wake = self._count

    def _count(self) -> None:
        self.woken += 1

    @property
    def is_served(self) -> bool:
        states = {part.is_served for _, part in self.parts}
        assert len(states) == 1  # all or nothing
        return states.pop()


def budgets(**rates: float) -> tuple[Stepper, Buckets, dict[str, ProducerSession]]:
    stepper = Stepper()
    stepper.server = buckets = Buckets(stepper, **rates)
    accounts = {}
    for name in rates:
        keys = BudgetKeys("test", name)
        opening = Registration(keys, BudgetSettings())
        accounts[name] = ProducerSession(stepper.scheduler, keys, name, ProducerSettings(), opening)
    return stepper, buckets, accounts


def want(stepper: Stepper, costs: Mapping[ProducerSession, float]) -> Together:
    joint = Together({account: round(cost * MICRO) for account, cost in costs.items()}, stepper.now)
    if not joint.spend(stepper.now):
        joint.wait()
    return joint


def test_all_are_taken_together_or_none() -> None:
    """All budgets are taken together, or none."""
    stepper, _, on = budgets(requests=10, tokens=100)
    joint = want(stepper, {on["requests"]: 1, on["tokens"]: 50})
    while not joint.is_served:
        assert (on["requests"].ledger.used, on["tokens"].ledger.used) == (0, 0)
        stepper.advance(0.01)
    assert (on["requests"].ledger.used, on["tokens"].ledger.used) == (MICRO, 50 * MICRO)
    assert joint.woken >= 1
    assert 0.4 < stepper.now - START < 0.8
    assert all(is_balanced(account) for account in on.values())


def test_tokens_in_hand_are_taken_at_once() -> None:
    """Tokens in hand are taken at once."""
    stepper, _, on = budgets(requests=1000, tokens=1000)
    for _ in range(30):
        for account in on.values():
            join(account)
        stepper.advance(0.01)
    joint = Together(dict.fromkeys(on.values(), MICRO), stepper.now)
    assert joint.spend(stepper.now)
    assert joint.is_served


def test_a_slow_budget_stops_no_fast_one() -> None:
    """While a caller waits for the slow budget, the fast one serves the callers behind it."""
    stepper, _, on = budgets(requests=10, tokens=100)
    joint = want(stepper, {on["requests"]: 1, on["tokens"]: 2000})  # 20 s of tokens
    served = 0
    line = join(on["requests"])
    while not joint.is_served:
        stepper.advance(0.01)
        if line.is_served:
            served += 1
            line = join(on["requests"])
        assert stepper.now - START < 25
    assert 19 < stepper.now - START < 22
    assert served >= 0.95 * 10 * (stepper.now - START - 1)  # nearly all that requests gave


def test_waiting_for_a_pause_holds_nothing() -> None:
    """While a caller waits for a paused budget, it holds nothing."""
    stepper, buckets, on = budgets(requests=10, tokens=100)
    joint = want(stepper, {on["requests"]: 1, on["tokens"]: 200})
    buckets.rates["tokens"] = 0
    stepper.advance(1)
    line = join(on["requests"])
    stepper.advance(1)
    assert line.is_served
    stepper.advance(1)
    assert (on["requests"].ledger.held, joint.is_served) == (0, False)
    buckets.rates["tokens"] = 100
    stepper.advance(4)
    assert joint.is_served


def test_equal_wants_go_in_order() -> None:
    """Among callers who want the same, the first comes first."""
    stepper, _, on = budgets(requests=20, tokens=1000)
    joints = [want(stepper, {on["tokens"]: 50, on["requests"]: 1}) for _ in range(30)]
    order: list[int] = []
    for _ in range(400):
        stepper.advance(0.01)
        order += [i for i, joint in enumerate(joints) if joint.is_served and i not in order]
    assert order == list(range(30))


def test_opposite_orders_do_not_deadlock() -> None:
    """Two callers that want the same budgets in opposite orders do not wait for each other."""
    stepper, _, on = budgets(a=10, b=10)
    joints = [want(stepper, {on[x]: 8, on[y]: 8}) for x, y in ("ab", "ba") * 5]
    stepper.advance(12)
    assert all(joint.is_served for joint in joints)


def test_greedy_singles_do_not_starve_it() -> None:
    """Greedy callers of one budget on each side do not starve a caller of both."""
    stepper, _, on = budgets(a=50, b=50)
    lines = {name: [join(account) for _ in range(20)] for name, account in on.items()}
    joint = want(stepper, dict.fromkeys(on.values(), 10))
    for _ in range(200):
        stepper.advance(0.01)
        for name, waiting in lines.items():
            lines[name] = [line if not line.is_served else join(on[name]) for line in waiting]
    assert joint.is_served


def test_giving_up_lets_the_others_go() -> None:
    """Giving up takes no tokens and lets the callers behind go."""
    stepper, _, on = budgets(requests=10, tokens=100)
    joint = want(stepper, {on["requests"]: 1, on["tokens"]: 50})
    line = join(on["tokens"], 10)
    stepper.advance(0.3)
    assert len(on["tokens"].ledger.waiters) == 2
    joint.cancel(stepper.now)
    stepper.advance(0.1)
    assert line.is_served
    assert on["requests"].ledger.used == 0
    assert all(is_balanced(account) and not account.ledger.parts for account in on.values())


def test_giving_up_when_served_returns_all() -> None:
    """A caller who gives up in the moment in which it is served gives all tokens back."""
    stepper, _, on = budgets(requests=10, tokens=100)
    joint = want(stepper, {on["requests"]: 1, on["tokens"]: 1})
    stepper.advance(0.2)
    assert [account.ledger.used for account in on.values()] == [MICRO, MICRO]
    joint.cancel(stepper.now)
    assert [account.ledger.used for account in on.values()] == [0, 0]
    assert all(is_balanced(account) for account in on.values())


def test_one_closed_budget_ends_the_wait() -> None:
    """A budget that is closed ends the wait for all of them."""
    stepper, _, on = budgets(requests=10, tokens=100)
    joint = want(stepper, {on["requests"]: 1, on["tokens"]: 500})
    behind = join(on["requests"])
    on["tokens"].leave(Closed("producer"), stepper.now)
    stepper.advance(1)
    assert isinstance(joint.error, Closed)
    assert joint.woken
    assert behind.is_served


@pytest.mark.parametrize("modes", [("share", "share"), ("open", "open"), ("share", "closed"), ("open", "share")])
def test_an_outage_needs_all_modes(modes: tuple[str, str]) -> None:
    """While Redis is away, the acquire goes on when all modes let it."""
    stepper, _, on = budgets(requests=100, tokens=100)
    for account, mode in zip(on.values(), modes, strict=True):
        account.settings = ProducerSettings.of(on_outage=mode)
        join(account)
    stepper.advance(1)
    stepper.server = fails(exceptions.ConnectionError("reset by peer"))
    for account in on.values():
        join(account)
    stepper.advance(1)
    assert stepper.scheduler.is_out
    joint = want(stepper, {on["requests"]: 1, on["tokens"]: 30})
    stepper.advance(7)
    if "closed" in modes:
        assert isinstance(joint.error, Unavailable)
    else:
        assert joint.is_served
        assert joint.is_degraded
    assert all(is_balanced(account) and not account.ledger.waiters for account in on.values())


def test_another_line_makes_a_first_one() -> None:
    """A waiter that is first now because of another line is seen in all of its own lines.

    The first is served from c, which changes the line of a; the second waits in a and b, where nobody else looks.
    """
    stepper, _, on = budgets(a=2, b=2, c=80)
    first = want(stepper, {on["a"]: 2, on["c"]: 2})
    second = want(stepper, {on["a"]: 1, on["b"]: 1})
    stepper.advance(3)
    assert (first.is_served, second.is_served) == (True, True)


def test_a_quitter_makes_a_first_one() -> None:
    """A waiter that is first now because another gave up is seen in all of its own lines.

    The first gives up in a and b; the second waits in c as well, where it has let nobody ask for tokens yet.
    """
    stepper, _, on = budgets(a=2, b=2, c=2)
    line = join(on["a"])
    first = want(stepper, {on["a"]: 1, on["b"]: 1})
    second = want(stepper, {on["a"]: 1, on["b"]: 1, on["c"]: 1})
    stepper.advance(0)
    first.cancel(stepper.now)
    stepper.advance(3)
    assert (line.is_served, second.is_served) == (True, True)


class World:
    """Three budgets, singles and joints on them, and what was admitted in truth."""

    def __init__(self, rates: tuple[float, ...]) -> None:
        self.stepper, self.buckets, self.on = budgets(**dict(zip("abc", rates, strict=True)))
        self.singles: list[tuple[str, Line]] = []
        self.joints: list[Together] = []

    def single(self, names: set[str], cost: int, _which: int) -> None:
        account, line = self.on[min(names)], Line(cost, self.stepper.now)
        if not account.take(line, self.stepper.now):
            account.wait(line)
        self.singles.append((min(names), line))

    def joint(self, names: set[str], cost: int, _which: int) -> None:
        self.joints.append(want(self.stepper, {self.on[name]: cost for name in sorted(names)}))

    def cancel(self, _names: set[str], _cost: int, which: int) -> None:
        if self.joints:
            self.joints.pop(which % len(self.joints)).cancel(self.stepper.now)

    def settle(self, _names: set[str], _cost: int, which: int) -> None:
        if self.singles:
            name, line = self.singles[which % len(self.singles)]
            if line.is_served:
                self.on[name].settle(self.on[name].ledger, line, which * MICRO, self.stepper.now)

    def passes(self, _names: set[str], _cost: int, which: int) -> None:
        self.stepper.advance(which / 10)

    def admitted(self, name: str) -> int:
        alone = sum(line.cost for where, line in self.singles if where == name)
        parts = (part for joint in self.joints for account, part in joint.parts if account is self.on[name])
        return alone + sum(part.cost for part in parts)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["single", "joint", "joint", "cancel", "settle", "passes"]),
        st.sets(st.sampled_from("abc"), min_size=2),
        st.integers(1, 12),
        st.integers(0, 20),
    ),
    max_size=25,
)


@given(ACTS, st.tuples(*[st.sampled_from([2.0, 10.0, 80.0])] * 3))
@settings(max_examples=150)
def test_any_order_serves_all(acts: list[tuple[str, set[str], int, int]], rates: tuple[float, float, float]) -> None:
    """Whatever comes in whatever order, every caller is served and the accounts balance."""
    world = World(rates)
    for act, names, cost, which in acts:
        getattr(world, act)(names, cost, which)
        assert all(is_balanced(account) for account in world.on.values())
    world.stepper.advance(5 + 1.5 * sum(cost + which for _, _, cost, which in acts) / min(rates))
    assert all(line.is_served for _, line in world.singles)
    assert all(joint.is_served for joint in world.joints)
    for name, account in world.on.items():
        book = account.ledger
        assert (book.owed, book.settlement.written_off, len(book.waiters), book.parts) == (0, 0, 0, 0)
        assert book.used == world.admitted(name)
        assert book.granted == world.buckets.granted[name]
        assert is_balanced(account)

"""Callers who want several budgets at once: who stands where, by a model and a slow referee, and what it costs."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import nexus_redis
from nexus_redis._core import loop
from nexus_redis._core.line import ASLEEP, LOOKS, NEAR, PASSING, Line, Part, Parts, ages
from nexus_redis._core.multi_acquire import MultiAcquire
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import SLICE
from nexus_redis._core.waiter import Waiter
from nexus_redis._protocol.plans import Job, Outcome, Pause
from nexus_redis._values.parse import MICRO
from tests.core.test_multi_acquire import Together, budgets, want
from tests.harness.stepping import Line as Caller
from tests.harness.stepping import is_balanced
from tests.models.multi_acquire import Wish, serve_strictly

# --- one line


class OneLine(RuleBasedStateMachine):
    """A line against lists: who is first, who is near, what is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line()
        self.alone: list[Waiter] = []
        self.parts: list[Part] = []
        self.line.parts = Parts()

    @rule(cost=st.integers(1, 9))
    def join(self, cost: int) -> None:
        waiter = Waiter(cost, 0.0)
        self.line.join(waiter)
        self.alone.append(waiter)

    @rule(cost=st.integers(1, 9))
    def expect(self, cost: int) -> None:
        part = Part(cost, 0.0)
        part.age = next(ages)
        self.line.expect(part)
        self.parts.append(part)

    @precondition(lambda self: any(part.place == PASSING for part in self.parts))
    @rule(data=st.data(), reach=st.integers(0, 30))
    def let_in(self, data: st.DataObject, reach: int) -> None:
        part = data.draw(st.sampled_from([part for part in self.parts if part.place == PASSING]))
        assert self.line.parts is not None
        is_near = self.line.reaches(part, reach)
        before = [each for each in self.counting() if each.age < part.age]
        assert is_near or before
        if is_near:  # it may think that more is before it than is, never less
            ahead = sum(each.cost for each in before)
            assert ahead < reach or not ahead or (before[-1:] and self.is_among_near(part))
        self.line.parts.put(part, reach, is_near=is_near)

    @precondition(lambda self: any(part.place != PASSING for part in self.parts))
    @rule(data=st.data())
    def let_pass(self, data: st.DataObject) -> None:
        part = data.draw(st.sampled_from([part for part in self.parts if part.place != PASSING]))
        assert self.line.parts is not None
        self.line.parts.let_pass(part)

    @rule(reach=st.integers(0, 30))
    def draw(self, reach: int) -> None:
        is_more = self.line.wake_within(reach, 0.0, 2)
        assert not is_more or any(part.place == NEAR for part in self.parts)

    @precondition(lambda self: self.alone or self.parts)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from([*self.alone, *self.parts]))
        self.line.leave(waiter)
        self.alone = [each for each in self.alone if each is not waiter]
        self.parts = [each for each in self.parts if each is not waiter]

    def counting(self) -> list[Waiter]:
        return sorted([*self.alone, *(part for part in self.parts if part.place != PASSING)], key=lambda each: each.age)

    def is_among_near(self, part: Part) -> bool:
        return any(each.place == NEAR and each.age > part.age for each in self.parts)

    @invariant()
    def the_oldest_that_counts_is_first(self) -> None:
        counting = self.counting()
        assert self.line.first is (counting[0] if counting else None)
        assert bool(self.line) == bool(counting)
        assert self.line.cost == sum(each.cost for each in counting)
        assert self.line.count == len(counting)
        assert set(self.line) == {*self.alone, *self.parts}
        assert len(self.line) == len(self.alone) + len(self.parts)

    @invariant()
    def the_near_are_older_than_the_sleepers(self) -> None:
        near = [part.age for part in self.parts if part.place == NEAR]
        asleep = [part.age for part in self.parts if part.place == ASLEEP]
        assert not near or not asleep or max(near) < min(asleep)
        assert self.line.parts is not None
        assert self.line.parts.near_cost == sum(part.cost for part in self.parts if part.place == NEAR)
        assert len(self.line.parts._asleep) <= 4 * len(asleep) + 4


TestOneLine = OneLine.TestCase
TestOneLine.settings = settings(max_examples=100, stateful_step_count=40)


# --- many lines, against the referee


class Scene:
    """Budgets and what their callers want, with the time of their coming."""

    def __init__(self, rates: Mapping[str, float], wishes: list[tuple[float, dict[str, int]]]) -> None:
        self.rates, self.wishes = rates, wishes
        self.stepper, self.buckets, self.on = budgets(**rates)
        self.callers: list[Caller | Together] = []
        self.served: dict[int, float] = {}

    def come(self, costs: Mapping[str, int]) -> None:
        now = self.stepper.now
        if len(costs) > 1:
            self.callers.append(want(self.stepper, {self.on[name]: cost for name, cost in costs.items()}))
            return
        ((name, cost),) = costs.items()
        caller, account = Caller(cost, now), self.on[name]
        if not account.take(caller, now):
            account.wait(caller)
        self.callers.append(caller)

    def run(self, look: Callable[[], None], seconds: float) -> None:
        began, coming = self.stepper.now, list(self.wishes)
        while len(self.served) < len(self.wishes) and self.stepper.now < began + seconds:
            while coming and coming[0][0] <= self.stepper.now - began + 1e-9:
                self.come(coming.pop(0)[1])
            for i, caller in enumerate(self.callers):
                if caller.is_served and i not in self.served:
                    self.served[i] = round(self.stepper.now - began, 3)
            look()
            self.stepper.advance(0.01)

    @property
    def waiting(self) -> list[int]:
        return [i for i in range(len(self.callers)) if i not in self.served]

    def look(self) -> None:
        """Nobody was overtaken by one who wanted at least as much, and who could go has gone."""
        for i in self.waiting:
            mine = self.wishes[i][1]
            for j in range(i + 1, len(self.callers)):
                theirs = self.wishes[j][1]
                if self.callers[j].is_served:
                    assert not all(theirs.get(name, 0) >= cost for name, cost in mine.items()), (i, j)
            before = {name for j in self.waiting if j < i for name in self.wishes[j][1]}
            if not before & mine.keys() and not self.callers[i].is_served:
                assert any(self.is_short(name, cost) for name, cost in mine.items()), i
        assert all(is_balanced(account) for account in self.on.values())

    def is_short(self, name: str, cost: int) -> bool:
        ledger = self.on[name].ledger
        return ledger.held < cost * MICRO or self.stepper.now < ledger.paced_until


RATES = st.sampled_from([2.0, 5.0, 10.0, 40.0, 80.0])
COSTS = st.sampled_from([1, 1, 1, 2, 5, 10])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[str, float], list[tuple[float, dict[str, int]]]]:
    names = "abcdef"[: draw(st.integers(2, 6))]
    rates = {name: draw(RATES) for name in names}
    wishes = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.1, 0.5, 1.0]),
                st.dictionaries(st.sampled_from(names), COSTS, min_size=1, max_size=3),
            ),
            min_size=2,
            max_size=25,
        )
    )
    at, found = 0.0, []
    for pause, costs in wishes:
        at += pause
        found.append((round(at, 2), costs))
    return rates, found


@pytest.mark.slow
@given(scenes())
@settings(max_examples=60)
def test_giving_way_costs_nobody_much(
    scene: tuple[dict[str, float], list[tuple[float, dict[str, int]]]],
) -> None:
    """Letting others pass makes no caller wait much longer than if all had held their places."""
    rates, wishes = scene
    strict = [Wish(costs, since) for since, costs in wishes]
    serve_strictly(strict, rates)
    world = Scene(rates, wishes)
    world.run(world.look, 2 * max(wish.served for wish in strict) + 2)
    for i, wish in enumerate(strict):
        # A budget is held for one from when the slowest takes no longer than it does itself: twice at worst.
        assert world.served.get(i, 1e9) <= 2 * wish.served + 1, (i, wish)
    for account in world.on.values():
        assert (len(account.ledger.waiters), account.ledger.parts, account.ledger.reserved) == (0, 0, 0)


# --- what it costs

HERE = str(Path(nexus_redis.__file__).parent)


class Steps:
    """Byte code instructions that the package has run."""

    def __init__(self) -> None:
        self.count = 0

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, _frame: FrameType, event: str, _arg: Any) -> Any:
        self.count += event == "opcode"
        return self._step

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)


def many_slow_tenants(n: int) -> Scene:
    tenants = {f"t{i}": 1.0 for i in range(n)}
    return Scene({"shared": 1e4, **tenants}, [(0.0, {"shared": 1, name: 1}) for name in tenants])


def one_slow_budget(n: int) -> Scene:
    tenants = {f"t{i}": 20.0 for i in range(n)}
    return Scene({"shared": 50.0, **tenants}, [(0.0, {"shared": 1, name: 1}) for name in tenants])


def a_chain(n: int) -> Scene:
    return Scene(
        {f"a{i}": 5.0 for i in range(n + 1)}, [(0.0, {f"a{i}": 1, f"a{i + 1}": 1}) for i in range(n)]
    )  # fmt: skip


def all_the_same(n: int) -> Scene:
    return Scene({"requests": 20.0, "tokens": 1000.0},
                 [(0.0, {"requests": 1, "tokens": 1 + 37 * i % 80}) for i in range(n)])  # fmt: skip


def two_shared_and_a_tenant(n: int) -> Scene:
    tenants = {f"t{i}": 5.0 for i in range(n)}
    return Scene(
        {"requests": 20.0, "tokens": 1000.0, **tenants},
        [(0.0, {"requests": 1, "tokens": 1 + 37 * i % 80, name: 1}) for i, name in enumerate(tenants)],
    )


def pairs(n: int) -> Scene:
    chosen, many = random.Random(n), max(4, n // 5)
    names = [chosen.sample(range(many), 2) for _ in range(n)]
    return Scene({f"a{i}": 10.0 for i in range(many)}, [(0.0, {f"a{i}": 1, f"a{j}": 1}) for i, j in names])


def some_alone(n: int) -> Scene:
    each = [{"requests": 1}, {"requests": 1, "tokens": 30}, {"tokens": 1}, {"requests": 1, "tokens": 1}]
    return Scene({"requests": 20.0, "tokens": 1000.0}, [(0.0, each[i % 4]) for i in range(n)])


PATTERNS = (many_slow_tenants, one_slow_budget, a_chain, all_the_same, two_shared_and_a_tenant, pairs, some_alone)


def cost(scene: Scene) -> tuple[float, float]:
    """Steps for each caller that comes; and, when all have come again for a while, for each answer and each grant."""
    answers, inner, steps = 0, scene.stepper.server, Steps()

    def server(job: Job) -> Outcome:
        nonlocal answers
        answers += 1
        return inner(job)

    def go_on(seconds: float) -> None:
        nonlocal answers
        for _ in range(round(seconds / 0.05)):
            scene.stepper.advance(0.05)
            for i, caller in enumerate(scene.callers):
                if caller.is_served:
                    answers += 1
                    scene.come(scene.wishes[i][1])
                    scene.callers[i] = scene.callers.pop()

    scene.stepper.server = server
    with steps.counted():
        for _, costs in scene.wishes:
            scene.come(costs)
    coming, steps.count = steps.count / len(scene.wishes), 0
    go_on(3.0)
    answers = 0
    with steps.counted():
        go_on(0.5)
    return coming, steps.count / answers


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_answer_costs_the_same_for_more(pattern: Callable[[int], Scene]) -> None:
    """An answer costs no more where ten times as many wait."""
    few, many = cost(pattern(15)), cost(pattern(150))
    assert many[0] < 1.3 * few[0]
    assert many[1] < 1.5 * few[1]


class Turns:
    """The loop of a scene as whoever shares its thread or its lock sees it: how much is done between two turns."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = self.most = 0
        self._plan = scene.stepper._plan
        monkeypatch.setattr(scene.stepper, "_plan", self)
        for kind, step in ((loop, "_run"), (ProducerSession, "look"), (MultiAcquire, "consider")):
            monkeypatch.setattr(kind, step, self._counted(getattr(kind, step)))

    def _counted(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self.done += 1
            return step(*args)

        return counted

    def send(self, outcomes: list[Outcome] | None) -> Exchange | Pause:
        self.turn()
        step = self._plan.send(outcomes)
        self.turn()
        return step

    def turn(self) -> None:
        self.most, self.done = max(self.most, self.done), 0


@pytest.mark.parametrize("pattern", PATTERNS)
def test_others_have_a_turn_after_a_slice(pattern: Callable[[int], Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have a turn after a slice, however many wait and whatever one of them leads to."""
    scene = pattern(1000)
    scene.stepper.round_trip = 0.002
    turns = Turns(scene, monkeypatch)
    for _ in range(2):
        for _, costs in scene.wishes:
            scene.come(costs)
            turns.turn()
        scene.stepper.advance(1.0)
    # A slice for the loop, one for the look around behind its last step, and the looks of the last line in that.
    assert turns.most <= 2 * SLICE + 4 * LOOKS


def test_a_long_line_waits_for_answers() -> None:
    """A line that has looked at many waiters waits for their answers before it looks at more."""
    tenants = {f"t{i}": 5.0 for i in range(300)}
    scene = Scene({"shared": 100.0, **tenants}, [(0.0, {"shared": 1, name: 1}) for name in tenants])
    scene.stepper.round_trip = 0.002
    for _, costs in scene.wishes:
        scene.come(costs)
    served = 0
    for _ in range(1000):
        scene.stepper.advance(0.01)
        for i, caller in enumerate(scene.callers):
            if caller.is_served:
                served += 1
                scene.come(scene.wishes[i][1])
                scene.callers[i] = scene.callers.pop()
    assert served >= 990
    assert len(scene.stepper.claims()) <= 7 * served  # 12 where it did not


def test_a_chain_of_thousands_is_no_recursion() -> None:
    """A chain of thousands of waiters is not a recursion."""
    scene = a_chain(3000)
    for _, costs in scene.wishes:
        scene.come(costs)
    for caller in scene.callers:
        assert isinstance(caller, Together)
        caller.cancel(scene.stepper.now)
    assert not any(account.ledger.waiters for account in scene.on.values())

"""The serve loop, stepped by hand: who is due, what a batch holds, what happens while Redis is away."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from redis import exceptions

from nexus_redis._core.background import run_in_background
from nexus_redis._core.loop import serve
from nexus_redis._core.reachability import LONGEST_BACKOFF, OUTAGE_AFTER
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import BATCH, BUG_PAUSE, SLICE, Scheduler
from nexus_redis._core.session import Life, PartOfLife, Rest, Send, Session
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.plans import Command, DeferredCall, Failed, Job, Outcome, Pause, ask
from nexus_redis._redis.faults import failed
from nexus_redis._values import log_texts
from nexus_redis.errors import Closed, InvalidSetting, NexusError, ServerRefused, Unavailable
from tests.harness.logged import logged
from tests.harness.stepping import START, Stepper, fails


class Chatter(Session):
    """Sends its name when it is due, as often as `again` says."""

    def __init__(self, stepper: Stepper, name: str = "a", every: float = NEVER) -> None:
        self.stepper, self.scheduler, self.name, self.every = stepper, stepper.scheduler, name, every
        self.received: list[Outcome] = []
        self.ticks: list[float] = []
        self.is_leaving = False
        self.error: Exception | None = None

    def at(self, due: float) -> Chatter:
        self.wake_at(due)
        return self

    def live(self) -> Life:
        until = self.stepper.now
        while True:
            can_send = yield Rest(until)
            until = self.stepper.now + self.every
            if self.error is not None:
                raise self.error
            if not can_send:
                self.ticks.append(self.stepper.now)
                until = NEVER
                continue
            outcomes = yield from self.say()
            if outcomes is not None:
                self.on_answers([], outcomes, self.stepper.now)
            if self.is_leaving:
                return

    def say(self) -> PartOfLife[list[Outcome] | None]:
        outcomes: list[Outcome] | None = yield Send([Command((self.name,), str)], waits=not self.overlaps)
        return outcomes

    def on_answers(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        self.received += outcomes
        if self.is_leaving:
            self.scheduler.drop(self)

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        self.is_leaving = True
        self.at(now)


@pytest.fixture
def stepper() -> Stepper:
    stepper = Stepper()
    stepper.server = lambda job: job.args[0] if isinstance(job, Command) else None
    return stepper


# --- scheduling


def test_members_are_served_when_they_are_due_and_not_before(stepper: Stepper) -> None:
    first, second = Chatter(stepper, "a").at(START + 1), Chatter(stepper, "b").at(START + 2)
    assert stepper.run() == 1.0
    stepper.advance(1.5)
    assert (first.received, second.received) == (["a"], [])
    stepper.advance(0.5)
    assert second.received == ["b"]
    assert [at for at, _ in stepper.sent] == [START + 1, START + 2]


def test_those_due_together_share_a_round_trip_and_each_gets_its_own_outcomes(stepper: Stepper) -> None:
    members = [Chatter(stepper, f"m{i}").at(START) for i in range(3)]
    stepper.round_trip = 0.01
    stepper.run()
    assert stepper.now == START + 0.01
    assert [member.received for member in members] == [["m0"], ["m1"], ["m2"]]


def test_a_batch_has_an_end_and_the_rest_goes_in_the_next(stepper: Stepper) -> None:
    for i in range(BATCH + 1):
        Chatter(stepper, f"m{i}").at(START)
    stepper.round_trip = 0.01
    stepper.run()
    assert len(stepper.sent) == BATCH + 1
    assert stepper.now == START + 0.02


class Domino(Chatter):
    """Touches those that it is told to when it is looked at."""

    looks = 0
    is_broken = False
    next: Sequence[Domino] = ()

    def look(self, now: float) -> None:
        Domino.looks += 1
        for each in self.next:
            self.stepper.scheduler.touch(each)
        if self.is_broken:
            raise RuntimeError("planted")


def looks_in_each_turn(stepper: Stepper) -> list[int]:
    """How many are looked at by who touched the first, and then by the loop in each of its turns."""
    Domino.looks, found = 0, []
    stepper.scheduler.look_around(stepper.now)
    while True:
        found.append(Domino.looks)
        Domino.looks = 0
        step = next(stepper._plan)
        assert isinstance(step, Pause)
        if step.seconds:
            return [*found, Domino.looks]


@pytest.mark.parametrize("width", [1, 3])
def test_one_touch_that_leads_to_all_is_looked_into_a_slice_at_a_time(stepper: Stepper, width: int) -> None:
    dominoes = [Domino(stepper) for _ in range(10 * SLICE)]
    for i, each in enumerate(dominoes):
        each.next = dominoes[width * i + 1 : width * i + 1 + width]
    stepper.scheduler.touch(dominoes[0])
    looks = looks_in_each_turn(stepper)
    assert sum(looks) == 10 * SLICE
    assert max(looks) <= SLICE


def test_what_is_left_to_look_at_wakes_the_sleeping_loop(stepper: Stepper) -> None:
    stepper.run()
    before = stepper.wakes
    for _ in range(SLICE + 1):
        stepper.scheduler.touch(Domino(stepper))
    stepper.scheduler.look_around(stepper.now)
    assert stepper.wakes == before + 1


def test_a_bug_where_one_is_looked_at_does_not_stop_the_others(
    stepper: Stepper, caplog: pytest.LogCaptureFixture
) -> None:
    dominoes = [Domino(stepper) for _ in range(3 * SLICE)]
    for each in dominoes:
        each.is_broken = True
        stepper.scheduler.touch(each)
    assert sum(looks_in_each_turn(stepper)) == 3 * SLICE
    assert logged(caplog, log_texts.SESSION_BUG)


def test_while_redis_is_away_others_have_a_turn_after_a_slice_too(stepper: Stepper) -> None:
    stepper.scheduler.failures, stepper.scheduler.next_try = OUTAGE_AFTER, START + 1
    members = [Chatter(stepper).at(START) for _ in range(10 * SLICE)]
    ticked: list[int] = []
    step: Exchange | Pause = Pause(0)
    while step == Pause(0):
        step = next(stepper._plan)
        ticked.append(sum(len(each.ticks) for each in members))
    assert ticked[-1] == len(members)
    assert max(after - before for before, after in itertools.pairwise([0, *ticked])) <= SLICE


def test_a_member_that_becomes_due_sooner_wakes_the_sleeping_loop_and_a_later_one_does_not(stepper: Stepper) -> None:
    member = Chatter(stepper).at(START + 10)
    stepper.run()
    before = stepper.wakes
    Chatter(stepper).at(START + 20)
    assert stepper.wakes == before
    member.at(START + 5)
    assert stepper.wakes == before + 1


def test_nobody_is_woken_while_the_loop_is_awake(stepper: Stepper) -> None:
    other = Chatter(stepper, "b")

    def server(job: Job) -> Outcome:
        if isinstance(job, Command) and job.args[0] == "a":
            other.at(stepper.now)
        return None

    Chatter(stepper).at(START)
    stepper.server = server
    before = stepper.wakes
    stepper.run()
    assert other.received
    assert stepper.wakes == before


def test_a_member_that_is_put_off_is_not_called_before_its_new_time(stepper: Stepper) -> None:
    member = Chatter(stepper).at(START + 1)
    member.due = START + 3
    stepper.advance(2)
    assert member.received == []
    stepper.advance(1)
    assert member.received == ["a"]


def test_rescheduling_for_ever_keeps_the_heap_small(stepper: Stepper) -> None:
    member = Chatter(stepper)
    for i in range(20_000):
        member.due = member.scheduled = NEVER  # as when it was served, with an entry left behind
        member.at(START + 1 + i)
    assert len(stepper.scheduler._heap) < 10 * BATCH
    stepper.advance(30_000)
    assert member.received == ["a"]


def test_a_dropped_member_is_not_called(stepper: Stepper) -> None:
    member = Chatter(stepper).at(START + 1)
    stepper.scheduler.drop(member)
    stepper.advance(5)
    assert member.received == []
    assert not stepper.scheduler.sessions


# --- bugs


def test_one_members_bug_stops_neither_the_others_nor_itself(
    stepper: Stepper, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = Chatter(stepper, "broken").at(START), Chatter(stepper, "sound").at(START)
    broken.error = ZeroDivisionError()
    stepper.run()
    assert sound.received == ["sound"]
    assert logged(caplog, log_texts.SESSION_BUG)
    broken.error = None
    stepper.advance(BUG_PAUSE)
    assert broken.received == ["broken"]


def test_a_session_that_sends_unasked(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A plan that sends without being told that it may is a bug: nothing is sent, and the plan is begun again."""

    class Rude(Chatter):
        begun = 0

        def live(self) -> Life:
            self.begun += 1
            yield Send([Command(("rude",), str)])

    rude = Rude(stepper)
    rude.at(START)
    stepper.advance(BUG_PAUSE)
    assert rude.begun == 2
    assert stepper.kinds() == []
    assert len(caplog.records) == 2


def test_a_bug_in_a_look(stepper: Stepper) -> None:
    """A session whose look raised goes on in a second, although nothing else wakes it."""
    chatter = Chatter(stepper).at(START)
    stepper.run()
    chatter.received.clear()

    def broken(now: float) -> None:
        raise ZeroDivisionError

    chatter.look = broken  # type: ignore[method-assign]
    stepper.scheduler.touch(chatter)
    stepper.scheduler.look_around(stepper.now)
    stepper.advance(BUG_PAUSE)
    assert chatter.received == ["a"]


# --- what asks code that is not ours


class Asking(Chatter):
    """Its call is made late."""

    made = 0

    def say(self) -> PartOfLife[list[Outcome] | None]:
        jobs: list[Job] = [Command((self.name,), str)]
        if not self.is_leaving:
            made = yield DeferredCall(self._make)
            if made is None and not self.is_leaving:
                return None
            if made is not None:
                jobs.insert(0, made)
            if not (yield Rest(self.stepper.now)):
                return None
        outcomes: list[Outcome] | None = yield Send(jobs)
        return outcomes

    def _make(self) -> Any:
        self.made += 1
        return Command((f"asked {self.made}",), str)


class Elsewhere:
    """Another thread, that does what it is given when it is told to."""

    def __init__(self, stepper: Stepper) -> None:
        self.given: list[tuple[Any, Any]] = []
        stepper.scheduler.make_elsewhere = lambda make, then: self.given.append((make, then))

    def go(self) -> None:
        make, then = self.given.pop(0)
        then(make())


def test_the_others_go_on_while_a_call_is_made_and_it_goes_when_it_is_there(stepper: Stepper) -> None:
    elsewhere = Elsewhere(stepper)
    slow, quick = Asking(stepper, "slow", every=1.0).at(START), Chatter(stepper, "quick", every=0.5).at(START)
    stepper.advance(2.6)
    assert (slow.received, len(elsewhere.given)) == ([], 1)  # not asked again before it has answered
    assert len(quick.received) == 6
    elsewhere.go()
    stepper.advance(0)
    assert slow.received == ["asked 1", "slow"]
    assert len(elsewhere.given) == 1  # it was due meanwhile
    elsewhere.go()
    stepper.advance(0.9)
    assert (len(slow.received), elsewhere.given) == (4, [])
    stepper.advance(0.1)
    assert len(elsewhere.given) == 1


def test_where_there_is_no_other_thread_it_is_made_at_once(stepper: Stepper) -> None:
    slow = Asking(stepper, "slow", every=1.0).at(START)
    stepper.advance(2.5)
    assert slow.received == ["asked 1", "slow", "asked 2", "slow", "asked 3", "slow"]
    assert [at for at, _ in stepper.sent] == [START, START, START + 1, START + 1, START + 2, START + 2]


def test_who_leaves_waits_for_nobody_and_what_is_made_then_is_not_sent(stepper: Stepper) -> None:
    elsewhere = Elsewhere(stepper)
    slow = Asking(stepper, "slow", every=1.0).at(START)
    stepper.advance(0.5)
    slow.leave(Closed("consumer"), stepper.now)
    stepper.advance(0.1)
    assert slow.received == ["slow"]
    elsewhere.go()
    stepper.advance(5)
    assert slow.received == ["slow"]
    assert not stepper.scheduler._making


def test_what_was_made_before_an_outage_is_not_sent_after_it(stepper: Stepper) -> None:
    elsewhere = Elsewhere(stepper)
    slow, other = Asking(stepper, "slow", every=0.3).at(START), Chatter(stepper, every=0.1).at(START)
    working, stepper.server = stepper.server, fails(exceptions.ConnectionError("reset"))
    stepper.advance(1)
    assert stepper.scheduler.is_out
    elsewhere.go()
    stepper.advance(1)
    slow.received.clear()
    stepper.server = working
    stepper.advance(2)
    assert other.received
    assert "asked 1" not in slow.received
    elsewhere.go()
    stepper.advance(0)
    assert "asked 2" in slow.received


def test_a_bug_where_a_call_is_made_is_said_and_stops_nobody(
    stepper: Stepper, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Asking):
        def _make(self) -> Any:
            self.made += 1
            if self.made == 1:
                raise ZeroDivisionError
            return super()._make()

    slow, other = Broken(stepper, "slow", every=1.0).at(START), Chatter(stepper, every=1.0).at(START)
    stepper.advance(1.5)
    assert logged(caplog, log_texts.REPORT_BUG)
    assert len(other.received) == 2
    assert slow.received == ["asked 3", "slow"]


# --- errands


def errand(steps: int, done: list[int]) -> Generator[list[Job], list[Outcome], None]:
    for i in range(steps):
        yield [Command((f"step {i}",), str)]
        done.append(i)


def test_one_errand_at_a_time_is_run_beside_the_members(stepper: Stepper) -> None:
    first: list[int] = []
    second: list[int] = []
    Chatter(stepper, "a").at(START)
    run_in_background(stepper.scheduler, errand(3, first))
    run_in_background(stepper.scheduler, errand(3, second))
    stepper.run()
    assert stepper.kinds() == ["a", "step 0", "step 1", "step 2"]
    assert (first, second) == ([0, 1, 2], [])
    assert not stepper.scheduler.sessions - {m for m in stepper.scheduler.sessions if isinstance(m, Chatter)}
    run_in_background(stepper.scheduler, errand(1, second))
    stepper.run()
    assert second == [0]
    run_in_background(stepper.scheduler, errand(0, second))
    stepper.run()
    run_in_background(stepper.scheduler, errand(1, second))
    stepper.run()
    assert second == [0, 0]


def test_an_errand_ends_with_an_outage_and_soon_after_everybody_has_left(stepper: Stepper) -> None:
    done: list[int] = []
    Chatter(stepper, every=0.1).at(START)
    run_in_background(stepper.scheduler, errand(1000, done))
    working, stepper.server = stepper.server, fails(exceptions.ConnectionError("reset"))
    stepper.advance(1)
    assert stepper.scheduler.is_out
    stepper.server = working
    stepper.advance(2)
    assert len(done) < 5
    done.clear()
    run_in_background(stepper.scheduler, errand(1000, done))
    stepper.scheduler.close(Closed("nexus"))
    stepper.run()
    assert stepper.is_over
    assert len(done) <= 2


def test_an_errand_that_waits_for_its_turn_on_the_way_is_nobody_who_leaves(stepper: Stepper) -> None:
    """It was counted among the members from then on, and `close` raised `NotImplementedError`."""
    stepper.delay = 0.2
    chatter = Chatter(stepper).at(START)
    stepper.advance(0.001)
    run_in_background(stepper.scheduler, errand(2, []))
    stepper.advance(0.001)
    assert stepper.kinds() == ["a"]  # another batch was just sent
    stepper.advance(0.1)
    assert stepper.kinds() == ["a", "step 0"]
    assert stepper.scheduler.sessions == {chatter}
    stepper.scheduler.close(Closed("nexus"))
    stepper.advance(2)
    assert stepper.is_over


# --- outage


def test_one_lost_batch_is_no_outage_and_the_second_is(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    Chatter(stepper, every=0.0).at(START)
    stepper.server = fails(exceptions.TimeoutError("no reply"))
    stepper.run()
    assert (stepper.scheduler.failures, stepper.scheduler.is_out) == (1, False)
    stepper.advance(0.2)
    assert stepper.scheduler.failures >= OUTAGE_AFTER
    assert stepper.scheduler.is_out
    assert stepper.scheduler.out_since == START
    assert logged(caplog, log_texts.REDIS_AWAY) == [("TimeoutError: no reply",)]


def test_tries_become_rarer_down_to_one_a_second_and_never_stop(stepper: Stepper) -> None:
    Chatter(stepper, every=0.0).at(START)
    stepper.server = fails(exceptions.ConnectionError("reset"))
    stepper.advance(60)
    times = [at for at, _ in stepper.sent]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] <= 0.1
    assert all(LONGEST_BACKOFF / 2 <= gap <= LONGEST_BACKOFF + 1e-6 for gap in gaps[6:])
    assert len(times) > 55


def test_members_are_ticked_while_redis_is_away_and_called_when_it_is_back(
    stepper: Stepper, caplog: pytest.LogCaptureFixture
) -> None:
    member = Chatter(stepper, every=0.3).at(START)
    stepper.server, working = fails(exceptions.ConnectionError("reset")), stepper.server
    stepper.advance(10)
    assert len(member.ticks) > 5
    stepper.server = working
    stepper.advance(2)
    assert member.received[-1] == "a"
    assert not stepper.scheduler.is_out
    assert stepper.scheduler.out_since == NEVER
    assert logged(caplog, log_texts.REDIS_BACK)


def test_a_refusal_is_an_answer(stepper: Stepper) -> None:
    Chatter(stepper, every=0.1).at(START)
    stepper.server = fails(exceptions.NoPermissionError("no"))
    stepper.advance(3)
    assert stepper.scheduler.failures == 0


def test_one_that_fails_alone_is_no_outage(stepper: Stepper) -> None:
    bad, good = Chatter(stepper, "bad", every=0.1).at(START), Chatter(stepper, "good", every=0.1).at(START)
    error = exceptions.TryAgainError("moving")
    stepper.server = lambda job: error if isinstance(job, Command) and job.args[0] == "bad" else 1
    stepper.advance(1)
    assert stepper.scheduler.failures == 0
    assert isinstance(bad.received[-1], Failed)
    assert bad.received[-1].kind == "TryAgainError"
    assert good.received[-1] == 1


# --- answers that are late


class Patient(Chatter):
    """One that is told what came of its jobs after all."""

    def __init__(self, stepper: Stepper, name: str = "a", every: float = NEVER) -> None:
        super().__init__(stepper, name, every)
        self.late: list[Outcome] = []

    def on_late_answers(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        self.late += outcomes


@pytest.mark.hurried
def test_an_answer_that_is_overdue_is_a_failure_and_one_that_comes_late_an_answer(stepper: Stepper) -> None:
    member = Patient(stepper)
    member.at(START)
    stepper.delay = 0.01
    stepper.advance(1)
    stepper.delay = 0.4
    member.at(stepper.now)
    stepper.advance(0.3)
    assert [type(each) for each in member.received] == [str, Failed]
    assert (stepper.scheduler.failures, stepper.scheduler.is_out) == (1, False)
    stepper.advance(0.2)
    assert member.late == ["a"]
    assert stepper.scheduler.failures == 0


@pytest.mark.hurried
def test_what_hangs_for_ever_is_an_outage_soon(stepper: Stepper) -> None:
    member = Chatter(stepper, every=0.1).at(START)
    stepper.delay = 0.01
    stepper.advance(1)
    stepper.delay = 1e9  # a name that nobody resolves, a cable that is cut
    stepper.advance(1 + 4)
    assert stepper.scheduler.is_out
    assert member.ticks


def test_many_on_their_way_that_fail_together_are_one_failure(stepper: Stepper) -> None:
    member = Chatter(stepper, every=0.1).at(START)
    member.overlaps = True
    stepper.delay = 0.5
    stepper.advance(3)
    assert stepper.scheduler.failures == 0
    stepper.server = fails(exceptions.ConnectionError("reset"))
    stepper.advance(0.45)
    assert stepper.scheduler.failures == 0
    stepper.delay = 1e9
    for at in range(len(stepper._mail)):
        letter = stepper._mail[at]
        stepper._mail[at] = (stepper.now, letter[1], [failed(exceptions.ConnectionError("reset"))])
    stepper.advance(0.01)
    assert (stepper.scheduler.failures, stepper.scheduler.is_out) == (1, False)


def test_a_member_that_waits_for_an_answer_is_not_asked_again_unless_it_says_so(stepper: Stepper) -> None:
    waits, goes_on = Chatter(stepper, "w", every=0.1).at(START), Chatter(stepper, "g", every=0.1).at(START)
    goes_on.overlaps = True
    stepper.delay = 0.55
    stepper.advance(0.5)
    sent = [job.args[0] for _, job in stepper.sent if isinstance(job, Command)]
    assert (sent.count("w"), sent.count("g")) == (1, 5)
    stepper.advance(0.2)
    assert waits.received == ["w"]


# --- closing


def test_closing_lets_everyone_leave_and_ends_the_loop(stepper: Stepper) -> None:
    members = [Chatter(stepper, every=5).at(START + 100) for _ in range(3)]
    stepper.run()
    stepper.scheduler.close(Closed("nexus"))
    stepper.run()
    assert stepper.is_over
    assert [len(member.received) for member in members] == [1, 1, 1]
    assert not stepper.scheduler.sessions


def test_closing_while_the_loop_gives_others_a_turn_leaves_nobody_behind(stepper: Stepper) -> None:
    member = Chatter(stepper).at(START + 60)
    stepper.run()
    stepper.scheduler.in_flight.trip.mean = 0.2  # so far away that connections are made before they are needed
    plan = serve(stepper.scheduler)
    warming = next(plan)
    assert isinstance(warming, Exchange)
    assert not warming.parts
    stepper.now += 0.1
    stepper.scheduler.close(Closed("nexus"))
    goodbye = next(step for step in plan if not isinstance(step, Exchange) or step.parts)
    assert isinstance(goodbye, Exchange)
    assert [each for each, _ in goodbye.parts] == [member]


def test_closing_with_nothing_to_do_ends_the_loop(stepper: Stepper) -> None:
    stepper.run()
    stepper.scheduler.close(Closed("nexus"))
    stepper.run()
    assert stepper.is_over
    assert stepper.sent == []


def test_closing_wakes_the_loop() -> None:
    woken = []
    hub = Scheduler(lambda: START, lambda: woken.append(1))
    hub.close(Closed("nexus"))
    assert woken


# --- forks


def test_in_a_forked_child_the_hub_is_empty_and_knows_nothing_of_redis(stepper: Stepper) -> None:
    member = Chatter(stepper, every=0.0).at(START)
    stepper.server = fails(exceptions.ConnectionError("reset"))
    stepper.advance(3)
    stepper.scheduler.after_fork()
    assert (member.due, member.scheduled) == (NEVER, NEVER)
    assert not stepper.scheduler.sessions
    assert not stepper.scheduler.is_out
    assert stepper.scheduler.next_due() == NEVER


# --- plans on a person's behalf


def test_a_plan_that_gives_up_says_how_long_it_took_with_all_its_calls() -> None:
    now = 100.0

    def run_where_nothing_answers() -> None:
        nonlocal now
        plan = ask([Command(("PING",), str)], "redis.example", patience=1.0)
        step = next(plan)
        while True:  # each call is given up after a quarter of a second
            now += step.seconds if isinstance(step, Pause) else 0.25
            step = plan.send(
                [] if isinstance(step, Pause) else [failed(exceptions.TimeoutError("no reply"), took=0.25)]
            )

    with pytest.raises(Unavailable) as error:
        run_where_nothing_answers()
    assert error.value.waited == pytest.approx(now - 100)
    assert 1 <= now - 100 <= 1.7


def test_a_plan_repeats_what_was_lost_and_gives_up_after_its_patience() -> None:
    waited = 0.0

    def run_on_a_dead_line() -> None:
        nonlocal waited
        plan = ask([Command(("PING",), str)], "redis.example", patience=0.2)
        step = next(plan)
        while True:
            if isinstance(step, Pause):
                waited += step.seconds
            step = plan.send([] if isinstance(step, Pause) else [failed(exceptions.TimeoutError("no reply"))])

    with pytest.raises(Unavailable) as unavailable:
        run_on_a_dead_line()
    assert "redis.example" in unavailable.value.server
    assert waited == pytest.approx(0.35)


def test_a_plan_takes_the_first_answer() -> None:
    plan = ask([Command(("PING",), str)], "redis.example")
    next(plan)
    assert isinstance(plan.send([failed(exceptions.ConnectionError("reset"))]), Pause)
    plan.send([])
    with pytest.raises(StopIteration) as end:
        plan.send(["PONG"])
    assert end.value.value == ["PONG"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.NoPermissionError("no rights"), ServerRefused),
        (exceptions.ResponseError("NEXUS_INVALID_MIN_RATE"), InvalidSetting),
    ],
)
def test_a_plan_does_not_repeat_what_was_refused(error: Exception, expected: type[Exception]) -> None:
    plan = ask([Command(("PING",), str)], "redis.example")
    next(plan)
    with pytest.raises(expected):
        plan.send([failed(error)])


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")

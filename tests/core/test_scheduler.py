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
from nexus_redis._protocol.plans import Command, DeferredCall, Failed, Fault, Job, Outcome, Pause, ask
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


def test_members_are_served_when_due(stepper: Stepper) -> None:
    """Members are served when they are due and not before."""
    first, second = Chatter(stepper, "a").at(START + 1), Chatter(stepper, "b").at(START + 2)
    assert stepper.run() == 1.0
    stepper.advance(1.5)
    assert (first.received, second.received) == (["a"], [])
    stepper.advance(0.5)
    assert second.received == ["b"]
    assert [at for at, _ in stepper.sent] == [START + 1, START + 2]


def test_due_members_share_a_round_trip(stepper: Stepper) -> None:
    """Members that are due together share a round trip, and each gets its own outcomes."""
    members = [Chatter(stepper, f"m{i}").at(START) for i in range(3)]
    stepper.round_trip = 0.01
    stepper.run()
    assert stepper.now == START + 0.01
    assert [member.received for member in members] == [["m0"], ["m1"], ["m2"]]


def test_a_batch_has_a_limit(stepper: Stepper) -> None:
    """A batch has a limit, and the rest goes in the next one."""
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
def test_many_touched_go_by_slices(stepper: Stepper, width: int) -> None:
    """A touch that leads to all members is looked into a slice at a time."""
    dominoes = [Domino(stepper) for _ in range(10 * SLICE)]
    for i, each in enumerate(dominoes):
        each.next = dominoes[width * i + 1 : width * i + 1 + width]
    stepper.scheduler.touch(dominoes[0])
    looks = looks_in_each_turn(stepper)
    assert sum(looks) == 10 * SLICE
    assert max(looks) <= SLICE


def test_leftover_work_wakes_the_loop(stepper: Stepper) -> None:
    """What is left to look at wakes the sleeping loop."""
    stepper.run()
    before = stepper.wakes
    for _ in range(SLICE + 1):
        stepper.scheduler.touch(Domino(stepper))
    stepper.scheduler.look_around(stepper.now)
    assert stepper.wakes == before + 1


def test_a_bug_in_a_look_stops_no_other(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A bug where one member is looked at does not stop the others."""
    dominoes = [Domino(stepper) for _ in range(3 * SLICE)]
    for each in dominoes:
        each.is_broken = True
        stepper.scheduler.touch(each)
    assert sum(looks_in_each_turn(stepper)) == 3 * SLICE
    assert logged(caplog, log_texts.SESSION_BUG, "ERROR")


def test_slices_hold_in_an_outage(stepper: Stepper) -> None:
    """While Redis is away, others have a turn after a slice too."""
    stepper.scheduler.failures, stepper.scheduler.next_try = OUTAGE_AFTER, START + 1
    members = [Chatter(stepper).at(START) for _ in range(10 * SLICE)]
    ticked: list[int] = []
    step: Exchange | Pause = Pause(0)
    while step == Pause(0):
        step = next(stepper._plan)
        ticked.append(sum(len(each.ticks) for each in members))
    assert ticked[-1] == len(members)
    assert max(after - before for before, after in itertools.pairwise([0, *ticked])) <= SLICE


def test_an_earlier_time_wakes_the_loop(stepper: Stepper) -> None:
    """A member that becomes due sooner wakes the sleeping loop, and a later one does not."""
    member = Chatter(stepper).at(START + 10)
    stepper.run()
    before = stepper.wakes
    Chatter(stepper).at(START + 20)
    assert stepper.wakes == before
    member.at(START + 5)
    assert stepper.wakes == before + 1


def test_nobody_is_woken_while_the_loop_is_awake(stepper: Stepper) -> None:
    """Nobody is woken while the loop is awake."""
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


def test_a_delayed_member_is_not_called(stepper: Stepper) -> None:
    """A member that is put off is not called before its new time."""
    member = Chatter(stepper).at(START + 1)
    member.due = START + 3
    stepper.advance(2)
    assert member.received == []
    stepper.advance(1)
    assert member.received == ["a"]


def test_rescheduling_keeps_the_heap_small(stepper: Stepper) -> None:
    """Rescheduling forever keeps the heap small."""
    member = Chatter(stepper)
    for i in range(20_000):
        member.due = member.scheduled = NEVER  # as when it was served, with an entry left behind
        member.at(START + 1 + i)
    assert len(stepper.scheduler._heap) < 10 * BATCH
    stepper.advance(30_000)
    assert member.received == ["a"]


def test_a_dropped_member_is_not_called(stepper: Stepper) -> None:
    """A dropped member is not called."""
    member = Chatter(stepper).at(START + 1)
    stepper.scheduler.drop(member)
    stepper.advance(5)
    assert member.received == []
    assert not stepper.scheduler.sessions


# --- bugs


def test_a_bug_stops_no_member(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """The bug of one member stops neither the others nor itself."""
    broken, sound = Chatter(stepper, "broken").at(START), Chatter(stepper, "sound").at(START)
    broken.error = ZeroDivisionError()
    stepper.run()
    assert sound.received == ["sound"]
    assert logged(caplog, log_texts.SESSION_BUG, "ERROR")
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


def test_a_deferred_call_delays_nobody(stepper: Stepper) -> None:
    """The others go on while a call is made, and it is sent when it is there."""
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


def test_without_a_thread_it_is_made_at_once(stepper: Stepper) -> None:
    """Where there is no other thread, the call is made at once."""
    slow = Asking(stepper, "slow", every=1.0).at(START)
    stepper.advance(2.5)
    assert slow.received == ["asked 1", "slow", "asked 2", "slow", "asked 3", "slow"]
    assert [at for at, _ in stepper.sent] == [START, START, START + 1, START + 1, START + 2, START + 2]


def test_leaving_drops_deferred_calls(stepper: Stepper) -> None:
    """A member that leaves waits for nobody, and a call that is made then is not sent."""
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


def test_calls_from_before_an_outage_are_dropped(stepper: Stepper) -> None:
    """A call that was made before an outage is not sent after it."""
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


def test_a_bug_in_making_is_logged(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A bug where a call is made is logged and stops nobody."""

    class Broken(Asking):
        def _make(self) -> Any:
            self.made += 1
            if self.made == 1:
                raise ZeroDivisionError
            return super()._make()

    slow, other = Broken(stepper, "slow", every=1.0).at(START), Chatter(stepper, every=1.0).at(START)
    stepper.advance(1.5)
    assert logged(caplog, log_texts.REPORT_BUG, "ERROR")
    assert len(other.received) == 2
    assert slow.received == ["asked 3", "slow"]


# --- errands


def errand(steps: int, done: list[int]) -> Generator[list[Job], list[Outcome], None]:
    for i in range(steps):
        yield [Command((f"step {i}",), str)]
        done.append(i)


def test_errands_run_one_at_a_time(stepper: Stepper) -> None:
    """One errand at a time is run beside the members."""
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


def test_an_errand_ends_with_an_outage(stepper: Stepper) -> None:
    """An errand ends with an outage, and soon after everybody has left."""
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


def test_an_errand_is_not_a_member(stepper: Stepper) -> None:
    """An errand that waits for its turn is not a member that leaves.

    It was counted among the members from then on, and `close` raised `NotImplementedError`.
    """
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


def test_two_lost_batches_are_an_outage(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """One lost batch is not an outage, and the second one is."""
    Chatter(stepper, every=0.0).at(START)
    stepper.server = fails(exceptions.TimeoutError("no reply"))
    stepper.run()
    assert (stepper.scheduler.failures, stepper.scheduler.is_out) == (1, False)
    stepper.advance(0.2)
    assert stepper.scheduler.failures >= OUTAGE_AFTER
    assert stepper.scheduler.is_out
    assert stepper.scheduler.out_since == START
    assert logged(caplog, log_texts.REDIS_AWAY) == [("TimeoutError: no reply",)]


def test_tries_slow_to_one_a_second(stepper: Stepper) -> None:
    """Tries become rarer down to one a second, and never stop."""
    Chatter(stepper, every=0.0).at(START)
    stepper.server = fails(exceptions.ConnectionError("reset"))
    stepper.advance(60)
    times = [at for at, _ in stepper.sent]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps[0] <= 0.1
    assert all(LONGEST_BACKOFF / 2 <= gap <= LONGEST_BACKOFF + 1e-6 for gap in gaps[6:])
    assert len(times) > 55


def test_members_tick_through_an_outage(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """Members are ticked while Redis is away, and called when it is back."""
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
    """A refusal is an answer."""
    Chatter(stepper, every=0.1).at(START)
    stepper.server = fails(exceptions.NoPermissionError("no"))
    stepper.advance(3)
    assert stepper.scheduler.failures == 0


def test_one_that_fails_alone_is_no_outage(stepper: Stepper) -> None:
    """One call that fails alone is not an outage."""
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
def test_an_overdue_answer_may_still_come(stepper: Stepper) -> None:
    """An answer that is overdue is a failure, and an answer that comes late is an answer."""
    member = Patient(stepper)
    member.at(START)
    stepper.delay = 0.01
    stepper.advance(1)
    stepper.delay = 0.4
    member.at(stepper.now)
    stepper.advance(0.3)
    answer, lost = member.received
    assert isinstance(answer, str)
    assert isinstance(lost, Failed)
    assert lost.fault is Fault.REPLY_LOST  # the claim may have been executed, so the same one is sent again
    assert (stepper.scheduler.failures, stepper.scheduler.is_out) == (1, False)
    stepper.advance(0.2)
    assert member.late == ["a"]
    assert stepper.scheduler.failures == 0


@pytest.mark.hurried
def test_a_hanging_call_is_an_outage_soon(stepper: Stepper) -> None:
    """A call that hangs forever is an outage soon."""
    member = Chatter(stepper, every=0.1).at(START)
    stepper.delay = 0.01
    stepper.advance(1)
    stepper.delay = 1e9  # a name that nobody resolves, a cable that is cut
    stepper.advance(1 + 4)
    assert stepper.scheduler.is_out
    assert member.ticks


def test_failing_together_is_one_failure(stepper: Stepper) -> None:
    """Many calls in flight that fail together are one failure."""
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


def test_a_member_asks_once(stepper: Stepper) -> None:
    """A member that waits for an answer is not asked again unless it says so."""
    waits, goes_on = Chatter(stepper, "w", every=0.1).at(START), Chatter(stepper, "g", every=0.1).at(START)
    goes_on.overlaps = True
    stepper.delay = 0.55
    stepper.advance(0.5)
    sent = [job.args[0] for _, job in stepper.sent if isinstance(job, Command)]
    assert (sent.count("w"), sent.count("g")) == (1, 5)
    stepper.advance(0.2)
    assert waits.received == ["w"]


# --- closing


def test_closing_ends_the_loop(stepper: Stepper) -> None:
    """Closing lets every member leave and ends the loop."""
    members = [Chatter(stepper, every=5).at(START + 100) for _ in range(3)]
    stepper.run()
    stepper.scheduler.close(Closed("nexus"))
    stepper.run()
    assert stepper.is_over
    assert [len(member.received) for member in members] == [1, 1, 1]
    assert not stepper.scheduler.sessions


def test_closing_leaves_nobody_behind(stepper: Stepper) -> None:
    """Closing while the loop gives others a turn leaves nobody behind."""
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
    """Closing with nothing to do ends the loop."""
    stepper.run()
    stepper.scheduler.close(Closed("nexus"))
    stepper.run()
    assert stepper.is_over
    assert stepper.sent == []


def test_closing_wakes_the_loop() -> None:
    """Closing wakes the loop."""
    woken = []
    hub = Scheduler(lambda: START, lambda: woken.append(1))
    hub.close(Closed("nexus"))
    assert woken


# --- forks


def test_a_fork_empties_the_scheduler(stepper: Stepper) -> None:
    """In a forked child the scheduler is empty and knows nothing of Redis."""
    member = Chatter(stepper, every=0.0).at(START)
    stepper.server = fails(exceptions.ConnectionError("reset"))
    stepper.advance(3)
    stepper.scheduler.after_fork()
    assert (member.due, member.scheduled) == (NEVER, NEVER)
    assert not stepper.scheduler.sessions
    assert not stepper.scheduler.is_out
    assert stepper.scheduler.next_due() == NEVER


# --- plans on a person's behalf


def test_giving_up_tells_the_time() -> None:
    """A plan that gives up says how long it took with all its calls."""
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


def test_a_plan_repeats_and_gives_up() -> None:
    """A plan repeats the calls that were lost, and gives up after its patience."""
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
    """A plan takes the first answer."""
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
    """A plan does not repeat a call that was refused."""
    plan = ask([Command(("PING",), str)], "redis.example")
    next(plan)
    with pytest.raises(expected):
        plan.send([failed(error)])


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")

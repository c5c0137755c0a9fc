"""What a consumer measures and says, stepped by hand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import queue
from contextlib import suppress
from typing import Any

import pytest
from redis import exceptions

from nexus_redis._core.busy_time import Moment
from nexus_redis._core.consumer import ConsumerSession, ReportRequest
from nexus_redis._core.latencies import PERCENTILES
from nexus_redis._core.meter import Meter, Work
from nexus_redis._core.meter import Outcome as End
from nexus_redis._core.registration import Registration
from nexus_redis._protocol.calls import REPORTED, Configured, Standing
from nexus_redis._protocol.plans import Call, Job, Outcome
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.settings import BudgetSettings, ConsumerSettings
from nexus_redis.errors import Closed, InvalidSetting, Unavailable
from tests.harness.logged import logged
from tests.harness.refusals import refusal
from tests.harness.stepping import KEYS, START, Line, Stepper, fails, kind_of

STANDING = Standing(100.0, 400.0, 100.0, 2, 95.0, "1", "range", "load")


class Asking(ReportRequest):
    """A ticket that counts how often it was woken."""

    __slots__ = ("woken",)

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(since, pause_ms)
        self.woken = 0
        self.wake = self._count

    def _count(self) -> None:
        self.woken += 1


@pytest.fixture
def stepper() -> Stepper:
    stepper = Stepper()
    stepper.server = serving()
    return stepper


def serving(report: Outcome = STANDING, **others: Outcome) -> Any:
    """A server that answers reports with `report`, and remembers them as (fields, incarnation, seq) in `said`."""

    def serve(job: Job) -> Outcome:
        name = kind_of(job)
        if name == "report":
            return report() if callable(report) else report
        return others.get(name, Configured(100.0, 0, "load", "1", (), ()) if name == "configure" else True)

    return serve


def reporter(stepper: Stepper, id: str | None = "es-1", **settings: Any) -> ConsumerSession:
    opening = Registration(KEYS, BudgetSettings.of(**settings.pop("budget", {})))
    return ConsumerSession(stepper.scheduler, KEYS, id, ConsumerSettings.of(**settings), opening)


def reports(stepper: Stepper) -> list[dict[str, str]]:
    """What was said, by field."""
    said = []
    for _, job in stepper.sent:
        if isinstance(job, Call) and job.script.name == "report":
            texts = [str(word) for word in job.args]
            said.append(
                {"id": job.keys[-1], "incarnation": texts[1], "seq": texts[2]}
                | dict(zip(REPORTED, texts[3:], strict=False))
            )
    return said


def report_now(reporter: ConsumerSession, pause_ms: float | None = None, **said: float) -> Asking:
    reporter.meter.say(said)
    ticket = Asking(reporter.scheduler.clock(), pause_ms)
    reporter.ask(ticket)
    return ticket


# --- the meter


def test_a_meter_counts_work() -> None:
    """A meter counts the work that began, ended and failed."""
    meter = Meter(None)
    five, three = meter.begin(5, 0.9), meter.begin(3, 0.9)
    assert meter.sample() == {"done": 0, "errors": 0, "in_flight": 8}
    ended(meter, 5, five, 1.0)
    ended(meter, 3, three, 1.0, End.FAILED)
    assert meter.sample() == {"done": 5, "errors": 3, "in_flight": 0, "latency_ms": pytest.approx(100, rel=0.02)}


def ended(meter: Meter, tokens: float, since: Moment, now: float, outcome: End = End.DONE) -> None:
    """A piece of work of one outcome, from that moment on."""
    if outcome is End.DONE:
        meter.finish(tokens, now - since.at, since, now)
    else:
        meter.give_up(tokens, outcome)
    meter.end(outcome, now - since.at, now)


def worked(meter: Meter, seconds: float, until: float, outcome: End = End.DONE) -> None:
    """One token's work of one outcome."""
    ended(meter, 1, meter.begin(1, until - seconds), until, outcome)


def timed(*durations: float, now: float = 1.0) -> Meter:
    """A meter that has seen work of these durations end."""
    meter = Meter(None)
    for seconds in durations:
        worked(meter, seconds, now)
    return meter


@pytest.mark.parametrize("share", [0.005, 0.05, 0.2, 0.45])
def test_few_long_requests_hide_in_the_latency(share: float) -> None:
    """A few long requests leave the latency as it is."""
    long = round(1000 * share)
    said = timed(*[0.005] * (1000 - long), *[30.0] * long).sample()
    assert [said[name] for name in PERCENTILES] == [pytest.approx(5, rel=0.02)] * 3


def test_the_latency_is_three_percentiles() -> None:
    """The latency is three percentiles."""
    said = timed(*(n / 1000 for n in range(1, 101))).sample()
    assert said["latency_ms"] == pytest.approx(51, rel=0.02)
    assert said["latency_p25_ms"] == pytest.approx(26, rel=0.02)
    assert said["latency_p10_ms"] == pytest.approx(11, rel=0.05)


def test_few_pieces_have_no_percentiles() -> None:
    """Few pieces of work have no lower percentiles."""
    assert set(timed(*[0.1] * 19).sample()) == {"done", "errors", "in_flight", "latency_ms"}
    assert "latency_p10_ms" in timed(*[0.1] * 20).sample()


def test_the_latency_is_that_of_the_last_second() -> None:
    """The latency is that of the last second."""
    meter = timed(*[0.1] * 100, now=1.0)
    for _ in range(100):
        worked(meter, 0.2, 3.0)
    assert meter.sample()["latency_p10_ms"] == pytest.approx(200, rel=0.02)


def test_rare_work_has_the_last_twenty() -> None:
    """Where little is done, the latency is that of the last twenty."""
    meter = Meter(None)
    for second in range(60):
        worked(meter, 0.1 if second < 40 else 0.2, float(second))
    assert meter.sample()["latency_p10_ms"] == pytest.approx(200, rel=0.02)
    for second in range(60, 66):
        worked(meter, 0.4, float(second))
    said = meter.sample()
    assert said["latency_p10_ms"] == pytest.approx(200, rel=0.02)
    assert said["latency_ms"] == pytest.approx(200, rel=0.02)


def test_work_that_failed_is_not_timed() -> None:
    """Work that failed is not timed."""
    meter = timed(*[0.1] * 20)
    for _ in range(100):
        worked(meter, 0.001, 1.0, End.FAILED)
    assert meter.sample()["latency_p10_ms"] == pytest.approx(100, rel=0.02)


def test_an_unused_meter_has_done_nothing() -> None:
    """A meter that was not used yet has done nothing so far."""
    nothing = {"done": 0, "errors": 0, "in_flight": 0}
    assert Meter(None).sample() == nothing
    assert Meter(400).sample() == nothing | {"capacity": 400}


def test_a_told_load_leaves_done_out() -> None:
    """A meter that is told how full it is does not say that it has done nothing."""
    meter = Meter(None)
    meter.say({"load": 50})
    assert meter.sample() == {"load": 50}


def test_a_value_by_hand_stays_and_wins() -> None:
    """A value that was reported by hand stays, and wins over a measured one."""
    meter = Meter(400)
    meter.begin(1, 0.0)
    meter.say({"load": 95, "in_flight": 7})
    meter.say({"capacity": 500})
    assert meter.sample() == {"done": 0, "errors": 0, "in_flight": 7, "capacity": 500, "load": 95}


@pytest.mark.parametrize("make", [queue.Queue, asyncio.Queue])
def test_a_watched_queue_tells_depth_and_limit(make: Any) -> None:
    """A watched queue tells its depth and its limit."""
    meter, watched = Meter(None), make(maxsize=10)
    meter.watch(watched)
    watched.put_nowait("work")
    assert meter.sample() == {"done": 0, "errors": 0, "in_flight": 0, "queue_depth": 1, "queue_limit": 10}


def test_an_unbounded_queue_has_no_limit() -> None:
    """An unbounded queue has no limit."""
    meter = Meter(None)
    meter.watch(queue.Queue())
    assert "queue_limit" not in meter.sample()


def test_the_first_work_is_reported_at_once(stepper: Stepper) -> None:
    """The first work is reported at once, and the next work with its report."""
    said: list[str] = []

    def serve(job: Job) -> Outcome:
        if isinstance(job, Call) and job.script.name == "report":
            said.append(str(job.args[3 + REPORTED.index("in_flight")]))
            return STANDING
        return serving()(job)

    stepper.server = serve
    consumer = reporter(stepper)
    consumer.meter.watch(queue.Queue(maxsize=5))
    consumer.start()
    stepper.advance(0.1)
    assert said == ["0"]
    for _ in range(3):
        consumer.meter.begin(1, 0.0)
        consumer.start()
        stepper.advance(0.01)
    assert said == ["0", "1"]
    stepper.advance(0.3)
    assert said[-1] == "3"


def test_a_passed_number_begins_a_new_life(stepper: Stepper) -> None:
    """A consumer whose number was passed begins a new life.

    Otherwise each report to come would be as stale as this one.
    """
    said: list[tuple[str, str]] = []

    def serve(job: Job) -> Outcome:
        if isinstance(job, Call) and job.script.name == "report":
            args = job.args
            said.append((str(args[1]), str(args[2])))
            return exceptions.ResponseError("NEXUS_STALE") if len(said) == 2 else STANDING
        return serving()(job)

    stepper.server = serve
    consumer = reporter(stepper)
    consumer.meter.say({"load": 5.0})
    consumer.start()
    stepper.advance(0.6)
    (first, one), (again, two), (new, fresh), *_ = said
    assert (first, one, two) == (again, "1", "2")
    assert new != first
    assert fresh == "1"


def test_a_lost_leaving_is_repeated(stepper: Stepper) -> None:
    """A deregistration that was lost is sent again."""
    lost = [exceptions.TimeoutError("lost")]
    consumer = reporter(stepper)
    report_now(consumer, load=5.0)
    stepper.advance(0.05)
    stepper.server = lambda job: (lost.pop() if lost else True) if kind_of(job) == "leave" else serving()(job)
    consumer.leave(Closed("consumer"), stepper.now)
    stepper.advance(0.2)
    assert stepper.kinds().count("leave") == 2


def test_a_callable_and_a_limit_are_watched_too() -> None:
    """A callable and a limit are watched too."""
    meter = Meter(None)
    meter.watch(depth=lambda: 3, limit=50)
    assert (meter.sample()["queue_depth"], meter.sample()["queue_limit"]) == (3, 50)


@pytest.mark.parametrize("watched", [object(), None, 5])
def test_an_unwatchable_queue_is_refused(watched: object) -> None:
    """What cannot be watched is refused with the remedy."""
    with pytest.raises(InvalidSetting) as refused:
        Meter(None).watch(watched)
    assert refused.value.remedy == error_texts.NOT_A_QUEUE


def test_a_failing_queue_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A queue that raises is left out and logged once."""
    meter = Meter(None)
    meter.watch(depth=lambda: 1 / 0, limit=5)
    for _ in range(3):
        assert meter.sample() == {"done": 0, "errors": 0, "in_flight": 0}
    assert len(logged(caplog, log_texts.QUEUE_UNREADABLE, "ERROR")) == 1


def test_a_queue_is_asked_with_no_lock_held() -> None:
    """A queue is asked with no lock held."""
    meter = Meter(None)

    def depth() -> float:
        meter.begin(1, 0.0)  # what a queue's own code may do
        return 1

    meter.watch(depth=depth)
    assert meter.sample()["queue_depth"] == 1


def test_work_is_in_flight_or_an_error() -> None:
    """Work is in flight while it lasts, and an error when it raises."""
    meter, starts = Meter(None), []
    with Work(meter, 4, lambda: starts.append(1), lambda: 0.0):
        assert meter.sample()["in_flight"] == 4
    with suppress(KeyError), Work(meter, 2, lambda: starts.append(1), lambda: 0.0):
        raise KeyError
    said = meter.sample()
    assert (said["done"], said["errors"], said["in_flight"]) == (4, 2, 0)
    assert len(starts) == 2


class Left(BaseException):
    """As trio's and anyio's Cancelled: no Exception."""


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), concurrent.futures.CancelledError(), GeneratorExit(), KeyboardInterrupt(), Left(),
     BaseExceptionGroup("", [asyncio.CancelledError(), Left()])],
)  # fmt: skip
def test_cancelled_work_is_not_timed(error: BaseException) -> None:
    """Cancelled work is neither done nor an error, and is not timed."""
    meter, now = Meter(None), iter([0.0, 5.0])
    with suppress(BaseException), Work(meter, 2, lambda: None, lambda: next(now)):
        raise error
    assert meter.sample() == {"done": 0, "errors": 0, "in_flight": 0, "cancelled": 2}


@pytest.mark.parametrize(("given_up", "latency"), [(10, 20), (400, 1000)])
def test_abandoned_work_counts_when_long(given_up: int, latency: float) -> None:
    """Work that is given up counts with the time that it got, where that is longer than usual."""
    meter = timed(*[0.02] * 100)
    assert meter.sample()["latency_ms"] == pytest.approx(20, rel=0.02)
    for _ in range(given_up):
        worked(meter, 0.001, 1.5, End.CANCELLED)
        worked(meter, 1.0, 1.5, End.CANCELLED)
    assert meter.sample()["latency_ms"] == pytest.approx(latency, rel=0.02)


@pytest.mark.parametrize("error", [KeyError(), TimeoutError(), BaseExceptionGroup("", [Left(), KeyError()])])
def test_failures_beside_a_cancellation_count(error: BaseException) -> None:
    """What fails beside something cancelled is an error."""
    meter = Meter(None)
    with suppress(BaseException), Work(meter, 2, lambda: None, lambda: 0.0):
        raise error
    assert meter.sample() == {"done": 0, "errors": 2, "in_flight": 0}


@pytest.mark.parametrize(
    ("tell", "done", "errors"),
    [
        (lambda work: work.failed(3), 497, 3),
        (lambda work: work.done(497), 497, 3),
        (lambda work: (work.failed(3), work.done(90)), 90, 410),
        (lambda work: (work.failed(3), work.failed(0.5)), 496.5, 3.5),
        (lambda work: (work.done(200), work.done(300)), 500, 0),
        (lambda work: work.failed(500), 0, 500),
        (lambda work: work.done(0), 0, 500),
    ],
)
def test_a_bulk_has_failed_parts(tell: Any, done: float, errors: float) -> None:
    """A bulk says which part of it failed."""
    meter = Meter(None)
    with Work(meter, 500, lambda: None, lambda: 0.0) as work:
        tell(work)
    said = meter.sample()
    assert (said["done"], said["errors"], said["in_flight"]) == (done, errors, 0)
    assert ("latency_ms" in said) == (done > 0)


def test_a_bulk_counts_at_once() -> None:
    """What a bulk states counts at once, and an error fails the rest of the bulk."""
    meter = Meter(None)
    with suppress(KeyError), Work(meter, 500, lambda: None, lambda: 0.0) as work:
        work.done(100)
        assert meter.sample() == {"done": 100, "errors": 0, "in_flight": 400}
        raise KeyError
    assert {"done": 100, "errors": 400, "in_flight": 0}.items() <= meter.sample().items()


@pytest.mark.parametrize(("name", "tokens"), [("failed", 11), ("done", 10.1), ("failed", -1), ("done", float("nan"))])
def test_more_than_the_bulk_is_refused(name: str, tokens: float) -> None:
    """More than the whole bulk is refused and changes nothing."""
    meter = Meter(None)
    with Work(meter, 10, lambda: None, lambda: 0.0) as work:
        assert refusal(lambda: getattr(work, name)(tokens))[0] == name
    assert meter.sample()["done"] == 10


# --- the reporter


@pytest.mark.parametrize("capacity", [None, 400])
def test_an_idle_consumer_reports(stepper: Stepper, capacity: float | None) -> None:
    """A consumer reports from the moment at which it is started, whether it works or not."""
    reporter(stepper, capacity=capacity).start()
    stepper.advance(0.001)
    (first,) = reports(stepper)
    assert (first["done"], first["errors"], first["in_flight"]) == ("0", "0", "0")
    assert first["capacity"] == ("" if capacity is None else "400")
    stepper.advance(10)
    assert len(reports(stepper)) == 41


def test_a_busy_consumer_reports(stepper: Stepper) -> None:
    """A consumer at work reports each interval."""
    consumer = reporter(stepper, interval=0.5)
    consumer.meter.begin(1, 0.0)
    consumer.start()
    stepper.advance(5)
    said = reports(stepper)
    assert len(said) == 11
    assert [int(report["seq"]) for report in said] == list(range(1, 12))
    assert len({report["incarnation"] for report in said}) == 1
    assert said[0]["interval_ms"] == "500"


@pytest.mark.parametrize("use", [lambda meter: meter.begin(1, 0.0), lambda meter: meter.watch(queue.Queue())])
def test_the_first_use_is_reported_at_once(stepper: Stepper, use: Any) -> None:
    """The first use of an idle consumer is reported at once."""
    consumer = reporter(stepper)
    consumer.start()
    stepper.advance(3.1)
    before = len(reports(stepper))
    use(consumer.meter)
    consumer.start()
    stepper.advance(0.01)
    assert len(reports(stepper)) == before + 1


def test_a_report_by_hand_is_sent_at_once(stepper: Stepper) -> None:
    """A report by hand is sent at once, and its answer is the present rate."""
    consumer = reporter(stepper, capacity=400)
    ticket = report_now(consumer, load=95)
    stepper.run()
    assert ticket.standing is STANDING
    assert ticket.woken == 1
    assert (reports(stepper)[0]["load"], reports(stepper)[0]["capacity"]) == ("95", "400")


def test_the_last_of_several_pauses_counts(stepper: Stepper) -> None:
    """The last of several pauses counts."""
    consumer = reporter(stepper, capacity=400)
    tickets = [report_now(consumer, 30_000, load=5), report_now(consumer, 0.0), report_now(consumer)]
    sent: list[str] = []

    def serve(job: Job) -> Outcome:
        if isinstance(job, Call) and job.script.name == "report":
            sent.append(str(job.args[3 + REPORTED.index("pause_ms")]))
            return STANDING
        return True

    stepper.server = serve
    stepper.advance(0.3)
    assert all(ticket.standing for ticket in tickets)
    assert sent == ["0", ""]  # said once


def test_settings_go_before_the_first_report(stepper: Stepper) -> None:
    """The settings in code are told before the first report."""
    consumer = reporter(stepper, capacity=400, budget={"law": "range"})
    ticket = report_now(consumer, load=95)
    stepper.run()
    assert stepper.kinds() == ["configure", "EVAL", "report"]
    assert ticket.standing is STANDING


def test_a_refused_report_is_raised_and_logged(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A report that is refused is raised to the caller who asked, and logged once."""
    consumer = reporter(stepper)
    stepper.server = serving(exceptions.ResponseError("NEXUS_NO_LAW"))
    ticket = report_now(consumer, load=95)
    stepper.advance(3)
    assert isinstance(ticket.error, InvalidSetting)
    assert ticket.woken == 1
    assert len(logged(caplog, log_texts.REPORT_REFUSED)) == 1
    assert len(reports(stepper)) > 5  # the next one may be accepted


def test_a_refused_value_is_not_repeated(stepper: Stepper) -> None:
    """A value that was refused for itself is not reported again.

    A limit of 0 is a slip, and must not take the consumer out with every report that follows.
    """
    consumer = reporter(stepper)
    stepper.server = serving(STANDING)
    report_now(consumer, load=10, capacity=100)
    stepper.advance(1)
    stepper.server = serving(exceptions.ResponseError("NEXUS_INVALID_QUEUE_LIMIT"))
    ticket = report_now(consumer, queue_limit=0, queue_depth=0)
    stepper.advance(0.1)
    assert isinstance(ticket.error, InvalidSetting)
    stepper.server = serving(STANDING)
    stepper.advance(1)
    assert consumer.meter.sample() == {"load": 10, "capacity": 100}


def test_news_outlives_a_refused_report(stepper: Stepper) -> None:
    """What was stated after a report outlives the refusal of that report."""
    consumer = reporter(stepper)

    def refuse() -> Outcome:
        stepper.server = serving(STANDING)
        consumer.meter.say({"queue_limit": 50})  # put right before the answer has come
        return exceptions.ResponseError("NEXUS_INVALID_QUEUE_LIMIT")

    stepper.server = serving(refuse)
    report_now(consumer, queue_limit=0, queue_depth=5)
    stepper.advance(1)
    assert consumer.meter.sample() == {"queue_limit": 50, "queue_depth": 5}


def test_a_lost_answer_is_replaced(stepper: Stepper) -> None:
    """A caller who waits for an answer that was lost gets the next answer."""
    consumer = reporter(stepper, capacity=400)
    answers = iter([exceptions.TimeoutError("no reply")])
    stepper.server = serving(lambda: next(answers, STANDING))
    ticket = report_now(consumer, load=95)
    stepper.advance(0.3)
    assert ticket.standing is STANDING


def test_an_outage_is_unavailable(stepper: Stepper) -> None:
    """While Redis is away, a caller who asks gets `Unavailable`."""
    consumer = reporter(stepper, capacity=400)
    stepper.server = fails(exceptions.ConnectionError("reset"))
    ticket = report_now(consumer, load=95)
    stepper.advance(2)
    assert isinstance(ticket.error, Unavailable)
    assert ticket.woken == 1
    later = report_now(consumer)
    stepper.advance(1.2)
    assert isinstance(later.error, Unavailable)
    stepper.server = serving()
    stepper.advance(2)
    assert reports(stepper)[-1]["load"] == "95"
    assert consumer.standing is STANDING


def test_a_taken_id_goes_on_with_a_suffix(stepper: Stepper, caplog: pytest.LogCaptureFixture) -> None:
    """A taken id goes on with a suffix."""
    consumer = reporter(stepper, "es-1", capacity=400)
    answers = iter([exceptions.ResponseError("NEXUS_ID_TAKEN")])
    stepper.server = serving(lambda: next(answers, STANDING))
    ticket = report_now(consumer, load=95)
    stepper.run()
    assert ticket.standing is STANDING
    assert len(consumer.id) == len("es-1.") + 4
    assert consumer.id.startswith("es-1.")
    assert logged(caplog, log_texts.CONSUMER_ID_TAKEN) == [("stripe", "es-1", consumer.id)]


def test_a_later_report_makes_an_incarnation(stepper: Stepper) -> None:
    """A report that is later than ours makes a new incarnation."""
    consumer = reporter(stepper, capacity=400)
    answers = iter([exceptions.ResponseError("NEXUS_STALE")])
    stepper.server = serving(lambda: next(answers, STANDING))
    ticket = report_now(consumer, load=95)
    stepper.run()
    assert ticket.standing is STANDING


# --- leaving


def test_leaving_ends_the_reports(stepper: Stepper) -> None:
    """Leaving withdraws the consumer and ends its reports."""
    consumer, leaver = reporter(stepper, capacity=400), Line(0, START)
    report_now(consumer, load=95)
    stepper.run()
    consumer.leave(Closed("consumer"), stepper.now, leaver)
    stepper.advance(5)
    assert stepper.kinds()[-1] == "leave"
    assert leaver.woken == 1
    assert not stepper.scheduler.sessions


@pytest.mark.parametrize("closes", [True, False])
def test_leaving_while_the_depth_is_asked_for(stepper: Stepper, closes: bool) -> None:
    """A user's function that has not answered holds up no goodbye, neither of the consumer nor of the nexus."""
    consumer = reporter(stepper, capacity=400, interval=4)
    report_now(consumer, load=95)
    stepper.run()
    stepper.scheduler.make_elsewhere = lambda _make, _then: None  # it never answers
    consumer.meter.watch(depth=lambda: 1.0, limit=10)
    stepper.advance(4.5)
    if closes:
        stepper.scheduler.close(Closed("nexus"))
    else:
        consumer.leave(Closed("consumer"), stepper.now)
    stepper.run()
    assert stepper.kinds()[-1] == "leave"


def test_no_report_follows_the_leaving(stepper: Stepper) -> None:
    """No report follows the deregistration, even if one was in flight."""
    consumer, leaver = reporter(stepper, capacity=400), Line(0, START)

    def report() -> Outcome:
        consumer.leave(Closed("consumer"), stepper.now, leaver)
        return exceptions.TimeoutError("no reply")  # perhaps it was heard: so goodbye must be said

    stepper.server = serving(report)
    ticket = report_now(consumer, load=95)
    stepper.advance(5)
    assert stepper.kinds() == ["report", "EVAL", "leave"]
    assert isinstance(ticket.error, Closed)
    assert leaver.woken == 1


def test_leaving_without_a_report_needs_no_call(stepper: Stepper) -> None:
    """Leaving without a report needs no call."""
    consumer, leaver = reporter(stepper, capacity=400), Line(0, START)
    consumer.start()
    consumer.leave(Closed("consumer"), stepper.now, leaver)
    stepper.advance(5)
    assert stepper.sent == []
    assert leaver.woken == 1


def test_leaving_fails_who_waits_for_an_answer(stepper: Stepper) -> None:
    """Leaving fails the callers who wait for an answer."""
    consumer = reporter(stepper, capacity=400)
    ticket = report_now(consumer, load=95)
    consumer.leave(Closed("consumer"), stepper.now)
    assert isinstance(ticket.error, Closed)
    assert ticket.woken == 1


def test_a_failed_leaving_is_not_waited_for(stepper: Stepper) -> None:
    """No caller waits for a deregistration that cannot be sent."""
    consumer, leaver = reporter(stepper, capacity=400), Line(0, START)
    report_now(consumer, load=95)
    stepper.run()
    stepper.server = fails(exceptions.ConnectionError("reset"))
    consumer.leave(Closed("consumer"), stepper.now, leaver)
    stepper.advance(1)
    assert leaver.woken == 1
    assert not stepper.scheduler.sessions


def test_a_fork_makes_another_consumer(stepper: Stepper) -> None:
    """In a forked child a consumer is another one, and silent."""
    consumer = reporter(stepper, capacity=400)
    report_now(consumer, load=95)
    stepper.run()
    parents = reports(stepper)[0]["incarnation"]
    stepper.scheduler.after_fork()
    stepper.sent = []
    stepper.advance(5)
    assert stepper.sent == []
    report_now(consumer, load=10)
    stepper.advance(1)
    assert {report["incarnation"] for report in reports(stepper)}.isdisjoint({parents})


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")

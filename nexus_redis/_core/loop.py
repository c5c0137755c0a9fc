"""The loop of a scheduler: resume the sessions that are due, send a batch to each server, deliver the outcomes. No I/O.

    due sessions -> their jobs -> a pipelined batch for each server -> outcomes back to each -> pause

A driver runs `serve`, holding the scheduler's lock: it carries each batch that the generator yields, and sleeps where
it yields a `Pause`. It answers a batch with its outcomes, or with None and delivers them when they are there. Meanwhile
the loop goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from nexus_redis._core.reachability import Reachability
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import SLICE, Scheduler
from nexus_redis._core.session import Rest, Send, Session
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import DeferredCall, Done, Failed, Fault, Outcome, Pause, is_unanswered, step
from nexus_redis._values import error_texts
from nexus_redis.errors import NexusError

Loop = Generator[Exchange | Pause, list[Outcome] | None, None]
Parts = list[tuple[Session, Send]]


def serve(scheduler: Scheduler) -> Loop:
    """Run until the scheduler is closing, nothing is left to send and no answer is waited for."""
    while True:
        now = scheduler.clock()
        yield from _give_up(scheduler, now)
        scheduler.look_around(now)
        scheduler.unblock()
        yield from _warm(scheduler, now)
        now = scheduler.clock()  # others had a turn meanwhile, and what they made due is not to be left behind
        sessions = scheduler.take_due(now)
        if not sessions and scheduler.is_behind:
            yield Pause(0)
            scheduler.steps = 0
        elif not sessions:
            if scheduler.is_closing and not scheduler.is_waiting:
                return
            scheduler.asleep_until = scheduler.next_due()
            yield Pause(max(0.0, scheduler.asleep_until - now))
            scheduler.steps = 0
            scheduler.asleep_until = -NEVER  # the loop is awake, so no session needs to wake it
        else:
            yield from _resume_due(scheduler, sessions, now)


def run_until_pause(loop: Loop, send: Callable[[Exchange], list[Outcome] | None]) -> Pause | None:
    """Run a loop until it pauses for a while; return None at its end. `send` carries each batch."""
    outcomes: list[Outcome] | None = None
    while True:
        found = step(loop, outcomes)
        if isinstance(found, Done):
            return None
        if not isinstance(found, Pause):
            outcomes = send(found)
        elif found.seconds > 0:
            return found
        else:
            outcomes = None


def deliver(scheduler: Scheduler, exchange: Exchange, outcomes: list[Outcome]) -> Loop:
    """Give each session its outcomes. The driver gives others a turn where a `Pause` is yielded."""
    scheduler.steps = 0
    came = scheduler.clock()
    server = scheduler.end(exchange)
    if not exchange.parts:  # it made a connection
        return
    _note(scheduler, server, exchange, outcomes, came)
    at = 0
    for session, sent in exchange.parts:
        yield from _step(scheduler)
        mine = outcomes[at : at + len(sent.jobs)]
        at += len(sent.jobs)
        if exchange.is_overdue:
            scheduler.guarded(session, session.on_late_answers, sent.jobs, mine, came)
        elif not sent.waits:
            scheduler.guarded(session, session.on_answers, sent.jobs, mine, came)
        else:
            _resume(scheduler, session, mine)
        if session in scheduler.sessions or not exchange.is_overdue:
            scheduler.schedule(session)
    scheduler.look_again()


def _note(
    scheduler: Scheduler, server: Reachability, exchange: Exchange, outcomes: Sequence[Outcome], came: float
) -> None:
    """Note whether a server has answered, and how long that took."""
    its = [o for job, o in zip(exchange.jobs, outcomes, strict=True) if scheduler.server_of(job) is server] or outcomes
    lost = next((outcome for outcome in its if is_unanswered(outcome)), None)
    if lost is None or not all(isinstance(outcome, Failed) for outcome in its):
        server.in_flight.trip.note(came - exchange.sent)
        for answering in (server, scheduler):  # the scheduler's own: a cluster of which no node was known
            if answering.failures:
                answering.note_success()
    elif not exchange.is_overdue:
        scheduler.note_failure_of(server, lost, exchange.sent, came)


def _resume_due(scheduler: Scheduler, sessions: list[Session], now: float) -> Loop:
    """Resume the sessions that are due, and send a batch to each server that may be asked."""
    batches: dict[Reachability, Parts] = {}
    for session in sessions:
        yield from _step(scheduler)
        server = scheduler.server_of(session)
        can_send = now >= server.next_try or scheduler.is_closing
        sent = _go_on(scheduler, session, can_send=can_send)
        if sent is not None:
            batches.setdefault(server, []).append((session, sent))
            if sent.waits:
                continue
        if not can_send and session in scheduler.sessions:
            session.due = min(session.due, server.next_try)
        scheduler.schedule(session)
    for server, parts in batches.items():
        exchange = server.in_flight.send(parts, now, is_troubled=server.failures > 0)
        outcomes = yield exchange
        if outcomes is not None:
            yield from deliver(scheduler, exchange, outcomes)


def _go_on(scheduler: Scheduler, session: Session, *, can_send: bool) -> Send | None:
    """Resume a session that is due; return what it sends, if anything."""
    session.due = NEVER
    if session.life is None:
        session.life = session.live()
        found = _resume(scheduler, session, None)  # to its first rest
        if found is not None or session.due > scheduler.clock():
            return found
        session.due = NEVER
    if session.is_deferred:
        return _resume(scheduler, session, scheduler.made_for(session))
    return _resume(scheduler, session, can_send)


def _resume(scheduler: Scheduler, session: Session, answer: Any) -> Send | None:
    """Resume a session's plan; return what it sends, else see to it that it goes on in its time."""
    return scheduler.guarded(session, _run, scheduler, session, answer)


def _run(scheduler: Scheduler, session: Session, answer: Any) -> Send | None:
    if session.life is None:  # a bug has ended it meanwhile
        return None
    # A `wake_at` while it waited for outcomes counts. A `wake_at` in this step does not: the step returns a time.
    woken = session.due if session.waits else NEVER
    session.waits = session.is_deferred = False
    try:
        found = step(session.life, answer)
        if isinstance(found, Send):
            assert answer is True, "a session sends only when it was just resumed with True"
            session.waits = found.waits
            rest = Rest() if found.waits else step(session.life, None)
        else:
            rest = found
    except Exception:
        session.life, session.waits = None, False  # it is begun again
        raise
    if isinstance(rest, Rest):
        session.due = min(woken, rest.until)
    elif isinstance(rest, DeferredCall):
        session.is_deferred = True
        scheduler.have_made(session, rest)
    else:
        session.life, session.due = None, NEVER
    return found if isinstance(found, Send) else None


def _warm(scheduler: Scheduler, now: float) -> Loop:
    """Where Redis is far, and there is but one server, make connections before they are needed."""
    while (
        scheduler.place_of is None
        and not scheduler.failures
        and (exchange := scheduler.in_flight.warm(now)) is not None
    ):
        outcomes = yield exchange
        if outcomes is not None:
            yield from deliver(scheduler, exchange, outcomes)


def _give_up(scheduler: Scheduler, now: float) -> Loop:
    """Tell the sessions whose jobs are overdue: they may ask again."""
    for server, exchange in scheduler.take_overdue(now):
        overdue = _overdue(now - exchange.sent)
        scheduler.note_failure_of(server, overdue, exchange.sent, now)
        for session, sent in exchange.parts:
            yield from _step(scheduler)
            outcomes = [overdue] * len(sent.jobs)
            if sent.waits:
                _resume(scheduler, session, outcomes)
            else:
                scheduler.guarded(session, session.on_answers, sent.jobs, outcomes, now)
            scheduler.schedule(session)


def _overdue(waited: float) -> Failed:
    error = TimeoutError(error_texts.overdue(waited))
    return Failed(Fault.REPLY_LOST, "", "TimeoutError", str(error), NexusError(str(error)), waited)


def _step(scheduler: Scheduler) -> Loop:
    """Take one step; before the next slice begins, others have a turn."""
    if scheduler.steps >= SLICE:
        yield Pause(0)
        scheduler.steps = 0
    scheduler.steps += 1

"""The loop of a hub: who is due is asked, a batch goes to each server, what comes back is delivered. No I/O.

    due members -> their jobs -> a pipelined batch for each server -> outcomes back to each -> pause

A shell drives `refill`, holding the hub's lock (thread.py, task.py): it carries each batch that the generator yields,
and sleeps where it yields a `Pause`. It answers a batch with its outcomes, or with None and delivers them when they
are there; meanwhile the loop goes on.
"""

from __future__ import annotations

from collections.abc import Generator

from nexus_redis._core.reachability import Reach
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import SLICE, Hub, Member, guarded
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import Failed, Fault, Job, Outcome, Pause, is_lost
from nexus_redis.errors import NexusError

Step = Generator[Exchange | Pause, list[Outcome] | None, None]


def refill(hub: Hub) -> Step:
    """The loop; ends when the hub is closing, nothing is left to send and no answer is waited for."""
    while True:
        now = hub.clock()
        yield from _give_up(hub, now)
        hub.look_around(now)
        hub.unblock()
        yield from _warm(hub, now)
        now = hub.clock()  # others had a turn meanwhile, and what they made due is not to be left behind
        members = hub.take_due(now)
        if not members and hub.is_behind:
            yield Pause(0)
            hub.steps = 0
        elif not members:
            if hub.is_closing and not hub.is_waiting:
                return
            hub.asleep_until = hub.next_due()
            yield Pause(max(0.0, hub.asleep_until - now))
            hub.steps = 0
            hub.asleep_until = -NEVER  # awake: nobody needs to wake us
        else:
            yield from _serve(hub, members, now)


def _serve(hub: Hub, members: list[Member], now: float) -> Step:
    """Those who are due: a batch to each server that may be asked, and a tick where it may not."""
    reached: dict[Reach, list[Member]] = {}
    for member in members:
        reach = hub.reach_of(member)
        if now >= reach.next_try or hub.is_closing:
            reached.setdefault(reach, []).append(member)
            continue
        yield from _step(hub)
        member.due = NEVER
        hub.drop_made(member)
        guarded(member, now, member.tick, now)
        if member in hub.members:
            member.due = min(member.due, reach.next_try)
            hub.schedule(member)
    for reach, there in reached.items():
        yield from _exchange(hub, reach, there, now)


def _exchange(hub: Hub, reach: Reach, members: list[Member], now: float) -> Step:
    parts: list[tuple[Member, list[Job]]] = []
    for member in members:
        yield from _step(hub)
        jobs = hub.jobs_of(member, now)
        if jobs:
            parts.append((member, jobs))
        if not jobs or member.overlaps:
            hub.schedule(member)
    if not parts:
        return
    exchange = reach.on_the_way.send(parts, now, is_troubled=reach.failures > 0)
    outcomes = yield exchange
    if outcomes is not None:
        yield from deliver(hub, exchange, outcomes)


def _warm(hub: Hub, now: float) -> Step:
    """Where Redis is far, and there is but one, make connections before they are needed."""
    while hub.place_of is None and not hub.failures and (exchange := hub.on_the_way.warm(now)) is not None:
        outcomes = yield exchange
        if outcomes is not None:
            yield from deliver(hub, exchange, outcomes)


def _give_up(hub: Hub, now: float) -> Step:
    """Those whose jobs are overdue are told so, and may ask again."""
    for reach, exchange in hub.take_overdue(now):
        overdue = _overdue(now - exchange.sent)
        reach.note_failure(overdue, exchange.sent, now)
        for member, jobs in exchange.parts:
            yield from _step(hub)
            guarded(member, now, member.receive, jobs, [overdue] * len(jobs), now)
            hub.schedule(member)


def _overdue(waited: float) -> Failed:
    error = TimeoutError(f"no answer within {waited:.2g} s")
    return Failed(Fault.UNKNOWN, "", "TimeoutError", str(error), NexusError(str(error)), waited)


def deliver(hub: Hub, exchange: Exchange, outcomes: list[Outcome]) -> Step:
    """The outcomes of an exchange, to whom they belong; the driver gives others a turn where a `Pause` is yielded."""
    hub.steps = 0
    came = hub.clock()
    reach = hub.end(exchange)
    if not exchange.parts:  # it made a connection
        return
    there = [o for job, o in zip(exchange.jobs, outcomes, strict=True) if hub.reach_of(job) is reach] or outcomes
    lost = next((o for o in there if is_lost(o)), None)
    if lost is None or not all(isinstance(o, Failed) for o in there):
        reach.on_the_way.trip.note(came - exchange.sent)
        for answering in (reach, hub):  # the hub's own: that of a cluster of which no node was known
            if answering.failures:
                answering.note_success()
    elif not exchange.is_overdue:
        reach.note_failure(lost, exchange.sent, came)
    at = 0
    for member, jobs in exchange.parts:
        yield from _step(hub)
        receive = member.receive_late if exchange.is_overdue else member.receive
        guarded(member, came, receive, jobs, outcomes[at : at + len(jobs)], came)
        at += len(jobs)
        if member in hub.members or not exchange.is_overdue:
            hub.schedule(member)
    hub.look_again()


def _step(hub: Hub) -> Step:
    """One step; before the next slice begins, others have a turn."""
    if hub.steps >= SLICE:
        yield Pause(0)
        hub.steps = 0
    hub.steps += 1

"""The scheduler of a Nexus: which session goes on when, and which server answers. No I/O; loop.py runs it.

All network traffic of a Nexus goes through here, and callers wait on local state only. That one decision removes herds,
cancellation in the middle of a socket, and convoys on a lock.

To leave is a call like any other: a session deregisters after the answer to its calls in flight. So no tokens that were
granted meanwhile are lost, and no late report brings a consumer back that has gone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

from nexus_redis._core.reachability import Reachability
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.session import Session
from nexus_redis._core.subscriptions import Subscriptions
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import Call, DeferredCall, Failed, Job
from nexus_redis._values import log_texts
from nexus_redis._values.log import log
from nexus_redis.errors import NexusError

T = TypeVar("T")

BATCH: Final = 256  # sessions a round trip: a thousand budgets due at once must not become one huge reply
SLICE: Final = 64  # steps, after which others that share the thread or the lock have a turn: a few milliseconds
BUG_PAUSE: Final = 1.0  # seconds until a session that raised is begun again
STALE_ENTRIES: Final = 4  # a session in the heap, before it is rebuilt

Made = Call[Any] | None
Elsewhere = Callable[[Callable[[], Made], Callable[[Made], None]], None]


def at_once(make: Callable[[], Made], then: Callable[[Made], None]) -> None:
    """Have a call made in this thread, where there is no other one."""
    then(make())


class Scheduler(Reachability):
    """The sessions by when they are due. Every method runs under the driver's lock.

    `sessions` are those that Redis may know or that have something to tell Redis; the others cost nothing. On a cluster
    `place_of` names the node that a key is on, and each node has a reachability of its own. The budgets of a node that
    is down go by their outage mode; the budgets of other nodes notice nothing.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wake: Callable[[], None],
        address: str = "",
        new_lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        super().__init__()
        self.clock, self._wake, self.address, self.new_lock = clock, wake, address, new_lock
        self.place_of: Callable[[str | Job], str] | None = None
        self.subscriptions = Subscriptions()
        self.make_elsewhere: Elsewhere = at_once
        self._begin()

    def _begin(self) -> None:
        self.sessions: set[Session] = set()
        self._heap: list[tuple[float, int, Session]] = []
        self._count = 0
        self._touched: dict[Session, None] = {}
        self._is_looking = False
        self.steps = 0  # sessions resumed, given outcomes or looked at, since other threads or tasks had a turn
        self._making: set[Session] = set()  # sessions that wait for a call that a user's code makes
        self._made: dict[Session, Made] = {}  # and sessions whose call is there
        self.background: Session | None = None  # the background plan that runs
        self.asleep_until = NEVER
        self.is_closing = False
        self._begin_reachability()
        self._servers: dict[str, Reachability] = {"": self}
        self._blocked: dict[Session, None] = {}  # due, while their server takes no batch

    def server_of(self, it: Session | Job) -> Reachability:
        """Return the server that a session's budget is on, or that a call goes to: these may differ."""
        if self.place_of is None:
            return self
        place = self.place_of(it.key if isinstance(it, Session) else it)
        server = self._servers.get(place)
        if server is None:
            server = self._servers[place] = Reachability()
        return server

    @property
    def is_waiting(self) -> bool:
        """Return whether an answer is waited for."""
        return any(server.in_flight for server in self._servers.values())

    def _is_asking(self, session: Session) -> bool:
        """Return whether a session waits for an answer, and so goes on when the answer is there."""
        return session.waits or (
            not session.overlaps and any(server.in_flight.has(session) for server in self._servers.values())
        )

    def after_fork(self) -> None:
        """Begin again in a forked child: no session is due, and it is not known whether Redis answers."""
        sessions = self.sessions
        self._begin()
        self.subscriptions.clear()
        for session in sessions:
            session.due = session.scheduled = NEVER
            session.life, session.waits, session.is_deferred = None, False, False  # what it waits for is the parent's
            session.after_fork()

    # --- when

    def wake_at(self, session: Session, time: float) -> None:
        """Have a session go on at that time, if it is earlier than its `due`. Only this method makes it earlier."""
        if time < session.due:
            session.due = time
            self.schedule(session)

    def schedule(self, session: Session) -> None:
        """Look at a session when it is due; wake the loop if the loop would sleep longer."""
        if session.due < session.scheduled:
            session.scheduled = session.due
            self._count += 1
            if session.is_counted:
                self.sessions.add(session)
            heapq.heappush(self._heap, (session.due, self._count, session))
            if len(self._heap) > STALE_ENTRIES * (len(self.sessions) + BATCH):
                self._heap = [entry for entry in self._heap if entry[0] == entry[2].scheduled]
                heapq.heapify(self._heap)
            if session.due < self.asleep_until:
                self.asleep_until = session.due
                self._wake()

    def take_due(self, now: float) -> list[Session]:
        """Return the sessions whose time has come, a batch at most."""
        taken: list[Session] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < BATCH:
            due, _, session = heapq.heappop(self._heap)
            if due != session.scheduled:
                continue
            session.scheduled = NEVER
            if session.due > now:
                self.schedule(session)
            elif session.sends and self.server_of(session).free_at > now:
                self._blocked[session] = None
            elif not self._is_asking(session) and (session not in self._making or session.is_leaving):
                taken.append(session)
        return taken

    def unblock(self) -> None:
        """Look again at the sessions that could not send: their server may take a batch by now."""
        blocked, self._blocked = self._blocked, {}
        for session in blocked:
            if session.scheduled == NEVER:
                self.schedule(session)

    def next_due(self) -> float:
        """Return when the loop must look again."""
        due = self._heap[0][0] if self._heap else NEVER
        free = [server.free_at for server in self._servers.values() if server.in_flight] if self._blocked else []
        return min(due, *free, *(server.in_flight.overdue_at(NEVER) for server in self._servers.values()))

    def look_again(self) -> None:
        """Wake the loop after an answer, if a session waited for that, or if it sleeps longer than it must by now."""
        self.unblock()
        due = self.next_due()
        if due < self.asleep_until or self.is_closing:
            self.asleep_until = min(self.asleep_until, due)
            self._wake()

    # --- callers that wait in several lines

    def touch(self, session: Session) -> None:
        """Note that a session has changed for callers that wait there: `look_around` looks at it."""
        self._touched[session] = None

    def look_around(self, now: float) -> None:
        """Look at the sessions that were touched, and at those that are touched by that, one after the other.

        One touch may lead to all sessions, so after a slice of them the rest is left to the loop.
        """
        if self._is_looking:
            return
        self._is_looking = True
        end = self.steps + SLICE
        try:
            while self._touched and self.steps < end:
                session = next(iter(self._touched))
                del self._touched[session]
                self.steps += 1
                self.guarded(session, session.look, now)
        finally:
            self._is_looking = False
        if self._touched and now < self.asleep_until:
            self.asleep_until = now
            self._wake()

    def note_failure_of(self, server: Reachability, failed: Failed, sent: float, now: float) -> None:
        """Note that a batch did not come back. With the first that shows an outage, look at the callers that wait.

        The calls of their own sessions may have no answer for seconds.
        """
        was_out = server.is_out
        server.note_failure(failed, sent, now)
        if server.is_out and not was_out:
            for session in self.sessions:
                if self.server_of(session) is server:
                    self.touch(session)
            self.look_around(now)

    @property
    def is_behind(self) -> bool:
        """Return whether there are more sessions to look at."""
        return bool(self._touched)

    # --- calls that a user's code makes

    def have_made(self, session: Session, deferred: DeferredCall) -> None:
        """Have a call made in another thread, with no lock held: the user's code may take long, or wait for this loop.

        The session goes on when the call is there, or when it must leave.
        """
        self._making.add(session)

        def note(made: Made) -> None:
            if session in self._making:
                self._making.discard(session)
                self._made[session] = made
                session.due = NEVER
                self.wake_at(session, self.clock())

        self.make_elsewhere(lambda: _made(deferred), note)

    def made_for(self, session: Session) -> Made:
        """Return the call that was made for a session; None where there is none, and the session waits no longer."""
        self._making.discard(session)
        return self._made.pop(session, None)

    # --- comings and goings

    def guarded(self, session: Session, step: Callable[..., T], *args: Any) -> T | None:
        """Run one step of a session. A bug in it must not stop the others: the session begins again in a second."""
        try:
            return step(*args)
        except Exception:
            log.exception(log_texts.SESSION_BUG, session)
            session.due = self.clock() + BUG_PAUSE
            self.schedule(session)
            return None

    def drop(self, session: Session) -> None:
        """Let a session go that has left. It comes back when it is woken."""
        self._making.discard(session)
        self._made.pop(session, None)
        self.sessions.discard(session)
        session.due = session.scheduled = NEVER

    def close(self, error: NexusError) -> None:
        """Have all sessions leave; then the loop ends."""
        now = self.clock()
        for session in list(self.sessions):
            session.leave(error, now)
        self.is_closing = True
        self._wake()

    def reclaim(self) -> None:
        """Have each session notice its next caller: the loop does not run any more."""
        now = self.clock()
        for session in self.sessions:
            session.reclaim(now)

    # --- exchanges

    def take_overdue(self, now: float) -> list[tuple[Reachability, Exchange]]:
        """Return the exchanges that nobody waits for any longer."""
        return [(server, each) for server in self._servers.values() for each in server.in_flight.take_overdue(now)]

    def end(self, exchange: Exchange) -> Reachability:
        """Note that the outcomes of an exchange are there; return the server that it went to."""
        server = next((each for each in self._servers.values() if each.in_flight.has_sent(exchange)), self)
        server.in_flight.end(exchange)
        return server


def _made(deferred: DeferredCall) -> Made:
    try:
        return deferred.make()
    except Exception:
        log.exception(log_texts.REPORT_BUG)
        return None

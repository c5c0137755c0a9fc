"""What a consumer measures of itself, and the reporter that says it. No I/O.

`done`, `errors`, `in_flight` and the queue's depth are read in that order: work moves from the queue to in flight to
done, so an item that moves while we look is missed for one report and never counted twice.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final

from nexus_redis import calls
from nexus_redis.account import Opening
from nexus_redis.calls import Standing
from nexus_redis.config import ConsumerSettings, parse_number
from nexus_redis.errors import InvalidSetting, NexusError, Unavailable
from nexus_redis.faults import Fault, as_nexus_error, classify, code_of
from nexus_redis.hub import NEVER, Hub, Member
from nexus_redis.keys import BudgetKeys
from nexus_redis.ledger import Waiter
from nexus_redis.wire import Job, Outcome

log = logging.getLogger("nexus_redis")

LATENCY_MEMORY: Final = 0.2  # weight of the newest batch in the latency that is reported
REPORTABLE: Final = (
    "load", "capacity", "queue_depth", "queue_limit", "done", "errors", "in_flight", "slots", "latency_ms",
)  # fmt: skip


class Meter:
    """Counts work in tokens; safe to use from many threads."""

    def __init__(self, capacity: float | None) -> None:
        self._lock = threading.Lock()
        self._done = self._errors = self._in_flight = 0.0
        self._latency: float | None = None
        self._has_worked = False
        self._depth: Callable[[], float] | None = None
        self._limit: float | None = None
        self._said: dict[str, float] = {} if capacity is None else {"capacity": capacity}

    def begin(self, tokens: float) -> None:
        """Work has begun."""
        with self._lock:
            self._has_worked = True
            self._in_flight += tokens

    def end(self, tokens: float, seconds: float, *, is_done: bool) -> None:
        """Work has ended, well or not."""
        with self._lock:
            self._in_flight = max(0.0, self._in_flight - tokens)
            if is_done:
                self._done += tokens
            else:
                self._errors += tokens
            before = seconds if self._latency is None else self._latency
            self._latency = before + LATENCY_MEMORY * (seconds - before)

    def watch(self, queue: Any = None, *, depth: Callable[[], float] | None = None, limit: float | None = None) -> None:
        """Look at a queue: anything with `qsize()` and `maxsize`, or a callable and a limit."""
        if queue is not None:
            depth = depth or getattr(queue, "qsize", None)
            limit = limit or getattr(queue, "maxsize", None) or getattr(queue, "_maxsize", None)
        if not callable(depth):
            raise InvalidSetting(
                "watch", queue, "give a queue with qsize() and maxsize, or depth= a callable and limit="
            )
        if limit is not None and limit <= 0:
            limit = None
        if limit is not None:
            parse_number("queue_limit", limit)
        self._depth, self._limit = depth, limit

    def say(self, said: dict[str, float]) -> None:
        """What the user says by hand stays said until it is said otherwise."""
        with self._lock:
            self._said.update(said)

    def sample(self) -> dict[str, float]:
        """The fields of a report, now; {} while there is nothing to say."""
        with self._lock:
            said: dict[str, float] = {}
            if self._has_worked:
                said = {"done": self._done, "errors": self._errors, "in_flight": self._in_flight}
                if self._latency is not None:
                    said["latency_ms"] = self._latency * 1e3
            if self._depth is not None:
                said["queue_depth"] = max(0.0, float(self._depth()))
                if self._limit is not None:
                    said["queue_limit"] = self._limit
            if not said and set(self._said) <= {"capacity"}:
                return {}
            if said and "done" not in said:
                said |= {"done": 0.0, "errors": 0.0, "in_flight": 0.0} if not self._said else {}
            return said | self._said


class Work:
    """`with consumer.work(n):` - n tokens of work; done when the block ends, errors when it raises."""

    __slots__ = ("_began", "_meter", "_start", "_tokens")

    def __init__(self, meter: Meter, tokens: float, start: Callable[[], None]) -> None:
        self._meter, self._tokens, self._start = meter, tokens, start
        self._began = 0.0

    def __enter__(self) -> None:
        self._meter.begin(self._tokens)
        self._began = time.monotonic()
        self._start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._meter.end(self._tokens, time.monotonic() - self._began, is_done=kind is None)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, where)


class Ticket(Waiter):
    """Who waits for the next report to be answered."""

    __slots__ = ("pause_ms", "standing")

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(0, since)
        self.pause_ms = pause_ms
        self.standing: Standing | None = None


class Reporter(Member):
    """One consumer of one budget: reports each interval, as long as there is something to say."""

    def __init__(
        self, hub: Hub, keys: BudgetKeys, consumer_id: str, settings: ConsumerSettings, opening: Opening
    ) -> None:
        self.hub, self.keys, self.id, self.settings, self.opening = hub, keys, consumer_id, settings, opening
        self.meter = Meter(settings.capacity)
        self.standing: Standing | None = None
        self.tickets: list[Ticket] = []
        self._waiting: list[Ticket] = []
        self.has_reported = False
        self._warned: set[str] = set()
        self._begin()

    def _begin(self) -> None:
        self.incarnation = secrets.token_hex(8)
        self.seq = 0
        self.started = self.hub.clock()

    def start(self) -> None:
        """Report from now on."""
        if self.due == NEVER and self.scheduled == NEVER:
            self.due = self.hub.clock()
            self.hub.schedule(self)

    def after_fork(self) -> None:
        """In the child: the parent goes on reporting for itself."""
        self.due = self.scheduled = NEVER
        self.tickets, self._waiting = [], []
        self.has_reported = False
        self.meter = Meter(self.settings.capacity)
        self._begin()

    def ask(self, ticket: Ticket) -> None:
        """Report now; the ticket is settled by the answer."""
        self.tickets.append(ticket)
        self.due = ticket.since
        self.hub.schedule(self)

    def jobs(self, now: float) -> list[Job]:
        self.due = now + self.settings.interval
        said: dict[str, float | None] = {**self.meter.sample()}
        if not said and not self.tickets:
            return []
        self._waiting, self.tickets = self.tickets, []
        self.seq += 1
        said["uptime_ms"] = round((now - self.started) * 1e3, 3)
        said["interval_ms"] = self.settings.interval * 1e3
        said["pause_ms"] = next((t.pause_ms for t in self._waiting if t.pause_ms is not None), None)
        return [*self.opening.jobs(), calls.report(self.keys, self.id, said, self.incarnation, self.seq)]

    def receive(self, outcomes: Sequence[Outcome], now: float) -> None:
        *opened, outcome = outcomes
        refusal = self.opening.receive(opened)
        if refusal is not None:
            self._warn(refusal)
        settled, self._waiting = self._waiting, []
        if isinstance(outcome, Standing):
            self.standing, self.has_reported = outcome, True
            self.opening.see(outcome.birth)
            for ticket in settled:
                ticket.standing, ticket.is_served = outcome, True
        elif code_of(outcome) == "NEXUS_ID_TAKEN":
            self._rename()
            self.tickets += settled
            self.due, settled = now, []
        elif code_of(outcome) == "NEXUS_STALE":
            self._begin()
            self.tickets += settled
            self.due, settled = now, []
        elif classify(outcome) is Fault.PERMANENT:
            error = as_nexus_error(outcome)
            self._warn(error)
            for ticket in settled:
                ticket.error = error
        else:
            # Reports are absolute: the next one says it all again. Who waits for an answer waits for that one.
            self.tickets += settled
            settled = []
            self.tick(now)
        for ticket in settled:
            ticket.wake()

    def tick(self, now: float) -> None:
        self.due = now + self.settings.interval
        if self.hub.is_out:
            gone, self.tickets = self.tickets, []
            for ticket in gone:
                ticket.error = Unavailable(self.hub.server, self.hub.cause, now - ticket.since)
                ticket.wake()

    def leave(self) -> list[Job]:
        """The call that withdraws this consumer at once."""
        self.due = NEVER
        if not self.has_reported:
            return []
        self.has_reported = False
        return [calls.leave_consumer(self.keys, self.id, self.incarnation)]

    def _rename(self) -> None:
        taken = self.id
        self.id = f"{taken[:59]}.{secrets.token_hex(2)}"
        if "id" not in self._warned:
            self._warned.add("id")
            log.warning("budget %s: consumer id %s is in use by a live process; this one goes on as %s",
                        self.keys.name, taken, self.id)  # fmt: skip

    def _warn(self, error: NexusError) -> None:
        text = str(error)
        if text not in self._warned:
            self._warned.add(text)
            log.warning("budget %s: the report of consumer %s was refused: %s", self.keys.name, self.id, text)

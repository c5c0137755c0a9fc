"""The sync shell: threads wait, one thread talks to Redis.

nexus = Nexus.from_url("redis://localhost:6379/0")
budget = nexus.budget("stripe", rate="100/s")
budget.acquire()
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import redis

from nexus_redis import calls
from nexus_redis.account import Account, Asker, flow_of, told
from nexus_redis.calls import UNTIL_RESUMED, Configured
from nexus_redis.config import BudgetSettings, ConsumerSettings, ProducerSettings, parse_name, parse_number, parse_rate
from nexus_redis.errors import AcquireTimeout, Closed
from nexus_redis.hub import NEVER
from nexus_redis.ledger import MICRO
from nexus_redis.messages import FlowControl
from nexus_redis.meter import Reporter, Ticket
from nexus_redis.results import GRANTED, Denied, Grant
from nexus_redis.shell import (
    TRY_PATIENCE,
    UNSET,
    BudgetShell,
    ConsumerShell,
    NexusShell,
    ProducerShell,
    Unset,
    consumer_settings,
    micro_cost,
    said_by_hand,
)
from nexus_redis.snapshot import BudgetSnapshot, budget_names, snapshot
from nexus_redis.thread import STOP_PATIENCE, Line, LoopThread, drive
from nexus_redis.wire import address, connect, twin, where

log = logging.getLogger("nexus_redis")
T = TypeVar("T")


class Nexus(NexusShell):
    """A connection to the coordinator: one thread, one pool, any number of budgets. Safe to share between threads.

    `Nexus(client)` uses a redis-py client that you have; `Nexus.from_url()` makes one with short timeouts.
    """

    def __init__(self, client: redis.Redis | None = None, *, namespace: str | None = None) -> None:
        super().__init__(namespace)
        self._setup("" if client is not None else address(None), client)

    @classmethod
    def from_url(cls, url: str | None = None, *, namespace: str | None = None) -> Self:
        """`redis://`, `rediss://`, `unix://` or `embedded://`; without one NEXUS_REDIS_URL, else localhost. No I/O."""
        nexus = cls.__new__(cls)
        NexusShell.__init__(nexus, namespace)
        nexus._setup(address(url), None)
        return nexus

    def _setup(self, url: str, given: redis.Redis | None) -> None:
        self._url, self._given = url, given
        self._shared: dict[str, Producer] = {}
        self._made = None if url.startswith("embedded:") else self._connect()
        self._loop = LoopThread(self._client, where(self._made) if self._made is not None else url)
        self._hub = self._loop.hub
        _alive.add(self)

    def _connect(self) -> redis.Redis:
        return twin(self._given) if self._given is not None else connect(self.url)

    def _client(self) -> redis.Redis:
        with self._starting:
            if self._made is None:
                self._made = self._connect()
            return self._made

    def budget(
        self,
        name: str,
        *,
        rate: float | str | None = None,
        min_rate: float | str | None = None,
        burst: float | None = None,
        law: str | None = None,
        combine: str | None = None,
        latency_target_ms: float | None = None,
        lossless: bool | None = None,
        transit: float | None = None,
    ) -> Budget:
        """The budget of one downstream. No I/O; what is not given stays as it is, or follows the consumers."""
        settings = BudgetSettings.of(
            rate=rate, min_rate=min_rate, burst=burst, law=law, combine=combine, latency_target_ms=latency_target_ms,
            lossless=lossless, transit=transit,
        )  # fmt: skip
        return Budget(self, name, settings)

    def budgets(self) -> list[str]:
        """The names of all budgets in this namespace."""
        names: list[str] = self._drive(budget_names(self.namespace, self._hub.server))
        return names

    def close(self) -> None:
        """Hand back every token, withdraw every consumer, end the thread. Waiting callers get `Closed`."""
        with self._loop.lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._loop.stop(Closed("nexus"))
        if self._made is not None and self._made is not self._given:
            self._made.close()
        if self._server is not None:
            self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Nexus {self.namespace!r} at {self._hub.server}: {len(self._openings)} budgets>"

    def _drive(self, plan: Any) -> Any:
        if self._is_closed:
            raise Closed("nexus")
        return drive(plan, self._client())

    def _after_fork(self) -> None:
        self._starting = threading.RLock()
        self._loop.after_fork()
        if self._made is not None:
            # The sockets are the parent's too; a new pool opens new ones.
            self._made = self._connect()


class Budget(BudgetShell):
    """The shared rate of one downstream. `acquire` here goes through one producer per process and budget."""

    def __init__(self, nexus: Nexus, name: str, settings: BudgetSettings) -> None:
        super().__init__(nexus, name, settings)
        self._nexus = nexus
        if self.name not in nexus._shared:
            nexus._shared.setdefault(self.name, Producer(nexus, self, None, self._producer_settings()))
        self._shared = nexus._shared[self.name]

    def acquire(self, cost: float = 1, timeout: float | Unset | None = UNSET) -> Grant:
        """Take `cost` tokens, waiting in turn; see `Producer.acquire`."""
        return self._shared.acquire(cost, timeout)

    def try_acquire(self, cost: float = 1) -> Grant | Denied:
        """Take `cost` tokens now or not at all; see `Producer.try_acquire`."""
        return self._shared.try_acquire(cost)

    def pace(self, items: Iterable[T], cost: float | Callable[[T], float] = 1) -> Iterator[T]:
        """Yield the items at the budget's pace; `cost` is a number or a function of the item."""
        return self._shared.pace(items, cost)

    def signal(self, requested_rate: float | str) -> FlowControl:
        """Say what you would send, and be told what you may: the bare protocol."""
        return self._shared.signal(requested_rate)

    @property
    def flow(self) -> FlowControl | None:
        """The last answer to this process' shared producer."""
        return self._shared.flow

    def producer(
        self,
        id: str | None = None,
        *,
        weight: float = 1.0,
        priority: str = "normal",
        timeout: float | None = None,
        on_outage: str | None = None,
        smooth: bool = False,
    ) -> Producer:
        """A producer of one's own, with its own part of the budget. No I/O."""
        settings = self._producer_settings(
            weight=weight, priority=priority, timeout=timeout, on_outage=on_outage, smooth=smooth
        )
        return Producer(self._nexus, self, id, settings)

    def consumer(
        self, id: str | None = None, *, capacity: float | str | None = None, interval: float = 0.25
    ) -> Consumer:
        """A consumer of this budget: say how it fares and the rate follows. No I/O."""
        return Consumer(self._nexus, self, id, consumer_settings(capacity, interval))

    def configure(self, **settings: Any) -> BudgetSnapshot:
        """Set what `nexus.budget` takes (rate, min_rate, burst, law...) from code; None takes a setting away."""
        unset = [name for name, value in settings.items() if value is None]
        given = BudgetSettings.of(**{name: value for name, value in settings.items() if value is not None})
        self._configure(given, unset=unset)
        self._learn(given, unset)
        return self.snapshot()

    def pause(self, seconds: float | None = None, *, reason: str = "") -> None:
        """Stop the whole budget on all hosts, for `seconds` or until `resume`."""
        duration = UNTIL_RESUMED if seconds is None else parse_number("pause", seconds)
        self._configure(None, pause=duration, note=reason[:200])

    def resume(self) -> None:
        """End a pause."""
        self._configure(None, pause=0.0)

    def snapshot(self) -> BudgetSnapshot:
        """The budget as it stands: rate, level, settings, consumers, producers."""
        found: BudgetSnapshot = self._nexus._drive(snapshot(self._keys, self._nexus._hub.server))
        return found

    def _configure(self, settings: BudgetSettings | None, **change: Any) -> Configured:
        plan = told(self._opening, calls.configure(self._keys, settings, **change), self._nexus._hub.server)
        configured: Configured = self._nexus._drive(plan)
        return configured


class Producer(ProducerShell):
    """Claims tokens and spends them locally. Safe to share between threads; waiters go in order."""

    def __init__(self, nexus: Nexus, budget: Budget, id: str | None, settings: ProducerSettings) -> None:
        self._nexus, self._settings, self._is_closed = nexus, settings, False
        name = parse_name(id, "id") if id is not None else None
        self._account = Account(nexus._hub, budget._keys, name, settings, budget._opening)

    def acquire(self, cost: float = 1, timeout: float | Unset | None = UNSET) -> Grant:
        """Take `cost` tokens; wait in turn if they are not in hand. Raises `AcquireTimeout`, and takes nothing then.

        With 60 tokens/s for you, a loop of acquire() runs 60 times a second; all but some ten of them in a second are
        local, one lock and a subtraction. `timeout` in seconds; None waits; not given, the producer's.
        """
        tokens = micro_cost(cost)
        with self._nexus._loop.lock:
            now = time.monotonic()
            if self._spend(tokens, now):
                return GRANTED
        line = Line(tokens, now)
        self._await(line, self._settings.timeout if isinstance(timeout, Unset) else timeout, cost)
        return Grant(cost, time.monotonic() - now, line.is_degraded)

    def try_acquire(self, cost: float = 1) -> Grant | Denied:
        """Take all of `cost` now, or nothing; never waits for tokens, never overtakes who waits.

        With tokens in hand it is local. Else, when the last answer's `retry_after` is over, it asks once.
        """
        tokens = micro_cost(cost)
        with self._nexus._loop.lock:
            now = time.monotonic()
            if self._spend(tokens, now):
                return GRANTED
            denied = self._account.denial(tokens, now)
        if denied is not None:
            return denied
        line = Line(tokens, now, whole=True)
        try:
            self._await(line, TRY_PATIENCE, cost)
        except AcquireTimeout:
            return Denied(self._account.ledger.refresh, "unavailable")
        if line.denied is not None:
            return Denied(line.denied, self._account.reason)
        return Grant(cost, time.monotonic() - now, line.is_degraded)

    def pace(self, items: Iterable[T], cost: float | Callable[[T], float] = 1) -> Iterator[T]:
        """Yield the items one by one, each when its tokens are there."""
        for item in items:
            self.acquire(cost(item) if callable(cost) else cost)
            yield item

    def signal(self, requested_rate: float | str) -> FlowControl:
        """Say what you would send (tokens/s) and be told what you may: the bare protocol, takes no tokens.

        A consumer of capacity 400 at 95 % load answers 10,000 with 100.
        """
        asker = _LineAsker(round(parse_rate(requested_rate, "requested_rate") * MICRO), time.monotonic())
        self._await(asker, self._settings.timeout, 0)
        assert asker.answer is not None
        return flow_of(self._account.keys.name, asker.answer)

    def close(self) -> None:
        """Hand the tokens back and leave at once."""
        with self._nexus._loop.lock:
            if self._is_closed or self._nexus._is_closed:
                return
            self._is_closed = True
            leaver = Line(0, time.monotonic())
            self._account.leave(Closed("producer"), leaver.since, leaver)
        if not self._nexus._hub.is_out:  # what is not handed back expires by itself
            leaver.event.wait(STOP_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if self._is_closed:
            raise Closed("producer")
        if self._nexus._is_closed:
            raise Closed("nexus")

    def _spend(self, tokens: int, now: float) -> bool:
        self._check()
        return self._account.spend(tokens, now)

    def _await(self, line: Line | _LineAsker, timeout: float | None, cost: float) -> None:
        """Until the line is served or denied; raises what else became of it, and leaves nothing behind."""
        if timeout is not None:
            parse_number("timeout", timeout)
        loop = self._nexus._loop
        try:
            with loop.lock:
                self._check()
                loop.ensure_running()
                self._account.wait(line)
            if not line.event.wait(timeout):
                with loop.lock:
                    self._check_settled(line, cost)
        except BaseException:
            with loop.lock:
                self._account.cancel(line, time.monotonic())
            raise
        if line.error is not None:
            raise line.error


class _LineAsker(Asker):
    __slots__ = ("event",)

    def __init__(self, rate: int, since: float) -> None:
        super().__init__(rate, since)
        self.event = threading.Event()

    def wake(self) -> None:
        self.event.set()


class _LineTicket(Ticket):
    __slots__ = ("event",)

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(since, pause_ms)
        self.event = threading.Event()

    def wake(self) -> None:
        self.event.set()


class Consumer(ConsumerShell):
    """Does the work and says how it fares, every interval, from the Nexus' thread."""

    def __init__(self, nexus: Nexus, budget: Budget, id: str | None, settings: ConsumerSettings) -> None:
        self._nexus, self._is_closed = nexus, False
        name = parse_name(id, "id") if id is not None else None
        self._reporter = Reporter(nexus._hub, budget._keys, name, settings, budget._opening)

    def report(self, **said: float | None) -> float:
        """Say it yourself, at once, and each interval until you say otherwise; the answer is this consumer's rate now.

        load (percent), capacity (per second), latency_ms; in tokens queue_depth, queue_limit, done, errors, in_flight,
        slots.
        """
        self._reporter.meter.say(said_by_hand(said))
        return self._ask(None)

    def pause(self, seconds: float) -> None:
        """Take this consumer's part out of the budget for so long; 0 brings it back."""
        self._ask(parse_number("pause", seconds) * 1e3)

    def close(self) -> None:
        """Leave: this consumer's rate is out at once."""
        with self._nexus._loop.lock:
            if self._is_closed or self._nexus._is_closed:
                return
            self._is_closed = True
            leaver = _LineTicket(time.monotonic())
            self._reporter.leave(Closed("consumer"), leaver.since, leaver)
        if not self._nexus._hub.is_out:  # its reports end now, so its deadline will say the same
            leaver.event.wait(STOP_PATIENCE)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self._reporter.scheduled == NEVER:
            with self._nexus._loop.lock:
                if not self._is_closed and not self._nexus._is_closed:
                    self._nexus._loop.ensure_running()
                    self._reporter.start()

    def _ask(self, pause_ms: float | None) -> float:
        with self._nexus._loop.lock:
            if self._is_closed or self._nexus._is_closed:
                raise Closed("consumer")
            self._nexus._loop.ensure_running()
            ticket = _LineTicket(time.monotonic(), pause_ms)
            self._reporter.ask(ticket)
        ticket.event.wait()
        if ticket.error is not None:
            raise ticket.error
        assert ticket.standing is not None
        return ticket.standing.rate


_alive: weakref.WeakSet[Nexus] = weakref.WeakSet()


def _close_all() -> None:
    for nexus in list(_alive):
        try:
            nexus.close()
        except Exception:
            log.exception("%r did not close well", nexus)


def _after_fork_in_child() -> None:
    for nexus in list(_alive):
        nexus._after_fork()


# At exit tokens go back rather than expire; registered after `embedded`'s own hook, so its server is still there.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

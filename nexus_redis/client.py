"""The sync shell: threads wait, one thread talks to Redis.

nexus = Nexus.from_url("redis://localhost:6379/0")
budget = nexus.budget("stripe", rate="100/s")
budget.acquire()
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import redis

from nexus_redis import calls, embedded
from nexus_redis.account import Account, Asker, flow_of
from nexus_redis.calls import UNTIL_RESUMED, Configured
from nexus_redis.config import BudgetSettings, ConsumerSettings, ProducerSettings, parse_name, parse_number, parse_rate
from nexus_redis.errors import AcquireTimeout, Closed
from nexus_redis.hub import NEVER, ask
from nexus_redis.keys import budgets_key
from nexus_redis.ledger import MICRO, Waiter
from nexus_redis.messages import FlowControl
from nexus_redis.meter import Reporter, Ticket
from nexus_redis.results import GRANTED, Denied, Grant
from nexus_redis.shell import (
    UNSET,
    BudgetShell,
    ConsumerShell,
    NexusShell,
    ProducerShell,
    Unset,
    consumer_settings,
    default_id,
    micro_cost,
    said_by_hand,
)
from nexus_redis.snapshot import BudgetSnapshot, budget_names, snapshot
from nexus_redis.thread import Line, LoopThread, drive
from nexus_redis.wire import CALL_TIMEOUT, Command, Job, address, connect, where

T = TypeVar("T")


class Nexus(NexusShell):
    """A connection to the coordinator: one thread, one pool, any number of budgets. Safe to share between threads.

    `Nexus(client)` uses a redis-py client that you have; `Nexus.from_url()` makes one with short timeouts.
    """

    def __init__(self, client: redis.Redis | None = None, *, namespace: str | None = None) -> None:
        super().__init__(namespace)
        self._given, self._made = client, None if client is not None else connect(address(None))
        self._url = "" if client is not None else address(None)
        self._server: embedded.EmbeddedServer | None = None
        self._setup()

    @classmethod
    def from_url(cls, url: str | None = None, *, namespace: str | None = None) -> Self:
        """`redis://`, `rediss://`, `unix://` or `embedded://`; without one NEXUS_REDIS_URL, else localhost. No I/O."""
        nexus = cls.__new__(cls)
        NexusShell.__init__(nexus, namespace)
        nexus._given, nexus._url, nexus._server = None, address(url), None
        nexus._made = None if nexus._url.startswith("embedded:") else connect(nexus._url)
        nexus._setup()
        return nexus

    def _setup(self) -> None:
        self._is_closed = False
        self._shared: dict[str, Producer] = {}
        self._starting = threading.Lock()
        known = self._given or self._made
        self._loop = LoopThread(self._client, where(known) if known is not None else self._url)
        self._hub = self._loop.hub
        _alive.add(self)

    def _client(self) -> redis.Redis:
        if self._given is not None:
            return self._given
        with self._starting:
            if self._made is None:
                self._made = connect(self.url)
            return self._made

    @property
    def url(self) -> str:
        """The address in use; of an `embedded://` server, which this starts, the one for redis-cli."""
        if not self._url.startswith("embedded:"):
            return self._url
        if self._server is None:
            self._server = embedded.acquire(self._url)
            self._server.start()
        return self._server.url

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
            now = time.monotonic()
            for account in self._accounts:
                account.close(Closed("nexus"), now)
        self._loop.stop()
        with self._loop.lock:
            jobs = [job for account in self._accounts for job in account.leave(time.monotonic())]
            jobs += [job for reporter in self._reporters for job in reporter.leave()]
        if jobs and not self._hub.failures:
            with suppress(Exception):  # what is not handed back expires by itself
                drive(ask(jobs, self._hub.server, patience=0.0), self._client())
        if self._made is not None:
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

    def _register(self, member: Account | Reporter) -> None:
        (self._accounts if isinstance(member, Account) else self._reporters).append(member)  # type: ignore[arg-type]

    def _after_fork(self) -> None:
        self._starting = threading.Lock()
        self._hub = self._loop.after_fork()
        if self._made is not None:
            # The sockets are the parent's too; a new pool opens new ones.
            self._made = connect(self.url)
        for account in self._accounts:
            account.hub = self._hub
            account.after_fork()
        for reporter in self._reporters:
            reporter.hub = self._hub
            reporter.after_fork()


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
        """Set rate, min_rate, burst, law, combine, latency_target_ms, lossless or transit from code; None takes it away."""
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
        hint = Command(("ZADD", budgets_key(self._nexus.namespace), int(time.time()), self.name), int)
        jobs: list[Job] = [calls.configure(self._keys, settings, **change), hint]
        configured: Configured = self._nexus._drive(ask(jobs, self._nexus._hub.server))[0]
        self._opening.note(configured)
        return configured


class Producer(ProducerShell):
    """Claims tokens and spends them locally. Safe to share between threads; waiters go in order."""

    def __init__(self, nexus: Nexus, budget: Budget, id: str | None, settings: ProducerSettings) -> None:
        self._nexus, self._settings, self._is_closed = nexus, settings, False
        self._account = Account(
            nexus._hub,
            budget._keys,
            parse_name(id, "id") if id is not None else default_id(),
            settings,
            budget._opening,
        )
        with nexus._loop.lock:
            nexus._register(self._account)

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
            self._account.wait(line)
        return self._wait(line, cost, self._settings.timeout if isinstance(timeout, Unset) else timeout)

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
            self._account.wait(line)
        line.event.wait(2 * CALL_TIMEOUT)
        with self._nexus._loop.lock:
            return self._account.settle_try(line, cost, time.monotonic())

    def pace(self, items: Iterable[T], cost: float | Callable[[T], float] = 1) -> Iterator[T]:
        """Yield the items one by one, each when its tokens are there."""
        for item in items:
            self.acquire(cost(item) if callable(cost) else cost)
            yield item

    def signal(self, requested_rate: float | str) -> FlowControl:
        """Say what you would send (tokens/s) and be told what you may: the bare protocol, takes no tokens.

        A consumer of capacity 400 at 95 % load answers 10,000 with 100.
        """
        rate = round(parse_rate(requested_rate, "requested_rate") * MICRO)
        with self._nexus._loop.lock:
            self._check()
            asker = _LineAsker(rate, time.monotonic())
            self._account.signal(asker)
        self._wait(asker, 0, self._settings.timeout)
        assert asker.answer is not None
        return flow_of(self._account.keys.name, asker.answer)

    def close(self) -> None:
        """Hand the tokens back and leave at once."""
        if self._is_closed:
            return
        self._is_closed = True
        nexus = self._nexus
        with nexus._loop.lock:
            self._account.close(Closed("producer"), time.monotonic())
            if self._account in nexus._accounts:
                nexus._accounts.remove(self._account)
            jobs = self._account.leave(time.monotonic()) if self._account.ledger.in_flight is None else []
        if jobs and not nexus._is_closed and not nexus._hub.is_out:
            with suppress(Exception):  # what is not handed back expires by itself
                drive(ask(jobs, nexus._hub.server, patience=0.0), nexus._client())

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
        self._nexus._loop.ensure_running()

    def _spend(self, tokens: int, now: float) -> bool:
        self._check()
        return self._account.spend(tokens, now)

    def _wait(self, line: Waiter, cost: float, timeout: float | None) -> Grant:
        assert isinstance(line, Line | _LineAsker)
        if timeout is not None:
            parse_number("timeout", timeout)
        try:
            line.event.wait(timeout)
        except BaseException:
            with self._nexus._loop.lock:
                self._account.cancel(line, time.monotonic())
            raise
        with self._nexus._loop.lock:
            waited = time.monotonic() - line.since
            if line.error is not None:
                raise line.error
            if line.is_served:
                return Grant(cost, waited, line.is_degraded)
            self._account.cancel(line, time.monotonic())
            raise AcquireTimeout(self._account.keys.name, cost, waited, self._account.reason)


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
        self._reporter = Reporter(
            nexus._hub,
            budget._keys,
            parse_name(id, "id") if id is not None else default_id(),
            settings,
            budget._opening,
        )
        with nexus._loop.lock:
            nexus._register(self._reporter)

    def report(self, **said: float | None) -> float:
        """Say it yourself: load (percent), capacity, queue_depth, queue_limit, done, errors, in_flight, slots, latency_ms.

        Sent at once and repeated each interval until said otherwise; the answer is the rate that this consumer now has.
        """
        self._reporter.meter.say(said_by_hand(said))
        return self._ask(None)

    def pause(self, seconds: float) -> None:
        """Take this consumer's part out of the budget for so long; 0 brings it back."""
        self._ask(parse_number("pause", seconds) * 1e3)

    def close(self) -> None:
        """Leave: this consumer's rate is out at once."""
        if self._is_closed:
            return
        self._is_closed = True
        nexus = self._nexus
        with nexus._loop.lock:
            if self._reporter in nexus._reporters:
                nexus._reporters.remove(self._reporter)
            jobs = self._reporter.leave()
        if jobs and not nexus._is_closed and not nexus._hub.is_out:
            with suppress(Exception):  # its reports end now, so its deadline will say the same
                drive(ask(jobs, nexus._hub.server, patience=0.5), nexus._client())

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
        nexus.close()


def _after_fork_in_child() -> None:
    for nexus in list(_alive):
        nexus._after_fork()


# At exit tokens go back rather than expire; registered after `embedded`'s own hook, so its server is still there.
atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

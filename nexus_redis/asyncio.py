"""The async shell: tasks wait, one task talks to Redis. Same names as `nexus_redis`, same rules.

    from nexus_redis.asyncio import Nexus

    async with Nexus.from_url() as nexus:
        await nexus.budget("stripe", rate="100/s").acquire()

A Nexus belongs to the loop that first used it. Consumers report from a thread of their own, so that a blocked loop is
seen as load and not as death.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
import redis.asyncio

from nexus_redis import calls
from nexus_redis.account import Account, Asker, flow_of, told
from nexus_redis.calls import UNTIL_RESUMED, Configured
from nexus_redis.config import (
    BudgetSettings,
    ConsumerSettings,
    ProducerSettings,
    parse_name,
    parse_number,
    parse_rate,
)
from nexus_redis.errors import AcquireTimeout, Closed, WrongLoop
from nexus_redis.hub import NEVER, Hub, Pause, refill
from nexus_redis.ledger import MICRO, Waiter
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
from nexus_redis.thread import STOP_PATIENCE, LoopThread
from nexus_redis.wire import (
    Job,
    Outcome,
    address,
    connect,
    connect_async,
    perform_async,
    sync_twin,
    twin_async,
    where,
)

log = logging.getLogger("nexus_redis")
T = TypeVar("T")


class Nexus(NexusShell):
    """A connection to the coordinator: one task, one pool, any number of budgets.

    `Nexus(client)` uses a redis.asyncio client that you have; `Nexus.from_url()` makes one with short timeouts.
    """

    def __init__(self, client: redis.asyncio.Redis | None = None, *, namespace: str | None = None) -> None:
        super().__init__(namespace)
        self._setup("" if client is not None else address(None), client)

    @classmethod
    def from_url(cls, url: str | None = None, *, namespace: str | None = None) -> Self:
        """`redis://`, `rediss://`, `unix://` or `embedded://`; without one NEXUS_REDIS_URL, else localhost. No I/O."""
        nexus = cls.__new__(cls)
        NexusShell.__init__(nexus, namespace)
        nexus._setup(address(url), None)
        return nexus

    def _setup(self, url: str, given: redis.asyncio.Redis | None) -> None:
        self._url, self._given = url, given
        self._shared: dict[str, Producer] = {}
        self._made = None if url.startswith("embedded:") else self._connect()
        self._made_sync: redis.Redis | None = None
        server = where(self._made) if self._made is not None else url
        self._reports = LoopThread(self._sync_client, server)
        self._hub = Hub(time.monotonic, self._wake, server)
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def _connect(self) -> redis.asyncio.Redis:
        return twin_async(self._given) if self._given is not None else connect_async(self.url)

    def _client(self) -> redis.asyncio.Redis:
        if self._made is None:
            self._made = self._connect()
        return self._made

    def _sync_client(self) -> redis.Redis:
        if self._made_sync is None:
            self._made_sync = sync_twin(self._given) if self._given is not None else connect(self.url)
        return self._made_sync

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

    async def budgets(self) -> list[str]:
        """The names of all budgets in this namespace."""
        names: list[str] = await self._drive(budget_names(self.namespace, self._hub.server))
        return names

    async def close(self) -> None:
        """Hand back every token, withdraw every consumer, end the task. Waiting callers get `Closed`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._hub.close(Closed("nexus"))
        try:
            if self._task is not None and self._loop is asyncio.get_running_loop():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._task, STOP_PATIENCE)
            if self._reports.is_running:
                await asyncio.to_thread(self._reports.stop, Closed("nexus"))
        finally:
            if self._made_sync is not None:
                self._made_sync.close()
            if self._server is not None:
                self._server.stop()
            if self._made is not None and self._made is not self._given:
                await self._made.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Nexus {self.namespace!r} at {self._hub.server}: {len(self._openings)} budgets>"

    # --- the loop

    def _enter(self) -> None:
        """Each use comes through here: the right loop, not closed, the task running."""
        running = asyncio.get_running_loop()
        if self._loop is not running:
            self._adopt(running)
        if self._is_closed:
            raise Closed("nexus")
        if self._task is None or self._task.done():
            self._task = running.create_task(self._run(), name="nexus-redis")

    def _adopt(self, running: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            raise WrongLoop(self._loop, running)
        self._loop, self._changed = running, asyncio.Event()

    async def _run(self) -> None:
        while True:
            try:
                await self._serve()
                return
            except Exception:
                log.exception("the refill loop met a bug; it goes on in a second")
                await asyncio.sleep(1.0)

    async def _serve(self) -> None:
        plan = refill(self._hub)
        outcomes: list[Outcome] | None = None
        assert self._changed is not None
        while True:
            self._changed.clear()
            try:
                step = plan.send(outcomes)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration:
                return
            if isinstance(step, Pause):
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if step.seconds == NEVER else step.seconds):
                        await self._changed.wait()
                outcomes = []
            else:
                outcomes = await perform_async(self._client, step)

    async def _drive(self, plan: Any) -> Any:
        self._enter()
        return await _drive(plan, self._client())

    def _after_fork(self) -> None:
        self._starting = threading.RLock()
        self._begin()
        self._hub.after_fork()
        self._reports.after_fork()
        self._made_sync = None
        if self._made is not None:
            # The sockets are the parent's too, and so is the epoll that they are in: closing ours would unhook its.
            _inherited.append(self._made)
            self._made = self._connect()


class Budget(BudgetShell):
    """The shared rate of one downstream. `acquire` here goes through one producer per process and budget."""

    def __init__(self, nexus: Nexus, name: str, settings: BudgetSettings) -> None:
        super().__init__(nexus, name, settings)
        self._nexus = nexus
        if self.name not in nexus._shared:
            nexus._shared[self.name] = Producer(nexus, self, None, self._producer_settings())
        self._shared = nexus._shared[self.name]

    async def acquire(self, cost: float = 1, timeout: float | Unset | None = UNSET) -> Grant:
        """Take `cost` tokens, waiting in turn; see `Producer.acquire`."""
        return await self._shared.acquire(cost, timeout)

    async def try_acquire(self, cost: float = 1) -> Grant | Denied:
        """Take `cost` tokens now or not at all; see `Producer.try_acquire`."""
        return await self._shared.try_acquire(cost)

    def pace(self, items: Iterable[T] | AsyncIterable[T], cost: float | Callable[[T], float] = 1) -> AsyncIterator[T]:
        """Yield the items at the budget's pace; `cost` is a number or a function of the item."""
        return self._shared.pace(items, cost)

    async def signal(self, requested_rate: float | str) -> FlowControl:
        """Say what you would send, and be told what you may: the bare protocol."""
        return await self._shared.signal(requested_rate)

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

    async def configure(self, **settings: Any) -> BudgetSnapshot:
        """Set what `nexus.budget` takes (rate, min_rate, burst, law...) from code; None takes a setting away."""
        unset = [name for name, value in settings.items() if value is None]
        given = BudgetSettings.of(**{name: value for name, value in settings.items() if value is not None})
        await self._configure(given, unset=unset)
        self._learn(given, unset)
        return await self.snapshot()

    async def pause(self, seconds: float | None = None, *, reason: str = "") -> None:
        """Stop the whole budget on all hosts, for `seconds` or until `resume`."""
        duration = UNTIL_RESUMED if seconds is None else parse_number("pause", seconds)
        await self._configure(None, pause=duration, note=reason[:200])

    async def resume(self) -> None:
        """End a pause."""
        await self._configure(None, pause=0.0)

    async def snapshot(self) -> BudgetSnapshot:
        """The budget as it stands: rate, level, settings, consumers, producers."""
        found: BudgetSnapshot = await self._nexus._drive(snapshot(self._keys, self._nexus._hub.server))
        return found

    async def _configure(self, settings: BudgetSettings | None, **change: Any) -> Configured:
        plan = told(self._opening, calls.configure(self._keys, settings, **change), self._nexus._hub.server)
        configured: Configured = await self._nexus._drive(plan)
        return configured


class Producer(ProducerShell):
    """Claims tokens and spends them locally. Tasks of one loop share it; waiters go in order."""

    def __init__(self, nexus: Nexus, budget: Budget, id: str | None, settings: ProducerSettings) -> None:
        self._nexus, self._settings, self._is_closed = nexus, settings, False
        name = parse_name(id, "id") if id is not None else None
        self._account = Account(nexus._hub, budget._keys, name, settings, budget._opening)

    async def acquire(self, cost: float = 1, timeout: float | Unset | None = UNSET) -> Grant:
        """Take `cost` tokens; wait in turn if they are not in hand. Raises `AcquireTimeout`, and takes nothing then.

        `timeout` in seconds; None waits; not given, the producer's. A cancelled task takes nothing either.
        """
        tokens = micro_cost(cost)
        now = time.monotonic()
        if self._spend(tokens, now):
            return GRANTED
        line = _TaskLine(tokens, now)
        await self._await(line, self._settings.timeout if isinstance(timeout, Unset) else timeout, cost)
        return Grant(cost, time.monotonic() - now, line.is_degraded)

    async def try_acquire(self, cost: float = 1) -> Grant | Denied:
        """Take all of `cost` now, or nothing; never waits for tokens, never overtakes who waits.

        With tokens in hand it is local. Else, when the last answer's `retry_after` is over, it asks once.
        """
        tokens = micro_cost(cost)
        now = time.monotonic()
        if self._spend(tokens, now):
            return GRANTED
        denied = self._account.denial(tokens, now)
        if denied is not None:
            return denied
        line = _TaskLine(tokens, now, whole=True)
        try:
            await self._await(line, TRY_PATIENCE, cost)
        except AcquireTimeout:
            return Denied(self._account.ledger.refresh, "unavailable")
        if line.denied is not None:
            return Denied(line.denied, self._account.reason)
        return Grant(cost, time.monotonic() - now, line.is_degraded)

    async def pace(
        self, items: Iterable[T] | AsyncIterable[T], cost: float | Callable[[T], float] = 1
    ) -> AsyncIterator[T]:
        """Yield the items one by one, each when its tokens are there; takes iterables and async iterables."""
        async for item in _each(items):
            await self.acquire(cost(item) if callable(cost) else cost)
            yield item

    async def signal(self, requested_rate: float | str) -> FlowControl:
        """Say what you would send (tokens/s) and be told what you may: the bare protocol, takes no tokens."""
        asker = _TaskAsker(round(parse_rate(requested_rate, "requested_rate") * MICRO), time.monotonic())
        await self._await(asker, self._settings.timeout, 0)
        assert asker.answer is not None
        return flow_of(self._account.keys.name, asker.answer)

    async def close(self) -> None:
        """Hand the tokens back and leave at once."""
        if self._is_closed or self._nexus._is_closed:
            return
        self._is_closed = True
        leaver = _TaskLine(0, time.monotonic())
        self._account.leave(Closed("producer"), leaver.since, leaver)
        if not self._nexus._hub.is_out:  # what is not handed back expires by itself
            await asyncio.wait([leaver.future], timeout=STOP_PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    def _check(self) -> None:
        if self._is_closed:
            raise Closed("producer")
        self._nexus._enter()

    def _spend(self, tokens: int, now: float) -> bool:
        self._check()
        return self._account.spend(tokens, now)

    async def _await(self, line: _TaskLine | _TaskAsker, timeout: float | None, cost: float) -> None:
        """Until the line is served or denied; raises what else became of it, and leaves nothing behind."""
        if timeout is not None:
            parse_number("timeout", timeout)
        self._check()
        try:
            self._account.wait(line)
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await line.future
            self._check_settled(line, cost)
        except BaseException:
            self._account.cancel(line, time.monotonic())
            raise
        if line.error is not None:
            raise line.error


class _TaskLine(Waiter):
    """A task that waits."""

    __slots__ = ("future",)

    def __init__(self, cost: int, since: float, *, whole: bool = False) -> None:
        super().__init__(cost, since, whole=whole)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _TaskAsker(Asker):
    __slots__ = ("future",)

    def __init__(self, rate: int, since: float) -> None:
        super().__init__(rate, since)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _TaskTicket(Ticket):
    """Settled in the reporting thread, awaited in the loop."""

    __slots__ = ("future", "loop")

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(since, pause_ms)
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Consumer(ConsumerShell):
    """Does the work and says how it fares, every interval, from a thread of the Nexus."""

    def __init__(self, nexus: Nexus, budget: Budget, id: str | None, settings: ConsumerSettings) -> None:
        self._nexus, self._is_closed = nexus, False
        name = parse_name(id, "id") if id is not None else None
        self._reporter = Reporter(nexus._reports.hub, budget._keys, name, settings, budget._opening)

    async def report(self, **said: float | None) -> float:
        """Say it yourself, at once, and each interval until you say otherwise; the answer is this consumer's rate now.

        load (percent), capacity (per second), latency_ms; in tokens queue_depth, queue_limit, done, errors, in_flight,
        slots.
        """
        self._reporter.meter.say(said_by_hand(said))
        return await self._ask(None)

    async def pause(self, seconds: float) -> None:
        """Take this consumer's part out of the budget for so long; 0 brings it back."""
        await self._ask(parse_number("pause", seconds) * 1e3)

    async def close(self) -> None:
        """Leave: this consumer's rate is out at once."""
        if self._is_closed or self._nexus._is_closed:
            return
        self._is_closed = True
        leaver = _TaskTicket(time.monotonic())
        with self._nexus._reports.lock:
            self._reporter.leave(Closed("consumer"), leaver.since, leaver)
        if not self._nexus._reports.hub.is_out:  # its reports end now, so its deadline will say the same
            await asyncio.wait([leaver.future], timeout=STOP_PATIENCE)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    def _start(self) -> None:
        if self._reporter.scheduled == NEVER:
            with self._nexus._reports.lock:
                if not self._is_closed and not self._nexus._is_closed:
                    self._nexus._reports.ensure_running()
                    self._reporter.start()

    async def _ask(self, pause_ms: float | None) -> float:
        if self._is_closed or self._nexus._is_closed:
            raise Closed("consumer")
        ticket = _TaskTicket(time.monotonic(), pause_ms)
        with self._nexus._reports.lock:
            self._nexus._reports.ensure_running()
            self._reporter.ask(ticket)
        await ticket.future
        if ticket.error is not None:
            raise ticket.error
        assert ticket.standing is not None
        return ticket.standing.rate


async def _drive(plan: Generator[list[Job] | Pause, list[Outcome], T], client: redis.asyncio.Redis) -> T:
    """Run a plan to its end in this task."""
    outcomes: list[Outcome] | None = None
    while True:
        try:
            step = plan.send(outcomes)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            outcomes = []
        else:
            outcomes = await perform_async(lambda: client, step)


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


_alive: weakref.WeakSet[Nexus] = weakref.WeakSet()
_inherited: list[redis.asyncio.Redis] = []  # a parent's clients, never touched again, never collected


def _after_fork_in_child() -> None:
    for nexus in list(_alive):
        nexus._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

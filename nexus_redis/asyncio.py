"""The async shell: tasks wait, one task talks to Redis. Same names as `nexus_redis`, same rules.

    from nexus_redis.asyncio import Nexus

    async with Nexus.from_url() as nexus:
        await nexus.budget("stripe", rate="100/s").acquire()

A Nexus belongs to the loop that first used it. Consumers report from a thread of their own, so that a blocked loop is
seen as load and not as death.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext, suppress
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import redis
import redis.asyncio

from nexus_redis._api.base import (
    UNSET,
    BudgetShell,
    ConsumerShell,
    NexusShell,
    ProducerShell,
    Unset,
    check_joint,
    consumer_settings,
    joint_costs,
    joint_limit,
    micro_cost,
    pause_length,
    said_by_hand,
)
from nexus_redis._api.configure import told
from nexus_redis._api.decorator import F, decorator, limited_async
from nexus_redis._api.pace import AsyncPaced
from nexus_redis._api.reservation import Settling, grant_of
from nexus_redis._core.consumer import Reporter, Ticket
from nexus_redis._core.multi_acquire import Joint
from nexus_redis._core.producer import Account
from nexus_redis._core.registration import NOTHING
from nexus_redis._core.signal_request import Asker, flow_of
from nexus_redis._core.sources import Source
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._drivers.tasks import LoopTask, running_loop
from nexus_redis._drivers.threaded import STOP_PATIENCE
from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import Configured
from nexus_redis._protocol.deletion import delete
from nexus_redis._protocol.explain import Explanation, explain
from nexus_redis._protocol.snapshot import BudgetSnapshot, budget_names, snapshot
from nexus_redis._redis.connect import (
    address,
    checked,
    connect,
    connect_async,
    is_single,
    placing,
    sync_twin,
    twin_async,
    where,
)
from nexus_redis._redis.embedded import EmbeddedServer
from nexus_redis._runtime.process_end import at_end
from nexus_redis._runtime.weak_call import Borrowed
from nexus_redis._values.cost import Cost, price_of
from nexus_redis._values.identity import whoami
from nexus_redis._values.log import log
from nexus_redis._values.parse import MICRO
from nexus_redis._values.results import GRANTED, Denied, Grant
from nexus_redis._values.settings import (
    BudgetSettings,
    ConsumerSettings,
    ProducerSettings,
    parse_name,
    parse_rate,
    parse_seconds,
)
from nexus_redis.errors import AcquireTimeout, Closed

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl

T = TypeVar("T")


class Nexus(NexusShell):
    """A connection to the coordinator: one task, one pool, any number of budgets.

    `Nexus(client)` uses a redis.asyncio client that you have; `Nexus.from_url()` makes one with short timeouts (a
    second to connect, and for a silent socket). It belongs to the event loop that first used it; another one gets
    `WrongLoop`, which names both. All its keys begin with `namespace` (NEXUS_REDIS_NAMESPACE, else "nexus"). While it
    claims, a second task and connection listen for drops of the rates, which are obeyed at once then and not a tenth of
    a second later; `push=False` goes without.
    """

    def __init__(
        self, client: redis.asyncio.Redis | None = None, *, namespace: str | None = None, push: bool = True
    ) -> None:
        super().__init__(namespace)
        given = None if client is None else checked(client, redis.asyncio.Redis)
        self._setup("" if given is not None else address(None), given, push=push)

    @classmethod
    def from_url(cls, url: str | None = None, *, namespace: str | None = None, push: bool = True) -> Self:
        """Open a Nexus on an address; without one NEXUS_REDIS_URL, else localhost. No I/O.

        - `redis://HOST:PORT/DB`, `rediss://` with TLS, `unix://PATH`: one server.
        - `redis+sentinel://HOST,HOST:PORT/NAME/DB`: the primary that the Sentinels call NAME (their port is 26379).
        - `redis+cluster://HOST,HOST:PORT`: a cluster, of which these are some nodes. Both with `rediss+`, too.
        - `embedded://`: a server of one's own, which ends with this process; `embedded://:6399` joins the one on that
          port or starts it.

        Raises `InvalidSetting` for an address that is none.
        """
        nexus = cls.__new__(cls)
        NexusShell.__init__(nexus, namespace)
        nexus._setup(address(url), None, push=push)
        return nexus

    def _setup(self, url: str, given: redis.asyncio.Redis | None, *, push: bool) -> None:
        self._url, self._given, self._push = url, given, push
        self._made = None if url.startswith("embedded:") else self._connect()
        self._made_sync: redis.Redis | None = None
        server = where(self._made) if self._made is not None else url
        client, sync_client = Borrowed(self._client), Borrowed(self._sync_client)
        self._reports = self._drivers.thread(sync_client, server)
        self._loop = self._drivers.task(client, server, self._reports)
        self._hub = self._loop.hub
        self._hub.place_of = placing(self._made, client)
        self._reports.hub.place_of = placing(self._made, sync_client)
        if push:
            self._loop.listen(Borrowed(self._connect) if is_single(self._made) else client)
        _alive.add(self)
        self._forgotten = weakref.finalize(self, _forget, self._loop, client, sync_client, given, self._servers)
        self._forgotten.atexit = False

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
        key: str | None = None,
        rate: float | str | None = None,
        min_rate: float | str | None = None,
        burst: float | str | None = None,
        law: str | None = None,
        combine: str | None = None,
        latency_target_ms: float | str | None = None,
        lossless: bool | None = None,
        transit: float | str | None = None,
        grace: float | str | None = None,
    ) -> Budget:
        """The budget of one downstream. No I/O; what is not given stays as it is, or follows the consumers.

        - `rate`: the ceiling, in tokens/s or as "6000/min"; where no consumer reports, the limit itself.
        - `min_rate`: a floor under what the consumers say, in tokens/s; only a pause and `lossless` go below it.
        - `burst`: how many seconds of the rate may go at once, beside one token; 0.25 unless told, 26 tokens at 100/s.
        - `law` ("drain", "range", "aimd") and `combine` ("sum", "spread", "min"): how reports become the rate.
        - `latency_target_ms`: what `aimd` takes for too slow.
        - `lossless`: never admit what the consumers cannot hold, which rests on `transit`: the seconds from a token
          spent to its work seen, 1 unless told.
        - `grace`: for so many seconds after the last consumer has left, the rate is no more than that one could take,
          so that a restart of the only consumer does not open the budget up to `rate`; 10 unless told.
        - `key`: one of many budgets of that name, one per customer for instance: any text of up to 256 bytes. What is
          not given is taken over from the budget `name`, when the key's is first used and once a minute while it is;
          idle ones make no calls. With 100/s set on "stripe", `nexus.budget("stripe", key="cust-42")` is a budget of
          100/s of its own, named "stripe/cust-42" in lists and errors.

        A rate is tokens/s, or a text like "100/s", "1.5k/min", "50 per 10 seconds"; a duration seconds, or "90s", "5m",
        "2h"; so it is wherever one is wanted. Raises `InvalidSetting` for a value out of its range, and for two values
        under one name in one process.
        """
        given = {
            "rate": rate, "min_rate": min_rate, "burst": burst, "law": law, "combine": combine,
            "latency_target_ms": latency_target_ms, "lossless": lossless, "transit": transit,
            "grace": grace,
        }  # fmt: skip
        settings = BudgetSettings.of(**given) if any(value is not None for value in given.values()) else NOTHING
        return Budget(self, name, key, settings)

    async def budgets(self) -> list[str]:
        """The names of all budgets in this namespace, sorted: those opened by somebody and still there.

        The budget of a key is `name/key`. `nexus.budget` takes the two apart: `budget("stripe", key="cust-42")`.
        """
        names: list[str] = await self._drive(budget_names(self.namespace, self._hub.server))
        return names

    async def acquire(
        self, costs: Mapping[Budget | Producer, float], timeout: float | str | Unset | None = UNSET
    ) -> Grant:
        """Take from several budgets at once, or from none: `nexus.acquire({requests: 1, tokens: 4_000})`.

        Waits its turn in all of them and holds none while it waits for another, so nobody can wait in a circle; those
        behind it pass where they can. `timeout` in seconds; None waits; 0 tries each of them once and waits for no
        token; not given, the shortest of the producers'. Raises `AcquireTimeout`, which names the slowest, and takes
        nothing then.

        With 60 requests and 10,000 tokens a minute, calls of 4,000 tokens go every 24 s, and the other 57 requests of a
        minute are free for calls that need no tokens.
        """
        self._enter()
        if self._hub.clock() >= self._loop.turn_ends:
            await self._loop.give_way()
        joint = _JointTask(joint_costs(self, costs), self._hub.clock())
        limit = joint_limit(costs, timeout)
        if limit == 0:
            return await self._try_all(costs, joint.since)
        if joint.spend(joint.since):
            return Grant(sum(costs.values()))
        try:
            joint.wait()
            await self._loop.wait(joint.future, limit)
            check_joint(joint, self._hub.clock())
        except BaseException:
            joint.cancel(self._hub.clock())
            raise
        if joint.error is not None:
            raise joint.error
        return Grant(sum(costs.values()), self._hub.clock() - joint.since, joint.is_degraded)

    async def _try_all(self, costs: Mapping[Budget | Producer, float], since: float) -> Grant:
        tries = [each.reserve(cost, timeout=0) for each, cost in costs.items()]
        async with AsyncExitStack() as undo:
            for reservation in tries:
                await undo.enter_async_context(reservation)
                undo.callback(reservation.settle, 0)
            undo.pop_all()
        return grant_of(tries, self._hub.clock() - since)

    async def close(self) -> None:
        """Hand back every token, withdraw every consumer, end the task. Waiting callers get `Closed`."""
        running_loop()
        if self._is_closed:
            return
        self._is_closed = True
        self._forgotten.detach()
        try:
            await self._loop.stop(Closed("nexus"))
        finally:
            if self._made_sync is not None:
                self._made_sync.close()
            for server in self._servers:
                server.stop()
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

    @property
    def _is_usable(self) -> bool:
        """It belongs to no loop yet, or to one that is there."""
        mine, running = self._loop.loop, asyncio._get_running_loop()
        return not self._is_closed and (mine is None or mine is running or (running is None and not mine.is_closed()))

    def _enter(self) -> None:
        """Each use comes through here: the right loop, not closed, the task running."""
        self._loop.adopt()
        if self._is_closed:
            raise Closed("nexus")
        self._loop.ensure_running()

    async def _drive(self, plan: Any) -> Any:
        self._enter()
        return await self._loop.drive(plan)

    def _after_fork(self) -> None:
        self._forget_locks()
        self._loop.after_fork()
        self._made_sync = None
        if self._made is not None:
            # The sockets are the parent's too, and so is the epoll that they are in: closing ours would unhook its.
            _inherited.append(self._made)
            self._made = None


class _Spender(ProducerShell):
    """Claims tokens and spends them locally; from `Budget.producer`. Tasks of one loop share it; waiters go in order.

    It holds leases: tokens that may be spent until half a second after they were asked for, at 60/s some 7 of them.
    """

    def __init__(self, nexus: Nexus, account: Account, settings: ProducerSettings) -> None:
        self._nexus, self._account, self._settings, self._is_closed = nexus, account, settings, False
        self._clock, self._loop = nexus._hub.clock, nexus._loop

    async def acquire(self, cost: float = 1, timeout: float | str | Unset | None = UNSET) -> Grant:
        """Take `cost` tokens (1e-6 to 1e9); wait in turn if they are not in hand.

        With 60 tokens/s for you, a loop of `await acquire()` runs 60 times a second. `timeout` in seconds; None waits;
        0 takes what `try_acquire` would take; not given, the producer's. A cancelled task takes nothing.

        Raises `AcquireTimeout`, and takes nothing then; `Unavailable` while Redis is away and the mode is "closed";
        `InvalidSetting`, `ServerRefused`, `Closed`, `WrongLoop`.
        """
        tray = self._account.ledger.tray
        if timeout is UNSET and get_ident() == self._loop.thread and cost is tray.cost and self._clock() < tray.expires:
            try:
                tray.pop()
                return GRANTED
            except IndexError:
                """It is empty: the ledger may have more."""
        limit = self._limit(timeout)
        tokens = micro_cost(cost)
        now = await self._turn()
        if self._spend(cost, tokens, now):
            return GRANTED
        line = _TaskLine(tokens, now, whole=limit == 0)
        await self._await(line, limit, cost)
        return Grant(cost, self._clock() - now, line.is_degraded)

    async def try_acquire(self, cost: float = 1) -> Grant | Denied:
        """Take all of `cost` now, or nothing; never waits for tokens, never overtakes who waits.

        With tokens in hand it is local. Else, when the last answer's `retry_after` is over, it asks once, which takes
        half a second at most near Redis. Tried every 6 s, "10/min" always succeeds. Raises `InvalidSetting` for a cost
        above any bucket that this process has seen or code asks for: it could never be met at once. One that fitted
        before the rate fell is denied until the rate is back.
        """
        tray = self._account.ledger.tray
        if get_ident() == self._loop.thread and cost is tray.cost and self._clock() < tray.expires:
            try:
                tray.pop()
                return GRANTED
            except IndexError:
                """It is empty: the ledger may have more."""
        tokens = micro_cost(cost)
        now = await self._turn()
        if self._spend(cost, tokens, now):
            return GRANTED
        denied = self._account.denial(tokens, now)
        if denied is not None:
            return denied
        line = _TaskLine(tokens, now, whole=True)
        try:
            await self._await(line, self._account.reach.patience, cost)
        except AcquireTimeout:
            return Denied(self._account.ledger.refresh, self._account.reason)
        if line.denied is not None:
            return self._account.denied(tokens, line.denied)
        return Grant(cost, self._clock() - now, line.is_degraded)

    def reserve(self, cost: float, timeout: float | str | Unset | None = UNSET) -> Reservation:
        """Tokens for work whose cost shows only when it is done: an estimate first, corrected by `settle`.

        `async with budget.reserve(4_000) as r: answer = ...; r.settle(answer.tokens)`. Waits as `acquire` does. What
        was too much goes back; what was too little is owed, and paid before this producer's next acquire is served.
        Never settled, or where the block raises before, the estimate stands.
        """
        return Reservation(self, cost, self._settings.timeout if isinstance(timeout, Unset) else timeout)

    def pace(self, items: Iterable[T] | AsyncIterable[T], cost: float | Callable[[T], float] = 1) -> AsyncIterator[T]:
        """Return an async iterator over `items`, async or not, that yields each when its tokens are there.

        Where acquiring raises, the item that was taken comes first when the iteration goes on: by asking this iterator
        again, or by `pace` with the same iterator as `items`. A task that is cancelled while it waits loses no item.
        Raises what `cost` does.
        """
        return AsyncPaced(items, price_of(cost), self.acquire, self._turn)

    async def signal(self, requested_rate: float | str) -> FlowControl:
        """Say what you would send (tokens/s) and be told what you may: the bare protocol, takes no tokens.

        A consumer of capacity 400 at 95 % load answers 10,000 with 100.
        """
        asker = _TaskAsker(round(parse_rate(requested_rate, "requested_rate") * MICRO), self._clock())
        await self._await(asker, self._settings.timeout, 0)
        assert asker.answer is not None
        return flow_of(self._account.keys.name, asker.answer)

    def _check(self) -> None:
        if self._is_closed:
            raise Closed("producer")
        self._nexus._enter()

    async def _turn(self) -> float:
        """The time, after others have had a turn where this one has lasted long."""
        self._check()
        now = self._clock()
        if now >= self._loop.turn_ends:
            await self._loop.give_way()
            now = self._clock()
        return now

    def _spend(self, cost: float, tokens: int, now: float) -> bool:
        is_served = self._account.spend(tokens, now)
        if is_served:
            self._account.ledger.lay_out(cost, self._loop.turn_ends)
        return is_served

    async def _await(self, line: _TaskLine | _TaskAsker, timeout: float | str | None, cost: float) -> None:
        """Wait until the line is served or denied; raise what else became of it, and leave nothing behind."""
        if timeout is not None:
            timeout = parse_seconds(timeout, "timeout")
        self._check()
        is_now = line.whole and timeout == 0
        try:
            if is_now:
                self._refuse_now(line, cost, self._account.denial(line.cost, line.since, must_fit=False))
            self._account.wait(line)
            await self._nexus._loop.wait(line.future, self._account.reach.patience if is_now else timeout)
            self._check_settled(line, cost)
        except BaseException:
            self._account.cancel(line, self._clock())
            raise
        if line.error is not None:
            raise line.error
        if is_now and line.denied is not None:
            self._refuse_now(line, cost, self._account.denied(line.cost, line.denied, must_fit=False))


class Budget(BudgetShell["Consumer"], _Spender):
    """The shared rate of one downstream; from `Nexus.budget`. Holds no connection of its own.

    `acquire`, `try_acquire`, `reserve`, `pace`, `limited` and `signal` here go through one producer per process and
    budget, which everybody in the process shares: a hundred threads on a budget of 100/s wait in one line.
    """

    def __init__(self, nexus: Nexus, name: str, key: str | None, settings: BudgetSettings) -> None:
        BudgetShell.__init__(self, nexus, name, key, settings)
        common = self._producer_settings()
        _Spender.__init__(self, nexus, nexus._shared_account(nexus._hub, self._opening, common), common)

    @overload
    def limited(self, function: F, /) -> F: ...

    @overload
    def limited(
        self, function: None = None, /, *, cost: Cost = 1, timeout: float | str | Unset | None = UNSET
    ) -> Callable[[F], F]: ...

    def limited(
        self, function: F | None = None, /, *, cost: Cost = 1, timeout: float | str | Unset | None = UNSET
    ) -> Any:
        """A decorator: each call takes `cost` tokens first, waiting in turn, and then runs.

        `@budget.limited`, or `@budget.limited(cost=...)`: a number, or a function of the call's arguments, whose errors
        reach the caller. For async def and async generators (which take theirs with the first item); def needs a budget
        of `nexus_redis`.
        """

        def wrap(wrapped: Any, price: Callable[..., float]) -> Any:
            return limited_async(wrapped, price, lambda tokens: self.acquire(tokens, timeout))

        decorate: Callable[[F], F] = decorator(cost, wrap)
        return decorate if function is None else decorate(function)

    def producer(
        self,
        id: str | None = None,
        *,
        weight: float = 1.0,
        priority: str = "normal",
        timeout: float | str | None = None,
        on_outage: str | None = None,
        smooth: bool = False,
    ) -> Producer:
        """A producer of one's own, with its own part of the budget. No I/O; best used in a `with`.

        - `id`: its name in Redis; host, process and some letters unless told.
        - `weight`: 0.01 to 1000. On 120/s, two that want more get 80 and 40 with weights 2 and 1.
        - `priority`: "high", "normal" or "low", strictly in this order, but each class that asks keeps 5 %.
        - `timeout`: seconds that an acquire waits unless it says otherwise; None waits as long as it takes.
        - `on_outage`: while Redis is away "share" goes on with half of the last share for up to 5 minutes, "closed"
          gives nothing (and who waits 5 s gets `Unavailable`), "open" everything. A process that starts meanwhile has
          had no share, so "share" is "closed" to it.
        - `smooth`: tokens that came together are spent evenly until the next come, at any rate. Below 300 acquires/s
          that is so by itself wherever tokens are short: a loop at 60/s waits 16 ms for each, not 90 ms for every
          sixth. It costs a wake-up a token.
        """
        settings = self._producer_settings(
            weight=weight, priority=priority, timeout=timeout, on_outage=on_outage, smooth=smooth
        )
        name = parse_name(id, "id") if id is not None else None
        account = Account(self._nexus._hub, self._keys, name, settings, self._opening)
        return Producer(self._nexus, account, settings)

    def consumer(
        self,
        id: str | None = None,
        *,
        capacity: float | str | None = None,
        interval: float | str = 0.25,
        observe: bool = False,
    ) -> Consumer:
        """A consumer of this budget: say how it fares and the rate follows. No I/O until it is used; best in a `with`.

        - `id`: its name in Redis; host, process and some letters unless told.
        - `capacity`: tokens/s that it can do, or "400/s": where the laws begin, and their ceiling. Learned unless told.
        - `interval`: seconds between two reports. Silent for three of them, two seconds at least, its rate is out.
        - `observe`: for a downstream that cannot report itself. Each process that sends to it is one consumer, with
          `work` around each request, and the rates that they find add up. Its capacity is then what this process sends,
          four times over, so that one that is idle holds nothing: of ten that send 10/s each, nine may stop, and the
          tenth sends 100/s some seconds later. `capacity` is then what an idle one keeps, and where it begins; it is
          0.1/s and 1/s unless told.
        """
        return Consumer(self._nexus, self, id, consumer_settings(capacity, interval, observe))

    def _watch(self, source: Source, capacity: float | str | None, interval: float | str) -> Consumer:
        consumer = Consumer(self._nexus, self, None, consumer_settings(capacity, interval), source)
        consumer._check()
        consumer.start()
        return consumer

    async def configure(self, **settings: Any) -> BudgetSnapshot:
        """Set what `Nexus.budget` takes (rate, min_rate, burst, law...) from code; None takes a setting away.

        What an operator has set stays in force. Raises `InvalidSetting`. Returns the budget as it then stands.
        """
        unset = [name for name, value in settings.items() if value is None]
        given = BudgetSettings.of(**{name: value for name, value in settings.items() if value is not None})
        await self._configure(given, unset=unset)
        self._opening.learn(given, unset)
        return await self.snapshot()

    async def pause(self, seconds: float | str | None = None, *, reason: str = "") -> None:
        """Stop the whole budget on all hosts, for `seconds` (or "90s", "5m"; a day at most) or until `resume`.

        Producers that listen stop within milliseconds, others with their next claim, a tenth of a second later; where
        that is lost, what was granted before may be spent for half a second. Callers that wait go on when the pause is
        over, and at once after `resume`. What the bucket held stays, and it earns nothing meanwhile: a pause of 0.2 s
        at 100/s costs 20 tokens. `reason`, cut to 200 bytes, is told to everybody who asks.
        """
        await self._configure(None, pause=pause_length(seconds), note=reason)
        self._account.obey(0)

    async def resume(self) -> None:
        """End a pause."""
        await self._configure(None, pause=0.0)

    async def snapshot(self) -> BudgetSnapshot:
        """The budget as it stands: rate, level, settings, consumers, producers (the first 500 of each)."""
        found: BudgetSnapshot = await self._nexus._drive(snapshot(self._keys, self._nexus._hub.server))
        return found

    async def explain(self) -> Explanation:
        """Why the rate is what it is: whose report, ceiling, pause or silence, since when, what would raise it."""
        why: Explanation = await self._nexus._drive(
            explain(self._keys, self._nexus._hub.server, self._nexus._hub.clock)
        )
        return why

    async def delete(self) -> bool:
        """Delete all that Redis knows of it, and say whether there was anything.

        Whoever uses it opens it again, with code's settings: what an operator had set is gone.
        """
        count: int = await self._nexus._drive(delete(self._keys, self._nexus._hub.server))
        return count > 0

    async def _configure(self, settings: BudgetSettings | None, **change: Any) -> Configured:
        call = calls.configure(self._keys, settings, who=whoami(), **change)
        plan = told(self._opening, call, self._nexus._hub.server)
        configured: Configured = await self._nexus._drive(plan)
        return configured


class Producer(_Spender):
    """A producer of one's own, with its own part of the budget; from `Budget.producer`."""

    async def close(self) -> None:
        """Hand the tokens back and leave at once."""
        if self._is_closed or self._nexus._is_closed:
            return
        self._is_closed = True
        leaver = _TaskLine(0, self._clock())
        self._account.leave(Closed("producer"), leaver.since, leaver)
        if not self._account.reach.is_out:  # what is not handed back expires by itself
            await self._nexus._loop.wait(leaver.future, STOP_PATIENCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()


class Reservation(Settling):
    """Tokens taken on an estimate; see `Producer.reserve`. `settle` is not awaited: it makes no call."""

    def __init__(self, producer: _Spender, cost: float, timeout: float | str | None) -> None:
        self._producer, self._account, self._timeout = producer, producer._account, timeout
        self.cost, self._tokens = cost, micro_cost(cost)
        self.grant = self._ledger = None

    async def __aenter__(self) -> Self:
        self._begin()
        self._producer._check()
        self._waiter = line = _TaskLine(self._tokens, await self._producer._turn(), whole=self._timeout == 0)
        is_warm = self._account.take(line, line.since)
        if not is_warm:
            await self._producer._await(line, self._timeout, self.cost)
        self._ledger = self._account.ledger
        self.grant = Grant(self.cost, 0.0 if is_warm else self._producer._clock() - line.since, line.is_degraded)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """What was not settled stands."""

    def _locked(self) -> AbstractContextManager[object]:
        return nullcontext()


class _JointTask(Joint):
    def __init__(self, costs: Mapping[Account, int], since: float) -> None:
        super().__init__(costs, since)
        self.future: asyncio.Future[None] = running_loop().create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _TaskLine(Waiter):
    """A task that waits."""

    __slots__ = ("future",)

    def __init__(self, cost: int, since: float, *, whole: bool = False) -> None:
        super().__init__(cost, since, whole=whole)
        self.future: asyncio.Future[None] = running_loop().create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _TaskAsker(Asker):
    __slots__ = ("future",)

    def __init__(self, rate: int, since: float) -> None:
        super().__init__(rate, since)
        self.future: asyncio.Future[None] = running_loop().create_future()

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _TaskTicket(Ticket):
    """Settled in the reporting thread, awaited in the loop."""

    __slots__ = ("future", "loop")

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(since, pause_ms)
        self.loop = running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Consumer(ConsumerShell):
    """Does the work and says how it fares, every interval, from a thread of the Nexus; from `Budget.consumer`.

    `watch` a queue and put `work` around the work, or `report` it yourself. It begins with the first of them, or with
    its `with`. The thread makes a blocked loop be seen as load and not as death.
    """

    _nexus: Nexus

    def __init__(
        self, nexus: Nexus, budget: Budget, id: str | None, settings: ConsumerSettings, source: Source | None = None
    ) -> None:
        self._nexus, self._is_closed = nexus, False
        name = parse_name(id, "id") if id is not None else None
        self._reporter = Reporter(nexus._reports.hub, budget._keys, name, settings, budget._opening, source)

    async def report(self, **said: float | None) -> float:
        """Say it yourself, at once, and each interval until you say otherwise; the answer is this consumer's rate now.

        load (percent), capacity (per second), latency_ms; in tokens queue_depth, queue_limit, done, errors, in_flight,
        slots. `report(load=95, capacity=400)` is 100.0. Raises `InvalidSetting` where no rate follows: `load` alone
        says how full, not how fast.
        """
        self._reporter.meter.say(said_by_hand(said))
        return await self._ask(None)

    async def pause(self, seconds: float | str) -> None:
        """Take this consumer's part out of the budget for so many seconds; 0 brings it back.

        Of 400/s, to which it adds 100, 300 are left.
        """
        await self._ask(parse_seconds(seconds, "pause") * 1e3)

    async def close(self) -> None:
        """Leave: this consumer's rate is out at once."""
        if self._is_closed or self._nexus._is_closed:
            return
        self._is_closed = True
        leaver = _TaskTicket(self._reporter.hub.clock())
        with self._nexus._reports.lock:
            self._reporter.leave(Closed("consumer"), leaver.since, leaver)
        if not self._reporter.reach.is_out:  # its reports end now, so its deadline will say the same
            await self._nexus._loop.wait(leaver.future, STOP_PATIENCE)

    async def __aenter__(self) -> Self:
        try:  # known to the budget from here on; where Redis does not answer, as soon as it does
            await self._nexus._loop.wait(self._report_now(None).future, self._reporter.reach.patience)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()

    def _check(self) -> None:
        super()._check()
        if self._nexus._reports.hub.is_closing:  # with its loop
            raise Closed("nexus")

    def start(self) -> None:
        """Begin to report every `interval` (0.25 s). No-op for a consumer that reports already or is closed.

        `watch`, `work` and `report` start a consumer by themselves. Call `start` where callers take tokens before the
        first work comes: without a report, a budget that has no rate in code gives no token. The call does no I/O; a
        thread of the Nexus sends the first report at once.
        """
        if self._reporter.scheduled == NEVER or self._reporter.meter.is_unheard:
            self._nexus._loop.note_use()
            with self._nexus._reports.lock:
                if not self._is_closed and not self._nexus._is_closed:
                    self._nexus._reports.ensure_running()
                    self._reporter.start()

    def _report_now(self, pause_ms: float | None) -> _TaskTicket:
        self._check()
        self._nexus._loop.note_use()
        ticket = _TaskTicket(self._reporter.hub.clock(), pause_ms)
        with self._nexus._reports.lock:
            self._nexus._reports.ensure_running()
            self._reporter.ask(ticket)
        return ticket

    async def _ask(self, pause_ms: float | None) -> float:
        ticket = self._report_now(pause_ms)
        await self._nexus._loop.wait(ticket.future)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.standing is not None
        return ticket.standing.rate


_alive: weakref.WeakSet[Nexus] = weakref.WeakSet()
_inherited: list[redis.asyncio.Redis] = []  # a parent's clients, never touched again, never collected


def _forget(
    loop: LoopTask,
    client: Borrowed[redis.asyncio.Redis],
    sync_client: Borrowed[redis.Redis],
    given: redis.asyncio.Redis | None,
    servers: list[EmbeddedServer],
) -> None:
    """Nobody refers to the Nexus any more: end what it has begun. Called by the garbage collector."""

    def let_go() -> None:
        if sync_client.last is not None:
            sync_client.last.close()
        for server in servers:
            server.stop()

    async def end() -> None:
        try:
            await loop.stop(Closed("nexus"))
        finally:
            let_go()
            if client.last is not None and client.last is not given:
                await client.last.aclose()

    loop.forget(end, let_go)


def _end_reports() -> None:
    """At the end of a process no event loop is there to close them: consumers leave rather than fall silent."""
    for nexus in list(_alive):
        try:
            nexus._reports.end(Closed("nexus"), lambda: None)
        except Exception:
            log.exception("%r did not close well", nexus)


def _after_fork_in_child() -> None:
    for nexus in list(_alive):
        try:
            nexus._after_fork()
        except Exception:  # the others must not go on as if they were the parent
            log.exception("%r does not work in this forked child", nexus)


at_end(_end_reports)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""The sync shell: threads wait, others talk to Redis.

nexus = Nexus.from_url("redis://localhost:6379/0")
budget = nexus.budget("stripe", rate="100/s")
budget.acquire()
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import redis

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
from nexus_redis._api.decorator import F, decorator, limited_sync
from nexus_redis._api.pace import Paced
from nexus_redis._api.reservation import Settling, grant_of
from nexus_redis._core.consumer import Reporter, Ticket
from nexus_redis._core.multi_acquire import Joint
from nexus_redis._core.producer import Account
from nexus_redis._core.registration import NOTHING
from nexus_redis._core.signal_request import Asker, flow_of
from nexus_redis._core.sources import Source
from nexus_redis._core.waiter import NEVER
from nexus_redis._drivers.threaded import Line, LoopThread
from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import Configured
from nexus_redis._protocol.deletion import delete
from nexus_redis._protocol.explain import Explanation, explain
from nexus_redis._protocol.snapshot import BudgetSnapshot, budget_names, snapshot
from nexus_redis._redis.connect import address, checked, connect, is_single, placing, twin, where
from nexus_redis._redis.embedded import EmbeddedServer
from nexus_redis._runtime.locks import Latch
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
from nexus_redis.errors import AcquireTimeout, Closed, ReentrantCall

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl

T = TypeVar("T")


class Nexus(NexusShell):
    """A connection to the coordinator: a few threads, one pool, any number of budgets. Safe to share between threads.

    `Nexus(client)` uses a redis-py client that you have; `Nexus.from_url()` makes one with short timeouts (a second to
    connect, and for a silent socket). Neither does I/O, and a forked child starts afresh by itself, so a module is a
    good place for it. All its keys begin with `namespace` (NEXUS_REDIS_NAMESPACE, else "nexus"). With 40 threads on 3
    budgets it sends one batch of claims ten times a second. While it claims, a second thread and connection listen for
    drops of the rates, which are obeyed at once then and not a tenth of a second later; `push=False` goes without.
    """

    def __init__(self, client: redis.Redis | None = None, *, namespace: str | None = None, push: bool = True) -> None:
        super().__init__(namespace)
        given = None if client is None else checked(client, redis.Redis)
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

    def _setup(self, url: str, given: redis.Redis | None, *, push: bool) -> None:
        self._url, self._given, self._push = url, given, push
        self._made = None if url.startswith("embedded:") else self._connect()
        client = Borrowed(self._client)
        self._loop = self._drivers.thread(client, where(self._made) if self._made is not None else url)
        self._hub = self._loop.hub
        self._hub.place_of = placing(self._made, client)
        if push:
            self._loop.listen(Borrowed(self._connect) if is_single(self._made) else client)
        _alive.add(self)
        self._forgotten = weakref.finalize(self, _forget, self._loop, client, given, self._servers)
        self._forgotten.atexit = False

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

    def budgets(self) -> list[str]:
        """The names of all budgets in this namespace, sorted: those opened by somebody and still there.

        The budget of a key is `name/key`. `nexus.budget` takes the two apart: `budget("stripe", key="cust-42")`.
        """
        names: list[str] = self._drive(budget_names(self.namespace, self._hub.server))
        return names

    def acquire(self, costs: Mapping[Budget | Producer, float], timeout: float | str | Unset | None = UNSET) -> Grant:
        """Take from several budgets at once, or from none: `nexus.acquire({requests: 1, tokens: 4_000})`.

        Waits its turn in all of them and holds none while it waits for another, so nobody can wait in a circle; those
        behind it pass where they can. `timeout` in seconds; None waits; 0 tries each of them once and waits for no
        token; not given, the shortest of the producers'. Raises `AcquireTimeout`, which names the slowest, and takes
        nothing then.
        With 60 requests and 10,000 tokens a minute, calls of 4,000 tokens go every 24 s, and the other 57 requests of a
        minute are free for calls that need no tokens.
        """
        loop = self._loop
        with loop.entry:
            joint = _JointLine(joint_costs(self, costs), self._hub.clock())
            limit = joint_limit(costs, timeout)
            if limit != 0 and joint.spend(joint.since):
                return Grant(sum(costs.values()))
        if limit == 0:
            return self._try_all(costs, joint.since)
        try:
            with loop.lock:
                loop.ensure_running()
                joint.wait()
            loop.wait(joint.event, limit)
            with loop.lock:
                check_joint(joint, self._hub.clock())
        except BaseException:
            with loop.lock:
                joint.cancel(self._hub.clock())
            raise
        if joint.error is not None:
            raise joint.error
        return Grant(sum(costs.values()), self._hub.clock() - joint.since, joint.is_degraded)

    def _try_all(self, costs: Mapping[Budget | Producer, float], since: float) -> Grant:
        tries = [each.reserve(cost, timeout=0) for each, cost in costs.items()]
        with ExitStack() as undo:
            for reservation in tries:
                undo.enter_context(reservation)
                undo.callback(reservation.settle, 0)
            undo.pop_all()
        return grant_of(tries, self._hub.clock() - since)

    def close(self) -> None:
        """Hand back every token, withdraw every consumer, end the thread. Waiting callers get `Closed`.

        A signal handler may call it, too. Where the signal has interrupted another call of this Nexus, the rest is done
        by a thread as soon as that call has ended, and the interpreter waits for it when it exits.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._forgotten.detach()
        self._loop.end(Closed("nexus"), self._let_go)

    def _let_go(self) -> None:
        if self._made is not None and self._made is not self._given:
            self._made.close()
        for server in self._servers:
            server.stop()

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
        return self._loop.drive(plan)

    def _after_fork(self) -> None:
        self._forget_locks()
        self._loop.after_fork()
        self._made = None  # its sockets are the parent's too; the next use makes another


class _Spender(ProducerShell):
    """Claims tokens and spends them locally; from `Budget.producer`. Shared by threads, who wait in order.

    It holds leases: tokens that may be spent until half a second after they were asked for, at 60/s some 7 of them.
    """

    def __init__(self, nexus: Nexus, account: Account, settings: ProducerSettings) -> None:
        self._nexus, self._account, self._settings, self._is_closed = nexus, account, settings, False
        self._clock = nexus._hub.clock

    def acquire(self, cost: float = 1, timeout: float | str | Unset | None = UNSET) -> Grant:
        """Take `cost` tokens (1e-6 to 1e9); wait in turn if they are not in hand.

        With 60 tokens/s for you, a loop of acquire() runs 60 times a second; all but some ten of them in a second are
        local: the clock is read, a token taken. `timeout` in seconds; None waits; 0 takes what `try_acquire` would
        take; not given, the producer's. A cost above the bucket is collected over several claims, and holds its place
        in the line meanwhile.

        Raises `AcquireTimeout`, and takes nothing then; `Unavailable` while Redis is away and the mode is "closed";
        `InvalidSetting`, `ServerRefused`, `Closed`.
        """
        tray = self._account.ledger.tray
        if timeout is UNSET and cost is tray.cost and self._clock() < tray.expires:
            try:
                tray.pop()
                return GRANTED
            except IndexError:
                """It is empty: the ledger may have more."""
        limit = self._limit(timeout)
        tokens = micro_cost(cost)
        lock = self._nexus._loop.lock
        if lock._is_owned():  # as `entry` does, at the price of a method less
            raise ReentrantCall
        with lock:
            now = self._clock()
            if self._spend(cost, tokens, now):
                return GRANTED
        line = Line(tokens, now, whole=limit == 0)
        self._await(line, limit, cost)
        return Grant(cost, self._clock() - now, line.is_degraded)

    def try_acquire(self, cost: float = 1) -> Grant | Denied:
        """Take all of `cost` now, or nothing; never waits for tokens, never overtakes who waits.

        With tokens in hand it is local. Else, when the last answer's `retry_after` is over, it asks once, which takes
        half a second at most near Redis. Tried every 6 s, "10/min" always succeeds. Raises `InvalidSetting` for a cost
        above any bucket that this process has seen or code asks for: it could never be met at once. One that fitted
        before the rate fell is denied until the rate is back.
        """
        tray = self._account.ledger.tray
        if cost is tray.cost and self._clock() < tray.expires:
            try:
                tray.pop()
                return GRANTED
            except IndexError:
                """It is empty: the ledger may have more."""
        tokens = micro_cost(cost)
        with self._nexus._loop.entry:
            now = self._clock()
            if self._spend(cost, tokens, now):
                return GRANTED
            denied = self._account.denial(tokens, now)
        if denied is not None:
            return denied
        line = Line(tokens, now, whole=True)
        try:
            self._await(line, self._account.reach.patience, cost)
        except AcquireTimeout:
            return Denied(self._account.ledger.refresh, self._account.reason)
        if line.denied is not None:
            return self._account.denied(tokens, line.denied)
        return Grant(cost, self._clock() - now, line.is_degraded)

    def reserve(self, cost: float, timeout: float | str | Unset | None = UNSET) -> Reservation:
        """Tokens for work whose cost shows only when it is done: an estimate first, corrected by `settle`.

        `with budget.reserve(4_000) as r: answer = ...; r.settle(answer.tokens)`. Waits as `acquire` does. What was too
        much goes back; what was too little is owed, and paid before this producer's next acquire is served. Never
        settled, or where the block raises before, the estimate stands.
        """
        return Reservation(self, cost, self._settings.timeout if isinstance(timeout, Unset) else timeout)

    def pace(self, items: Iterable[T], cost: float | Callable[[T], float] = 1) -> Iterator[T]:
        """Return an iterator over `items` that yields each when its tokens are there. Raises what `cost` does.

        Where acquiring raises, the item that waited comes first when the iteration goes on: by asking this iterator
        again, or by `pace` with the same iterator as `items`, after an `AcquireTimeout` for instance.
        """
        return Paced(items, price_of(cost), self.acquire)

    def signal(self, requested_rate: float | str) -> FlowControl:
        """Say what you would send (tokens/s) and be told what you may: the bare protocol, takes no tokens.

        A consumer of capacity 400 at 95 % load answers 10,000 with 100.
        """
        asker = _LineAsker(round(parse_rate(requested_rate, "requested_rate") * MICRO), self._clock())
        self._await(asker, self._settings.timeout, 0)
        assert asker.answer is not None
        return flow_of(self._account.keys.name, asker.answer)

    def _check(self) -> None:
        if self._is_closed:
            raise Closed("producer")
        if self._nexus._is_closed:
            raise Closed("nexus")

    def _wait(self, cost: float) -> float:
        with self._nexus._loop.entry:
            return super()._wait(cost)

    def _spend(self, cost: float, tokens: int, now: float) -> bool:
        self._check()
        is_served = self._account.spend(tokens, now)
        if is_served:
            self._account.ledger.lay_out(cost)
        return is_served

    def _await(self, line: Line | _LineAsker, timeout: float | str | None, cost: float) -> None:
        """Wait until the line is served or denied; raise what else became of it, and leave nothing behind."""
        if timeout is not None:
            timeout = parse_seconds(timeout, "timeout")
        loop, is_now = self._nexus._loop, line.whole and timeout == 0
        lock = loop.entry
        try:
            with lock:
                self._check()
                loop.ensure_running()
                if is_now:
                    self._refuse_now(line, cost, self._account.denial(line.cost, line.since, must_fit=False))
                self._account.wait(line)
            if not loop.wait(line.event, self._account.reach.patience if is_now else timeout):
                with loop.lock:
                    self._check_settled(line, cost)
        except BaseException:
            with loop.lock:
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
        reach the caller. For def and generators (which take theirs with the first item); async def needs a budget of
        `nexus_redis.asyncio`. At 100/s, `@budget.limited(cost=len) def insert(rows)` inserts 100 rows a second.
        """

        def wrap(wrapped: Any, price: Callable[..., float]) -> Any:
            return limited_sync(wrapped, price, lambda tokens: self.acquire(tokens, timeout))

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

    def configure(self, **settings: Any) -> BudgetSnapshot:
        """Set what `Nexus.budget` takes (rate, min_rate, burst, law...) from code; None takes a setting away.

        What an operator has set stays in force. Raises `InvalidSetting`. Returns the budget as it then stands.
        """
        unset = [name for name, value in settings.items() if value is None]
        given = BudgetSettings.of(**{name: value for name, value in settings.items() if value is not None})
        self._configure(given, unset=unset)
        self._opening.learn(given, unset)
        return self.snapshot()

    def pause(self, seconds: float | str | None = None, *, reason: str = "") -> None:
        """Stop the whole budget on all hosts, for `seconds` (or "90s", "5m"; a day at most) or until `resume`.

        Producers that listen stop within milliseconds, others with their next claim, a tenth of a second later; where
        that is lost, what was granted before may be spent for half a second. Callers that wait go on when the pause is
        over, and at once after `resume`. What the bucket held stays, and it earns nothing meanwhile: a pause of 0.2 s
        at 100/s costs 20 tokens. `reason`, cut to 200 bytes, is told to everybody who asks.
        """
        lock = self._nexus._loop.entry
        self._configure(None, pause=pause_length(seconds), note=reason)
        with lock:
            self._account.obey(0)

    def resume(self) -> None:
        """End a pause."""
        self._configure(None, pause=0.0)

    def snapshot(self) -> BudgetSnapshot:
        """The budget as it stands: rate, level, settings, consumers, producers (the first 500 of each)."""
        found: BudgetSnapshot = self._nexus._drive(snapshot(self._keys, self._nexus._hub.server))
        return found

    def explain(self) -> Explanation:
        """Why the rate is what it is: whose report, ceiling, pause or silence, since when, what would raise it."""
        why: Explanation = self._nexus._drive(explain(self._keys, self._nexus._hub.server, self._nexus._hub.clock))
        return why

    def delete(self) -> bool:
        """Delete all that Redis knows of it, and say whether there was anything.

        Whoever uses it opens it again, with code's settings: what an operator had set is gone.
        """
        count: int = self._nexus._drive(delete(self._keys, self._nexus._hub.server))
        return count > 0

    def _configure(self, settings: BudgetSettings | None, **change: Any) -> Configured:
        call = calls.configure(self._keys, settings, who=whoami(), **change)
        configured: Configured = self._nexus._drive(told(self._opening, call, self._nexus._hub.server))
        return configured


class Producer(_Spender):
    """A producer of one's own, with its own part of the budget; from `Budget.producer`."""

    def close(self) -> None:
        """Hand the tokens back and leave: its share is the others' within a quarter of a second or so."""
        if self._is_closed or self._nexus._is_closed:
            return
        self._is_closed = True
        leaver = Line(0, self._clock())
        self._nexus._loop.leave(self._account, Closed("producer"), leaver, leaver.event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class Reservation(Settling):
    """Tokens taken on an estimate, `cost`; see `Producer.reserve`. Inside its `with`, `grant` is what was granted."""

    def __init__(self, producer: _Spender, cost: float, timeout: float | str | None) -> None:
        self._producer, self._account, self._timeout = producer, producer._account, timeout
        self.cost, self._tokens = cost, micro_cost(cost)
        self.grant = self._ledger = None

    def __enter__(self) -> Self:
        self._begin()
        with self._locked():
            self._waiter = line = Line(self._tokens, self._producer._clock(), whole=self._timeout == 0)
            self._producer._check()
            is_warm = self._account.take(line, line.since)
        if not is_warm:
            self._producer._await(line, self._timeout, self.cost)
        self._ledger = self._account.ledger
        self.grant = Grant(self.cost, 0.0 if is_warm else self._producer._clock() - line.since, line.is_degraded)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """What was not settled stands."""

    def _locked(self) -> AbstractContextManager[object]:
        return self._producer._nexus._loop.entry


class _JointLine(Joint):
    def __init__(self, costs: Mapping[Account, int], since: float) -> None:
        super().__init__(costs, since)
        self.event = Latch()

    def wake(self) -> None:
        self.event.set()


class _LineAsker(Asker):
    __slots__ = ("event",)

    def __init__(self, rate: int, since: float) -> None:
        super().__init__(rate, since)
        self.event = Latch()

    def wake(self) -> None:
        self.event.set()


class _LineTicket(Ticket):
    __slots__ = ("event",)

    def __init__(self, since: float, pause_ms: float | None = None) -> None:
        super().__init__(since, pause_ms)
        self.event = Latch()

    def wake(self) -> None:
        self.event.set()


class Consumer(ConsumerShell):
    """Does the work and says how it fares, every interval, from the Nexus' thread; from `Budget.consumer`.

    `watch` a queue and put `work` around the work, or `report` it yourself. It begins with the first of them, or with
    its `with`. One that can do 400/s and is 95 % full takes 100/s.
    """

    _nexus: Nexus

    def __init__(
        self, nexus: Nexus, budget: Budget, id: str | None, settings: ConsumerSettings, source: Source | None = None
    ) -> None:
        self._nexus, self._is_closed = nexus, False
        name = parse_name(id, "id") if id is not None else None
        self._reporter = Reporter(nexus._hub, budget._keys, name, settings, budget._opening, source)

    def report(self, **said: float | None) -> float:
        """Say it yourself, at once, and each interval until you say otherwise; the answer is this consumer's rate now.

        load (percent), capacity (per second), latency_ms; in tokens queue_depth, queue_limit, done, errors, in_flight,
        slots. `report(load=95, capacity=400)` is 100.0. Raises `InvalidSetting` where no rate follows: `load` alone
        says how full, not how fast.
        """
        self._reporter.meter.say(said_by_hand(said))
        return self._ask(None)

    def pause(self, seconds: float | str) -> None:
        """Take this consumer's part out of the budget for so many seconds; 0 brings it back.

        Of 400/s, to which it adds 100, 300 are left.
        """
        self._ask(parse_seconds(seconds, "pause") * 1e3)

    def close(self) -> None:
        """Leave: this consumer's rate is out at once."""
        if self._is_closed or self._nexus._is_closed:
            return
        self._is_closed = True
        leaver = _LineTicket(self._reporter.hub.clock())
        self._nexus._loop.leave(self._reporter, Closed("consumer"), leaver, leaver.event)

    def __enter__(self) -> Self:
        try:  # known to the budget from here on; where Redis does not answer, as soon as it does
            self._nexus._loop.wait(self._report_now(None).event, self._reporter.reach.patience)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin to report every `interval` (0.25 s). No-op for a consumer that reports already or is closed.

        `watch`, `work` and `report` start a consumer by themselves. Call `start` where callers take tokens before the
        first work comes: without a report, a budget that has no rate in code gives no token. The call does no I/O; a
        thread of the Nexus sends the first report at once.
        """
        if self._reporter.scheduled == NEVER or self._reporter.meter.is_unheard:
            with self._nexus._loop.entry:
                if not self._is_closed and not self._nexus._is_closed:
                    self._nexus._loop.ensure_running()
                    self._reporter.start()

    def _report_now(self, pause_ms: float | None) -> _LineTicket:
        with self._nexus._loop.entry:
            self._check()
            self._nexus._loop.ensure_running()
            ticket = _LineTicket(self._reporter.hub.clock(), pause_ms)
            self._reporter.ask(ticket)
        return ticket

    def _ask(self, pause_ms: float | None) -> float:
        ticket = self._report_now(pause_ms)
        self._nexus._loop.wait(ticket.event)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.standing is not None
        return ticket.standing.rate


_alive: weakref.WeakSet[Nexus] = weakref.WeakSet()


def _forget(
    loop: LoopThread, client: Borrowed[redis.Redis], given: redis.Redis | None, servers: list[EmbeddedServer]
) -> None:
    """Nobody refers to the Nexus any more: end what it has begun. Called by the garbage collector."""

    def let_go() -> None:
        if client.last is not None and client.last is not given:
            client.last.close()
        for server in servers:
            server.stop()

    loop.forget(let_go)


def _close_all() -> None:
    for nexus in list(_alive):
        try:
            nexus.close()
        except Exception:
            log.exception("%r did not close well", nexus)


def _after_fork_in_child() -> None:
    for nexus in list(_alive):
        try:
            nexus._after_fork()
        except Exception:  # the others must not go on as if they were the parent
            log.exception("%r does not work in this forked child", nexus)


at_end(_close_all)  # registered after `embedded`'s own hook, so its server is still there
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

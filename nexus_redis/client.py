"""The sync face: Nexus, Budget, Producer and Consumer for threads. The async face has the same names.

The code that both faces share is in `_api/`. A caller's plan runs in the caller's thread, under the lock of the loop:
one uncontended lock where tokens are at hand. The plan gives the lock away while its caller waits.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload

import redis

from nexus_redis._api.budget import BudgetBase
from nexus_redis._api.consumer import ConsumerBase, pause_ms, said_by_hand
from nexus_redis._api.decorator import F, decorator, limited_sync
from nexus_redis._api.nexus import NexusBase
from nexus_redis._api.pace import Paced
from nexus_redis._api.producer import UNSET, ProducerBase, Unset
from nexus_redis._api.reservation import ReservationBase
from nexus_redis._core.signal_request import flow_of
from nexus_redis._core.waiter import CallerPlan
from nexus_redis._drivers.threaded import LoopThread
from nexus_redis._protocol.explain import Explanation
from nexus_redis._protocol.plans import Plan
from nexus_redis._protocol.snapshot import BudgetSnapshot, budget_names
from nexus_redis._redis.connect import address, checked, is_single
from nexus_redis._redis.connections import Connections
from nexus_redis._redis.execute import placing
from nexus_redis._runtime.lifetimes import Lifetimes
from nexus_redis._values.cost import Cost, price_of
from nexus_redis._values.results import GRANTED, Denied, Grant
from nexus_redis.errors import Closed

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl

T = TypeVar("T")


class _Run(Protocol):
    """Run a caller's plan: `run` of a loop."""

    def __call__(self, plan: CallerPlan[T], /) -> T: ...


class Nexus(NexusBase["Budget"]):
    """A connection to the coordinator: a few threads, one pool, any number of budgets. Safe to share between threads.

    `Nexus(client)` uses a redis-py client that you have; `Nexus.from_url()` makes one with short timeouts (a second to
    connect, and for a silent socket). Neither does I/O, and a forked child begins again by itself, so a module is a
    good place for it. All its keys begin with `namespace` (NEXUS_REDIS_NAMESPACE, else "nexus"). With 40 threads on 3
    budgets it sends one batch of claims ten times a second. While it claims, a second thread and connection listen for
    drops of the rates. So they follow a drop at once, not a tenth of a second later. `push=False` does without.
    """

    _connections: Connections
    _loop: LoopThread
    _reports: LoopThread
    _run: _Run

    def __init__(self, client: redis.Redis | None = None, *, namespace: str | None = None, push: bool = True) -> None:
        super().__init__(namespace, push=push)
        given = None if client is None else checked(client, redis.Redis)
        self._open(Connections("" if given is not None else address(None), given))

    @classmethod
    def from_url(cls, url: str | None = None, *, namespace: str | None = None, push: bool = True) -> Self:
        """Open a Nexus on an address; without one, on NEXUS_REDIS_URL, else on localhost. No I/O.

        - `redis://HOST:PORT/DB`, `rediss://` with TLS, `unix://PATH`: one server.
        - `redis+sentinel://HOST,HOST:PORT/NAME/DB`: the primary that the Sentinels call NAME (their port is 26379).
        - `redis+cluster://HOST,HOST:PORT`: a cluster, of which these are some nodes. Both also with `rediss+`.
        - `embedded://`: a server of your own, which ends with this process. `embedded://:6399` joins the one on that
          port or starts it.

        Raises `InvalidSetting` for an address that cannot be used.
        """
        nexus = cls.__new__(cls)
        NexusBase.__init__(nexus, namespace, push=push)
        nexus._open(Connections(address(url), None))
        return nexus

    def _open(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = self._reports = self._drivers.thread(connections.client, connections.server)
        self._scheduler, self._run = self._loop.scheduler, self._loop.run  # one bound method, for ten thousand budgets
        self._scheduler.place_of = placing(connections.made, connections.client)
        if self._push:
            self._loop.listen(connections.connect if is_single(connections.made) else connections.client)
        _living.add(self)
        self._forgotten = weakref.finalize(self, _forget, self._loop, connections)
        self._forgotten.atexit = False

    def budgets(self) -> list[str]:
        """Return the names of all budgets in this namespace, sorted: those that were opened and are still there.

        The budget of a key is `name/key`. `nexus.budget` takes the two apart: `budget("stripe", key="cust-42")`.
        """
        return self._drive(budget_names(self.namespace, self._scheduler.address))

    def acquire(self, costs: Mapping[Budget | Producer, float], timeout: float | str | Unset | None = UNSET) -> Grant:
        """Take from several budgets at once, or from none: `nexus.acquire({requests: 1, tokens: 4_000})`.

        The caller waits its turn in all of them and holds no token of one while it waits for another, so callers cannot
        wait in a circle. Callers behind it pass where they can. `timeout` in seconds: None waits, 0 tries each of
        them once and waits for no token, and the default is the shortest of the producers'. Raises `AcquireTimeout`,
        which names the slowest budget, and takes no token then.

        With 60 requests and 10,000 tokens a minute, calls of 4,000 tokens go every 24 s, and the other 57 requests of a
        minute are free for calls that need no tokens.
        """
        return self._run(self._acquire_all_plan(costs, timeout))

    def close(self) -> None:
        """Hand back every token, withdraw every consumer, and end the threads. Callers that wait get `Closed`.

        A second call waits until the first has finished, for 1.5 s at most.

        A signal handler may call it, too. Where the signal has interrupted another call of this Nexus, a thread does
        the rest as soon as that call has ended, and the interpreter waits for it when it exits. A handler that has
        interrupted `close` does not wait for it.
        """
        if self._is_closed:
            self._loop.await_end()
        else:
            self._is_closed = True
            self._forgotten.detach()
            self._loop.end(Closed("nexus"), self._connections.close)

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, plan: Plan[T]) -> T:
        self._check()
        return self._loop.drive(plan)


class _Spender(ProducerBase):
    """Claims tokens and spends them locally. Threads share it and wait in order.

    It holds leases: tokens that may be spent until half a second after they were asked for, at 60/s some 7 of them.
    """

    _nexus: Nexus
    _loop: LoopThread
    _run: _Run

    def acquire(self, cost: float = 1, timeout: float | str | Unset | None = UNSET) -> Grant:
        """Take `cost` tokens (1e-6 to 1e9); wait in turn if they are not at hand.

        With 60 tokens/s for you, a loop of acquire() runs 60 times a second. All but some ten of them in a second are
        local: they read the clock and take a token. `timeout` in seconds: None waits, 0 takes what `try_acquire` would
        take, and the default is the producer's. A cost above the bucket is collected over several claims, and holds its
        place in the line meanwhile.

        The grant says how long the caller `waited`. For tokens at hand it is the constant `GRANTED`, whose `cost` is 1
        whatever was asked.

        Raises `AcquireTimeout`, and takes nothing then; `Unavailable` while Redis is away and the mode is "closed";
        `InvalidSetting`, `ServerRefused`, `Closed`.
        """
        cache = self._session.ledger.cache
        if timeout is UNSET and cost is cache.cost and self._clock() < cache.expires:
            try:
                cache.pop()
                return GRANTED
            except IndexError:
                """The cache is empty: the ledger may have more tokens."""
        return self._run(self._acquire_plan(cost, timeout))

    def try_acquire(self, cost: float = 1) -> Grant | Denied:
        """Take all of `cost` now, or nothing. Never wait for tokens, and never overtake callers that wait.

        With tokens at hand this is local. Else, when the last answer's `retry_after` is over, it asks once, which takes
        half a second at most near Redis. Tried every 6 s, "10/min" always succeeds. Raises `InvalidSetting` for a cost
        above any bucket that this process has seen or code asks for: it could never be met at once. A cost that fitted
        before the rate fell is denied until the rate is back.
        """
        cache = self._session.ledger.cache
        if cost is cache.cost and self._clock() < cache.expires:
            try:
                cache.pop()
                return GRANTED
            except IndexError:
                """The cache is empty: the ledger may have more tokens."""
        return self._run(self._try_plan(cost))

    def reserve(self, cost: float, timeout: float | str | Unset | None = UNSET) -> Reservation:
        """Return tokens for work whose cost shows only when it is done: an estimate first, corrected by `settle`.

        `with budget.reserve(4_000) as r: answer = ...; r.settle(answer.tokens)`. It waits as `acquire` does. The rest
        goes back. A cost beyond the estimate is owed, and paid before this producer's next acquire is served. A
        reservation that is never settled, or whose block raises before, costs its estimate.
        """
        return Reservation(self, cost, timeout)

    def pace(self, items: Iterable[T], cost: float | Callable[[T], float] = 1) -> Iterator[T]:
        """Return an iterator over `items` that yields each when its tokens are there. Raises what `cost` raises.

        Where acquiring raises, after an `AcquireTimeout` for instance, the item that waited comes first when the
        iteration goes on: ask this iterator again, or call `pace` with the same iterator as `items`.
        """
        return Paced(items, price_of(cost), self.acquire)

    def signal(self, requested_rate: float | str) -> FlowControl:
        """Ask, by the bare protocol, what you may send if you want `requested_rate` (tokens/s). It takes no tokens.

        A consumer of capacity 400 at 95 % load answers 10,000 with 100.
        """
        return flow_of(self.name, self._run(self._signal_plan(requested_rate)))


class Producer(_Spender):
    """A producer of your own, with its own part of the budget; from `Budget.producer`."""

    def close(self) -> None:
        """Hand the tokens back and leave. The other producers get its share within about a quarter of a second."""
        if not self._is_closed and not self._nexus._is_closed:
            self._is_closed = True
            self._loop.leave(self._session, Closed("producer"))

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class Reservation(ReservationBase):
    """Tokens taken on an estimate, `cost`; see `Producer.reserve`. Inside its `with`, `grant` is what was granted."""

    _producer: _Spender

    def __enter__(self) -> Self:
        self._producer._run(self._reserve_plan())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Keep the estimate where `settle` was not called."""


class Consumer(ConsumerBase):
    """A worker of the downstream, which reports every interval from a thread of the Nexus; from `Budget.consumer`.

    `watch` a queue and put `work` around the work, or `report` it yourself. It begins to report with the first of
    them, or with its `with`. A consumer that can do 400/s and is 95 % full takes 100/s.
    """

    _reporting: LoopThread
    _run: _Run

    def report(self, **said: float | None) -> float:
        """Report values yourself, now and each interval until you report others. Return this consumer's rate now.

        load (percent), capacity (per second), latency_ms; in tokens queue_depth, queue_limit, done, errors, in_flight,
        slots. `report(load=95, capacity=400)` is 100.0. Raises `InvalidSetting` where no rate follows: `load` alone
        says how full, not how fast.
        """
        self._session.meter.say(said_by_hand(said))
        return self._run(self._report_plan())

    def pause(self, seconds: float | str) -> None:
        """Take this consumer's part out of the budget for `seconds`; 0 brings it back.

        Of 400/s, to which this consumer adds 100/s, 300/s are left.
        """
        self._run(self._report_plan(pause_ms(seconds)))

    def close(self) -> None:
        """Leave: this consumer adds nothing to the rate from now on."""
        if not self._is_closed and not self._nexus._is_closed:
            self._is_closed = True
            self._reporting.leave(self._session, Closed("consumer"))

    def __enter__(self) -> Self:
        try:
            self._run(self._enter_plan())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


class Budget(BudgetBase[Producer, Consumer], _Spender):
    """The shared rate of one downstream; from `Nexus.budget`. Holds no connection of its own.

    `acquire`, `try_acquire`, `reserve`, `pace`, `limited` and `signal` here go through one producer per process and
    budget, which everybody in the process shares: a hundred threads on a budget of 100/s wait in one line.
    """

    _producer_class, _consumer_class = Producer, Consumer

    @overload
    def limited(self, function: F, /) -> F: ...

    @overload
    def limited(
        self, function: None = None, /, *, cost: Cost = 1, timeout: float | str | Unset | None = UNSET
    ) -> Callable[[F], F]: ...

    def limited(
        self, function: F | None = None, /, *, cost: Cost = 1, timeout: float | str | Unset | None = UNSET
    ) -> Any:
        """Decorate a function: each call takes `cost` tokens first, waiting in turn, and then runs.

        `@budget.limited`, or `@budget.limited(cost=...)`: a number, or a function of the call's arguments, whose errors
        reach the caller. For def and generators (which take their tokens with the first item); async def needs a budget
        of `nexus_redis.asyncio`. At 100/s, `@budget.limited(cost=len) def insert(rows)` inserts 100 rows a second.
        """

        def wrap(wrapped: Any, price: Callable[..., float]) -> Any:
            return limited_sync(wrapped, price, lambda tokens: self.acquire(tokens, timeout))

        decorate: Callable[[F], F] = decorator(cost, wrap)
        return decorate if function is None else decorate(function)

    def configure(self, **settings: Any) -> BudgetSnapshot:
        """Set what `Nexus.budget` takes (rate, min_rate, burst, law...) from code; None takes a setting away.

        What an operator has set stays in force. Raises `InvalidSetting`. Returns the budget as it then stands.
        """
        return self._nexus._drive(self._configure_plan(settings))

    def pause(self, seconds: float | str | None = None, *, reason: str = "") -> None:
        """Stop the whole budget on all hosts, for `seconds` (or "90s", "5m"; a day at most) or until `resume`.

        Producers that listen stop within milliseconds, others with their next claim, a tenth of a second later. Where
        that claim is lost, what was granted before may be spent for half a second. Callers that wait go on when the
        pause is over, and at once after `resume`. What the bucket held stays, and it earns nothing meanwhile: a pause
        of 0.2 s at 100/s costs 20 tokens. `reason`, cut to 200 bytes, is told to everybody who asks.
        """
        self._nexus._drive(self._pause_plan(seconds, reason))

    def resume(self) -> None:
        """End a pause."""
        self._nexus._drive(self._change_plan(pause=0.0))

    def snapshot(self) -> BudgetSnapshot:
        """Return the budget as it stands: rate, level, settings, consumers, producers (the first 500 of each)."""
        return self._nexus._drive(self._snapshot_plan())

    def explain(self) -> Explanation:
        """Return why the rate is what it is: whose report, ceiling, pause or silence, since when, what raises it."""
        return self._nexus._drive(self._explain_plan())

    def delete(self) -> bool:
        """Delete all that Redis knows of the budget, and return whether there was anything.

        A process that uses it afterwards opens it again, with code's settings: what an operator had set is gone.
        """
        return self._nexus._drive(self._delete_plan())


Nexus._budget_class = Budget
_living: Lifetimes[Nexus] = Lifetimes(Nexus.close)  # made after the embedded server's own hook: it is still there then


def _forget(loop: LoopThread, connections: Connections) -> None:
    """End what a Nexus has begun that nobody refers to any more. The garbage collector calls it."""
    loop.forget(connections.close)

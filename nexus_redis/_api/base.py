"""What the two shells share: names, settings, bookkeeping. I/O and waiting are in `client.py` and `asyncio.py`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar
from weakref import WeakValueDictionary

from nexus_redis._api.pickling import budget_of, handed
from nexus_redis._core.consumer import Reporter
from nexus_redis._core.meter import REPORTABLE, Work
from nexus_redis._core.multi_acquire import Joint
from nexus_redis._core.producer import Account
from nexus_redis._core.registration import NOTHING, Opening
from nexus_redis._core.scheduler import Hub
from nexus_redis._core.sources import ListSource, Source, StreamSource
from nexus_redis._core.waiter import Waiter
from nexus_redis._drivers.tasks import Drivers
from nexus_redis._protocol.calls import UNTIL_RESUMED
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._redis import embedded
from nexus_redis._runtime.locks import MadeAtFirstUse, new_lock
from nexus_redis._values.formatting import counted
from nexus_redis._values.parse import FRACTION, MICRO, is_fraction, keyed_name, parse_seconds
from nexus_redis._values.results import Denied
from nexus_redis._values.settings import (
    BudgetSettings,
    ConsumerSettings,
    ProducerSettings,
    parse_cost,
    parse_name,
    parse_number,
)
from nexus_redis.errors import AcquireTimeout, Closed, InvalidSetting, NotPicklable

if TYPE_CHECKING:
    from nexus_redis.messages import FlowControl

log = logging.getLogger("nexus_redis")
C = TypeVar("C")


class Unset:
    """The type of UNSET: "not given", where None means something."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
DEFAULTS: Final = ProducerSettings()


def micro_cost(cost: float) -> int:
    """A caller's cost in micro-tokens."""
    if type(cost) is int and cost == 1:
        return MICRO
    return round(parse_cost(cost) * MICRO)


def joint_costs(nexus: NexusShell, wanted: Mapping[Any, float]) -> dict[Account, int]:
    """What `nexus.acquire` is given, by account: two names of one producer add up."""
    if not isinstance(wanted, Mapping):
        raise InvalidSetting("budgets", wanted, "use a mapping of budgets to their costs: nexus.acquire({budget: 1})")
    if not wanted:
        raise InvalidSetting("budgets", wanted, "name at least one budget: nexus.acquire({budget: 1})")
    costs: dict[Account, int] = {}
    for given, cost in wanted.items():
        if not isinstance(given, ProducerShell) or given._account.hub is not nexus._hub:
            raise InvalidSetting("budgets", given, "use budgets and producers of this nexus")
        given._check()
        costs[given._account] = costs.get(given._account, 0) + micro_cost(cost)
    return costs


def joint_limit(wanted: Mapping[Any, float], timeout: float | str | Unset | None) -> float | None:
    """How long `nexus.acquire` waits: as it says, or as long as the least patient of the producers that it names."""
    if isinstance(timeout, Unset):
        own = [limit for given in wanted if (limit := given._settings.timeout) is not None]
        return min(own, default=None)
    return None if timeout is None else parse_seconds(timeout, "timeout")


def check_joint(joint: Joint, now: float) -> None:
    """The time is over; the error names the budget that took longest."""
    if joint.is_settled:
        return
    account, part = max(joint.parts, key=lambda pair: pair[1].seconds_for(pair[1].cost))
    raise AcquireTimeout(account.keys.name, part.cost / MICRO, now - joint.since, account.reason)


class NexusShell:
    """Namespace, budgets, hub of one Nexus."""

    _hub: Hub
    _url: str
    _given: Any
    _push: bool
    _drivers: ClassVar[Drivers] = Drivers()
    _starting = MadeAtFirstUse(new_lock)
    _naming = MadeAtFirstUse(new_lock)  # over what is known of budgets here

    def __init__(self, namespace: str | None) -> None:
        self._is_closed = False
        self._servers: list[embedded.EmbeddedServer] = []  # the one of an embedded:// address, once it is started
        found = namespace or os.environ.get("NEXUS_REDIS_NAMESPACE") or "nexus"
        self.namespace = parse_name(found, "namespace")
        self._openings: dict[str, Opening] = {}
        # Of a per-key budget as much as is in use: its objects, or a producer that Redis knows.
        self._keyed: WeakValueDictionary[str, Opening] = WeakValueDictionary()
        self._accounts: WeakValueDictionary[str, Account] = WeakValueDictionary()
        self._pinned: list[Account] = []
        self._observers: dict[str, Any] = {}  # what `Budget.observer` returns, by the budget's name

    @property
    def url(self) -> str:
        """The address in use; of an `embedded://` server, which this starts, the one for redis-cli."""
        if not self._url.startswith("embedded:"):
            return self._url
        with self._starting:
            if not self._servers:
                self._servers.append(embedded.acquire(self._url))
            return self._servers[0].start().url

    def _forget_locks(self) -> None:
        """In a forked child: another thread of the parent may hold them."""
        NexusShell._starting.forget(self)
        NexusShell._naming.forget(self)

    def __reduce__(self) -> Any:
        """Open it again where it comes to: once in a process, and in this one it is itself."""
        if self._given is not None:
            remedy = "open one there, or make it with Nexus.from_url(...), which is opened again by itself"
            raise NotPicklable("nexus of a client object", remedy)
        return handed(self, type(self), self.url, self.namespace, self._push)

    @property
    def _is_usable(self) -> bool:
        """It can be used from here."""
        return not self._is_closed

    def _opening(self, name: str, key: str | None, settings: BudgetSettings) -> Opening:
        """Settings of `name` in this process: the same for everyone here, or it is a mistake worth an error."""
        with self._naming:
            if key is None:
                return self._opened(self._openings, name, settings, None)
            parent = self._openings.get(name) or self._opened(self._openings, name, NOTHING, None)
            return self._opened(self._keyed, keyed_name(name, key), settings, parent)

    def _opened(
        self, known_here: MutableMapping[str, Opening], name: str, settings: BudgetSettings, parent: Opening | None
    ) -> Opening:
        opening = known_here.get(name)
        if opening is None:
            opening = known_here[name] = Opening(BudgetKeys(self.namespace, name), settings, parent)
            return opening
        given = settings.given()
        known = opening.given.given()
        for field, value in given.items():
            if field in known and known[field] != value:
                raise InvalidSetting(field, value, f"budget {name} was opened with {known[field]!r} in this process")
        if given.keys() - known.keys():
            opening.adopt(BudgetSettings.of(**(known | given)))
        return opening

    def _shared_account(self, hub: Hub, opening: Opening, settings: ProducerSettings) -> Account:
        """The account of the one producer per process and budget."""
        with self._naming:
            account = self._accounts.get(opening.name)
            if account is None:
                account = self._accounts[opening.name] = Account(hub, opening.keys, None, settings, opening)
                if opening.parent is None:
                    self._pinned.append(account)
            return account


class BudgetShell(Generic[C]):
    """One budget as one process knows it; `C` is the shell's consumer."""

    _nexus: Any
    consumer: Callable[..., C]

    def __init__(self, nexus: NexusShell, name: str, key: str | None, settings: BudgetSettings) -> None:
        self._key = key
        self._opening = nexus._opening(parse_name(name), key, settings)
        self._keys = self._opening.keys

    def __reduce__(self) -> Any:
        """Open it again where it comes to, with the settings that code gives it here."""
        named = (self._opening.parent or self._opening).name
        return budget_of, (self._nexus, named, self._key, self._opening.given.given())

    @property
    def name(self) -> str:
        """The name in Redis; of a per-key budget with the key in it."""
        return self._keys.name

    @property
    def parent(self) -> str | None:
        """The name of the budget that a per-key one takes its settings from; None for one without a key."""
        return self._opening.parent.name if self._opening.parent else None

    def observer(self) -> C:
        """Return the consumer through which this process reports what its own requests come to. No I/O.

        It is a consumer with `observe=True`, and each process has one for a budget: every call returns the same one,
        because a second one would be counted as a second client of the downstream. On a downstream that takes 100/s,
        ten processes are ten observers, each finds some 10/s, and the budget's rate is the sum.
        """
        with self._nexus._naming:
            observers: dict[str, C] = self._nexus._observers
            if self.name not in observers:
                observers[self.name] = self.consumer(observe=True)
            return observers[self.name]

    def watch_stream(
        self, key: str, *, group: str, limit: float, capacity: float | str | None = None, interval: float | str = 0.25
    ) -> C:
        """Report for a consumer group of a Redis Stream, from outside: its consumers need no change.

        What the group has not read is the depth of the queue, of at most `limit` entries; what it has read and not
        acknowledged is in flight; what is acknowledged is done; an entry is a token. Starts at once; `close()` the
        consumer that it returns. Any number of processes may call it: one reports, the others stand by and take over
        when it is gone. The entries are counted where Redis's own `lag` is missing (6.2) or may be wrong, which it
        stays after entries were deleted or trimmed unread.

        `nexus.budget("index").watch_stream("orders", group="index", limit=10_000)`: with 5,000 entries unread the
        budget's load is 50 %, and its rate is what the group acknowledges per second.
        """
        return self._watch(StreamSource(key, group, limit), capacity, interval)

    def watch_list(
        self,
        key: str,
        *,
        limit: float,
        done: str | None = None,
        capacity: float | str | None = None,
        interval: float | str = 0.25,
    ) -> C:
        """Report for a Redis list that workers take from (LPUSH, BRPOP), from outside.

        LLEN is the depth of the queue, of at most `limit` entries, but nothing says how fast it is emptied. Give one:
        `done`, the key of a counter that the workers INCR (then the law is `drain`, which learns the capacity); or
        `capacity`, or a `rate` on the budget (then it is `range`: all of it below 80 % of the limit, nothing at 100 %).
        Starts at once; of several processes one reports and the others stand by.

        `watch_list("jobs", limit=1_000, capacity=50)`: up to 800 jobs waiting 50/s, at 900 it is 25/s.
        """
        return self._watch(ListSource(key, limit, done), capacity, interval)

    def _watch(self, source: Source, capacity: float | str | None, interval: float | str) -> C:
        raise NotImplementedError

    def _producer_settings(self, **given: Any) -> ProducerSettings:
        if self._opening.settings.lossless:
            # What a lossless budget's consumers cannot hold is never sent, so there is nothing to go on with alone.
            if given.get("on_outage") not in (None, "closed"):
                raise InvalidSetting("on_outage", given["on_outage"], "use 'closed': the budget is lossless")
            given["on_outage"] = "closed"
        chosen = {name: value for name, value in given.items() if value is not None}
        return ProducerSettings.of(**chosen) if chosen else DEFAULTS

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class ProducerShell:
    """One producer: its account, and what can be read of it without asking anybody."""

    _account: Account
    _settings: ProducerSettings
    _check: Callable[[], None]

    @property
    def name(self) -> str:
        """The budget's."""
        return self._account.keys.name

    @property
    def id(self) -> str:
        """The id in Redis; another one, with a suffix, where the given one was taken."""
        return self._account.id

    @property
    def flow(self) -> FlowControl | None:
        """The budget's last answer; None before the first."""
        return self._account.flow

    def __reduce__(self) -> Any:
        raise NotPicklable("producer", "pass its budget, and call budget.producer(...) there")

    def _limit(self, timeout: float | str | Unset | None) -> float | None:
        """How long a caller waits: as it says, or the producer."""
        if isinstance(timeout, Unset):
            return self._settings.timeout
        return None if timeout is None else parse_seconds(timeout, "timeout")

    @property
    def _rate(self) -> float:
        """The budget's rate as this process knows it, or the one in code while it gives nothing; 0: unknown."""
        answer, settings = self._account.ledger.answer, self._account.opening.settings
        return answer.budget_rate / MICRO if answer and answer.budget_rate else settings.rate or 0.0

    def _wait(self, cost: float) -> float:
        """Seconds until a try of `cost` is served, as this process knows without asking; 0: at once, or unknown."""
        account, tokens = self._account, micro_cost(cost)
        if account.ledger.held >= tokens:
            return 0.0
        denied = account.denial(tokens, account.hub.clock(), must_fit=False)
        return 0.0 if denied is None else denied.retry_after

    def _check_settled(self, line: Waiter, cost: float) -> None:
        """The time is over."""
        if not line.is_settled:
            account, now = self._account, self._account.hub.clock()
            retry_after = max(0.0, account.ledger.turn(0) - now)  # it stands in line still
            raise AcquireTimeout(account.keys.name, cost, now - line.since, account.reason, retry_after)

    def _refuse_now(self, line: Waiter, cost: float, denied: Denied | None) -> None:
        """Raise for a caller with a timeout of 0 what `try_acquire` would have answered it."""
        if denied is not None:
            waited = self._account.hub.clock() - line.since
            raise AcquireTimeout(self._account.keys.name, cost, waited, denied.reason, denied.retry_after)

    def __repr__(self) -> str:
        ledger, answer = self._account.ledger, self._account.ledger.answer
        told = (
            f"{answer.recommended_rate / MICRO:g}/s of {answer.budget_rate / MICRO:g}/s" if answer else "no answer yet"
        )
        return (
            f"<{type(self).__name__} {self.id!r} of {self._account.keys.name!r}: "
            f"{counted(ledger.held / MICRO, 'token')} in hand, {len(ledger.waiters)} waiting, {told}>"
        )


class ConsumerShell:
    """One consumer: what it measures, and what it was last told."""

    _nexus: NexusShell
    _is_closed: bool
    _reporter: Reporter
    start: Callable[[], None]

    @property
    def name(self) -> str:
        """The budget's."""
        return self._reporter.keys.name

    @property
    def id(self) -> str:
        """The id in Redis; another one, with a suffix, where the given one was taken."""
        return self._reporter.id

    @property
    def rate(self) -> float | None:
        """Tokens per second that the law gives this consumer; None before the first answer."""
        return self._reporter.standing.rate if self._reporter.standing else None

    def __reduce__(self) -> Any:
        raise NotPicklable("consumer", "pass its budget, and call budget.consumer(...) there")

    def watch(self, queue: Any = None, *, depth: Callable[[], float] | None = None, limit: float | None = None) -> Self:
        """Report how full a queue is: anything with `qsize()` and `maxsize`, or `depth=` a callable and `limit=`.

        Depth and limit are in tokens, like everything a consumer says. Read every interval, from another thread. With
        50 of 200 places taken the load is 25 %. Raises `InvalidSetting` for what has no depth that can be read.
        """
        self._check()
        self._reporter.meter.watch(queue, depth=depth, limit=limit)
        self.start()
        return self

    def _check(self) -> None:
        if self._nexus._is_closed:
            raise Closed("nexus")
        if self._is_closed:
            raise Closed("consumer")

    def work(self, tokens: float = 1) -> Work:
        """`with consumer.work(len(batch)): ...` - in flight meanwhile, then done, or an error if the block raises.

        It is timed, too: with nothing else reported, errors and latency make the rate. Work that is cancelled, or whose
        client has gone, is neither done nor an error. Of a bulk, `as work` and `work.failed(3)` says that 3 failed, and
        `work.done(497)` that no more than 497 are done. Async: `async with`.
        """
        return Work(self._reporter.meter, parse_number("tokens", tokens), self.start, self._reporter.hub.clock)

    def __repr__(self) -> str:
        told = f"{self.rate:g}/s" if self.rate is not None else "no report answered yet"
        return f"<{type(self).__name__} {self.id!r} of {self._reporter.keys.name!r}: {told}>"


def said_by_hand(values: dict[str, float | None]) -> dict[str, float]:
    """The arguments of `report`, checked."""
    said: dict[str, float] = {}
    for name, value in values.items():
        if value is None:
            continue
        if name not in REPORTABLE:
            raise InvalidSetting(name, value, f"no such field: there are {', '.join(REPORTABLE)}")
        said[name] = parse_number(name, value)
    if is_fraction(said.get("load")) and "load" not in _warned:
        _warned.add("load")
        log.warning("load=%g is %g %%. %s", said["load"], said["load"], FRACTION)
    return said


_warned: Final[set[str]] = set()  # fields that a warning was logged for: once in a process


def pause_length(given: float | str | None) -> float:
    """Return the seconds of a pause; None is a pause until `resume`."""
    if given is None:
        return UNTIL_RESUMED
    try:
        return parse_seconds(given, "pause")
    except InvalidSetting as error:
        raise InvalidSetting("pause", given, f"{error.remedy}. To pause until resume(), give None") from None


def consumer_settings(capacity: Any, interval: Any, observe: Any = False) -> ConsumerSettings:
    """Checked settings of a consumer."""
    return ConsumerSettings.of(capacity=capacity, interval=interval, observe=observe)

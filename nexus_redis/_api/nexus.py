"""The base of both faces' Nexus: budgets by name, one producer a process and budget, several budgets at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakValueDictionary

from nexus_redis._api.pickling import reduced
from nexus_redis._api.producer import ProducerBase, Unset, micro_cost
from nexus_redis._api.reservation import reserve_all_plan
from nexus_redis._core.multi_acquire import MultiAcquire
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.registration import NOTHING, Registration
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.waiter import Await, CallerPlan
from nexus_redis._drivers.tasks import Drivers
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._redis.connections import AsyncConnections, Connections
from nexus_redis._runtime.locks import MadeAtFirstUse, new_lock
from nexus_redis._values import error_texts
from nexus_redis._values.parse import MICRO, keyed_name, parse_seconds
from nexus_redis._values.results import Grant
from nexus_redis._values.settings import BudgetSettings, ProducerSettings, parse_name
from nexus_redis.errors import AcquireTimeout, Closed, InvalidSetting, NotPicklable, Unavailable

B = TypeVar("B")


class NexusBase(Generic[B]):
    """The namespace, budgets and loop of one Nexus. `B` is the face's budget."""

    _budget_class: ClassVar[Any]
    _drivers: ClassVar[Drivers] = Drivers()
    _naming = MadeAtFirstUse(new_lock)  # guards what is known of budgets here
    _connections: Connections | AsyncConnections
    _loop: Any
    _scheduler: Scheduler

    def __init__(self, namespace: str | None, *, push: bool) -> None:
        self._is_closed, self._push = False, push
        found = namespace or os.environ.get("NEXUS_REDIS_NAMESPACE") or "nexus"
        self.namespace = parse_name(found, "namespace")
        self._registrations: dict[str, Registration] = {}
        # Of a per-key budget only as much as is in use: its objects, or a producer that Redis knows.
        self._keyed: WeakValueDictionary[str, Registration] = WeakValueDictionary()
        self._producers: WeakValueDictionary[str, ProducerSession] = WeakValueDictionary()
        self._pinned: list[ProducerSession] = []
        self._observers: dict[str, Any] = {}  # what `Budget.observer` returns, by the budget's name

    @property
    def url(self) -> str:
        """The address in use. For an `embedded://` server, which this starts, it is the one for redis-cli."""
        return self._connections.url

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
    ) -> B:
        """Return the budget of one downstream. No I/O. A setting that is not given stays as it is in Redis.

        - `rate`: the ceiling, in tokens/s or as "6000/min". Where no consumer reports, it is the limit itself.
        - `min_rate`: a floor under what the consumers say, in tokens/s. Only a pause and `lossless` go below it.
        - `burst`: how many seconds of the rate may go at once, beside one token. The default is 0.25: 26 tokens at
          100/s.
        - `law` ("drain", "range", "aimd") and `combine` ("sum", "spread", "min"): how reports become the rate.
        - `latency_target_ms`: the latency above which `aimd` lowers the rate.
        - `lossless`: never admit what the consumers cannot hold. This rests on `transit`: the seconds from a token
          spent to its work seen, 1 by default.
        - `grace`: for so many seconds after the last consumer has left, the rate is no more than that consumer could
          take. So a restart of the only consumer does not open the budget up to `rate`. The default is 10.
        - `key`: one of many budgets of that name, one per customer for instance: any text of up to 256 bytes. A setting
          that is not given is taken over from the budget `name`, when the key's budget is first used and once a minute
          while it is in use. Idle ones make no calls. With 100/s set on "stripe", `nexus.budget("stripe",
          key="cust-42")` is a budget of 100/s of its own, named "stripe/cust-42" in lists and errors.

        A rate is tokens/s, or a text like "100/s", "1.5k/min", "50 per 10 seconds". A duration is seconds, or a text
        like "90s", "5m", "2h". This holds for every rate and duration of this API. Raises `InvalidSetting` for a value
        out of its range, and for two values of one setting in one process.
        """
        given = {
            "rate": rate, "min_rate": min_rate, "burst": burst, "law": law, "combine": combine,
            "latency_target_ms": latency_target_ms, "lossless": lossless, "transit": transit,
            "grace": grace,
        }  # fmt: skip
        settings = BudgetSettings.of(**given) if any(value is not None for value in given.values()) else NOTHING
        budget: B = self._budget_class(self, name, key, settings)
        return budget

    def __repr__(self) -> str:
        return f"<Nexus {self.namespace!r} at {self._scheduler.address}: {len(self._registrations)} budgets>"

    def __reduce__(self) -> Any:
        """Open it again in the process that it is sent to, once for all; in this process it is itself."""
        if self._connections.given is not None:
            raise NotPicklable("nexus of a client object", error_texts.PICKLE_NEXUS)
        return reduced(self, type(self), self.url, self.namespace, self._push)

    @property
    def _is_usable(self) -> bool:
        """Return whether the Nexus can be used from here."""
        return not self._is_closed

    def _check(self) -> None:
        if self._is_closed:
            raise Closed("nexus")

    def _after_fork(self) -> None:
        """Begin again in a forked child: another thread of the parent may hold the locks."""
        NexusBase._naming.forget(self)
        for registration in self._registrations.values():
            for tally in registration.tallies or ():
                tally.clear()
        self._connections.after_fork()
        self._loop.after_fork()

    # --- budgets by name

    def _registration(self, name: str, key: str | None, settings: BudgetSettings) -> Registration:
        """Return the settings of a budget in this process. Two different values of one setting are an error."""
        with self._naming:
            if key is None:
                return self._registered(self._registrations, name, settings, None)
            parent = self._registrations.get(name) or self._registered(self._registrations, name, NOTHING, None)
            return self._registered(self._keyed, keyed_name(name, key), settings, parent)

    def _registered(
        self,
        known_here: MutableMapping[str, Registration],
        name: str,
        settings: BudgetSettings,
        parent: Registration | None,
    ) -> Registration:
        registration = known_here.get(name)
        if registration is None:
            registration = known_here[name] = Registration(BudgetKeys(self.namespace, name), settings, parent)
            return registration
        given = settings.given()
        known = registration.given.given()
        for field, value in given.items():
            if field in known and known[field] != value:
                raise InvalidSetting(field, value, error_texts.opened_with(name, known[field]))
        if given.keys() - known.keys():
            registration.set_given(BudgetSettings.of(**(known | given)))
        return registration

    def _shared_producer(self, registration: Registration, settings: ProducerSettings) -> ProducerSession:
        """Return the producer that all of this process share on a budget."""
        with self._naming:
            session = self._producers.get(registration.name)
            if session is None:
                session = self._producers[registration.name] = ProducerSession(
                    self._scheduler, registration.keys, None, settings, registration
                )
                if registration.parent is None:
                    self._pinned.append(session)
            return session

    # --- several budgets at once

    def _acquire_all_plan(self, costs: Mapping[Any, float], timeout: float | str | Unset | None) -> CallerPlan[Grant]:
        """Take from all of several budgets, or from none."""
        self._check()
        clock = self._scheduler.clock
        call = MultiAcquire(self._costs_of(costs), clock())
        limit = _limit_of(costs, timeout)
        if limit == 0:
            tries = [each.reserve(cost, timeout=0) for each, cost in costs.items()]
            return (yield from reserve_all_plan(tries, call.since, clock))
        if call.spend(call.since):
            return Grant(sum(costs.values()))
        try:
            call.wait()
            yield Await(call, limit)
            _check_settled(call, clock())
        except BaseException:
            call.cancel(clock())
            raise
        if call.error is not None:
            if isinstance(call.error, Unavailable):
                call.parts[0][0].ledger.tally.deny("unavailable")
            raise call.error
        return Grant(sum(costs.values()), clock() - call.since, call.is_degraded)

    def _costs_of(self, wanted: Any) -> dict[ProducerSession, int]:
        """Return what `nexus.acquire` is given as micro-tokens by producer. Two names of one producer add up."""
        if not isinstance(wanted, Mapping):
            raise InvalidSetting("budgets", wanted, error_texts.BUDGETS_NOT_A_MAPPING)
        if not wanted:
            raise InvalidSetting("budgets", wanted, error_texts.BUDGETS_EMPTY)
        costs: dict[ProducerSession, int] = {}
        for given, cost in wanted.items():
            if not isinstance(given, ProducerBase) or given._session.scheduler is not self._scheduler:
                raise InvalidSetting("budgets", given, error_texts.BUDGET_OF_ANOTHER_NEXUS)
            given._check()
            costs[given._session] = costs.get(given._session, 0) + micro_cost(cost)
        return costs


def _check_settled(call: MultiAcquire, now: float) -> None:
    """Raise `AcquireTimeout` for a caller whose time is over. It names the budget that takes longest."""
    if not call.is_settled:
        session, part = max(call.parts, key=lambda pair: pair[1].seconds_for(pair[1].cost))
        session.ledger.tally.deny(session.reason)
        raise AcquireTimeout(session.keys.name, part.cost / MICRO, now - call.since, session.reason)


def _limit_of(wanted: Mapping[Any, float], timeout: float | str | Unset | None) -> float | None:
    """Return how long `nexus.acquire` waits: as it says, or as long as the least patient of the producers."""
    if isinstance(timeout, Unset):
        own = [limit for given in wanted if (limit := given._settings.timeout) is not None]
        return min(own, default=None)
    return None if timeout is None else parse_seconds(timeout, "timeout")

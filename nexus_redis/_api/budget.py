"""The base of both faces' budgets: their producers and consumers, and the plans that ask Redis about a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

from nexus_redis._api.consumer import ConsumerBase, consumer_settings
from nexus_redis._api.pickling import budget_of
from nexus_redis._api.producer import ProducerBase
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.registration import Registration
from nexus_redis._core.sources import ListSource, Source, StreamSource
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import listed, swept
from nexus_redis._protocol.calls import UNTIL_RESUMED, Configured
from nexus_redis._protocol.deletion import delete
from nexus_redis._protocol.explain import Explanation, explain
from nexus_redis._protocol.plans import Plan, ask
from nexus_redis._protocol.snapshot import BudgetSnapshot, snapshot
from nexus_redis._values import error_texts
from nexus_redis._values.identity import whoami
from nexus_redis._values.parse import parse_seconds
from nexus_redis._values.settings import BudgetSettings, ProducerSettings, parse_name
from nexus_redis.errors import InvalidSetting

P = TypeVar("P", bound=ProducerBase)
C = TypeVar("C", bound=ConsumerBase)

DEFAULTS = ProducerSettings()


class BudgetBase(ProducerBase, Generic[P, C]):
    """One budget as one process knows it, and the producer that all of the process share. `P`, `C`: the face's own."""

    _producer_class: ClassVar[Any]
    _consumer_class: ClassVar[Any]

    def __init__(self, nexus: Any, name: str, key: str | None, settings: BudgetSettings) -> None:
        self._key = key
        self._registration: Registration = nexus._registration(parse_name(name), key, settings)
        self._keys = self._registration.keys
        common = self._producer_settings()
        super().__init__(nexus, nexus._shared_producer(self._registration, common), common)

    def __reduce__(self) -> Any:
        """Open it again in the process that it is sent to, with the settings that code gives it here."""
        named = (self._registration.parent or self._registration).name
        return budget_of, (self._nexus, named, self._key, self._registration.given.given())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def name(self) -> str:
        """The name in Redis. For a per-key budget the key is part of it."""
        return self._registration.name

    @property
    def parent(self) -> str | None:
        """The name of the budget that a per-key one takes its settings from; None for one without a key."""
        return self._registration.parent.name if self._registration.parent else None

    def producer(
        self,
        id: str | None = None,
        *,
        weight: float = 1.0,
        priority: str = "normal",
        timeout: float | str | None = None,
        on_outage: str | None = None,
        smooth: bool = False,
    ) -> P:
        """Return a producer of your own, with its own part of the budget. No I/O; best used in a `with`.

        - `id`: its name in Redis. The default is made of host, process and some letters.
        - `weight`: 0.01 to 1000. On 120/s, two that want more get 80 and 40 with weights 2 and 1.
        - `priority`: "high", "normal" or "low", strictly in this order, but each class that asks keeps 5 %.
        - `timeout`: seconds that an acquire waits unless it says otherwise. None waits as long as it takes.
        - `on_outage`: while Redis is away, "share" goes on with half of the last share for up to 5 minutes, "closed"
          gives nothing (a caller that has waited 5 s gets `Unavailable`), and "open" gives everything. A process that
          starts meanwhile has had no share, so "share" means "closed" to it.
        - `smooth`: tokens that came together are spent evenly until the next come, at any rate. Below 300 acquires/s
          this is so by itself wherever tokens are short: a loop at 60/s waits 16 ms for each, not 90 ms for every
          sixth. It costs a wake-up a token.
        """
        settings = self._producer_settings(
            weight=weight, priority=priority, timeout=timeout, on_outage=on_outage, smooth=smooth
        )
        name = parse_name(id, "id") if id is not None else None
        session = ProducerSession(self._nexus._scheduler, self._keys, name, settings, self._registration)
        producer: P = self._producer_class(self._nexus, session, settings)
        return producer

    def _producer_settings(self, **given: Any) -> ProducerSettings:
        if self._registration.settings.lossless:
            # What a lossless budget's consumers cannot hold is never sent, so a producer cannot go on alone.
            if given.get("on_outage") not in (None, "closed"):
                raise InvalidSetting("on_outage", given["on_outage"], error_texts.OUTAGE_MODE_OF_LOSSLESS)
            given["on_outage"] = "closed"
        chosen = {name: value for name, value in given.items() if value is not None}
        return ProducerSettings.of(**chosen) if chosen else DEFAULTS

    # --- consumers

    def consumer(
        self,
        id: str | None = None,
        *,
        capacity: float | str | None = None,
        interval: float | str = 0.25,
        observe: bool = False,
    ) -> C:
        """Return a consumer of this budget: it says how it fares, and the rate follows. No I/O until it is used.

        - `id`: its name in Redis. The default is made of host, process and some letters.
        - `capacity`: tokens/s that it can do, or "400/s": where the laws begin, and their ceiling. The default is to
          learn it.
        - `interval`: seconds between two reports. A consumer that is silent for three of them, two seconds at least,
          adds nothing to the rate any more.
        - `observe`: for a downstream that cannot report itself. Each process that sends to it is one consumer, with
          `work` around each request, and the rates that they find add up. Its capacity is then what this process sends,
          four times over, so that an idle one holds nothing. Of ten that send 10/s each, nine may stop, and the tenth
          sends 100/s some seconds later. `capacity` is then what an idle one keeps, and where it begins; the defaults
          are 0.1/s and 1/s.

        It is best used in a `with`.
        """
        consumer: C = self._consumer_class(self._nexus, self, id, consumer_settings(capacity, interval, observe))
        return consumer

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

        What the group has not read is the depth of the queue, of at most `limit` entries. What it has read and not
        acknowledged is in flight, and what is acknowledged is done; an entry is a token. It starts at once; `close()`
        the consumer that it returns. Any number of processes may call it: one reports, the others stand by and take
        over when it is gone. The entries are counted where Redis's own `lag` is missing (6.2) or may be wrong, as it
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

        LLEN is the depth of the queue, of at most `limit` entries, but nothing says how fast it is emptied. Give
        `done`, the key of a counter that the workers INCR (then the law is `drain`, which learns the capacity), or
        `capacity`, or a `rate` on the budget (then it is `range`: all of it below 80 % of the limit, nothing at 100 %).
        It starts at once. Of several processes one reports and the others stand by.

        `watch_list("jobs", limit=1_000, capacity=50)`: up to 800 jobs waiting 50/s, at 900 it is 25/s.
        """
        return self._watch(ListSource(key, limit, done), capacity, interval)

    def _watch(self, source: Source, capacity: float | str | None, interval: float | str) -> C:
        consumer: C = self._consumer_class(self._nexus, self, None, consumer_settings(capacity, interval), source)
        consumer._check()
        consumer.start()
        return consumer

    # --- plans that ask Redis

    def _snapshot_plan(self) -> Plan[BudgetSnapshot]:
        return snapshot(self._keys, self._nexus._scheduler.address)

    def _explain_plan(self) -> Plan[Explanation]:
        return explain(self._keys, self._nexus._scheduler.address, self._clock)

    def _delete_plan(self) -> Plan[bool]:
        count: int = yield from delete(self._keys, self._nexus._scheduler.address)
        return count > 0

    def _configure_plan(self, settings: dict[str, Any]) -> Plan[BudgetSnapshot]:
        unset = [name for name, value in settings.items() if value is None]
        given = BudgetSettings.of(**{name: value for name, value in settings.items() if value is not None})
        yield from self._change_plan(given, unset=unset)
        self._registration.set_configured(given, unset)
        return (yield from self._snapshot_plan())

    def _pause_plan(self, seconds: float | str | None, reason: str) -> Plan[None]:
        lock = self._loop.entry  # raises where this thread is in the middle of another call, before anything is sent
        yield from self._change_plan(None, pause=_pause_seconds(seconds), note=reason)
        with lock:
            self._session.set_rate(0)

    def _change_plan(
        self,
        settings: BudgetSettings | None = None,
        *,
        unset: Sequence[str] = (),
        pause: float | None = None,
        note: str = "",
    ) -> Plan[Configured]:
        """Tell Redis at once what a caller changes, and put the budget on the list of all."""
        keys = self._keys
        call = calls.configure(keys, settings, who=whoami(), unset=unset, pause=pause, note=note)
        configured: Configured = (yield from ask([call], self._nexus._scheduler.address))[0]
        self._registration.log_configured(configured)
        outcomes = yield [listed(keys.namespace, keys.name)]
        yield from swept(keys.namespace, outcomes[-1])
        return configured


def _pause_seconds(given: float | str | None) -> float:
    """Return the seconds of a pause; None is a pause until `resume`."""
    if given is None:
        return UNTIL_RESUMED
    try:
        return parse_seconds(given, "pause")
    except InvalidSetting as error:
        raise InvalidSetting("pause", given, error_texts.pause_until_resumed(error.remedy)) from None

"""What the two shells share: names, settings, bookkeeping. I/O and waiting are in `client.py` and `asyncio.py`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final, Self

from nexus_redis import embedded
from nexus_redis.account import Account, Opening
from nexus_redis.config import BudgetSettings, ConsumerSettings, ProducerSettings, parse_cost, parse_name, parse_number
from nexus_redis.errors import AcquireTimeout, InvalidSetting
from nexus_redis.hub import Hub
from nexus_redis.ids import default_id as default_id  # noqa: PLC0414  # where others look for it
from nexus_redis.keys import BudgetKeys
from nexus_redis.ledger import MICRO, Waiter
from nexus_redis.messages import FlowControl
from nexus_redis.meter import REPORTABLE, Reporter, Work
from nexus_redis.wire import CALL_TIMEOUT


class Unset:
    """The type of UNSET: "not given", where None means something."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
TRY_PATIENCE: Final = 2 * CALL_TIMEOUT  # seconds: a try may meet a call in flight before its own


def micro_cost(cost: float) -> int:
    """A caller's cost in micro-tokens."""
    if type(cost) is int and cost == 1:
        return MICRO
    return round(parse_cost(cost) * MICRO)


class NexusShell:
    """Namespace, budgets, hub of one Nexus."""

    _hub: Hub
    _url: str

    def __init__(self, namespace: str | None) -> None:
        self._is_closed = False
        self._starting = threading.RLock()
        self._server: embedded.EmbeddedServer | None = None
        found = namespace or os.environ.get("NEXUS_REDIS_NAMESPACE") or "nexus"
        self.namespace = parse_name(found, "namespace")
        self._openings: dict[str, Opening] = {}

    @property
    def url(self) -> str:
        """The address in use; of an `embedded://` server, which this starts, the one for redis-cli."""
        if not self._url.startswith("embedded:"):
            return self._url
        with self._starting:
            if self._server is None:
                self._server = embedded.acquire(self._url)
            return self._server.start().url

    def _opening(self, name: str, settings: BudgetSettings) -> Opening:
        """Settings of `name` in this process: the same for everyone here, or it is a mistake worth an error."""
        opening = self._openings.get(name)
        if opening is None:
            opening = self._openings[name] = Opening(BudgetKeys(self.namespace, name), settings)
            return opening
        given = settings.model_dump(exclude_none=True)
        known = opening.settings.model_dump(exclude_none=True)
        for field, value in given.items():
            if field in known and known[field] != value:
                raise InvalidSetting(field, value, f"budget {name} was opened with {known[field]!r} in this process")
        if given.keys() - known.keys():
            opening.adopt(BudgetSettings.of(**(known | given)))
        return opening


class BudgetShell:
    """One budget as one process knows it."""

    def __init__(self, nexus: NexusShell, name: str, settings: BudgetSettings) -> None:
        self.name = parse_name(name)
        self._opening = nexus._opening(self.name, settings)
        self._keys = BudgetKeys(nexus.namespace, self.name)

    def _learn(self, given: BudgetSettings, unset: list[str]) -> None:
        """What `configure` changed is what this process opens the budget with from now on."""
        known = self._opening.settings.model_dump(exclude_none=True) | given.model_dump(exclude_none=True)
        self._opening.settings = BudgetSettings.of(**{k: v for k, v in known.items() if k not in unset})

    def _producer_settings(self, **given: Any) -> ProducerSettings:
        if self._opening.settings.lossless:
            # What a lossless budget's consumers cannot hold is never sent, so there is nothing to go on with alone.
            if given.get("on_outage") not in (None, "closed"):
                raise InvalidSetting("on_outage", given["on_outage"], "use 'closed': the budget is lossless")
            given["on_outage"] = "closed"
        return ProducerSettings.of(**{name: value for name, value in given.items() if value is not None})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class ProducerShell:
    """One producer: its account, and what can be read of it without asking anybody."""

    _account: Account

    @property
    def id(self) -> str:
        """The id in Redis; another one, with a suffix, where the given one was taken."""
        return self._account.id

    @property
    def flow(self) -> FlowControl | None:
        """The budget's last answer; None before the first."""
        return self._account.flow

    def _check_settled(self, line: Waiter, cost: float) -> None:
        """The time is over."""
        if not line.is_settled:
            waited = self._account.hub.clock() - line.since
            raise AcquireTimeout(self._account.keys.name, cost, waited, self._account.reason)

    def __repr__(self) -> str:
        ledger, answer = self._account.ledger, self._account.ledger.answer
        told = (
            f"{answer.recommended_rate / MICRO:g}/s of {answer.budget_rate / MICRO:g}/s" if answer else "no answer yet"
        )
        return (
            f"<{type(self).__name__} {self.id!r} of {self._account.keys.name!r}: "
            f"{ledger.held / MICRO:g} tokens in hand, {len(ledger.waiters)} waiting, {told}>"
        )


class ConsumerShell:
    """One consumer: what it measures, and what it was last told."""

    _reporter: Reporter
    _start: Callable[[], None]

    @property
    def id(self) -> str:
        """The id in Redis; another one, with a suffix, where the given one was taken."""
        return self._reporter.id

    @property
    def rate(self) -> float | None:
        """Tokens per second that the law gives this consumer; None before the first answer."""
        return self._reporter.standing.rate if self._reporter.standing else None

    def watch(self, queue: Any = None, *, depth: Callable[[], float] | None = None, limit: float | None = None) -> Self:
        """Report how full a queue is: anything with `qsize()` and `maxsize`, or `depth=` a callable and `limit=`.

        Depth and limit are in tokens, like everything a consumer says. Read every interval, from another thread.
        """
        self._reporter.meter.watch(queue, depth=depth, limit=limit)
        self._start()
        return self

    def work(self, tokens: float = 1) -> Work:
        """`with consumer.work(len(batch)): ...` - in flight meanwhile, then done, or an error if the block raises."""
        return Work(self._reporter.meter, parse_number("tokens", tokens), self._start)

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
    return said


def consumer_settings(capacity: Any, interval: Any) -> ConsumerSettings:
    """Checked settings of a consumer."""
    return ConsumerSettings.of(capacity=capacity, interval=interval)

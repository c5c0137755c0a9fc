"""What the helpers for HTTP clients share: acquire tokens before a request, and pause the budget if the response asks.

    request  --> acquire: cost, within the request's own timeout --> the library sends it (`with attempt`)
    response <-- pause_if_asked: "429 Retry-After: 7" pauses the budget for 7 s on all hosts <-- the library

A request is sent once. A caller that gets a 429 sees it, because only the caller knows whether the request may be
repeated. The repetition acquires its token like any other request, so it waits until the pause is over.

A response never shortens a pause. A longer one stays, and so does one that lasts until `resume`, because an operator
may have paused the budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Final

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis import client
from nexus_redis.contrib import _texts
from nexus_redis.contrib._attempt import Attempt
from nexus_redis.contrib._fail_open import fail_open_price
from nexus_redis.contrib._retry_after import RequestedWait, requested_wait
from nexus_redis.contrib._validate import chosen_observer, require, token_source
from nexus_redis.errors import NexusError
from nexus_redis.extending import Cost, log, log_fields

MARGIN: Final = 0.25  # seconds by which a pause must exceed the one that is known, to be worth a call at once
PART: Final = 0.25  # of the pause: a short one is worth a call for less
REPEATS: Final = 1.0  # seconds after which it is worth a call anyway: an operator may have resumed
LONGEST_HOST: Final = 100  # characters of a host's name in the reason: a note has 200 bytes
Report = bool | client.Consumer
AsyncReport = bool | nexus_asyncio.Consumer


class PauseFilter:
    """What both limiters know about pauses. `_until` is the end of the latest pause that this process asked for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._until = self._asked = -math.inf

    def new_pause(self, status: int, headers: Mapping[str, str]) -> RequestedWait | None:
        """Return the pause that a response asks for if it is news here: fifty refusals at once make one pause."""
        wait, now = requested_wait(status, headers), time.monotonic()
        if wait is None:
            return None
        margin = min(MARGIN, PART * wait.seconds)
        if now + wait.seconds < self._until + margin and now < self._asked + REPEATS:
            return None
        self._until, self._asked = now + wait.seconds, now
        return wait

    def failed(self, wait: RequestedWait, error: NexusError) -> None:
        """Log that the pause was not made. The caller gets the response all the same, and the next one asks again."""
        self._until = -math.inf
        about = log_fields(event="pause_failed", budget=self._name, wait_s=wait.seconds, cause=str(error))
        log.warning(_texts.PAUSE_FAILED, self._name, wait.header, error, extra=about)


def _reason(wait: RequestedWait, host: str) -> str:
    reason = _texts.pause_reason(wait.header, host[:LONGEST_HOST])
    return reason.encode("ascii", "replace").decode()


class Limiter:
    """One budget before the requests of a sync client."""

    def __init__(self, budget: client.Budget, cost: Cost, producer: client.Producer | None, report: Report) -> None:
        self._budget = require("budget", budget, client.Budget)
        self._source = token_source(budget, producer, client.Producer)
        self._observer = chosen_observer(budget, report, client.Consumer)
        self._price, self._pauses = fail_open_price(f"budget {budget.name}", cost), PauseFilter(budget.name)

    def acquire(self, request: object, timeout: float | None) -> Attempt:
        """Acquire the request's tokens. Raise `AcquireTimeout` after `timeout` seconds (None: the producer's own)."""
        if (cost := self._price(request)) <= 0:
            return Attempt(None)
        if self._observer is not None:
            self._observer.start()  # before the first request: without a report the budget has no rate
        if timeout is None:
            self._source.acquire(cost)
        else:
            self._source.acquire(cost, timeout)
        return Attempt(None if self._observer is None else self._observer.work(cost))

    def pause_if_asked(self, status: int, headers: Mapping[str, str], host: str) -> None:
        """Pause the budget if the response of `host` asks for it."""
        if (wait := self._pauses.new_pause(status, headers)) is None:
            return
        try:
            self._budget.pause(wait.seconds, reason=_reason(wait, host))
        except NexusError as error:
            self._pauses.failed(wait, error)


class AsyncLimiter:
    """One budget before the requests of an async client."""

    def __init__(
        self, budget: nexus_asyncio.Budget, cost: Cost, producer: nexus_asyncio.Producer | None, report: AsyncReport
    ) -> None:
        self._budget = require("budget", budget, nexus_asyncio.Budget)
        self._source = token_source(budget, producer, nexus_asyncio.Producer)
        self._observer = chosen_observer(budget, report, nexus_asyncio.Consumer)
        self._price, self._pauses = fail_open_price(f"budget {budget.name}", cost), PauseFilter(budget.name)

    async def acquire(self, request: object, timeout: float | None) -> Attempt:
        """Acquire the request's tokens. Raise `AcquireTimeout` after `timeout` seconds (None: the producer's own)."""
        if (cost := self._price(request)) <= 0:
            return Attempt(None)
        if self._observer is not None:
            self._observer.start()  # before the first request: without a report the budget has no rate
        if timeout is None:
            await self._source.acquire(cost)
        else:
            await self._source.acquire(cost, timeout)
        return Attempt(None if self._observer is None else self._observer.work(cost))

    async def pause_if_asked(self, status: int, headers: Mapping[str, str], host: str) -> None:
        """Pause the budget if the response of `host` asks for it."""
        if (wait := self._pauses.new_pause(status, headers)) is None:
            return
        try:
            await self._budget.pause(wait.seconds, reason=_reason(wait, host))
        except NexusError as error:
            self._pauses.failed(wait, error)

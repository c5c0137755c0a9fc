"""What every HTTP client helper does: a token before the request, and an ear for what the response says.

    request --> enter: acquire(cost, within the request's own timeout) --> the library sends it (`with attempt`)
    response <-- hear: "429 Retry-After: 7" pauses the budget for 7 s, on all hosts <-- the library has an answer

A request is sent once. Who got a 429 gets to see it: repeating a request is the caller's decision, who alone knows
whether that is safe. The repetition waits for its token like any other request, so until the pause is over.

A pause is never cut short: one that lasts longer, or until `resume`, stays (an operator may have paused the budget).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Final

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis import client
from nexus_redis._api.producer import UNSET
from nexus_redis._values.cost import Cost
from nexus_redis._values.log import log
from nexus_redis.contrib._given import given, observer, spender
from nexus_redis.contrib._headers import Told, told_to_wait
from nexus_redis.contrib._observing import Attempt
from nexus_redis.contrib._open import open_price
from nexus_redis.errors import NexusError

MARGIN: Final = 0.25  # seconds by which a pause must be longer than the one that is known, to be worth a call at once
PART: Final = 0.25  # of the pause: a short one is worth a call for less
REPEATS: Final = 1.0  # seconds after which it is worth one anyhow: somebody may have resumed
Report = bool | client.Consumer
AsyncReport = bool | nexus_asyncio.Consumer
LONGEST_PLACE: Final = 100  # characters of a host's name in the reason: a note has 200 bytes


class _Gate:
    """What the two have in common; `_until` is the end of the latest pause that this process said."""

    def __init__(self, name: str, cost: Cost) -> None:
        self._name, self._price = name, open_price(f"budget {name}", cost)
        self._until = self._said = -math.inf

    def _news(self, status: int, headers: Mapping[str, str]) -> Told | None:
        """What the response says, if that is not known here: fifty refusals at once make one pause."""
        told, now = told_to_wait(status, headers), time.monotonic()
        if told is None:
            return None
        margin = min(MARGIN, PART * told.seconds)
        if now + told.seconds < self._until + margin and now < self._said + REPEATS:
            return None
        self._until, self._said = now + told.seconds, now
        return told

    def _failed(self, told: Told, error: NexusError) -> None:
        # The caller's response is worth more than the pause, and the next one of its kind says it again.
        self._until = -math.inf
        log.warning("budget %s: %s could not be passed on to the fleet: %s", self._name, told.why, error)


def _reason(told: Told, place: str) -> str:
    return f"{told.why} from {place[:LONGEST_PLACE]}".encode("ascii", "replace").decode()


class Gate(_Gate):
    """Of the sync clients."""

    def __init__(self, budget: client.Budget, cost: Cost, producer: client.Producer | None, report: Report) -> None:
        self._budget = given("budget", budget, client.Budget)
        self._source = spender(budget, producer, client.Producer)
        self._observer = observer(budget, report, client.Consumer)
        super().__init__(budget.name, cost)

    def enter(self, request: object, timeout: float | None) -> Attempt:
        """Wait for the request's tokens; `AcquireTimeout` after `timeout` seconds (None: the producer's own)."""
        if (cost := self._price(request)) <= 0:
            return Attempt(None)
        if self._observer is not None:
            self._observer._start()  # before the first request: without a report the budget has no rate
        self._source.acquire(cost, UNSET if timeout is None else timeout)
        return Attempt(None if self._observer is None else self._observer.work(cost))

    def hear(self, status: int, headers: Mapping[str, str], place: str) -> None:
        """Pause the budget if the response says so; `place` is who said it."""
        if (told := self._news(status, headers)) is None:
            return
        try:
            self._budget.pause(told.seconds, reason=_reason(told, place))
        except NexusError as error:
            self._failed(told, error)


class AsyncGate(_Gate):
    """Of the async clients."""

    def __init__(
        self, budget: nexus_asyncio.Budget, cost: Cost, producer: nexus_asyncio.Producer | None, report: AsyncReport
    ) -> None:
        self._budget = given("budget", budget, nexus_asyncio.Budget)
        self._source = spender(budget, producer, nexus_asyncio.Producer)
        self._observer = observer(budget, report, nexus_asyncio.Consumer)
        super().__init__(budget.name, cost)

    async def enter(self, request: object, timeout: float | None) -> Attempt:
        """Wait for the request's tokens; `AcquireTimeout` after `timeout` seconds (None: the producer's own)."""
        if (cost := self._price(request)) <= 0:
            return Attempt(None)
        if self._observer is not None:
            self._observer._start()  # before the first request: without a report the budget has no rate
        await self._source.acquire(cost, UNSET if timeout is None else timeout)
        return Attempt(None if self._observer is None else self._observer.work(cost))

    async def hear(self, status: int, headers: Mapping[str, str], place: str) -> None:
        """Pause the budget if the response says so; `place` is who said it."""
        if (told := self._news(status, headers)) is None:
            return
        try:
            await self._budget.pause(told.seconds, reason=_reason(told, place))
        except NexusError as error:
            self._failed(told, error)

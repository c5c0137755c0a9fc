"""`POST /v1/acquire` and `/v1/try`: tokens for any program that speaks HTTP, from the leases of this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, TypedDict

from nexus_redis._values.formatting import whole
from nexus_redis._values.parse import budget_name, split_name
from nexus_redis.asyncio import Budget, Nexus
from nexus_redis.contrib._rate_limit_fields import rate_limit_fields
from nexus_redis.errors import AcquireTimeout
from nexus_redis.extending import expected_wait, known_rate
from nexus_redis.server.access import PRODUCER
from nexus_redis.server.call import Call, CallerGone, Reply
from nexus_redis.server.denials import Denials
from nexus_redis.server.fair_line import FairLine
from nexus_redis.server.idempotency import Idempotency
from nexus_redis.server.known_budgets import KnownBudgets, Latest
from nexus_redis.server.options import ServerOptions
from nexus_redis.server.problems import Headers, over_budget
from nexus_redis.server.requests import AcquireRequest, TryRequest
from nexus_redis.server.waiting import Waiting

KEY_HEADER: Final = b"idempotency-key"


class GrantJson(TypedDict):
    """The tokens that a caller got. `degraded` ones were admitted while Redis was away."""

    granted: bool
    budget: str
    cost: float
    waited_ms: float
    degraded: bool


class Tokens:
    """The lines of all budgets in use, and the two operations that take tokens."""

    def __init__(
        self, nexus: Nexus, options: ServerOptions, known: KnownBudgets, waiting: Waiting, once: Idempotency
    ) -> None:
        self._nexus, self._wait, self._known, self._waiting, self._once = nexus, options.wait_s, known, waiting, once
        self._lines: Latest[FairLine] = Latest()
        self.denials = Denials()

    async def acquire(self, call: Call) -> Reply:
        """Wait for tokens, in turn, until the deadline."""
        asked = AcquireRequest(**await call.fields())
        timeout = self._wait if asked.timeout_ms is None else asked.timeout_ms / 1e3
        return await self._answer(call, asked, timeout)

    async def try_(self, call: Call) -> Reply:
        """Take tokens now, or none."""
        return await self._answer(call, TryRequest(**await call.fields()), None)

    def waiting(self, name: str) -> Mapping[str, int]:
        """Return how many callers of a budget wait here, by producer."""
        line = self.line_of(name)
        return {} if line is None else line.waiting

    def line_of(self, name: str) -> FairLine | None:
        """Return the line in front of a budget, None if nobody has used it here lately."""
        return self._lines.get(name)

    async def _answer(self, call: Call, asked: TryRequest, timeout: float | None) -> Reply:
        name = budget_name(asked.budget, asked.key)
        call.caller.require(PRODUCER, name)
        if not self._known.has(name):
            await self._known.require(name)
        line = self._line(name, asked)
        key = call.header(KEY_HEADER)
        if not key:
            return await self._take(call, line, asked, timeout)
        request = [call.scope["path"], whole({**dict(asked), "budget": name, "key": None})]
        return await self._once.run(
            call.caller.name, key, request, timeout or 0.0, lambda: self._take(call, line, asked, timeout)
        )

    def _line(self, name: str, asked: TryRequest) -> FairLine:
        found = self._lines.use(name)
        if found is None:
            parent, key = (asked.budget, asked.key) if asked.key is not None else split_name(name)
            found = self._lines.add(name, FairLine(self._nexus.budget(parent, key=key)))
        return found

    async def _take(self, call: Call, line: FairLine, asked: TryRequest, timeout: float | None) -> Reply:
        budget, who = line.budget, asked.producer_id or call.caller.name
        began = time.monotonic()
        try:
            if timeout is None:
                is_degraded = await self._try(budget, asked.cost)
            elif line.take_now(asked.cost):
                is_degraded = False
            elif not timeout:
                is_degraded = (await budget.acquire(asked.cost, timeout=0)).degraded
            else:
                with self._waiting.wait(call.receive) as wait:
                    taken = await line.acquire(who, asked.weight, asked.priority, asked.cost, timeout)
                    if wait.is_gone:
                        line.give_back(taken)
                        raise CallerGone
                is_degraded = taken.degraded
        except AcquireTimeout as error:
            self.denials.add(budget.name, who, error.reason)
            wait_s = error.retry_after
            shown = budget.parent or budget.name  # a key may be a secret
            headers = _rate_limit(budget, max(wait_s, 1.0))
            raise over_budget(budget.name, error.reason, wait_s, str(error), headers, shown) from None
        answer: GrantJson = {
            "granted": True, "budget": budget.name, "cost": asked.cost,
            "waited_ms": round((time.monotonic() - began) * 1e3, 3), "degraded": is_degraded,
        }  # fmt: skip
        return Reply(answer, headers=_rate_limit(budget, expected_wait(budget, asked.cost)))

    async def _try(self, budget: Budget, cost: float) -> bool:
        taken = await budget.try_acquire(cost)
        if not taken:
            raise AcquireTimeout(budget.name, cost, 0.0, taken.reason, taken.retry_after)
        return taken.degraded


def _rate_limit(budget: Budget, wait: float) -> Headers:
    return list(_encoded_fields(budget.parent or budget.name, known_rate(budget), wait))


@lru_cache(1_000)  # while tokens are at hand, the fields change only with the rate
def _encoded_fields(name: str, rate: float, wait: float) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((field.lower().encode(), value.encode()) for field, value in rate_limit_fields(name, rate, wait))

"""What the helpers for applications share (asgi, wsgi, fastapi): which request is admitted, and what its answer says.

    request --> its cost, and its budget --> admitted: the answer gets RateLimit-Policy and RateLimit
                                         '-> refused: 429 or 503, and Retry-After as well

`AdmissionRules` decides, without I/O; asgi and wsgi wait.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from nexus_redis import Denied, client
from nexus_redis import asyncio as nexus_asyncio
from nexus_redis.contrib import _texts
from nexus_redis.contrib._fail_open import ErrorLog, fail_open_price
from nexus_redis.contrib._rate_limit_fields import Fields, rate_limit_fields
from nexus_redis.contrib._validate import require, token_source
from nexus_redis.errors import InvalidSetting
from nexus_redis.extending import Cost, expected_wait, is_async, known_rate, parse_seconds

TOO_MANY: Final = 429
UNAVAILABLE: Final = 503
OVER_THE_RATE: Final = ("ok", "rate", "contended", "learning")  # callers want more than their part: 429
LONGEST_RETRY: Final = 60.0  # seconds: the end of a pause until `resume` is not known
LOOK_EACH: Final = 1.0  # seconds between two looks at the end of a pause, however many requests are refused
MOST_PAUSES: Final = 1_000  # budgets whose pause is remembered; for a forgotten one, the next refusal looks again

B = TypeVar("B", client.Budget, nexus_asyncio.Budget)
P = TypeVar("P", client.Producer, nexus_asyncio.Producer)
L = TypeVar("L")


class Refusal(NamedTuple):
    """The answer to a request over budget, beside its body."""

    status: int
    headers: Fields


class AdmissionRules(Generic[B, P]):
    """The checked arguments of `Limit`. `budget` is the one for all requests, or None where `choose` returns it."""

    def __init__(
        self, budget: object, kinds: tuple[type[B], type[P]], *, producer: P | None, cost: Cost, hold: float | str,
        status: int | None, headers: bool,
    ) -> None:  # fmt: skip
        if status not in (None, TOO_MANY, UNAVAILABLE):
            raise InvalidSetting("status", status, _texts.WRONG_STATUS)
        self._kind: type[B] = kinds[0]
        self._status, self._with_headers = status, headers
        self.budget: B | None = None
        if isinstance(budget, self._kind) or not callable(budget):
            self.budget = require("budget", budget, self._kind)
            self.source: B | P = token_source(self.budget, producer, kinds[1])
        elif producer is not None:
            raise InvalidSetting("producer", producer, _texts.PRODUCER_AND_FUNCTION)
        else:
            self.choose: Callable[..., object] = budget
        owner = f"budget {self.budget.name}" if self.budget is not None else "Limit"
        self.price = fail_open_price(owner, cost, _texts.NOT_LIMITED)
        self.choice_errors = ErrorLog(_texts.choosing_function(owner), _texts.NOT_LIMITED)
        self._cost_errors = ErrorLog("", _texts.ALWAYS_REFUSED)
        self.hold = parse_seconds(hold, "hold")

    def refuse_async(self) -> None:
        """Raise `InvalidSetting` if `choose` is an async function, for a helper that cannot await it."""
        if self.budget is None and is_async(self.choose):
            raise InvalidSetting("budget", self.choose, _texts.ASYNC_FUNCTION)

    def too_large(self, budget: B | P, error: InvalidSetting) -> Denied:
        """Deny a cost that no bucket can hold: if it were admitted, the largest requests would be free of charge."""
        self._cost_errors.add(error, _texts.acquiring(budget.name))
        return Denied(LONGEST_RETRY, "rate")

    def chosen(self, answer: object) -> B | None:
        """Check what `choose` has returned: a budget, or None for a request that is not limited."""
        return None if answer is None else require("budget", answer, self._kind)

    def admitted(self, budget: B, source: B | P, cost: float) -> Fields:
        """Return the header fields for the answer to an admitted request."""
        rate = known_rate(source)
        if not self._with_headers or rate <= 0:
            return []
        return rate_limit_fields(_shown_name(budget), rate, max(0.0, expected_wait(source, cost) - self.hold))

    def refused(self, budget: B, source: B | P, denied: Denied, wait: float) -> Refusal:
        """Return the answer to a refused request that may come back in `wait` seconds."""
        retry_after = max(1, math.ceil(wait))
        status = self._status or (TOO_MANY if denied.reason in OVER_THE_RATE else UNAVAILABLE)
        headers = [("Retry-After", str(retry_after))]
        if self._with_headers:
            headers += rate_limit_fields(_shown_name(budget), known_rate(source), retry_after)
        return Refusal(status, headers)


def _shown_name(budget: client.Budget | nexus_asyncio.Budget) -> str:
    return budget.parent or budget.name  # a key may be a secret


class PauseEnd(Generic[L]):
    """The end of one budget's pause, and the lock of the request that looks for it.

    A producer learns from its answers only that there is a pause.
    """

    def __init__(self, lock: L) -> None:
        self.lock, self._looked_at, self._ends = lock, -math.inf, 0.0

    def is_due(self, now: float) -> bool:
        """Return whether to look again; the caller then does so."""
        if now - self._looked_at < LOOK_EACH:
            return False
        self._looked_at = now
        return True

    def learn(self, now: float, seconds: float | None) -> None:
        """Note that the pause lasts for `seconds`: infinite until `resume`, None where there is no pause."""
        self._ends = now + min(seconds or 0.0, LONGEST_RETRY)

    def left(self, now: float) -> float:
        """Return the seconds until the end of the pause."""
        return self._ends - now


class PauseEnds(Generic[L]):
    """The ends of the pauses of the budgets that requests were refused for: the latest MOST_PAUSES."""

    def __init__(self, lock: Callable[[], L]) -> None:
        self._lock, self._known = lock, OrderedDict[str, PauseEnd[L]]()

    def of(self, name: str) -> PauseEnd[L]:
        """Return the end of the pause of the budget `name`."""
        pause = self._known.pop(name, None) or PauseEnd(self._lock())
        self._known[name] = pause
        if len(self._known) > MOST_PAUSES:
            self._known.popitem(last=False)
        return pause

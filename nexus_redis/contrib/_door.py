"""What the doors of an application have in common (asgi, wsgi, fastapi): who is let in, and what the answer says of it.

    request --> its cost, and the budget it comes under --> let in: the answer gets RateLimit-Policy and RateLimit
                                                       '--> refused: 429 or 503, with Retry-After as well

The two fields have the form of draft-ietf-httpapi-ratelimit-headers-11. With 100/s, and 6/min of which one is used:

    RateLimit-Policy: "visitors";q=100;w=1      RateLimit: "visitors";r=100;t=1      100 requests in each second
    RateLimit-Policy: "visitors";q=6;w=60       RateLimit: "visitors";r=0;t=10       none in the next ten seconds

The policy is the budget's rate, in whole requests in whole seconds. The other field is what this process knows without
asking Redis: `r` requests can be served in the next `t` seconds. It is 0 only where the next one would wait a second or
longer, since a client may stop until then. A request is a token here: one that costs more uses up more of them. The
policy's name is the budget's; of a per-key budget it is the parent's, because a key may be a secret.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis import client
from nexus_redis._values.cost import Cost, is_async
from nexus_redis._values.results import Denied
from nexus_redis._values.settings import micro_rate, parse_seconds
from nexus_redis.contrib._given import given, spender
from nexus_redis.contrib._open import Complaint, open_price
from nexus_redis.errors import InvalidSetting

TOO_MANY: Final = 429
UNAVAILABLE: Final = 503
OVER_THE_RATE: Final = ("ok", "rate", "contended", "learning")  # the caller asks for more than its part: 429
LONGEST_RETRY: Final = 60.0  # seconds: of a pause until `resume`, nobody knows the end
LOOK_EACH: Final = 1.0  # seconds between two looks at when a pause ends, however many are refused
MOST_PAUSES: Final = 1_000  # budgets whose pause is remembered; for one that is forgotten, the next refusal looks again
TEXT: Final = "over budget: see Retry-After\n"

WINDOWS: Final = (1, 60, 3_600, 86_400)  # seconds
EXACT: Final = 0.01  # of the rate: what a policy in whole requests may be off, if a longer window could say it better
MICRO: Final = 1_000_000

B = TypeVar("B", client.Budget, nexus_asyncio.Budget)
P = TypeVar("P", client.Producer, nexus_asyncio.Producer)
L = TypeVar("L")
Headers = list[tuple[str, str]]


class Refusal(NamedTuple):
    """What a request over budget is answered with, beside TEXT."""

    status: int
    headers: Headers


class Rules(Generic[B, P]):
    """What a door is made with, checked. `budget` is the one for all requests, or None where `choose` says which."""

    def __init__(
        self, budget: object, kinds: tuple[type[B], type[P]], *, producer: P | None, cost: Cost, hold: float | str,
        status: int | None, headers: bool,
    ) -> None:  # fmt: skip
        if status not in (None, TOO_MANY, UNAVAILABLE):
            raise InvalidSetting("status", status, "use 429, 503, or leave it out for the one that fits")
        self._kind: type[B] = kinds[0]
        self._status, self._with_headers = status, headers
        self.budget: B | None = None
        if isinstance(budget, self._kind) or not callable(budget):
            self.budget = given("budget", budget, self._kind)
            self.source: B | P = spender(self.budget, producer, kinds[1])
        elif producer is not None:
            raise InvalidSetting("producer", producer, "leave it out: a function chooses the budget of each request")
        else:
            self.choose: Callable[..., object] = budget
        whose = f"budget {self.budget.name}" if self.budget is not None else "Limit"
        self.price = open_price(whose, cost, "The request is not limited")
        self.complaint = Complaint(f"{whose}: the function that chooses the budget", "The request is not limited")
        self._misfit = Complaint("", "Such a request is always refused")
        self.hold = parse_seconds(hold, "hold")

    def refuse_async(self) -> None:
        """Raise where `choose` is an async function and nothing can wait for it."""
        if self.budget is None and is_async(self.choose):
            raise InvalidSetting("budget", self.choose, "give a def: an async def cannot be awaited here")

    def misfit(self, budget: B | P, error: InvalidSetting) -> Denied:
        """Deny a cost that no bucket can hold: let in, whoever asks for the most would get it for nothing."""
        self._misfit.note(error, f"budget {budget.name}: taking a request's tokens")
        return Denied(LONGEST_RETRY, "rate")

    def chosen(self, answer: object) -> B | None:
        """Check what `choose` has answered: a budget, or None for a request that is not limited."""
        return None if answer is None else given("budget", answer, self._kind)

    def passed(self, budget: B, source: B | P, cost: float) -> Headers:
        """The header fields of a request that was let in."""
        if not self._with_headers or source._rate <= 0:
            return []
        return _quota(budget, source._rate, max(0.0, source._wait(cost) - self.hold))

    def refused(self, budget: B, source: B | P, denied: Denied, wait: float) -> Refusal:
        """The answer to a request that was not; `wait` in seconds."""
        retry_after = max(1, math.ceil(wait))
        status = self._status or (TOO_MANY if denied.reason in OVER_THE_RATE else UNAVAILABLE)
        headers = [("Retry-After", str(retry_after))]
        if self._with_headers:
            headers += _quota(budget, source._rate, retry_after)
        return Refusal(status, headers)


class Pause(Generic[L]):
    """When one budget's pause ends, and the lock of whoever looks: producers are only told that there is one."""

    def __init__(self, lock: L) -> None:
        self.lock, self._looked, self._resumes = lock, -math.inf, 0.0

    def is_due(self, now: float) -> bool:
        """Whether to look again; the caller does."""
        if now - self._looked < LOOK_EACH:
            return False
        self._looked = now
        return True

    def learn(self, now: float, seconds: float | None) -> None:
        """Note that the pause lasts for `seconds`; infinite until `resume`, None where there is none."""
        self._resumes = now + min(seconds or 0.0, LONGEST_RETRY)

    def left(self, now: float) -> float:
        """Seconds to its end."""
        return self._resumes - now


class Pauses(Generic[L]):
    """The pauses of the budgets that requests were refused for: a bounded number, the latest."""

    def __init__(self, lock: Callable[[], L]) -> None:
        self._lock, self._known = lock, OrderedDict[str, Pause[L]]()

    def of(self, name: str) -> Pause[L]:
        """The pause of the budget `name`."""
        pause = self._known.pop(name, None) or Pause(self._lock())
        self._known[name] = pause
        if len(self._known) > MOST_PAUSES:
            self._known.popitem(last=False)
        return pause


def _quota(budget: B, rate: float, wait: float) -> Headers:
    name = budget.parent or budget.name  # no character of a name needs quoting
    if rate <= 0:
        return [("RateLimit", f'"{name}";r=0;t={math.ceil(wait)}')]
    quota, window = policy(rate)
    left, seconds = 0, math.ceil(wait)
    if wait < 1:  # whoever waits for less than a second is not told to wait for a whole one
        left, seconds = min(quota, 1 + math.floor(rate * (window - wait))), window
    return [
        ("RateLimit-Policy", f'"{name}";q={quota};w={window}'),
        ("RateLimit", f'"{name}";r={left};t={seconds}'),
    ]


def policy(rate: float) -> tuple[int, int]:
    """Whole requests in whole seconds, never more than the rate, in the shortest usual window that says it well.

    >>> policy(100), policy(1.5), policy(1 / 6), policy(5 / 86_400)
    ((100, 1), (90, 60), (10, 60), (5, 86400))
    """
    millionths = micro_rate(rate)
    for window in WINDOWS:
        quota, rest = divmod(millionths * window, MICRO)
        if quota >= 1 and rest <= EXACT * quota * MICRO:
            return quota, window
    return (quota, window) if quota else (1, math.ceil(MICRO / millionths))

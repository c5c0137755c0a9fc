"""ASGI: an application that says how it fares, or one that lets in only what its budget allows. Any framework, or none.

    app = ReportLoad(app, budget.consumer())     # a consumer: clients elsewhere are held to what this one can take
    app = Limit(app, budget)                     # a producer: requests over budget wait, or get 429 with Retry-After

Both take `http` requests alone: websockets and lifespan events pass through untouched. They need nothing but the core
(`nexus_redis.asyncio`), and are made at import, before the server forks or has an event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from nexus_redis.asyncio import Budget, Consumer, Producer
from nexus_redis.config import parse_number
from nexus_redis.contrib._given import given, spender
from nexus_redis.errors import AcquireTimeout, InvalidSetting, NexusError, Unavailable
from nexus_redis.meter import Work
from nexus_redis.price import price_of
from nexus_redis.results import Denied

__all__ = ["Limit", "ReportLoad"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Cost = float | Callable[[Scope], float]

LONGEST_RETRY: Final = 60.0  # seconds: of a pause until `resume`, nobody knows the end
TOO_MANY: Final = 429
UNAVAILABLE: Final = 503
OVER_THE_RATE: Final = ("ok", "rate", "contended", "learning")  # the caller asks for more than its part: 429
# Whatever ends a response's body; the last two are extensions of ASGI that send a file or a socket whole.
ENDS: Final = ("http.response.body", "http.response.trailers", "http.response.pathsend", "http.response.zerocopysend")


class ReportLoad:
    """Reports the application's requests as a consumer's work: in flight, latency, done, errors.

    A request is in flight from its arrival until its body has ended, streams included; what the application goes on
    with after that is not counted. It is done, unless the application raises or answers 5xx (but for 501 and 505, which
    say nothing about load): then it is an error. From latency and errors the law `aimd` finds what this process can
    take. With 4 workers that each manage 250 requests/s, the budget comes out near 1000/s. `cost` is a number or a
    function of the scope, in the budget's tokens; 0 leaves a request out (health checks).
    """

    def __init__(self, app: App, consumer: Consumer, *, cost: Cost = 1) -> None:
        self._app, self._consumer, self._price = app, given("consumer", consumer, Consumer), price_of(cost)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        cost = self._price(scope) if scope["type"] == "http" else 0
        if cost == 0:
            await self._app(scope, receive, send)
            return
        request = _Counted(self._consumer.work(cost), send)
        try:
            await self._app(scope, receive, request.send)
        except BaseException as error:
            request.end(type(error))
            raise
        request.end(None)


class _Counted:
    """One request in flight."""

    def __init__(self, work: Work, send: Send) -> None:
        self._work, self._send = work, send
        self._status, self._has_trailers, self._is_over = 200, False, False
        work.__enter__()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status, self._has_trailers = message["status"], message.get("trailers", False)
        await self._send(message)
        is_last = kind in ENDS and not message.get("more_body", False) and not message.get("more_trailers", False)
        if is_last and (kind == "http.response.trailers" or not self._has_trailers):
            self.end(None)

    def end(self, error: type[BaseException] | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if error is None and self._status >= 500 and self._status not in {501, 505}:
            error = NexusError
        self._work.__exit__(error, None, None)


class Limit:
    """Lets in what the budget allows, over all workers on all hosts; the rest waits `hold` seconds, then is refused.

    Refused means 429 where callers want more than the rate, 503 where the budget itself is short (its consumers are
    full or gone, it is paused, Redis is away and the mode is closed), or `status` always; with `Retry-After` in whole
    seconds, and a line of text. With 100/s and hold=0, of 150 requests a second 100 are answered and 50 get
    `429 Retry-After: 1`. `cost` is a number or a function of the scope; 0 lets a request in without a token. `producer`
    claims instead of the process' shared one.
    """

    def __init__(
        self,
        app: App,
        budget: Budget,
        *,
        hold: float = 0,
        status: int | None = None,
        cost: Cost = 1,
        producer: Producer | None = None,
    ) -> None:
        if status not in (None, TOO_MANY, UNAVAILABLE):
            raise InvalidSetting("status", status, "use 429, 503, or leave it out for the one that fits")
        self._app, self._budget = app, given("budget", budget, Budget)
        self._source = spender(budget, producer, Producer)
        self._hold, self._status, self._price = parse_number("hold", hold), status, price_of(cost)
        self._looking, self._looked, self._resumes = asyncio.Lock(), -math.inf, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        cost = self._price(scope) if scope["type"] == "http" else 0
        refused = await self._refusal(cost) if cost > 0 else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            wait = await self._pause_left() if refused.reason == "paused" else refused.retry_after
            await _answer(send, self._status or _status(refused.reason), wait)

    async def _refusal(self, cost: float) -> Denied | None:
        try:
            if self._hold == 0:
                answer = await self._source.try_acquire(cost)
                return None if answer else answer
            await self._source.acquire(cost, self._hold)
        except AcquireTimeout as error:
            return Denied(error.retry_after, error.reason)
        except Unavailable:
            return Denied(0, "unavailable")
        return None

    async def _pause_left(self) -> float:
        """Seconds; asked for at most once a second, however many are refused. Producers are only told that it lasts."""
        async with self._looking:  # who comes meanwhile waits for the same look
            now = time.monotonic()
            if now - self._looked >= 1:
                self._looked = now
                with suppress(NexusError):
                    left = (await self._budget.snapshot()).paused_for
                    self._resumes = now + min(left or 0.0, LONGEST_RETRY)
        return self._resumes - now


def _status(reason: str) -> int:
    return TOO_MANY if reason in OVER_THE_RATE else UNAVAILABLE


async def _answer(send: Send, status: int, retry_after: float) -> None:
    text = b"over budget: see Retry-After\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"retry-after", str(max(1, math.ceil(retry_after))).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})

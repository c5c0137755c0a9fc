"""ASGI: an application that reports its load, or that admits only what its budget allows. For any framework, or none.

    app = ReportLoad(app, budget.consumer())     # a consumer: clients elsewhere are limited to what this app can take
    app = Limit(app, budget)                     # a producer: requests over budget wait, or get 429 with Retry-After

Both classes handle `http` requests only; websockets and lifespan events pass through unchanged. They need no library
besides `nexus_redis`, and are made at import, before the server forks or has an event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from nexus_redis import Denied
from nexus_redis.asyncio import Budget, Consumer, Producer
from nexus_redis.contrib import _texts
from nexus_redis.contrib._admission import AdmissionRules, PauseEnds, Refusal
from nexus_redis.contrib._fail_open import fail_open_price
from nexus_redis.contrib._rate_limit_fields import Fields
from nexus_redis.contrib._validate import require
from nexus_redis.errors import AcquireTimeout, Closed, InvalidSetting, NexusError, Unavailable
from nexus_redis.extending import Work

__all__ = ["Limit", "ReportLoad"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Cost = float | Callable[[Scope], float]
Chooser = Callable[[Scope], Budget | Awaitable[Budget | None] | None]

SHORT: Final = 0.05  # seconds: the client of a request that takes no longer is taken to be there still
MOST_UNREAD: Final = 16  # parts of a request's body that the application has not read

# The messages that end a response's body; the last two are extensions of ASGI that send a file or a socket whole.
ENDS: Final = ("http.response.body", "http.response.trailers", "http.response.pathsend", "http.response.zerocopysend")


class ReportLoad:
    """An application that reports its requests as the work of a consumer: in flight, latency, done, errors.

    A request is in flight from its arrival until its body has ended, streams included. What the application does after
    that is not counted. The request is then done. It is an error instead if the application raises or answers 5xx
    (except 501 and 505, which say nothing about load). It is neither if the client went away before the end, or if the
    server cancelled it; `ReportLoad` asks the server for that at the end of each request of more than 50 ms. Reports
    begin when the server starts the application (its lifespan), or else with the first request of any kind; a health
    check is enough. From latency and errors the law `aimd` finds what this process can take. With 4 workers that each
    manage 250 requests/s, the budget's rate comes near 1000/s. `cost` is a number or a function of the scope, in tokens
    of the budget. A request of cost 0 is not counted (health checks), nor is one for which the function fails; such an
    error is logged once a minute.
    """

    def __init__(self, app: App, consumer: Consumer, *, cost: Cost = 1) -> None:
        self._app, self._consumer = app, require("consumer", consumer, Consumer)
        self._price = fail_open_price(f"budget {consumer.name}, ReportLoad", cost, _texts.NOT_COUNTED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and count an `http` request. The server calls this."""
        with suppress(Closed):  # a request that comes after the end of its consumer is served, and not counted
            self._consumer.start()
        cost = self._price(scope) if scope["type"] == "http" else 0
        if cost == 0:
            await self._app(scope, receive, send)
            return
        request = _Counted(self._consumer.work(cost), receive, send)
        try:
            await self._app(scope, request.receive, request.send)
        except BaseException as error:
            request.end(error)
            raise
        request.end(None)


class _Counted:
    """One request in flight."""

    def __init__(self, work: Work, receive: Receive, send: Send) -> None:
        self._work, self._receive, self._send = work, receive, send
        self._status, self._has_trailers, self._is_over, self._is_abandoned = 200, False, False, False
        self._is_listening = False  # the application waits in `receive`, so it notices when the client goes away
        self._unread: deque[Message] = deque()
        self._began = time.monotonic()
        work.__enter__()

    async def receive(self) -> Message:
        self._is_listening = True
        message = self._unread.popleft() if self._unread else await self._receive()
        self._is_listening = False
        if message["type"] == "http.disconnect":
            self._is_abandoned = True
        return message

    async def _look_for_client(self) -> None:
        """Ask the server whether the client has gone: the server answers that at once, or does not answer yet.

        The server may return a part of the request's body instead, which is kept for the application.
        """
        while len(self._unread) < MOST_UNREAD and not self._is_abandoned:
            asked = asyncio.ensure_future(self._receive())
            await asyncio.sleep(0)
            if not asked.done():
                asked.cancel()
                with suppress(asyncio.CancelledError):
                    await asked
            if asked.cancelled() or asked.exception() is not None:
                return
            self._unread.append(asked.result())
            self._is_abandoned = asked.result()["type"] == "http.disconnect"

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._status, self._has_trailers = message["status"], message.get("trailers", False)
        is_last = kind in ENDS and not message.get("more_body", False) and not message.get("more_trailers", False)
        is_last = is_last and (kind == "http.response.trailers" or not self._has_trailers)
        if is_last and not self._is_listening and time.monotonic() - self._began > SHORT:
            await self._look_for_client()
        try:
            await self._send(message)
        except OSError:  # what a server raises when the client has gone
            self._is_abandoned = True
            raise
        if is_last:
            self.end(None)

    def end(self, error: BaseException | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._is_abandoned:  # whatever exception the application made of that
            error = asyncio.CancelledError()
        elif error is None and self._status >= 500 and self._status not in {501, 505}:
            error = NexusError()
        self._work.__exit__(None if error is None else type(error), error, None)


class Limit:
    """An application that admits what the budget allows, over all workers on all hosts, and refuses the rest.

    A request over budget waits up to `hold` seconds and is then refused. The status is 429 where callers want more than
    the rate. It is 503 where the budget itself is short: its consumers are full or gone, it is paused, or Redis is away
    and the mode is closed. `status` fixes one of the two. A refusal has `Retry-After` in whole seconds, and a line of
    text. With 100/s and hold=0, of 150 requests a second 100 are answered and 50 get `429 Retry-After: 1`. All answers
    have the fields `RateLimit-Policy` and `RateLimit` (`docs/contrib/asgi.md`). These fields tell every client what the
    budget is; `headers=False` leaves them out.

    `budget` may be a function of the scope, also an async one. The function returns the budget of that request, or None
    for a request that is not limited: `lambda scope: nexus.budget("visitor", key=scope["client"][0])`. `cost` is a
    number or a function of the scope; a request of cost 0 is admitted without a token. A request for which one of these
    functions fails is admitted, and the error is logged once a minute. `producer` claims instead of the process' shared
    producer.
    """

    def __init__(
        self,
        app: App,
        budget: Budget | Chooser,
        *,
        hold: float | str = 0,
        status: int | None = None,
        cost: Cost = 1,
        producer: Producer | None = None,
        headers: bool = True,
    ) -> None:
        self._app = app
        self._admission = Admission(budget, hold=hold, status=status, cost=cost, producer=producer, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit or refuse an `http` request, and run the application. The server calls this."""
        outcome = await self._admission.admit(scope) if scope["type"] == "http" else []
        if isinstance(outcome, Refusal):
            await _answer(send, outcome)
        else:
            await self._app(scope, receive, _with(outcome, send) if outcome else send)


class Admission:
    """The admission of requests; `Limit` and the FastAPI dependency are its two faces."""

    def __init__(
        self,
        budget: Budget | Callable[[Any], Budget | Awaitable[Budget | None] | None],
        *,
        hold: float | str,
        status: int | None,
        cost: float | Callable[[Any], float],
        producer: Producer | None,
        headers: bool,
    ) -> None:
        self._rules = AdmissionRules(
            budget, (Budget, Producer), producer=producer, cost=cost, hold=hold, status=status, headers=headers
        )
        self._pauses = PauseEnds(asyncio.Lock)

    async def admit(self, request: Any) -> Fields | Refusal:
        """Acquire the tokens of `request`, and return the fields to add to its answer; or return the refusal."""
        rules = self._rules
        if (cost := rules.price(request)) <= 0:
            return []
        budget = rules.budget if rules.budget is not None else await self._choose(request)
        if budget is None:
            return []
        source = budget if rules.budget is None else rules.source
        denied = await self._denied(source, cost)
        if denied is None:
            return rules.admitted(budget, source, cost)
        wait = await self._pause_left(budget) if denied.reason == "paused" else denied.retry_after
        return rules.refused(budget, source, denied, wait)

    async def _choose(self, request: Any) -> Budget | None:
        rules = self._rules
        try:
            answer = rules.choose(request)
            return rules.chosen(await answer if inspect.isawaitable(answer) else answer)
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            rules.choice_errors.add(error)
            return None

    async def _denied(self, source: Budget | Producer, cost: float) -> Denied | None:
        rules = self._rules
        try:
            if rules.hold == 0:
                answer = await source.try_acquire(cost)
                return None if answer else answer
            await source.acquire(cost, rules.hold)
        except AcquireTimeout as error:
            return Denied(error.retry_after, error.reason)
        except Unavailable:
            return Denied(0, "unavailable")
        except InvalidSetting as error:
            return rules.too_large(source, error)
        return None

    async def _pause_left(self, budget: Budget) -> float:
        """Return the seconds that the pause lasts. Ask Redis once a second at most, however many are refused."""
        pause = self._pauses.of(budget.name)
        async with pause.lock:  # requests that come meanwhile wait for the same look
            now = time.monotonic()
            if pause.is_due(now):
                with suppress(NexusError):
                    pause.learn(now, (await budget.snapshot()).paused_for)
        return pause.left(now)


def _with(fields: Fields, send: Send) -> Send:
    ours = _raw(fields)

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *ours]}
        await send(message)

    return send_with


async def _answer(send: Send, refusal: Refusal) -> None:
    text = _texts.OVER_BUDGET.encode()
    headers = [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", str(len(text))),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": _raw(headers)})
    await send({"type": "http.response.body", "body": text})


def _raw(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in fields]

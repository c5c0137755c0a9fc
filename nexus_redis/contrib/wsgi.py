"""WSGI: an application that reports its load, or that admits only what its budget allows. Flask, Django, any.

    app.wsgi_app = ReportLoad(app.wsgi_app, budget.consumer())     # Flask
    application = Limit(get_wsgi_application(), budget)            # Django

The two classes of `asgi`, for servers that run each request in a thread. They need no library besides `nexus_redis`,
and are made at import, before the server forks: each worker has its own connection, and its own producer or consumer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from nexus_redis import Denied
from nexus_redis.client import Budget, Consumer, Producer
from nexus_redis.contrib import _texts
from nexus_redis.contrib._admission import AdmissionRules, PauseEnds, Refusal
from nexus_redis.contrib._fail_open import fail_open_price
from nexus_redis.contrib._rate_limit_fields import Fields
from nexus_redis.contrib._validate import require
from nexus_redis.errors import AcquireTimeout, Closed, InvalidSetting, NexusError, Unavailable
from nexus_redis.extending import Work

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Limit", "ReportLoad"]

Cost = float | Callable[[dict[str, Any]], float]
Chooser = Callable[[dict[str, Any]], Budget | None]


class ReportLoad:
    """An application that reports its requests as the work of a consumer: in flight, latency, done, errors.

    A request is in flight from its arrival until its body has ended, streams included. The request is then done. It is
    an error instead if the application or its body raises, or if the application answers 5xx (except 501 and 505, which
    say nothing about load). It is neither if the client went away before the end. Reports begin with the first request
    of any kind (a health check is enough) or with `start()`. From latency and errors the law `aimd` finds what this
    process can take. With 4 workers that each manage 250 requests/s, the budget's rate comes near 1000/s. `cost` is a
    number or a function of the environ, in tokens of the budget. A request of cost 0 is not counted (health checks),
    nor is one for which the function fails; such an error is logged once a minute. A file that the application passes
    to the server whole (`wsgi.file_wrapper`) is sent in chunks instead, so that its end is noticed.
    """

    def __init__(self, app: WSGIApplication, consumer: Consumer, *, cost: Cost = 1) -> None:
        self._app, self._consumer = app, require("consumer", consumer, Consumer)
        self._price = fail_open_price(f"budget {consumer.name}, ReportLoad", cost, _texts.NOT_COUNTED)

    def start(self) -> None:
        """Begin to report before the first request, because a WSGI server does not say that it has started.

        Where every client acquires a token before its request, no request comes before the first report. Call `start`
        in each worker after its fork, for instance in gunicorn's `post_worker_init`.
        """
        self._consumer.start()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Run the application and count the request. The server calls this."""
        with suppress(Closed):  # a request that comes after the end of its consumer is served, and not counted
            self.start()
        cost = self._price(environ)
        if cost == 0:
            return self._app(environ, start_response)
        request = _Counted(self._consumer.work(cost))
        try:
            return request.of(self._app(environ, request.starting(start_response)))
        except BaseException as error:
            request.end(error)
            raise


class _Counted:
    """One request in flight, and the body that the server gets."""

    def __init__(self, work: Work) -> None:
        self._work, self._status, self._is_over = work, "200", False
        self._body: Iterable[bytes] = ()
        self._chunks: Iterator[bytes] = iter(())
        work.__enter__()

    def starting(self, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: Fields, *error: Any) -> Callable[[bytes], object]:
            self._status = status
            return start_response(status, headers, *error)

        return start

    def of(self, body: Iterable[bytes]) -> _Counted:
        self._body, self._chunks = body, iter(body)
        return self

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            is_error = self._status.startswith("5") and self._status[:3] not in {"501", "505"}
            self.end(NexusError() if is_error else None)
            raise
        except BaseException as error:
            self.end(error)
            raise

    def close(self) -> None:
        """Close the body. The server calls this at the end, also where the client has gone before the end."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self.end(GeneratorExit())

    def end(self, error: BaseException | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._work.__exit__(None if error is None else type(error), error, None)


class Limit:
    """An application that admits what the budget allows, over all workers on all hosts, and refuses the rest.

    A request over budget waits up to `hold` seconds, and keeps its thread meanwhile; it is then refused. The status is
    429 where callers want more than the rate. It is 503 where the budget itself is short: its consumers are full or
    gone, it is paused, or Redis is away and the mode is closed. `status` fixes one of the two. A refusal has
    `Retry-After` in whole seconds, and a line of text. With 100/s and hold=0, of 150 requests a second 100 are answered
    and 50 get `429 Retry-After: 1`. All answers have the fields `RateLimit-Policy` and `RateLimit`
    (`docs/contrib/asgi.md`). These fields tell every client what the budget is; `headers=False` leaves them out.

    `budget` may be a function of the environ. The function returns the budget of that request, or None for a request
    that is not limited: `lambda environ: nexus.budget("visitor", key=environ["REMOTE_ADDR"])`. `cost` is a number or a
    function of the environ; a request of cost 0 is admitted without a token. A request for which one of these functions
    fails is admitted, and the error is logged once a minute. `producer` claims instead of the process' shared producer.
    """

    def __init__(
        self,
        app: WSGIApplication,
        budget: Budget | Chooser,
        *,
        hold: float | str = 0,
        status: int | None = None,
        cost: Cost = 1,
        producer: Producer | None = None,
        headers: bool = True,
    ) -> None:
        self._app = app
        self._rules = AdmissionRules(
            budget, (Budget, Producer), producer=producer, cost=cost, hold=hold, status=status, headers=headers
        )
        self._rules.refuse_async()
        self._pauses = PauseEnds(lambda: threading.Lock())  # noqa: PLW0108  # looked up late, so that gevent may replace it

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Admit or refuse the request, and run the application. The server calls this."""
        outcome = self._admit(environ)
        if isinstance(outcome, Refusal):
            return _answer(start_response, outcome)
        return self._app(environ, _with(outcome, start_response) if outcome else start_response)

    def _admit(self, environ: WSGIEnvironment) -> Fields | Refusal:
        rules = self._rules
        if (cost := rules.price(environ)) <= 0:
            return []
        budget = rules.budget if rules.budget is not None else self._choose(environ)
        if budget is None:
            return []
        source = budget if rules.budget is None else rules.source
        denied = self._denied(source, cost)
        if denied is None:
            return rules.admitted(budget, source, cost)
        wait = self._pause_left(budget) if denied.reason == "paused" else denied.retry_after
        return rules.refused(budget, source, denied, wait)

    def _choose(self, environ: WSGIEnvironment) -> Budget | None:
        rules = self._rules
        try:
            return rules.chosen(rules.choose(environ))
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            rules.choice_errors.add(error)
            return None

    def _denied(self, source: Budget | Producer, cost: float) -> Denied | None:
        rules = self._rules
        try:
            if rules.hold == 0:
                answer = source.try_acquire(cost)
                return None if answer else answer
            source.acquire(cost, rules.hold)
        except AcquireTimeout as error:
            return Denied(error.retry_after, error.reason)
        except Unavailable:
            return Denied(0, "unavailable")
        except InvalidSetting as error:
            return rules.too_large(source, error)
        return None

    def _pause_left(self, budget: Budget) -> float:
        """Return the seconds that the pause lasts. Ask Redis once a second at most, however many are refused."""
        pause = self._pauses.of(budget.name)
        with pause.lock:  # requests that come meanwhile wait for the same look
            now = time.monotonic()
            if pause.is_due(now):
                with suppress(NexusError):
                    pause.learn(now, budget.snapshot().paused_for)
        return pause.left(now)


def _with(fields: Fields, start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: Fields, *error: Any) -> Callable[[bytes], object]:
        return start_response(status, [*headers, *fields], *error)

    return start


def _answer(start_response: StartResponse, refusal: Refusal) -> Iterable[bytes]:
    text = _texts.OVER_BUDGET.encode()
    status = f"{refusal.status} {HTTPStatus(refusal.status).phrase}"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text))), *refusal.headers]
    start_response(status, headers)
    return [text]

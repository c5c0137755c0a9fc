"""WSGI: an application that says how it fares, or one that lets in only what its budget allows. Flask, Django, any.

    app.wsgi_app = ReportLoad(app.wsgi_app, budget.consumer())     # Flask
    application = Limit(get_wsgi_application(), budget)            # Django

The same as in `asgi`, for servers whose requests are threads. Both need nothing but the core (`nexus_redis`), and are
made at import, before the server forks: each worker has a connection and a producer or a consumer of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from nexus_redis._core.meter import Work
from nexus_redis._values.results import Denied
from nexus_redis.client import Budget, Consumer, Producer
from nexus_redis.contrib._door import TEXT, Headers, Pauses, Refusal, Rules
from nexus_redis.contrib._given import given
from nexus_redis.contrib._open import open_price
from nexus_redis.errors import AcquireTimeout, InvalidSetting, NexusError, Unavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Limit", "ReportLoad"]

Cost = float | Callable[[dict[str, Any]], float]
Chooser = Callable[[dict[str, Any]], Budget | None]


class ReportLoad:
    """Reports the application's requests as a consumer's work: in flight, latency, done, errors.

    A request is in flight from its arrival until its body has ended, streams included. It is done, unless the
    application or its body raises, or it answers 5xx (but for 501 and 505, which say nothing about load): then it is an
    error. It is neither where the client went away before the end. Reports begin with the first request of any kind
    (a health check will do) or with `start()`. From latency and errors the law `aimd` finds what this process can
    take. With 4 workers that each manage 250 requests/s, the budget comes out near 1000/s. `cost` is a number or a
    function of the environ, in the budget's tokens; 0 leaves a request out (health checks), and so does an error of
    the function, which is logged once a minute. A file that the application hands to the server whole
    (`wsgi.file_wrapper`) goes out in chunks instead, since nobody would see its end.
    """

    def __init__(self, app: WSGIApplication, consumer: Consumer, *, cost: Cost = 1) -> None:
        self._app, self._consumer = app, given("consumer", consumer, Consumer)
        self._price = open_price(f"budget {consumer.name}, ReportLoad", cost, "The request is not counted")

    def start(self) -> None:
        """Report from now on, as from the first request. A WSGI server does not say that it has started.

        Where clients take a token before each request, none comes before the first report: call this in each worker
        after its fork, in gunicorn's `post_worker_init` for instance.
        """
        self._consumer._start()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Called by the server."""
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
    """One request in flight, and its body as the server sees it."""

    def __init__(self, work: Work) -> None:
        self._work, self._status, self._is_over = work, "200", False
        self._body: Iterable[bytes] = ()
        self._chunks: Iterator[bytes] = iter(())
        work.__enter__()

    def starting(self, start_response: StartResponse) -> StartResponse:
        def start(status: str, headers: Headers, *error: Any) -> Callable[[bytes], object]:
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
        """Called by the server at the end, also where the client has gone before it."""
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
    """Lets in what the budget allows, over all workers on all hosts; the rest waits `hold` seconds, then is refused.

    Refused means 429 where callers want more than the rate, 503 where the budget itself is short (its consumers are
    full or gone, it is paused, Redis is away and the mode is closed), or `status` always; with `Retry-After` in whole
    seconds, and a line of text. With 100/s and hold=0, of 150 requests a second 100 are answered and 50 get
    `429 Retry-After: 1`. A request that is held keeps its thread. All answers have the fields `RateLimit-Policy` and
    `RateLimit` (`_door.py`), unless `headers=False`: they tell strangers what the budget is.

    `budget` may be a function of the environ that returns the budget of that request, or None where there is no limit:
    `lambda environ: nexus.budget("visitor", key=environ["REMOTE_ADDR"])`. `cost` is a number or a function of the
    environ; 0 lets a request in without a token. A request for which one of these functions fails is let in, and the
    error is logged once a minute. `producer` claims instead of the process' shared one.
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
        self._rules = Rules(
            budget, (Budget, Producer), producer=producer, cost=cost, hold=hold, status=status, headers=headers
        )
        self._rules.refuse_async()
        self._pauses = Pauses(lambda: threading.Lock())  # noqa: PLW0108  # of the kind that it is when one is made: see locks.py

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Called by the server."""
        entered = self._enter(environ)
        if isinstance(entered, Refusal):
            return _answer(start_response, entered)
        return self._app(environ, _adding(entered, start_response) if entered else start_response)

    def _enter(self, environ: WSGIEnvironment) -> Headers | Refusal:
        rules = self._rules
        if (cost := rules.price(environ)) <= 0:
            return []
        budget = rules.budget if rules.budget is not None else self._choose(environ)
        if budget is None:
            return []
        source = budget if rules.budget is None else rules.source
        denied = self._denied(source, cost)
        if denied is None:
            return rules.passed(budget, source, cost)
        wait = self._pause_left(budget) if denied.reason == "paused" else denied.retry_after
        return rules.refused(budget, source, denied, wait)

    def _choose(self, environ: WSGIEnvironment) -> Budget | None:
        rules = self._rules
        try:
            return rules.chosen(rules.choose(environ))
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            rules.complaint.note(error)
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
            return rules.misfit(source, error)
        return None

    def _pause_left(self, budget: Budget) -> float:
        """Seconds; asked for at most once a second, however many are refused."""
        pause = self._pauses.of(budget.name)
        with pause.lock:  # who comes meanwhile waits for the same look
            now = time.monotonic()
            if pause.is_due(now):
                with suppress(NexusError):
                    pause.learn(now, budget.snapshot().paused_for)
        return pause.left(now)


def _adding(ours: Headers, start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: Headers, *error: Any) -> Callable[[bytes], object]:
        return start_response(status, [*headers, *ours], *error)

    return start


def _answer(start_response: StartResponse, refusal: Refusal) -> Iterable[bytes]:
    text = TEXT.encode()
    status = f"{refusal.status} {HTTPStatus(refusal.status).phrase}"
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text))), *refusal.headers]
    start_response(status, headers)
    return [text]

"""What a user's function gets wrong passes, in every helper, and the log says so once a minute."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from celery import Celery
from dramatiq.brokers.stub import StubBroker
from taskiq import InMemoryBroker

import nexus_redis
import nexus_redis.asyncio
from nexus_redis.contrib import _texts, asgi, wsgi
from nexus_redis.contrib._fail_open import ErrorLog, fail_open_price
from nexus_redis.contrib.celery import NexusTask
from nexus_redis.contrib.dramatiq import NexusMiddleware as DramatiqMiddleware
from nexus_redis.contrib.taskiq import NexusMiddleware as TaskiqMiddleware
from tests.contrib.applications import APPLICATIONS
from tests.contrib.clients import CLIENTS
from tests.contrib.local_site import LocalSite
from tests.harness.refusals import refusal
from tests.harness.servers import Server
from tests.harness.support import eventually, in_thread, run

# Runs three requests or tasks with one cost function on a budget of some rate, and returns how many passed.
Play = Callable[[Server, str, Any, float], int]


def _client(name: str) -> Play:
    def play(server: Server, url: str, cost: Any, rate: float) -> int:
        return CLIENTS[name](server, [url] * 3, cost=cost, rate=rate).count(200)

    return play


async def _hello(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def _asgi(make: Callable[[Any, Any], Any]) -> Play:
    def play(server: Server, url: str, cost: Any, rate: float) -> int:
        async def main() -> int:
            passed: list[int] = []

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    passed.append(message["status"])

            async with nexus_redis.asyncio.Nexus.from_url(server.url) as nexus:
                app = make(nexus.budget("api", rate=rate), cost)
                for _ in range(3):
                    await app({"type": "http", "path": "/"}, None, send)
            return passed.count(200)

        return run(main())

    return play


def _hello_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def _wsgi(make: Callable[[Any, Any], Any]) -> Play:
    def play(server: Server, url: str, cost: Any, rate: float) -> int:
        passed: list[str] = []
        with nexus_redis.Nexus.from_url(server.url) as nexus:
            app = make(nexus.budget("api", rate=rate), cost)
            for _ in range(3):
                list(app({"PATH_INFO": "/"}, lambda status, _headers: passed.append(status)))
        return passed.count("200 OK")

    return play


def _fastapi(server: Server, url: str, cost: Any, rate: float) -> int:
    answers = APPLICATIONS["fastapi"].visit(server, lambda nexus: nexus.budget("api", rate=rate), ["/"] * 3, cost=cost)
    return [answer.status_code for answer in answers].count(200)


def _celery(server: Server, url: str, cost: Any, rate: float) -> int:
    with nexus_redis.Nexus.from_url(server.url) as nexus:
        budget, own = nexus.budget("api", rate=rate), Celery("own", broker="memory://", set_as_current=False)

        @own.task(base=NexusTask, budget=budget, cost=cost, lazy=False, shared=False, name="task")  # type: ignore[untyped-decorator]
        def task(_record: str) -> int:
            return 1

        return sum(task.apply(("a",)).get() for _ in range(3))


def _dramatiq(server: Server, url: str, cost: Any, rate: float) -> int:
    ran: list[str] = []
    with nexus_redis.Nexus.from_url(server.url) as nexus:
        broker = StubBroker()
        broker.add_middleware(DramatiqMiddleware())

        @dramatiq.actor(broker=broker, budget=nexus.budget("api", rate=rate), cost=cost)
        def task(record: str) -> None:
            ran.append(record)

        for _ in range(3):
            task.send("a")
        worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
        worker.start()
        assert eventually(lambda: len(ran) == 3)  # the broker's own join may miss a deferred message
        in_thread(worker.join)
        worker.stop()
        broker.close()
    return len(ran)


def _taskiq(server: Server, url: str, cost: Any, rate: float) -> int:
    async def main() -> int:
        async with nexus_redis.asyncio.Nexus.from_url(server.url) as nexus:
            broker = InMemoryBroker().with_middlewares(TaskiqMiddleware(nexus.budget("api", rate=rate)))

            @broker.task(budget="api", cost=cost)
            async def task(_record: str) -> int:
                return 1

            sent = [await task.kiq("a") for _ in range(3)]
            results = await asyncio.gather(*(each.wait_result(timeout=60) for each in sent))
            await broker.shutdown()
            return sum(result.return_value for result in results)

    return run(main())


LIMITS: dict[str, Play] = {
    **{name: _client(name) for name in CLIENTS},
    "asgi": _asgi(lambda budget, cost: asgi.Limit(_hello, budget, cost=cost)),
    "asgi, held": _asgi(lambda budget, cost: asgi.Limit(_hello, budget, cost=cost, hold=60)),
    "fastapi": _fastapi,
    "wsgi": _wsgi(lambda budget, cost: wsgi.Limit(_hello_wsgi, budget, cost=cost)),
    "wsgi, held": _wsgi(lambda budget, cost: wsgi.Limit(_hello_wsgi, budget, cost=cost, hold=60)),
    "celery": _celery,
    "dramatiq": _dramatiq,
    "taskiq": _taskiq,
}
REPORTS: dict[str, Play] = {
    "wsgi": _wsgi(lambda budget, cost: wsgi.ReportLoad(_hello_wsgi, budget.consumer(), cost=cost)),
    "asgi": _asgi(lambda budget, cost: asgi.ReportLoad(_hello, budget.consumer(), cost=cost)),
}


def within_a_minute(work: Callable[[], int]) -> int:
    """Return the result of `work`. If it waits for a token that never comes, the test fails instead of waiting, too."""
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(60)
    assert results, "still waiting for a token, or failed"
    return results[0]


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("answer", ["raises", float("nan"), -1, "3", None, 2e9], ids=str)
@pytest.mark.parametrize("helper", [*LIMITS.values(), *REPORTS.values()], ids=[*LIMITS, *REPORTS])
def test_cost_fails(
    one_server: Server, site: LocalSite, helper: Play, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Work for which the cost function fails passes, and the error is logged once."""

    def cost(*_args: Any, **_given: Any) -> Any:
        return dict[str, float]()["tokens"] if answer == "raises" else answer

    # A rate of 0: work that passes has acquired no token.
    assert within_a_minute(lambda: helper(one_server, site.url, cost, 0)) == 3
    [line] = lines(caplog)
    assert line.msg == _texts.FAILED
    assert _texts.cost_function("") in line.getMessage()
    assert "api" in line.getMessage()
    assert line.exc_info


@pytest.mark.parametrize("helper", LIMITS.values(), ids=LIMITS)
def test_boolean_cost(one_server: Server, site: LocalSite, helper: Play, caplog: pytest.LogCaptureFixture) -> None:
    """A cost function may return a boolean."""
    assert within_a_minute(lambda: helper(one_server, site.url, lambda *_args: False, 0)) == 3
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        nexus.budget("api").delete()
        helper(one_server, site.url, lambda *_args: True, 100)
        assert nexus.budget("api").snapshot().granted_total >= 1
    assert not lines(caplog)


def test_one_line_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One line a minute stands for all errors, and counts them."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    price = fail_open_price("budget stripe", lambda record: record["tokens"])
    for now in (1000.0, 1001.0, 1059.9, 1060.0, 1061.0, 1121.0):  # noqa: B007  # read by the clock
        assert price({}) == 0
    assert [line.getMessage() for line in lines(caplog)] == [
        _texts.FAILED % (_texts.cost_function("budget stripe"), KeyError("tokens"), _texts.PASSES, more)
        for more in ("", _texts.unlogged(2), _texts.unlogged(1))
    ]
    assert price({"tokens": 3}) == 3


def test_failing_handler(caplog: pytest.LogCaptureFixture) -> None:
    """A log handler that fails in the same function does not loop."""
    errors = ErrorLog("budget stripe", "It passes")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.add(ValueError("again"))

    handler, logger = Handler(), logging.getLogger("nexus_redis")
    logger.addHandler(handler)
    try:
        errors.add(ValueError("once"))
        assert len(lines(caplog)) == 1
    finally:
        logger.removeHandler(handler)


def test_interrupt() -> None:
    """An exception that ends the process is not caught."""

    def cost(_request: object) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_open_price("budget stripe", cost)("a request")


async def asked(_request: object) -> float:
    return 1.0


class Asked:
    async def __call__(self, _request: object) -> float:
        return 1.0


@pytest.mark.parametrize("cost", [asked, Asked()], ids=["def", "object"])
def test_async_cost(cost: Any) -> None:
    """An async cost function is refused where the helper is made."""
    assert refusal(lambda: fail_open_price("budget stripe", cost))[0] == "cost"

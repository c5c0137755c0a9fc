"""A helper that is made with a wrong value refuses the value there, and names what it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import nexus_redis
import nexus_redis.asyncio
from nexus_redis.contrib import _texts, aiohttp, asgi, dramatiq, fastapi, httpx, httpx2, requests, taskiq, wsgi
from tests.contrib.refusals import wrong_kind
from tests.harness.refusals import refusal

Make = Callable[[Any], Any]


def app(*_given: Any) -> Any:
    """Answer nothing."""


SYNC: dict[str, Callable[..., Any]] = {
    "httpx": httpx.Transport, "httpx2": httpx2.Transport, "requests": requests.Adapter,
    "wsgi": lambda budget, **given: wsgi.Limit(app, budget, **given), "dramatiq": dramatiq.NexusMiddleware,
}  # fmt: skip
ASYNC: dict[str, Callable[..., Any]] = {
    "httpx": httpx.AsyncTransport, "httpx2": httpx2.AsyncTransport, "aiohttp": aiohttp.Middleware,
    "asgi": lambda budget, **given: asgi.Limit(app, budget, **given), "fastapi": fastapi.limit,
    "taskiq": taskiq.NexusMiddleware,
}  # fmt: skip
URL = "redis://nowhere.example"
OTHER_BUDGET = _texts.other_budget("other", "stripe")


def sync_budget() -> Any:
    return nexus_redis.Nexus.from_url(URL).budget("stripe")


def async_budget() -> Any:
    return nexus_redis.asyncio.Nexus.from_url(URL).budget("stripe")


@pytest.mark.parametrize("make", SYNC.values(), ids=SYNC)
@pytest.mark.parametrize("wrong", [async_budget, lambda: "stripe"], ids=["asyncio", "a name"])
def test_sync_budget(make: Make, wrong: Callable[[], Any]) -> None:
    """A sync helper accepts a sync budget only."""
    make(sync_budget())
    assert refusal(lambda: make(wrong())) == ("budget", wrong_kind("Budget", "sync"))


@pytest.mark.parametrize("make", ASYNC.values(), ids=ASYNC)
@pytest.mark.parametrize("wrong", [sync_budget, lambda: None], ids=["sync", "none"])
def test_async_budget(make: Make, wrong: Callable[[], Any]) -> None:
    """An async helper accepts an async budget only."""
    make(async_budget())
    assert refusal(lambda: make(wrong())) == ("budget", wrong_kind("Budget", "async"))


@pytest.mark.parametrize(
    ("make", "budget"),
    [(make, sync_budget) for name, make in SYNC.items() if name != "dramatiq"]
    + [(make, async_budget) for name, make in ASYNC.items() if name != "taskiq"],
)
def test_cost_and_producer(make: Callable[..., Any], budget: Callable[[], Any]) -> None:
    """A cost out of its range is refused, and so is a producer of another kind or budget."""
    for cost in (-1, float("nan"), "3", None, True, False):
        assert refusal(partial(make, budget(), cost=cost))[0] == "cost"
    other = budget()._nexus.budget("other").producer()
    assert refusal(lambda: make(budget(), producer=other)) == ("producer", OTHER_BUDGET)
    face = "sync" if budget is sync_budget else "async"
    assert refusal(lambda: make(budget(), producer="mine")) == ("producer", wrong_kind("Producer", face))


def test_consumer() -> None:
    """`ReportLoad` accepts a consumer of its own face only."""
    asgi.ReportLoad(app, async_budget().consumer())
    assert refusal(lambda: asgi.ReportLoad(app, async_budget())) == ("consumer", wrong_kind("Consumer", "async"))
    wsgi.ReportLoad(app, sync_budget().consumer())
    made = async_budget().consumer()
    assert refusal(lambda: wsgi.ReportLoad(app, made)) == ("consumer", wrong_kind("Consumer", "sync"))


@pytest.mark.parametrize(
    ("make", "budget"),
    [(SYNC[name], sync_budget) for name in ("httpx", "httpx2", "requests")]
    + [(ASYNC[name], async_budget) for name in ("httpx", "httpx2", "aiohttp")],
)
def test_report(make: Callable[..., Any], budget: Callable[[], Any]) -> None:
    """A client reports through a consumer of its own budget only."""
    mine = budget()
    make(mine, report=mine.consumer(observe=True))
    assert refusal(lambda: make(mine, report="yes")) == ("report", _texts.WRONG_REPORT)
    other = mine._nexus.budget("other").consumer(observe=True)
    assert refusal(lambda: make(mine, report=other)) == ("report", OTHER_BUDGET)


def test_connect_timeout() -> None:
    """Of a pair of timeouts, the first one limits the wait for a token."""
    assert [requests._connect_timeout(given) for given in ((3, 9), 5, None, (None, 9))] == [3, 5, None, None]

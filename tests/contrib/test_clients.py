"""What every HTTP client helper promises, on each of the libraries, against a local HTTP server."""

from __future__ import annotations

import asyncio
import pickle
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import httpx
import httpx2
import pytest

import nexus_redis
import nexus_redis.asyncio
from nexus_redis._api.budget import BudgetBase
from nexus_redis.contrib import _http, _texts
from nexus_redis.contrib import httpx as with_httpx
from nexus_redis.contrib import httpx2 as with_httpx2
from nexus_redis.contrib._http import PauseFilter
from nexus_redis.testing import ManualClock, assert_never_exceeded, clock
from tests.contrib.clients import CLIENTS, TIMED_OUT, Script
from tests.contrib.local_site import LocalSite
from tests.harness.servers import Server, launch
from tests.harness.support import PATIENCE, run

__all__ = ["clock"]  # the users' own fixture


@pytest.fixture(params=CLIENTS)
def play(request: pytest.FixtureRequest) -> Script:
    return CLIENTS[request.param]


def address(site: LocalSite, **said: Any) -> str:
    return f"{site.url}/?{urlencode(said)}"


def standing(server: Server) -> nexus_redis.BudgetSnapshot:
    with nexus_redis.Nexus.from_url(server.url) as nexus:
        return nexus.budget("api").snapshot()


def test_rate(one_server: Server, site: LocalSite, clock: ManualClock, play: Script) -> None:
    """Requests go out at the rate of the budget."""
    site.now = lambda: clock.now
    assert play(one_server, [site.url] * 40, rate=50) == [200] * 40
    assert_never_exceeded(site.log, 50)
    assert site.log[-1][0] > (40 - 1.02) / 50
    assert standing(one_server).granted_total >= 40


def test_cost(one_server: Server, site: LocalSite, play: Script) -> None:
    """A request acquires the tokens of its cost, and none where the cost is 0."""

    def cost(request: Any) -> float:
        return 0 if "free" in str(request.url) else 5

    assert play(one_server, [site.url + "/free"] * 50, cost=cost, rate=5) == [200] * 50
    assert not standing(one_server).exists
    assert play(one_server, [site.url] * 2, cost=cost, rate=50) == [200] * 2
    assert standing(one_server).granted_total >= 10


@pytest.mark.parametrize("status", [429, 503])
def test_refusal_pauses(one_server: Server, site: LocalSite, play: Script, status: int) -> None:
    """A refusal that says when to come back pauses the fleet, and reaches the caller."""
    assert play(one_server, [address(site, status=status, **{"Retry-After": 3600})], rate=100) == [status]
    after = standing(one_server)
    assert after.reason == "paused"
    assert after.paused_for == pytest.approx(3600, abs=600)
    assert after.pause_reason == f"{status} Retry-After: 3600 from 127.0.0.1"
    assert len(site.paths) == 1  # nothing was sent again behind the caller's back


def test_retry_date(one_server: Server, site: LocalSite, play: Script) -> None:
    """A date in `Retry-After` pauses the fleet until then."""
    then = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    play(one_server, [address(site, status=503, **{"Retry-After": then})], rate=100)
    assert standing(one_server).paused_for == pytest.approx(7200, abs=600)


@pytest.mark.parametrize(
    "said",
    [
        {"X-RateLimit-Remaining": 0, "X-RateLimit-Reset": 9000},
        {"x-ratelimit-remaining": 0, "x-ratelimit-reset-after": 9000},
        {"anthropic-ratelimit-tokens-remaining": 0, "anthropic-ratelimit-tokens-reset": "9000s"},
        {"RateLimit": '"default";r=0;t=9000'},
    ],
    ids=["reset", "reset-after", "anthropic", "draft"],
)
def test_used_up(one_server: Server, site: LocalSite, play: Script, said: dict[str, Any]) -> None:
    """A limit that is used up pauses the fleet before any request is refused."""
    assert play(one_server, [address(site, **said)], rate=100) == [200]
    assert standing(one_server).paused_for == pytest.approx(9000, abs=900)


def test_timeout(one_server: Server, site: LocalSite, play: Script) -> None:
    """A request waits no longer than its own timeout, and is not sent then."""
    assert play(one_server, [address(site, status=429, **{"Retry-After": 3600})], rate=10) == [429]
    assert play(one_server, [site.url] * 2, rate=10, patience=0.3) == [TIMED_OUT, TIMED_OUT]
    assert len(site.paths) == 1


def test_end_of_pause(one_server: Server, site: LocalSite, clock: ManualClock, play: Script) -> None:
    """A pause is over when the server said."""
    site.now = lambda: clock.now
    refused = address(site, status=429, **{"Retry-After": 2})
    assert play(one_server, [refused, *[site.url] * 10], rate=20) == [429, *[200] * 10]
    gaps = [after - before for (before, _), (after, _) in zip(site.log, site.log[1:], strict=False)]
    assert 1.5 <= max(gaps) < 2.5  # tokens that were granted before may still be spent, within their lease


def test_longer_pause(one_server: Server, site: LocalSite, play: Script) -> None:
    """A response never shortens a longer pause."""
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        nexus.budget("api", rate=100).pause(reason="we moved")
        refused = address(site, status=429, **{"Retry-After": 1})
        assert play(one_server, [refused], cost=lambda _: 0) == [
            429
        ]  # as if the request was sent just before the pause
        assert nexus.budget("api").snapshot().paused_for == float("inf")
        assert nexus.budget("api").snapshot().pause_reason == "we moved"


@pytest.mark.parametrize("name", ["httpx-async", "httpx2-async", "aiohttp"])
def test_refusals_at_once(one_server: Server, site: LocalSite, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Fifty refusals at once make one pause."""
    monkeypatch.setattr(_http, "time", SimpleNamespace(monotonic=lambda: 0.0))  # at once, on a slow machine too
    refused = address(site, status=429, **{"Retry-After": 3600})
    with one_server.client() as client:
        assert CLIENTS[name](one_server, [refused] * 50, cost=lambda _: 0, at_once=True) == [429] * 50
        pauses = [entry for _, entry in client.xrange("nexus:{api}:history") if b"paused" in entry.values()]
    assert len(pauses) == 1


def test_shorter_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shorter pause is passed on, too, if the last one was passed on a second ago.

    An operator may have resumed since then. Within a second, fifty refusals may ask for the same pause.
    """
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pauses = PauseFilter("api")
    heard = []
    for now, seconds in [(0.0, 60), (0.5, 5), (0.9, 80), (1.8, 5), (2.0, 5), (3.0, 5), (3.1, 5)]:  # noqa: B007  # read above
        heard.append(pauses.new_pause(429, {"Retry-After": str(seconds)}) is not None)
    assert heard == [True, False, True, False, True, True, False]


def test_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses that follow one another are all passed on.

    Each pause is over when the next one begins, and pauses of one moment are passed on once.
    """
    pauses = PauseFilter("api")

    def is_heard(at: float) -> bool:
        monkeypatch.setattr(time, "monotonic", lambda: at)
        return pauses.new_pause(429, {"retry-after-ms": "120"}) is not None

    heard = [is_heard(at) for at in (0.0, 0.01, 0.02, 0.13, 0.14, 0.26)]
    assert heard == [True, False, False, True, False, True]


def test_redis_gone(site: LocalSite, play: Script, caplog: pytest.LogCaptureFixture) -> None:
    """A response reaches the caller also where Redis is away and the pause cannot be made."""
    process = launch("valkey")
    server = Server("valkey", process.port)
    process.stop()
    refused = address(site, status=429, **{"Retry-After": 3600})
    assert play(server, [refused], cost=lambda _: 0) == [429]
    assert _texts.PAUSE_FAILED in [record.msg for record in caplog.records]


# -- report=True: the server is observed


@pytest.fixture
def observers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The consumers through which clients report, in the order in which clients ask for them."""
    found: list[Any] = []
    observer = BudgetBase.observer

    def noted(budget: Any) -> Any:
        found.append(observer(budget))
        return found[-1]

    monkeypatch.setattr(BudgetBase, "observer", noted)
    return found


def counted(observer: Any) -> dict[str, float]:
    """Return what the observer has measured."""
    said = observer._session.meter.sample()
    return {name: said.get(name, 0) for name in ("done", "errors", "in_flight")}


def test_report(one_server: Server, site: LocalSite, clock: ManualClock, play: Script, observers: list[Any]) -> None:
    """A client that reports counts done requests and refusals."""
    statuses = [200, 202, 301, 404, 500, 501, 429, 502, 503, 504]
    assert play(one_server, [address(site, status=status) for status in statuses], report=True) == statuses
    assert counted(observers[0]) == {"done": 6, "errors": 4, "in_flight": 0}
    assert observers[0]._session.meter.sample()["latency_ms"] > 0


def test_no_response(
    one_server: Server, site: LocalSite, clock: ManualClock, play: Script, observers: list[Any]
) -> None:
    """A request without a response is an error."""
    with pytest.raises(Exception, match=r"(?i)disconnect|remote end closed"):
        play(one_server, [site.url, f"{site.url}/silence"], report=True)
    sent = site.paths.count("/silence")  # aiohttp sends a GET once more by itself, and takes a token for it
    assert counted(observers[0]) == {"done": 1, "errors": sent, "in_flight": 0}


def test_report_cost(
    one_server: Server, site: LocalSite, clock: ManualClock, play: Script, observers: list[Any]
) -> None:
    """A request of cost 0 is not counted, and a larger cost counts in tokens."""

    def cost(request: Any) -> float:
        return 0 if "free" in str(request.url) else 3

    assert play(one_server, [f"{site.url}/free", site.url], cost=cost, report=True) == [200, 200]
    assert counted(observers[0]) == {"done": 3, "errors": 0, "in_flight": 0}


@pytest.mark.parametrize("name", ["httpx", "aiohttp"])
def test_find_rate(one_server: Server, site: LocalSite, clock: ManualClock, name: str) -> None:
    """A client finds the rate of a server that only refuses."""
    site.now, room, at = (lambda: clock.now), 5.0, clock.now

    def status() -> int:
        nonlocal room, at
        room, at = min(10.0, room + 25 * (clock.now - at)), clock.now
        is_taken = room >= 1
        room -= is_taken
        return 200 if is_taken else 429

    site.status = status
    statuses = CLIENTS[name](one_server, [site.url] * 250, report=True)[100:]
    assert statuses.count(429) < 25
    seconds = site.log[-1][0] - site.log[100][0]
    assert statuses.count(200) / seconds == pytest.approx(25, rel=0.15)


@pytest.mark.parametrize(("library", "helper"), [(httpx, with_httpx), (httpx2, with_httpx2)], ids=["httpx", "httpx2"])
def test_cancelled(one_server: Server, library: Any, helper: Any) -> None:
    """A request that its caller cancels says nothing about the server."""

    async def main() -> dict[str, float]:
        is_sent = asyncio.Event()

        async def never(_request: Any) -> Any:
            is_sent.set()
            await asyncio.Event().wait()

        async with nexus_redis.asyncio.Nexus.from_url(one_server.url) as nexus:
            transport = helper.AsyncTransport(nexus.budget("api"), library.MockTransport(never), report=True)
            async with library.AsyncClient(transport=transport) as client:
                request = asyncio.create_task(client.get("http://api.example/"))
                await asyncio.wait_for(is_sent.wait(), PATIENCE)
                request.cancel()
                await asyncio.wait([request])
                return counted(transport._limiter._observer)

    assert run(main()) == {"done": 0, "errors": 0, "in_flight": 0}


def test_one_observer(one_server: Server) -> None:
    """All clients of a process report as one consumer, unless one is given."""
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        first, second = (with_httpx.Transport(nexus.budget("api"), report=True) for _ in range(2))
        assert first._limiter._observer is second._limiter._observer is not None
        other = with_httpx.Transport(nexus.budget("other"), report=True)
        assert other._limiter._observer is not first._limiter._observer
        mine = nexus.budget("api").consumer("mine", observe=True, capacity=4000)
        assert with_httpx.Transport(nexus.budget("api"), report=mine)._limiter._observer is mine


@pytest.mark.parametrize(("library", "helper"), [(httpx, with_httpx), (httpx2, with_httpx2)], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(("name", "inner"), [("Transport", "HTTPTransport"), ("AsyncTransport", "AsyncHTTPTransport")])
def test_transport_classes(library: Any, helper: Any, name: str, inner: str) -> None:
    """The two libraries share the implementation, and no class: names, bases and the default are the library's."""
    transport = getattr(helper, name)
    assert pickle.loads(pickle.dumps(transport)) is transport  # noqa: S301  # our own
    assert f"{transport.__module__}.{transport.__qualname__}" == f"nexus_redis.contrib.{library.__name__}.{name}"
    assert library.__name__ in transport.__doc__
    assert issubclass(transport, getattr(library, inner.replace("HTTP", "Base")))
    face = nexus_redis if name == "Transport" else nexus_redis.asyncio
    made = transport(face.Nexus.from_url("redis://nowhere.example").budget("api"))
    assert isinstance(made._inner, getattr(library, inner))
    assert repr(made).startswith(f"<nexus_redis.contrib.{library.__name__}.{name} object")


def test_same_helpers() -> None:
    """The helpers for httpx and httpx2 differ in the name of the library only."""
    folder = Path(_http.__file__).parent
    first, second = (folder / f"{name}.py" for name in ("httpx", "httpx2"))
    assert second.read_text().replace("httpx2", "httpx") == first.read_text()

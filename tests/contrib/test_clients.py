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
from nexus_redis._api.base import BudgetShell
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


def test_requests_go_out_at_the_budgets_rate(
    one_server: Server, site: LocalSite, clock: ManualClock, play: Script
) -> None:
    site.now = lambda: clock.now
    assert play(one_server, [site.url] * 40, rate=50) == [200] * 40
    assert_never_exceeded(site.log, 50)
    assert site.log[-1][0] > (40 - 1.02) / 50
    assert standing(one_server).granted_total >= 40


def test_what_costs_more_takes_more_and_what_is_free_takes_nothing(
    one_server: Server, site: LocalSite, play: Script
) -> None:
    def cost(request: Any) -> float:
        return 0 if "free" in str(request.url) else 5

    assert play(one_server, [site.url + "/free"] * 50, cost=cost, rate=5) == [200] * 50
    assert not standing(one_server).exists
    assert play(one_server, [site.url] * 2, cost=cost, rate=50) == [200] * 2
    assert standing(one_server).granted_total >= 10


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_that_says_when_to_come_back_pauses_the_fleet_and_is_handed_on(
    one_server: Server, site: LocalSite, play: Script, status: int
) -> None:
    assert play(one_server, [address(site, status=status, **{"Retry-After": 3600})], rate=100) == [status]
    after = standing(one_server)
    assert after.reason == "paused"
    assert after.paused_for == pytest.approx(3600, abs=600)
    assert after.pause_reason == f"{status} Retry-After: 3600 from 127.0.0.1"
    assert len(site.paths) == 1  # nothing was sent again behind the caller's back


def test_a_date_is_as_good_as_seconds(one_server: Server, site: LocalSite, play: Script) -> None:
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
def test_a_limit_that_is_used_up_pauses_before_anyone_is_refused(
    one_server: Server, site: LocalSite, play: Script, said: dict[str, Any]
) -> None:
    assert play(one_server, [address(site, **said)], rate=100) == [200]
    assert standing(one_server).paused_for == pytest.approx(9000, abs=900)


def test_a_request_waits_no_longer_than_its_own_timeout(one_server: Server, site: LocalSite, play: Script) -> None:
    assert play(one_server, [address(site, status=429, **{"Retry-After": 3600})], rate=10) == [429]
    assert play(one_server, [site.url] * 2, rate=10, patience=0.3) == [TIMED_OUT, TIMED_OUT]
    assert len(site.paths) == 1


def test_a_pause_is_over_when_the_server_said(
    one_server: Server, site: LocalSite, clock: ManualClock, play: Script
) -> None:
    site.now = lambda: clock.now
    refused = address(site, status=429, **{"Retry-After": 2})
    assert play(one_server, [refused, *[site.url] * 10], rate=20) == [429, *[200] * 10]
    gaps = [after - before for (before, _), (after, _) in zip(site.log, site.log[1:], strict=False)]
    assert 1.5 <= max(gaps) < 2.5  # what was in hand may still be spent, in its lease


def test_a_longer_pause_is_never_cut_short(one_server: Server, site: LocalSite, play: Script) -> None:
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        nexus.budget("api", rate=100).pause(reason="we moved")
        refused = address(site, status=429, **{"Retry-After": 1})
        assert play(one_server, [refused], cost=lambda _: 0) == [429]  # as if it was sent just before
        assert nexus.budget("api").snapshot().paused_for == float("inf")
        assert nexus.budget("api").snapshot().pause_reason == "we moved"


@pytest.mark.parametrize("name", ["httpx-async", "httpx2-async", "aiohttp"])
def test_fifty_refusals_at_once_make_one_pause(
    one_server: Server, site: LocalSite, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(_http, "time", SimpleNamespace(monotonic=lambda: 0.0))  # at once, on a slow machine too
    refused = address(site, status=429, **{"Retry-After": 3600})
    with one_server.client() as client:
        assert CLIENTS[name](one_server, [refused] * 50, cost=lambda _: 0, at_once=True) == [429] * 50
        pauses = [entry for _, entry in client.xrange("nexus:{api}:history") if b"paused" in entry.values()]
    assert len(pauses) == 1


def test_a_shorter_pause_is_said_too_once_the_last_word_is_a_second_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may have resumed since; at once it would be fifty refusals that say the same."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pauses = PauseFilter("api")
    heard = []
    for now, seconds in [(0.0, 60), (0.5, 5), (0.9, 80), (1.8, 5), (2.0, 5), (3.0, 5), (3.1, 5)]:  # noqa: B007  # read above
        heard.append(pauses.new_pause(429, {"Retry-After": str(seconds)}) is not None)
    assert heard == [True, False, True, False, True, True, False]


def test_short_pauses_that_follow_each_other_are_all_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is over when the next one is told; those of one moment are told once."""
    pauses = PauseFilter("api")

    def is_heard(at: float) -> bool:
        monkeypatch.setattr(time, "monotonic", lambda: at)
        return pauses.new_pause(429, {"retry-after-ms": "120"}) is not None

    heard = [is_heard(at) for at in (0.0, 0.01, 0.02, 0.13, 0.14, 0.26)]
    assert heard == [True, False, False, True, False, True]


def test_a_response_is_handed_on_when_redis_is_gone(
    site: LocalSite, play: Script, caplog: pytest.LogCaptureFixture
) -> None:
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
    observer = BudgetShell.observer

    def noted(budget: Any) -> Any:
        found.append(observer(budget))
        return found[-1]

    monkeypatch.setattr(BudgetShell, "observer", noted)
    return found


def counted(observer: Any) -> dict[str, float]:
    """What it has measured."""
    said = observer._reporter.meter.sample()
    return {name: said.get(name, 0) for name in ("done", "errors", "in_flight")}


def test_a_client_that_reports_counts_what_is_answered_and_what_is_refused(
    one_server: Server, site: LocalSite, clock: ManualClock, play: Script, observers: list[Any]
) -> None:
    statuses = [200, 202, 301, 404, 500, 501, 429, 502, 503, 504]
    assert play(one_server, [address(site, status=status) for status in statuses], report=True) == statuses
    assert counted(observers[0]) == {"done": 6, "errors": 4, "in_flight": 0}
    assert observers[0]._reporter.meter.sample()["latency_ms"] > 0


def test_a_request_that_nobody_answers_is_an_error(
    one_server: Server, site: LocalSite, clock: ManualClock, play: Script, observers: list[Any]
) -> None:
    with pytest.raises(Exception, match=r"(?i)disconnect|remote end closed"):
        play(one_server, [site.url, f"{site.url}/silence"], report=True)
    sent = site.paths.count("/silence")  # aiohttp sends a GET once more by itself, and takes a token for it
    assert counted(observers[0]) == {"done": 1, "errors": sent, "in_flight": 0}


def test_what_needs_no_token_is_not_counted_and_a_bulk_counts_in_tokens(
    one_server: Server, site: LocalSite, clock: ManualClock, play: Script, observers: list[Any]
) -> None:
    def cost(request: Any) -> float:
        return 0 if "free" in str(request.url) else 3

    assert play(one_server, [f"{site.url}/free", site.url], cost=cost, report=True) == [200, 200]
    assert counted(observers[0]) == {"done": 3, "errors": 0, "in_flight": 0}


@pytest.mark.parametrize("name", ["httpx", "aiohttp"])
def test_a_client_finds_the_rate_of_a_server_that_only_refuses(
    one_server: Server, site: LocalSite, clock: ManualClock, name: str
) -> None:
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
def test_a_request_that_its_caller_gives_up_says_nothing_about_the_server(
    one_server: Server, library: Any, helper: Any
) -> None:
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


def test_clients_of_one_process_report_as_one_consumer(one_server: Server) -> None:
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        first, second = (with_httpx.Transport(nexus.budget("api"), report=True) for _ in range(2))
        assert first._limiter._observer is second._limiter._observer is not None
        other = with_httpx.Transport(nexus.budget("other"), report=True)
        assert other._limiter._observer is not first._limiter._observer
        mine = nexus.budget("api").consumer("mine", observe=True, capacity=4000)
        assert with_httpx.Transport(nexus.budget("api"), report=mine)._limiter._observer is mine


@pytest.mark.parametrize(("library", "helper"), [(httpx, with_httpx), (httpx2, with_httpx2)], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(("name", "inner"), [("Transport", "HTTPTransport"), ("AsyncTransport", "AsyncHTTPTransport")])
def test_a_transport_is_one_of_its_library(library: Any, helper: Any, name: str, inner: str) -> None:
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


def test_the_two_httpx_helpers_differ_in_the_librarys_name_alone() -> None:
    folder = Path(_http.__file__).parent
    first, second = (folder / f"{name}.py" for name in ("httpx", "httpx2"))
    assert second.read_text().replace("httpx2", "httpx") == first.read_text()

"""ASGI applications under uvicorn, as consumers and as producers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
import uvicorn
import websockets.sync.client

import nexus_redis
import nexus_redis.asyncio
from nexus_redis.contrib import _texts, asgi
from nexus_redis.contrib.asgi import Limit, ReportLoad
from nexus_redis.testing import ManualClock, assert_never_exceeded, clock
from tests.harness.refusals import refusal
from tests.harness.servers import Server
from tests.harness.support import PATIENCE, eventually, join, run

__all__ = ["clock"]  # the users' own fixture


def get(url: str) -> httpx.Response:
    """Return the answer of a server that may be slow."""
    return httpx.get(url, timeout=PATIENCE, verify=False)  # noqa: S501  # without TLS: certificates take long to load


class Site:
    """An application that shows what happens to it, and that a test can steer."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.log: list[tuple[float, float]] = []
        self.may_end = threading.Event()
        self.now: Callable[[], float] = lambda: 0.0  # the time that is logged with each request
        self._opened: list[nexus_redis.asyncio.Nexus] = []

    def budget(self, server: Server, **settings: Any) -> nexus_redis.asyncio.Budget:
        """Open a budget as an application does: made at import, closed at the end of the lifespan."""
        self._opened.append(nexus_redis.asyncio.Nexus.from_url(server.url))
        return self._opened[-1].budget("web", **settings)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        match scope["type"]:
            case "lifespan":
                while (message := await receive())["type"] != "lifespan.shutdown":
                    self.events.append(message["type"])
                    await send({"type": "lifespan.startup.complete"})
                self.events.append("lifespan.shutdown")
                for nexus in self._opened:
                    if nexus._loop.loop in (None, asyncio.get_running_loop()):  # the other server closes its own
                        await nexus.close()
                await send({"type": "lifespan.shutdown.complete"})
            case "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                said = await receive()
                await send({"type": "websocket.send", "text": said["text"].upper()})
                await send({"type": "websocket.close"})
            case "http":
                self.log.append((self.now(), 1.0))
                await self._http(scope, send)

    async def _http(self, scope: Any, send: Any) -> None:
        said = dict(parse_qsl(scope["query_string"].decode()))
        if scope["path"] == "/boom":
            raise LookupError("as asked")
        await send({"type": "http.response.start", "status": int(said.get("status", 200)), "headers": []})
        if scope["path"] == "/stream":
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            await asyncio.to_thread(self.may_end.wait, PATIENCE)
        await send({"type": "http.response.body", "body": b"last"})
        if scope["path"] == "/afterwards":
            await asyncio.to_thread(self.may_end.wait, PATIENCE)


class Serving:
    """uvicorn in a thread, on a free port."""

    def __init__(self, app: Any) -> None:
        config = uvicorn.Config(app, port=0, log_level="critical", ws="websockets-sansio")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        assert eventually(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def is_left(self) -> bool:
        """Whether no client is connected any more."""
        return not self._server.server_state.connections

    def stop(self) -> None:
        self._server.should_exit = True
        join(self._thread)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Serving]]:
    started: list[Serving] = []

    def start(app: Any) -> Serving:
        started.append(Serving(app))
        return started[-1]

    yield start
    for serving in started:
        serving.stop()


@pytest.fixture
def timed_site(site: Site, clock: ManualClock) -> Site:
    """An application whose budgets, and whose log, live by the clock."""
    site.now = lambda: clock.now
    return site


@pytest.fixture
def nexus(one_server: Server) -> Iterator[nexus_redis.Nexus]:
    """A Nexus that looks on from outside."""
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        yield nexus


def reported(nexus: nexus_redis.Nexus) -> dict[str, float]:
    """Return the last report of the one consumer."""
    consumers = nexus.budget("web").snapshot().consumers
    return {
        name: float(consumers[0].fields.get(name, 0)) if consumers else 0.0
        for name in ("done", "errors", "cancelled", "in_flight", "latency_ms")
    }


def report(site: Site, server: Server, **settings: Any) -> ReportLoad:
    return ReportLoad(site, site.budget(server, rate=1000).consumer(interval=0.05), **settings)


def test_report(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus) -> None:
    """Requests are reported as work, and 5xx answers as errors, except 501."""
    serving = serve(report(site, one_server))
    statuses = [
        get(f"{serving.url}{path}").status_code
        for path in ("/", "/", "/?status=404", "/?status=503", "/?status=501", "/boom")
    ]
    assert statuses == [200, 200, 404, 503, 501, 500]
    assert eventually(lambda: reported(nexus).items() >= {"done": 4.0, "errors": 2.0}.items())
    assert eventually(lambda: reported(nexus)["latency_ms"] > 0)


def test_stream(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus) -> None:
    """A streaming body is in flight until it ends."""
    serving = serve(report(site, one_server, cost=3))
    with httpx.stream("GET", f"{serving.url}/stream", timeout=PATIENCE) as response:
        assert response.status_code == 200
        assert eventually(lambda: reported(nexus).items() >= {"in_flight": 3.0, "done": 0.0}.items())
        site.may_end.set()
        assert response.read() == b"firstlast"
    assert eventually(lambda: reported(nexus) | {"latency_ms": 0} == {
        "done": 3, "errors": 0, "cancelled": 0, "in_flight": 0, "latency_ms": 0
    })  # fmt: skip


def test_after_body(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus) -> None:
    """Work that goes on after the body is not counted."""
    serving = serve(report(site, one_server))
    with httpx.stream("GET", f"{serving.url}/afterwards", timeout=PATIENCE) as response:
        assert response.status_code == 200
        assert eventually(lambda: reported(nexus)["done"] == 1)
        site.may_end.set()


@pytest.mark.parametrize("kind", ["consumer", "producer"])
def test_pass_through(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus, kind: str) -> None:
    """Websockets and lifespan events pass through."""
    # A rate of 0: a websocket that had to acquire a token would be refused.
    app = report(site, one_server) if kind == "consumer" else Limit(site, site.budget(one_server, rate=0))
    serving = serve(app)
    with websockets.sync.client.connect(f"ws://127.0.0.1:{serving.port}/", open_timeout=PATIENCE) as socket:
        socket.send("hello")
        assert socket.recv() == "HELLO"
    serving.stop()
    assert site.events == ["lifespan.startup", "lifespan.shutdown"]
    assert nexus.budget("web").snapshot().consumers == ()


def test_free_request(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus) -> None:
    """A request of cost 0 is neither counted nor held."""

    def cost(scope: Any) -> float:
        return 0 if scope["path"] == "/health" else 1

    serving = serve(Limit(report(site, one_server, cost=cost), site.budget(one_server), cost=cost))
    assert [get(f"{serving.url}/health").status_code for _ in range(20)] == [200] * 20
    assert nexus.budget("web").snapshot().producers == ()
    get(f"{serving.url}/")
    assert eventually(lambda: reported(nexus)["done"] == 1)


def test_after_close() -> None:
    """A request that comes after the end of the Nexus is served."""
    served: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        served.append(scope["path"])

    async def send(_message: Any) -> None:
        pass

    async def check() -> None:
        nexus = nexus_redis.asyncio.Nexus.from_url("redis://nowhere.example")
        reporting = ReportLoad(app, nexus.budget("web").consumer())
        await nexus.close()
        await reporting({"type": "http", "path": "/"}, _nothing, send)

    run(check())
    assert served == ["/"]


def test_lifespan(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus) -> None:
    """An application reports from the start of its lifespan, before its first request."""
    serve(report(site, one_server))
    assert eventually(lambda: len(nexus.budget("web").snapshot().consumers) == 1)
    assert site.log == []


# --- by hand: a client that has gone


class Gone(Exception):
    """The exception that a framework makes of it."""


async def waits_for_more(_scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if (await receive())["type"] == "http.disconnect":
        raise Gone


async def returns_when_gone(_scope: Any, receive: Any, _send: Any) -> None:
    await receive()


async def sends_on(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})


async def is_cancelled(_scope: Any, _receive: Any, _send: Any) -> None:
    raise asyncio.CancelledError


async def does_not_listen(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"all"})


async def answers_first(_scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"all"})
    await receive()


@pytest.mark.parametrize(
    ("app", "counted"),
    [(waits_for_more, "cancelled"), (returns_when_gone, "cancelled"), (sends_on, "cancelled"),
     (is_cancelled, "cancelled"), (does_not_listen, "cancelled"), (answers_first, "cancelled")],
)  # fmt: skip
def test_client_gone(app: Any, counted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose client has gone is neither done nor an error."""
    consumer = nexus_redis.asyncio.Nexus.from_url("redis://nowhere.example").budget("web").consumer()
    monkeypatch.setattr(consumer, "start", lambda: None)
    monkeypatch.setattr(asgi, "SHORT", -1.0)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("more_body"):
            raise ConnectionResetError

    async def serve() -> None:
        with suppress(Gone, ConnectionResetError, asyncio.CancelledError):
            await ReportLoad(app, consumer)({"type": "http", "path": "/"}, receive, send)

    run(serve())
    said = consumer._session.meter.sample()
    ends = {name: said.get(name, 0) for name in ("done", "errors", "cancelled", "in_flight")}
    assert ends == dict.fromkeys(ends, 0) | {counted: 1}


@pytest.mark.parametrize("says_more", [True, False])
def test_look_for_client(says_more: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for the client takes no part of the request's body from the application."""
    consumer = nexus_redis.asyncio.Nexus.from_url("redis://nowhere.example").budget("web").consumer()
    monkeypatch.setattr(consumer, "start", lambda: None)
    monkeypatch.setattr(asgi, "SHORT", -1.0)
    parts = [{"type": "http.request", "body": bytes([n]), "more_body": n < 2} for n in range(3)]
    there, read = iter(parts), []

    async def receive() -> Any:
        if (part := next(there, None)) is not None:
            return part
        await asyncio.Event().wait()  # the client is there, and has sent everything
        return None

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        if says_more:
            read.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})
        while len(read) < 3:
            read.append(await receive())

    async def send(_message: Any) -> None:
        pass

    run(ReportLoad(app, consumer)({"type": "http", "path": "/"}, receive, send))
    assert read == parts
    assert consumer._session.meter.sample()["done"] == 1


def test_client_of_long_request(
    one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says that the client of a long request has gone."""
    monkeypatch.setattr(asgi, "SHORT", -1.0)
    serving = serve(report(site, one_server))
    with httpx.stream("GET", f"{serving.url}/stream", timeout=PATIENCE):
        assert eventually(lambda: reported(nexus)["in_flight"] == 1)
    assert eventually(lambda: serving.is_left)
    site.may_end.set()
    assert eventually(lambda: reported(nexus)["cancelled"] == 1)


def test_refusal(one_server: Server, timed_site: Site, serve: Any, clock: ManualClock) -> None:
    """A request over budget is refused, with the time to come back."""
    site = timed_site
    serving = serve(Limit(site, site.budget(one_server, rate=5)))
    answers = []
    for _ in range(30):
        answers.append(get(serving.url))
        clock.advance(0.05)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in refused} == {429}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert len(answers) - len(refused) == len(site.log) > 5
    assert_never_exceeded(site.log, 5)


@pytest.mark.parametrize("hold", [0, 0.2])
def test_retry_after(one_server: Server, timed_site: Site, serve: Any, hold: float) -> None:
    """`Retry-After` is as long as the next token takes."""
    serving = serve(Limit(timed_site, timed_site.budget(one_server, rate="6/min"), hold=hold))
    answers = [get(serving.url) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert 9 <= int(answers[1].headers["retry-after"]) <= 10


def test_hold(one_server: Server, timed_site: Site, serve: Any) -> None:
    """A request over budget is held for a while, and then admitted."""
    serving = serve(Limit(timed_site, timed_site.budget(one_server, rate=20), hold=30))
    assert [get(serving.url).status_code for _ in range(40)] == [200] * 40
    assert_never_exceeded(timed_site.log, 20)
    assert 1.9 < timed_site.log[-1][0] < 3


@pytest.mark.parametrize("hold", [0, 0.2])
def test_paused(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus, hold: float) -> None:
    """A paused budget answers 503, until the end of the pause."""
    nexus.budget("web", rate=100).pause(400)
    serving = serve(Limit(site, site.budget(one_server), hold=hold))
    # Where Redis has not answered within `hold` yet, the time is not known.
    assert eventually(lambda: int(get(serving.url).headers["retry-after"]) >= 10)
    answer = get(serving.url)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) <= 400
    assert site.log == []


def test_looks_at_pause(
    one_server: Server, site: Site, nexus: nexus_redis.Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a pause is asked for once a second, however many requests are refused."""
    nexus.budget("web", rate=100).pause(40)
    now, looks = [1000.0], list[float]()
    monkeypatch.setattr("nexus_redis.contrib.asgi.time", SimpleNamespace(monotonic=lambda: now[0]))

    async def refusals(times: list[float]) -> list[int]:
        async with nexus_redis.asyncio.Nexus.from_url(one_server.url) as own:
            budget = own.budget("web")
            limit, snapshot, sent = Limit(site, budget), budget.snapshot, list[Any]()

            async def look() -> Any:
                looks.append(now[0])
                return await snapshot()

            async def send(message: Any) -> None:
                sent.append(message)

            monkeypatch.setattr(budget, "snapshot", look)
            await budget.try_acquire()  # its producer knows of the pause
            for now[0] in times:
                await asyncio.gather(*(limit({"type": "http"}, _nothing, send) for _ in range(20)))
        return [int(dict(message["headers"])[b"retry-after"]) for message in sent if "headers" in message]

    told = run(refusals([1000.0, 1000.9, 1001.0]))
    assert looks == [1000.0, 1001.0]
    assert len(told) == 60
    assert min(told) >= 10


async def _nothing() -> Any:
    """Receive nothing."""


def test_status(one_server: Server, site: Site, serve: Any, nexus: nexus_redis.Nexus) -> None:
    """`status` fixes the status of refusals, 429 or 503."""
    nexus.budget("web", rate=100).pause()
    assert get(serve(Limit(site, site.budget(one_server), status=429)).url).status_code == 429
    budget = site.budget(one_server)
    assert refusal(lambda: Limit(site, budget, status=418)) == ("status", _texts.WRONG_STATUS)


def test_two_servers(one_server: Server, timed_site: Site, serve: Any, clock: ManualClock) -> None:
    """Two servers keep one budget together."""
    urls = [serve(Limit(timed_site, timed_site.budget(one_server, rate=20))).url for _ in range(2)]
    while clock.now < 2:
        for url in urls:
            get(url)
        clock.advance(0.03)
    assert_never_exceeded(timed_site.log, 20)
    assert len(timed_site.log) > 0.8 * 2 * 20

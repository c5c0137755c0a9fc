"""What every application with a limit promises: which budget, which requests it admits, what its answers say."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import fastapi
import httpx
import pytest
from starlette.testclient import TestClient

import nexus_redis
import nexus_redis.asyncio
from nexus_redis._values import error_texts
from nexus_redis.contrib import _texts, asgi, wsgi
from nexus_redis.contrib._admission import MOST_PAUSES, PauseEnds
from nexus_redis.contrib._rate_limit_fields import policy, rate_limit_fields
from nexus_redis.contrib.fastapi import limit
from nexus_redis.testing import ManualClock
from tests.contrib.applications import APPLICATIONS, Application
from tests.contrib.refusals import wrong_kind
from tests.harness.refusals import refusal
from tests.harness.servers import Server

# As in draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4: a String with Integers for parameters.
POLICY = re.compile(r'"([!-~]+)";q=(\d+);w=([1-9]\d*)')
STATE = re.compile(r'"([!-~]+)";r=(\d+);t=(\d+)')


@pytest.fixture(autouse=True)
def _by_the_clock() -> Iterator[None]:
    """Keep time by hand: a budget of one token in ten seconds must not notice that this process stood still."""
    with ManualClock():
        yield


@pytest.fixture(params=APPLICATIONS)
def application(request: pytest.FixtureRequest) -> Application:
    return APPLICATIONS[request.param]


def statuses(answers: list[httpx.Response]) -> list[int]:
    return [answer.status_code for answer in answers]


def told(answer: httpx.Response) -> tuple[str, int, int, int, int]:
    """Return the policy's name, q, w, r and t."""
    [about] = answer.headers.get_list("ratelimit-policy")
    [state] = [field for field in answer.headers.get_list("ratelimit") if field != '"mine";r=7']
    policy, limit = POLICY.fullmatch(about), STATE.fullmatch(state)
    assert policy, about
    assert limit, state
    assert policy[1] == limit[1]
    return policy[1], int(policy[2]), int(policy[3]), int(limit[2]), int(limit[3])


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


# --- which budget, and who is admitted


def test_budget_per_customer(one_server: Server, application: Application) -> None:
    """Each customer has its own budget, and the answers do not name the key."""

    def budget(nexus: Any) -> Any:
        nexus.budget("customer", rate="6/min")
        return lambda request: nexus.budget("customer", key=application.path(request)[1:])

    answers = application.visit(one_server, budget, ["/ann", "/ann", "/bob", "/bob", "/ann"])
    assert statuses(answers) == [200, 429, 200, 429, 429]
    assert {told(answer)[0] for answer in answers} == {"customer"}
    assert not [value for answer in answers for value in answer.headers.values() if "ann" in value or "bob" in value]


def test_no_budget(one_server: Server, application: Application) -> None:
    """A request for which the function returns None is not limited."""
    answers = application.visit(
        one_server,
        lambda nexus: lambda request: nexus.budget("api", rate=0) if application.path(request) == "/api" else None,
        ["/free", "/api", "/free"],
    )
    assert statuses(answers) == [200, 429, 200]
    assert "ratelimit-policy" not in answers[0].headers


@pytest.mark.parametrize("answer", ["raises", "stripe", 1, True], ids=str)
def test_choosing_fails(
    one_server: Server, application: Application, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A request for which the choosing function fails is admitted, and the error is logged once."""

    def choose(_request: Any) -> Any:
        return dict[str, str]()["customer"] if answer == "raises" else answer

    assert statuses(application.visit(one_server, lambda _nexus: choose, ["/"] * 3)) == [200] * 3
    [line] = errors(caplog)
    assert line.startswith(_texts.choosing_function("Limit"))
    assert _texts.NOT_LIMITED in line


@pytest.mark.parametrize("name", ["asgi", "fastapi"])
def test_async_choice(one_server: Server, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """An async function may choose the budget."""

    def budget(nexus: Any) -> Any:
        async def choose(request: Any) -> Any:
            if APPLICATIONS[name].path(request) == "/fails":
                raise LookupError("as asked")
            return nexus.budget("api", rate=0) if APPLICATIONS[name].path(request) == "/api" else None

        return choose

    assert statuses(APPLICATIONS[name].visit(one_server, budget, ["/free", "/api", "/fails"])) == [200, 429, 200]
    assert "LookupError('as asked')" in errors(caplog)[0]


def test_websockets() -> None:
    """The websockets of a limited router pass through."""
    budget = nexus_redis.asyncio.Nexus.from_url("redis://nowhere.example").budget("web", rate=0)
    router = fastapi.APIRouter(dependencies=[fastapi.Depends(limit(budget))])

    @router.websocket("/talk")
    async def talk(socket: fastapi.WebSocket) -> None:
        await socket.accept()
        await socket.send_text("hello")

    with TestClient(router).websocket_connect("/talk") as socket:
        assert socket.receive_text() == "hello"


def test_wrong_arguments() -> None:
    """Arguments that cannot work are refused where the limit is made."""

    async def choose(_request: Any) -> None:
        """Return nothing; nothing awaits it."""

    nexus = nexus_redis.Nexus.from_url("redis://nowhere.example")
    producer = nexus.budget("web").producer()
    make: Any = partial(wsgi.Limit, _nothing)
    assert refusal(partial(make, choose)) == ("budget", _texts.ASYNC_FUNCTION)
    made = refusal(partial(make, lambda _environ: None, producer=producer))
    assert made == ("producer", _texts.PRODUCER_AND_FUNCTION)
    limits: list[tuple[Any, str]] = [(make, "sync"), (limit, "async"), (partial(asgi.Limit, _nothing), "async")]
    for each, face in limits:
        assert refusal(partial(each, "web")) == ("budget", wrong_kind("Budget", face))
    for status in (418, 200):
        assert refusal(partial(make, nexus.budget("web"), status=status)) == ("status", _texts.WRONG_STATUS)


def _nothing(*_given: Any) -> Any:
    """Stand for an application that is never called."""


def test_many_customers(one_server: Server) -> None:
    """Thousands of customers leave nothing in the process."""
    with ManualClock() as clock, nexus_redis.Nexus.from_url(one_server.url) as nexus:
        nexus.budget("customer", rate="6/min")

        def choose(environ: Any) -> nexus_redis.Budget:
            return nexus.budget("customer", key=environ["PATH_INFO"])

        app = wsgi.Limit(_started, choose)
        for number in range(300):
            for _ in range(2):  # admitted, then refused
                app({"PATH_INFO": f"/{number}"}, _start)
        assert len(nexus._producers) >= 300
        clock.advance(120)
        gc.collect()
        assert len(nexus._keyed) == 0
        assert len(nexus._producers) <= 1


def _start(_status: str, _headers: Any, *_error: Any) -> Any:
    """Ignore the status and the headers."""


def _started(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return []


def test_remembered_pauses() -> None:
    """A bounded number of pauses is remembered, and a pause in use is among them."""
    pauses = PauseEnds(object)
    pauses.of("often").learn(0, 40)
    for number in range(3 * MOST_PAUSES):
        pauses.of(str(number)).learn(0, 50)
        assert pauses.of("often").left(10) == 30
    assert len(pauses._known) == MOST_PAUSES


# --- what the answers say


def test_fields(one_server: Server, application: Application) -> None:
    """Every answer has the fields of the draft beside those of the application."""
    answers = application.visit(one_server, lambda nexus: nexus.budget("web", rate="6/min"), ["/", "/"])
    assert statuses(answers) == [200, 429]
    for answer in answers:
        name, quota, window, left, seconds = told(answer)
        assert (name, quota, window, left) == ("web", 6, 60, 0)
        assert 8 <= seconds <= 10
    assert '"mine";r=7' in answers[0].headers.get_list("ratelimit")
    assert answers[1].headers["retry-after"] == str(told(answers[1])[4])
    assert answers[1].headers["content-type"].startswith(("text/plain", "application/json"))


def test_short_wait(one_server: Server, application: Application) -> None:
    """Where the next request waits for less than a second, an admitted client is not told to wait."""
    answers = application.visit(one_server, lambda nexus: nexus.budget("web", rate=100), ["/"] * 5)
    for answer in answers:
        name, quota, window, left, seconds = told(answer)
        assert (name, quota, window) == ("web", 100, 1)
        if answer.status_code == 200:
            assert 90 <= left <= 100
            assert seconds == 1
        else:
            assert (left, seconds) == (0, 1)


def test_hold(one_server: Server, application: Application) -> None:
    """The time for which a request may be held is not part of the wait in the fields."""
    [answer] = application.visit(one_server, lambda nexus: nexus.budget("web", rate="6/min"), ["/"], hold=9.5)
    assert told(answer)[3] >= 1
    [answer] = application.visit(one_server, lambda nexus: nexus.budget("other", rate="6/min"), ["/"], hold=5)
    assert 4 <= told(answer)[4] <= 5


def test_no_fields(one_server: Server, application: Application) -> None:
    """`headers=False` leaves the fields out, and keeps `Retry-After`."""
    answers = application.visit(one_server, lambda nexus: nexus.budget("web", rate="6/min"), ["/", "/"], headers=False)
    assert statuses(answers) == [200, 429]
    for answer in answers:
        assert "ratelimit-policy" not in answer.headers
        assert answer.headers.get("ratelimit", '"mine";r=7') == '"mine";r=7'
    assert answers[1].headers["retry-after"] in {"9", "10"}


def test_fields_during_pause(one_server: Server, application: Application) -> None:
    """During a pause the policy stays, and the state is the rest of the pause."""
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        nexus.budget("web", rate=5).pause(40)
    [answer] = application.visit(one_server, lambda nexus: nexus.budget("web", rate=5), ["/"])
    assert answer.status_code == 503
    name, quota, window, left, seconds = told(answer)
    assert (name, quota, window, left) == ("web", 5, 1, 0)
    assert 10 <= seconds <= 40
    assert answer.headers["retry-after"] == str(seconds)


def test_fields_without_rate(one_server: Server, application: Application) -> None:
    """An answer about a budget without a rate has the state only."""
    [answer] = application.visit(one_server, lambda nexus: nexus.budget("web"), ["/"])
    assert answer.status_code == 503
    assert "ratelimit-policy" not in answer.headers
    assert answer.headers["ratelimit"] == '"web";r=0;t=1'


def test_cost_too_large(one_server: Server, application: Application, caplog: pytest.LogCaptureFixture) -> None:
    """A request whose cost no bucket can hold is refused, and the log says why."""

    def cost(request: Any) -> float:
        return 500 if application.path(request) == "/much" else 1

    answers = application.visit(
        one_server, lambda nexus: nexus.budget("web", rate=100), ["/", "/much", "/much"], cost=cost
    )
    assert statuses(answers) == [200, 429, 429]
    assert answers[1].headers["retry-after"] == "60"
    [line] = errors(caplog)
    assert line.startswith(_texts.acquiring("web"))
    assert "InvalidSetting('cost=500" in line
    assert error_texts.above_burst(26) in line
    assert _texts.ALWAYS_REFUSED in line


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        (100, (100, 1)), (1, (1, 1)), (1.5, (90, 60)), (20 / 60, (20, 60)), (0.333334, (20, 60)), (437.218, (437, 1)),
        (2.37, (142, 60)), (10 / 3600, (10, 3600)), (5 / 86_400, (5, 86_400)), (1 / 86_400, (1, 86_400)),
        (1.7 / 86_400, (1, 86_400)), (1e9, (10**9, 1)), (1e-6, (1, 1_000_000)), (0.99, (59, 60)), (7, (7, 1)),
    ],
)  # fmt: skip
def test_policy(rate: float, says: tuple[int, int]) -> None:
    """A policy is the rate in whole requests and seconds, and never more than the rate."""
    assert policy(rate) == says
    quota, window = says
    assert quota / window <= rate * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize(
    ("rate", "wait", "left", "seconds"),
    [(100, 0, 100, 1), (100, 0.3, 71, 1), (5, 0.9, 1, 1), (5, 1.0, 0, 1), (5, 1.2, 0, 2), (0.1, 0.5, 6, 60)],
)
def test_state(rate: float, wait: float, left: int, seconds: int) -> None:
    """The state is 0 only where the next request waits for a second or longer."""
    assert dict(rate_limit_fields("web", rate, wait))["RateLimit"] == f'"web";r={left};t={seconds}'

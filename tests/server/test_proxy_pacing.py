"""What a request without tokens gets, what the laws learn of the others, and which options are refused."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import Any

import pytest

from nexus_redis import Denied
from nexus_redis.errors import AcquireTimeout
from nexus_redis.server.options import Limits, ServerOptions
from nexus_redis.server.proxy import ProxyApplication, ProxyOptions, texts
from tests.harness.refusals import refusal
from tests.harness.servers import Server
from tests.harness.support import HOST, PATIENCE, run
from tests.server.proxied import Client, Proxied, Upstream, Visit, options, proxied, running, until_reported

BULK = b'{"index": {}}\n{"a": 1}\n{"delete": {}}\n'


# --- what a request without tokens gets


async def until_denied(site: Proxied, *reasons: str) -> None:
    """Try until tokens are denied for one of these reasons: the process has had an answer by then."""
    while True:
        denied = await site.nexus.budget("es").try_acquire()
        if isinstance(denied, Denied) and denied.reason in reasons:
            return


def test_over_budget(one_server: Server) -> None:
    """Past its deadline a request gets a 429 that says when to come back, and is not passed on."""

    async def main() -> None:
        async with proxied(one_server, rate="1/h", wait_s=0.01, cost="lines") as site:
            await until_denied(site, "rate", "contended", "learning")
            answer = await site.ask("/_bulk", method="POST", body=BULK)
            assert answer.status == 429
            assert site.upstream.heads == []
            found = json.loads(answer.body)
            assert found["type"].endswith("#quota-exceeded")
            assert found["violated-policies"] == [found["budget"]] == ["es"]
            assert found["status"] == 429
            assert found["retry_after_ms"] > 0
            assert int(answer.head.one("retry-after")) >= 1
            assert answer.head.one("ratelimit").startswith('"es";r=0;t=')
            assert answer.head.one("ratelimit-policy") == '"es";q=1;w=3600'
            assert answer.head.one("content-type") == "application/problem+json"

    run(main())


def test_retry_after_is_never_now(one_server: Server) -> None:
    """A refused request is told to come back later, also where nobody knows when."""

    async def main() -> None:
        async with proxied(one_server) as site:
            refused = site.proxy.pacer._refusal(AcquireTimeout("es", 1, 1.0, "unavailable"))
            assert (refused.members["retry_after_ms"], dict(refused.headers)[b"retry-after"]) == (1_000, b"1")

    run(main())


def test_too_dear(one_server: Server) -> None:
    """A request that costs more than the rate gives while it may wait is told that it will never pass."""

    async def main() -> None:
        async with proxied(one_server, rate="1/h", wait_s=0.01, cost="lines") as site:
            await until_denied(site, "rate", "contended", "learning")
            attempts = site.nexus.budget("es")._session.ledger.demand.attempts
            answer = await site.ask("/_bulk", method="POST", body=BULK)
            assert json.loads(answer.body)["detail"] == texts.too_dear(2, 0.000278, 0.01)
            assert answer.head.one("retry-after") == "60"
            assert site.nexus.budget("es")._session.ledger.demand.attempts == attempts

    run(main())


def test_paused(one_server: Server) -> None:
    """During a pause a request gets a 503 whose Retry-After is the rest of the pause, a minute at most."""

    async def main() -> None:
        async with proxied(one_server, wait_s=0.01) as site:
            await site.nexus.budget("es").pause(5_000)
            await until_denied(site, "paused")
            answer = await site.ask()
            assert answer.status == 503
            assert json.loads(answer.body)["type"].endswith("#temporary-reduced-capacity")
            assert json.loads(answer.body)["reason"] == "paused"
            assert answer.head.one("retry-after") == "60"  # the most that is told

    run(main())


def test_a_key_is_secret(one_server: Server) -> None:
    """The answer names the budget of a key without the key."""

    async def main() -> None:
        async with proxied(one_server, key="hunter2", rate=0, wait_s=0.01) as site:
            answer = await site.ask()
            assert answer.status in (429, 503)
            assert b"hunter2" not in answer.body

    run(main())


def test_too_many_wait(one_server: Server) -> None:
    """Beyond the limit of waiters a request is answered at once."""

    async def main() -> None:
        async with proxied(one_server, rate=0, limits=Limits(waiters=1)) as site:
            first = await site.client()
            await first.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await site.until(lambda: site.proxy._waiting == 1)
            answer = await site.ask()
            assert (answer.status, json.loads(answer.body)["reason"]) == (503, "waiters")
            first.leave()

    run(main())


# --- what the laws learn


def test_reports(one_server: Server) -> None:
    """Without a fixed rate the proxy reports how its requests end: done, or an error where the upstream is full."""

    async def main() -> None:
        async with proxied(one_server, rate=None) as site:
            for status in (200, 404, 500):
                site.upstream.answering(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status)
                assert (await site.ask()).status == status
            await until_reported(site, done=3)
            for status in (429, 503):
                site.upstream.answering(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status)
                assert (await site.ask()).status == status
            await until_reported(site, done=3, errors=2)

    run(main())


def test_parts_are_reported(one_server: Server) -> None:
    """All tokens of a large body are reported, and the last one with the response."""

    async def main() -> None:
        async with proxied(one_server, rate=None, cost="bytes", whole_bytes=10) as site:
            assert (await site.ask(method="POST", body=b"x" * 30)).status == 200
            await until_reported(site, done=30)

    run(main())


def test_fixed_rate(one_server: Server) -> None:
    """With a fixed rate nothing is reported: the budget is a plain limit."""

    async def main() -> None:
        async with proxied(one_server, rate=50) as site:
            await site.ask()
            found = await site.nexus.budget("es").snapshot()
            assert (found.rate, found.consumers) == (50, ())

    run(main())


def test_retry_after(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that says when to come back pauses the budget for all, once for many refusals at once."""

    async def main() -> None:
        async with proxied(one_server) as site:
            pauses: list[float] = []
            budget = site.proxy.pacer.budget
            pause = budget.pause

            async def noted(seconds: Any = None, *, reason: str = "") -> None:
                pauses.append(seconds)
                await pause(seconds, reason=reason)

            monkeypatch.setattr(budget, "pause", noted)
            gate = asyncio.Event()

            async def handle(visit: Visit) -> None:
                await gate.wait()
                await visit.send(b"HTTP/1.1 429 x\r\nRetry-After: 40\r\nContent-Length: 0\r\n\r\n")

            site.upstream.handle = handle
            asking = [asyncio.ensure_future(site.ask()) for _ in range(20)]
            await site.until(lambda: len(site.upstream.heads) == 20)
            gate.set()
            answers = await asyncio.gather(*asking)
            assert {(each.status, each.head.one("retry-after")) for each in answers} == {(429, "40")}
            found = await budget.snapshot()
            assert found.paused_for is not None
            assert 1 < found.paused_for <= 40
            assert found.pause_reason.endswith("from 127.0.0.1")
            assert pauses == [40]

    run(main())


# --- options


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("upstream", "es:9200"), ("upstream", "ftp://es"), ("upstream", "http://"), ("upstream", "http://es:99999"),
        ("upstream", "http://user:hunter2@es"), ("upstream", "http://es/?a"), ("cost", "lions"), ("stats", "solr"),
        ("wait_s", -1), ("whole_bytes", 0),
    ],
)  # fmt: skip
def test_refused_options(field: str, value: Any) -> None:
    """An option that cannot be used is refused by name, and no password is repeated."""
    known = {"upstream": "http://es:9200", "budget": "es"}
    name, remedy = refusal(lambda: ProxyOptions(**(known | {field: value})))
    assert name == field
    assert "hunter2" not in remedy


def test_options_travel() -> None:
    """Options reach a worker process as they are."""
    given = ProxyOptions(upstream="https://es:9200/a/", budget="es", cost="lines")
    assert pickle.loads(pickle.dumps(given)) == given  # noqa: S301  # our own
    assert str(given.url) == "https://es:9200/a"


def test_process(one_server: Server) -> None:
    """The application of a worker is sent to it, and opens its own Nexus there."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE), Upstream() as upstream:
            app = ProxyApplication(ServerOptions(url=one_server.url), options(upstream))
            async with running(pickle.loads(pickle.dumps(app))) as port:  # noqa: S301  # our own
                client = Client(*await asyncio.open_connection(HOST, port))
                await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert (await client.answer()).body == b"ok"
                client.writer.close()

    run(main())


def test_failed_start() -> None:
    """A setting that cannot be used fails the start, with the reason."""
    sent: list[dict[str, str]] = []

    async def main() -> None:
        async def receive() -> dict[str, str]:
            return {"type": "lifespan.startup"}

        async def send(message: dict[str, str]) -> None:
            sent.append(message)

        wrong = ProxyOptions(upstream="http://es:9200", budget="no:colon")
        await ProxyApplication(ServerOptions(), wrong)({"type": "lifespan"}, receive, send)

    run(main())
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "no:colon" in sent[0]["message"]

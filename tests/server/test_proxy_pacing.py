"""What requests cost, how long they wait, and what the laws learn of the upstream."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_redis.server.proxy import ProxyOptions, texts
from nexus_redis.server.proxy.cost import ActionCounter, InflatedCounter
from nexus_redis.server.proxy.pacing import Pacer
from nexus_redis.server.proxy.problems import ProxyProblem
from tests.harness.refusals import refusal
from tests.harness.servers import Server
from tests.harness.support import run
from tests.server.proxied import OK, Proxied, Visit, proxied

BULK = b'{"index": {"_id": "1"}}\n{"text": "a\\\\nb"}\n{"delete": {"_id": "2"}}\n\n{ "create":{}}\n{"delete": 1}\n'
GIB = 1 << 30


class Spent:
    """The tokens that requests, and parts of their bodies, have taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[float] = []
        self.parts: list[float] = []
        self.may_take_part = asyncio.Event()
        self.may_take_part.set()
        take, take_part = Pacer.take, Pacer.take_part

        async def noted(pacer: Pacer, tokens: float) -> Any:
            self.requests.append(tokens)
            return await take(pacer, tokens)

        async def noted_part(pacer: Pacer, tokens: float) -> None:
            self.parts.append(tokens)
            await self.may_take_part.wait()
            await take_part(pacer, tokens)

        monkeypatch.setattr(Pacer, "take", noted)
        monkeypatch.setattr(Pacer, "take_part", noted_part)


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> Spent:
    return Spent(monkeypatch)


# --- what a request costs


@pytest.mark.parametrize(
    ("cost", "target", "headers", "body", "tokens"),
    [
        ("requests", "/_bulk", [], BULK, 1),
        ("bytes", "/", [], BULK, len(BULK)),
        ("bytes", "/", [], None, 1),
        ("lines", "/_bulk", [], BULK, 4),
        ("lines", "/logs/_bulk?refresh", [], BULK, 4),
        ("lines", "/_bulk", ["Content-Encoding: gzip"], gzip.compress(BULK), 4),
        ("lines", "/_bulk", ["Content-Encoding: deflate"], zlib.compress(BULK), 4),
        ("lines", "/_msearch", [], b'{}\n{"query": {}}\n' * 3, 3),
        ("lines", "/other", ["Content-Type: application/x-ndjson"], BULK, 4),
        ("lines", "/logs/_doc", [], b'{"a": 1}\n' * 5, 1),
        ("lines", "/_bulk", [], None, 1),
    ],
)
def test_cost(
    one_server: Server, spent: Spent, cost: str, target: str, headers: list[str], body: bytes | None, tokens: int
) -> None:
    """A request costs a token, its bytes, or the actions of its body, which reaches the upstream unchanged."""

    async def main() -> None:
        async with proxied(one_server, cost=cost) as site:
            assert (await site.ask(target, *headers, method="POST", body=body)).status == 200
            assert (spent.requests, spent.parts) == ([tokens], [])
            assert site.upstream.bodies == [body or b""]

    run(main())


ACTION = st.sampled_from([b'{"index": {}}', b' {\t"create" : {"_id": "x"}}', b'{"update": {}}\r'])
SOURCE = st.sampled_from([b"{}", b'{"delete": {}}', b'{"text": "' + b"x" * 200 + b'"}', b""])
ITEM = st.one_of(
    st.tuples(ACTION, SOURCE).map(lambda pair: (1, b"\n".join(pair))),
    st.sampled_from([(1, b'{"delete": {}}'), (1, b'{ "delete":1}'), (0, b""), (0, b" \r")]),
)


@given(st.lists(ITEM, max_size=12), st.booleans(), st.lists(st.integers(0, 400), max_size=8))
def test_actions(items: list[tuple[int, bytes]], is_ended: bool, cuts: list[int]) -> None:
    """Actions are counted right wherever the parts of a body begin, compressed or not."""
    body = b"\n".join(item for _, item in items) + b"\n" * is_ended
    count = sum(actions for actions, _ in items)
    for data, counter in ((body, ActionCounter()), (gzip.compress(body), InflatedCounter())):
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        parts = [data[a:b] for a, b in zip(places, places[1:], strict=False)]
        assert sum(counter.count(part) for part in parts) == count


def test_gzip_members() -> None:
    """A body of several gzip members is counted to its end, and a broken one is refused."""
    counter = InflatedCounter()
    assert counter.count(gzip.compress(BULK) + gzip.compress(BULK)) == 8
    with pytest.raises(ProxyProblem):
        InflatedCounter().count(b"no gzip at all")


def test_uncountable(one_server: Server) -> None:
    """Actions behind an encoding that nobody here can read are refused."""

    async def main() -> None:
        async with proxied(one_server, cost="lines") as site:
            answer = await site.ask("/_bulk", "Content-Encoding: br", method="POST", body=b"?")
            assert (answer.status, site.upstream.heads) == (415, [])

    run(main())


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("cost", ["bytes", "lines"])
def test_large_body(one_server: Server, spent: Spent, cost: str, framing: str) -> None:
    """A body beyond the limit begins when its first part is paid for, and each further part waits for its tokens."""
    line = b'{"delete": {}}\n'

    async def main() -> None:
        async with proxied(one_server, cost=cost, whole_bytes=len(line)) as site:
            arrived: asyncio.Queue[bytes] = asyncio.Queue()

            async def handle(visit: Visit) -> None:
                size = len(line) if framing == "length" else len(line) + 5
                await arrived.put(await visit.reader.readexactly(size))
                await arrived.put(await visit.reader.readexactly(size))
                if framing == "chunked":
                    await visit.reader.readexactly(5)
                await visit.send(OK)

            site.upstream.handle = handle
            spent.may_take_part.clear()
            client = await site.client()
            head = b"Content-Length: %d" % (2 * len(line)) if framing == "length" else b"Transfer-Encoding: chunked"
            part = line if framing == "length" else b"f\r\n%b\r\n" % line
            await client.send(b"POST /_bulk HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n%b" % (head, part))
            await arrived.get()
            await client.send(part + (b"" if framing == "length" else b"0\r\n\r\n"))
            await site.until(lambda: spent.parts)
            assert arrived.empty()
            spent.may_take_part.set()
            assert (await client.answer()).status == 200
            tokens = len(line) if cost == "bytes" else 1
            assert (spent.requests, spent.parts) == ([tokens], [tokens])

    run(main())


def test_flat_memory(one_server: Server) -> None:
    """Of a body that nobody takes, the proxy reads no more than it may hold."""

    async def main() -> None:
        async with proxied(one_server) as site:
            gate = asyncio.Event()

            async def handle(visit: Visit) -> None:
                await gate.wait()
                await visit.is_cut()

            site.upstream.handle = handle
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % GIB)
            sent = 0
            for _ in range(20_000):  # each turn lets everybody move what can be moved
                if client.writer.transport.get_write_buffer_size() == 0:  # type: ignore[attr-defined]  # asyncio's own
                    client.writer.write(b"x" * 65_536)
                    sent += 65_536
                await asyncio.sleep(0)
            assert sent < 32 << 20  # the buffers of two connections, and not the 1.2 GiB that could have been sent
            client.leave()
            gate.set()

    run(main())


def test_slow_reader(one_server: Server) -> None:
    """An upstream whose response nobody reads is not read further than the buffers are large."""

    async def main() -> None:
        async with proxied(one_server) as site:
            written = 0

            async def handle(visit: Visit) -> None:
                nonlocal written
                await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
                while True:
                    await visit.send(b"x" * 65_536)
                    written += 65_536

            site.upstream.handle = handle
            client = await site.client()
            client.reader._limit = 1 << 10  # type: ignore[attr-defined]  # so that the client reads no further, either
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            for _ in range(20_000):
                await asyncio.sleep(0)
            assert 0 < written < 32 << 20
            client.leave()

    run(main())


# --- what a request without tokens gets


def test_over_budget(one_server: Server) -> None:
    """Past its deadline a request gets a 429 that says when to come back, and is not passed on."""

    async def main() -> None:
        async with proxied(one_server, rate="1/h", wait_s=0.01, cost="lines") as site:
            statuses = [(await site.ask("/_bulk", method="POST", body=BULK)).status for _ in range(2)]
            answer = await site.ask("/_bulk", method="POST", body=BULK)
            assert (answer.status, set(statuses)) == (429, {429})
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


def test_paused(one_server: Server) -> None:
    """During a pause a request gets a 503 whose Retry-After is the rest of the pause."""

    async def main() -> None:
        async with proxied(one_server, wait_s=0.01) as site:
            await site.nexus.budget("es").pause(50)
            answer = await site.ask()
            assert answer.status == 503
            assert json.loads(answer.body)["type"].endswith("#temporary-reduced-capacity")
            assert json.loads(answer.body)["reason"] == "paused"
            assert 1 < int(answer.head.one("retry-after")) <= 50

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
        from nexus_redis.server.options import Limits

        async with proxied(one_server, rate=0, limits=Limits(waiters=1)) as site:
            first = await site.client()
            await first.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await site.until(lambda: site.proxy._waiting == 1)
            answer = await site.ask()
            assert (answer.status, json.loads(answer.body)["reason"]) == (503, "waiters")
            first.leave()

    run(main())


# --- clients that go away


async def waiting(site: Proxied) -> Any:
    """A client whose request waits for its tokens."""
    client = await site.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
    await site.until(lambda: site.proxy._waiting == 1)
    return client


def test_gone_while_waiting(one_server: Server) -> None:
    """A client that goes away while it waits gives its place back, and nothing of it is passed on."""

    async def main() -> None:
        async with proxied(one_server, rate=0) as site:
            client = await waiting(site)
            assert len(site.nexus.budget("es")._session.ledger.line) == 1
            client.leave()
            await site.until(lambda: site.proxy._waiting == 0)
            assert len(site.nexus.budget("es")._session.ledger.line) == 0
            assert site.upstream.heads == []

    run(main())


def test_gone_when_served(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that come together with the news that the client has gone go back."""

    async def main() -> None:
        async with proxied(one_server) as site:
            settled: list[float] = []
            take = Pacer.take

            async def take_late(pacer: Pacer, tokens: float) -> Any:
                taken = await take(pacer, tokens)
                [exchange] = site.proxy._exchanges
                exchange._body.is_gone = True
                exchange._task.cancel()
                monkeypatch.setattr(taken, "settle", settled.append)
                return taken

            monkeypatch.setattr(Pacer, "take", take_late)
            client = await site.client()
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await site.until(lambda: settled)
            await site.until(lambda: not site.proxy._exchanges)
            assert (settled, site.upstream.heads) == ([0], [])

    run(main())


def reported(consumers: Any) -> dict[str, float]:
    """What the only consumer has reported."""
    [consumer] = consumers
    return {name: float(consumer.fields.get(name, 0)) for name in ("done", "errors", "cancelled", "in_flight")}


async def until_reported(site: Proxied, **said: float) -> None:
    """Wait until the consumer reports these counts, and no others."""
    expected = {"done": 0.0, "errors": 0.0, "cancelled": 0.0, "in_flight": 0.0} | said
    while True:
        consumers = (await site.nexus.budget("es").snapshot()).consumers
        if consumers and reported(consumers) == expected:
            return


@pytest.mark.parametrize("when", ["upload", "thinking"])
def test_gone_when_sent(one_server: Server, when: str) -> None:
    """A client that goes away after its request was sent cuts it off, which is not taken for overload."""

    async def main() -> None:
        async with proxied(one_server, rate=None) as site:
            left: list[bytes] = []

            async def handle(visit: Visit) -> None:
                left.append(await visit.is_cut())

            site.upstream.handle = handle
            client = await site.client()
            end = b"" if when == "upload" else b"0\r\n\r\n"
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + end)
            await site.until(lambda: site.upstream.heads)
            await site.until(lambda: next(iter(site.proxy._exchanges))._body.is_at_end or when == "upload")
            client.leave()
            await site.until(lambda: left)
            assert left[0] in (b"", b"3\r\nabc\r\n" + end)  # nothing that the client has not said
            await until_reported(site, cancelled=1)

    run(main())


def test_gone_in_response(one_server: Server) -> None:
    """A client that goes away during the response has the upstream's connection closed."""

    async def main() -> None:
        async with proxied(one_server) as site:
            left = []

            async def handle(visit: Visit) -> None:
                await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nbegin")
                left.append(await visit.is_cut())

            site.upstream.handle = handle
            client = await site.client()
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.head()
            client.leave()
            await site.until(lambda: left)

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


def test_outage_is_logged_once(one_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The log says once that the upstream is away, and once that it is back."""
    caplog.set_level("INFO")

    async def main() -> None:
        async with proxied(one_server) as site:

            async def hang_up(visit: Visit) -> None:
                visit.writer.transport.abort()

            site.upstream.handle = hang_up
            for _ in range(3):
                await site.ask()
            site.upstream.handle = site.upstream.say_ok
            for _ in range(2):
                await site.ask()

    run(main())
    ours = [record.msg for record in caplog.records if record.msg in (texts.UPSTREAM_AWAY, texts.UPSTREAM_BACK)]
    assert ours == [texts.UPSTREAM_AWAY, texts.UPSTREAM_BACK]


# --- the end


def test_stop(one_server: Server) -> None:
    """A proxy that stops answers those that wait, and lets those in progress end."""

    async def main() -> None:
        async with proxied(one_server) as site:
            gate = asyncio.Event()

            async def handle(visit: Visit) -> None:
                await gate.wait()
                await visit.send(OK)

            site.upstream.handle = handle
            running = asyncio.ensure_future(site.ask())
            await site.until(lambda: site.upstream.heads)
            await site.nexus.budget("es").pause()
            client = await waiting(site)
            site.server.should_exit = True  # as a signal does
            answer = await client.answer()
            assert (answer.status, json.loads(answer.body)["reason"]) == (503, "stopping")
            assert answer.head.all("retry-after")
            gate.set()
            assert (await running).status == 200
            await site.until(lambda: not site.proxy._exchanges)

    run(main())


def test_stop_does_not_wait_for_ever(one_server: Server) -> None:
    """A request that takes too long is told that the upstream may have received it."""

    async def main() -> None:
        async with proxied(one_server, stop_s=0) as site:

            async def handle(visit: Visit) -> None:
                await visit.is_cut()

            site.upstream.handle = handle
            asking = asyncio.ensure_future(site.ask())
            await site.until(lambda: site.upstream.heads)
            site.proxy.drain()
            answer = await asking
            assert (answer.status, json.loads(answer.body)["upstream_received"]) == (503, "maybe")
            assert (await site.ask()).status == 503

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


# --- the write queues of Elasticsearch


def nodes(**pools: dict[str, int]) -> bytes:
    """The statistics of nodes as Elasticsearch 7 and later give them."""
    found = {f"id-{name}": {"name": name, "thread_pool": {"write": pool}} for name, pool in pools.items()}
    return json.dumps({"nodes": found}).encode()


class FakeElasticsearch:
    """An upstream that also answers for its nodes."""

    def __init__(self, site: Proxied) -> None:
        self.pools = {
            "node-1": {"threads": 4, "queue": 20, "active": 4, "rejected": 0, "largest": 4, "completed": 100},
            "node 2": {"threads": 4, "queue": 0, "active": 0, "rejected": 0, "largest": 4, "completed": 100},
        }
        self.is_away = False
        site.upstream.handle = self.handle

    async def handle(self, visit: Visit) -> None:
        await visit.body()
        if self.is_away:
            await visit.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n{}")
        elif "/_nodes/stats" in visit.head.line:
            await self._send(visit, nodes(**self.pools))
        elif "/_nodes/thread_pool" in visit.head.line:
            limits = {name: {"type": "fixed", "size": 4, "queue_size": 200} for name in self.pools}
            await self._send(visit, nodes(**limits))
        else:
            await visit.send(OK)

    async def _send(self, visit: Visit, body: bytes) -> None:
        await visit.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )

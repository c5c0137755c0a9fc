"""What a request costs, how its body is paid for, and how little of it the proxy holds."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_redis.server.proxy.cost import ActionCounter, InflatedCounter, LineCounter
from nexus_redis.server.proxy.pacing import Pacer
from nexus_redis.server.proxy.problems import ProxyProblem
from tests.harness.servers import Server
from tests.harness.support import run
from tests.server.proxied import OK, Visit, proxied

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


@pytest.mark.parametrize(
    ("cost", "target", "headers", "body", "tokens"),
    [
        ("requests", "/_bulk", [], BULK, 1),
        ("bytes", "/", [], BULK, len(BULK)),
        ("bytes", "/", [], None, 1),
        ("lines", "/_bulk", [], BULK, 3),
        ("lines", "/logs/_bulk?refresh", [], BULK, 3),
        ("lines", "/_bulk", ["Content-Encoding: gzip"], gzip.compress(BULK, mtime=0), 3),
        ("lines", "/_bulk", ["Content-Encoding: deflate"], zlib.compress(BULK), 3),
        ("lines", "/_msearch", [], b'{}\n{"query": {}}\n' * 3, 3),
        ("lines", "/a/_msearch/template/", [], b'{}\n{"id": "a"}\n' * 3, 3),
        ("lines", "/%5Fbulk", [], BULK, 3),
        ("lines", "/a/_bulk/?x", ["Content-Type: application/x-ndjson"], BULK, 3),
        ("lines", "/other", ["Content-Type: application/x-ndjson"], BULK, 5),
        ("lines", "/my_bulk", ["Content-Type: application/NDJSON; x=y"], b'{"a": 1}\n\n{"a": 2}\r\n \r\n{"a": 3}', 3),
        (
            "lines",
            "/other",
            ["Content-Type: application/x-ndjson", "Content-Encoding: gzip"],
            gzip.compress(BULK, mtime=0),
            5,
        ),
        ("lines", "/my_bulk", [], BULK, 1),
        ("lines", "/logs/_doc", [], b'{"a": 1}\n' * 5, 1),
        ("lines", "/_bulk", [], None, 1),
    ],
    ids=str,
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
CUTS = st.lists(st.integers(0, 400), max_size=8)
ITEM = st.one_of(
    st.tuples(ACTION, SOURCE).map(lambda pair: (1, b"\n".join(pair))),
    st.sampled_from([(1, b'{"delete": {}}'), (1, b'{ "delete":1}'), (0, b""), (0, b" \r")]),
)


@given(st.lists(ITEM, max_size=12), st.booleans(), CUTS)
def test_actions(items: list[tuple[int, bytes]], is_ended: bool, cuts: list[int]) -> None:
    """Actions are counted right wherever the parts of a body begin, compressed or not."""
    body = b"\n".join(item for _, item in items) + b"\n" * is_ended
    count = sum(actions for actions, _ in items)
    for data, counter in ((body, ActionCounter()), (gzip.compress(body), InflatedCounter(ActionCounter()))):
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        parts = [data[a:b] for a, b in pairwise(places)]
        assert sum(counter.count(part) for part in parts) == count


@given(st.lists(st.sampled_from([b"{}", b'{"a": 1}', b"x" * 200, b"", b" \r"]), max_size=12), st.booleans(), CUTS)
def test_lines(lines: list[bytes], is_ended: bool, cuts: list[int]) -> None:
    """Lines are counted right wherever the parts of a body begin, and blank lines are none."""
    body = b"\n".join(lines) + b"\n" * is_ended
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    counter = LineCounter()
    assert sum(counter.count(body[a:b]) for a, b in pairwise(places)) == sum(bool(line.strip()) for line in lines)


def test_gzip_members() -> None:
    """A body of several gzip members is counted to its end, and a broken one is refused."""
    counter = InflatedCounter(ActionCounter())
    assert counter.count(gzip.compress(BULK) + gzip.compress(BULK)) == 6
    with pytest.raises(ProxyProblem):
        InflatedCounter(ActionCounter()).count(b"no gzip at all")


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
                if client.writer.transport.get_write_buffer_size() == 0:
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


def test_held_bodies(one_server: Server) -> None:
    """The bodies of all requests that wait have one bound, beyond which a request is refused until one has gone."""

    async def main() -> None:
        async with proxied(one_server, rate=0, cost="lines", held_bytes=2 * len(BULK)) as site:
            head = b"POST /_bulk HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BULK)
            clients = [await site.client() for _ in range(2)]
            for client in clients:
                await client.send(head + BULK)
            await site.until(lambda: len(site.nexus.budget("es")._session.ledger.waiters) == 2)
            answer = await site.ask("/_bulk", method="POST", body=BULK)
            assert (answer.status, json.loads(answer.body)["reason"]) == (503, "waiters")
            clients[0].leave()
            await site.until(lambda: len(site.proxy._exchanges) == 1)
            await (await site.client()).send(head + BULK)
            await site.until(lambda: len(site.nexus.budget("es")._session.ledger.waiters) == 2)

    run(main())


def test_held_bodies_are_passed_on(one_server: Server) -> None:
    """A body that was passed on is held no longer, so any number of them may follow."""

    async def main() -> None:
        async with proxied(one_server, cost="lines", held_bytes=len(BULK)) as site:
            for _ in range(3):
                assert (await site.ask("/_bulk", method="POST", body=BULK)).status == 200
            assert site.upstream.bodies == [BULK] * 3

    run(main())

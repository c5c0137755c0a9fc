"""What the proxy passes on, and what not: targets, headers, framing and bodies, byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AbstractAsyncContextManager

import pytest

from nexus_redis.server.proxy.headers import framing_of
from nexus_redis.server.proxy.problems import ProxyProblem
from tests.harness.servers import Server
from tests.harness.support import run
from tests.server.proxied import Proxied, Visit, product, proxied, serving


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a%2Fb",
        "/a/../b/./c",
        "//double//slash",
        "/%zz?x=%",
        "/q?a=1&a=%20+&b=?/:@",
        "/s;p=1,2?{x}|y",
        "/%C3%A9?%e9",
    ],
)
def test_target(one_server: Server, target: str) -> None:
    """The path and the query reach the upstream as they were written."""

    async def main() -> None:
        async with proxied(one_server) as site:
            await site.ask(target)
            assert site.upstream.heads[0].line == f"GET {target} HTTP/1.1"

    run(main())


def test_prefix(one_server: Server) -> None:
    """The path of the upstream's address comes before that of the request."""

    async def main() -> None:
        async with proxied(one_server) as site:
            async with serving_with_prefix(site) as other:
                await other.ask("/_bulk?refresh")
            assert site.upstream.heads[-1].line == "GET /logs%2Fnew/_bulk?refresh HTTP/1.1"

    run(main())


def serving_with_prefix(site: Proxied) -> AbstractAsyncContextManager[Proxied]:
    return serving(site.nexus, site.upstream, upstream=f"{site.upstream.url}/logs%2Fnew/")


def test_request_headers(one_server: Server) -> None:
    """Headers pass with their order and duplicates; what belongs to one hop does not."""

    async def main() -> None:
        async with proxied(one_server) as site:
            await site.ask(
                "/", "X-B: 1", "X-A: é", "X-B: 2", "Cookie: a=1; b=2", "Cookie: c=3", "Authorization: Basic x",
                "Connection: x-hop, keep-alive", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers", "Upgrade: h2c",
                "Proxy-Authorization: Basic y", "Via: 1.0 first", "X-Forwarded-For: 192.0.2.1",
                "X-Forwarded-Proto: https",
                'Forwarded: for="[2001:db8::1]"',
            )  # fmt: skip
            assert site.upstream.heads[0].headers == [
                ("Host", f"127.0.0.1:{site.upstream.port}"),
                ("x-b", "1"), ("x-a", "é"), ("x-b", "2"), ("cookie", "a=1; b=2"), ("cookie", "c=3"),
                ("authorization", "Basic x"), ("x-forwarded-proto", "https"),
                ("Via", "1.0 first, 1.1 nexus-redis"), ("X-Forwarded-For", "192.0.2.1, 127.0.0.1"),
                ("Forwarded", 'for="[2001:db8::1]", for=127.0.0.1;proto=http;host="proxy.example"'),
                ("X-Forwarded-Host", "proxy.example"),
            ]  # fmt: skip

    run(main())


def test_keep_host(one_server: Server) -> None:
    """The client's Host is passed on where that is wanted."""

    async def main() -> None:
        async with proxied(one_server, keep_host=True) as site:
            await site.ask()
            assert site.upstream.heads[0].one("host") == "proxy.example"

    run(main())


def test_response_headers(one_server: Server) -> None:
    """A response passes with its duplicates, uncompressed by nobody, without what belongs to one hop."""

    async def main() -> None:
        async with proxied(one_server) as site:
            body = gzip.compress(b"hello")
            site.upstream.answering(
                b"HTTP/1.1 203 Fine\r\nSet-Cookie: a=1\r\nDate: then\r\nset-cookie: b=2\r\nServer: es\r\n"
                b"X-Latin: \xe9\r\n"
                b"Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nContent-Encoding: gzip\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            client = await site.client()
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            raw = await client.reader.readuntil(b"\r\n\r\n")
            assert raw == (
                b"HTTP/1.1 203 Non-Authoritative Information\r\nset-cookie: a=1\r\ndate: then\r\nset-cookie: b=2\r\n"
                b"server: es\r\nx-latin: \xe9\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            assert await client.reader.readexactly(len(body)) == body

    run(main())


@pytest.mark.parametrize(
    ("method", "raw", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ["5"]),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", []),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", []),
        ("GET", b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", ["0"]),
        ("GET", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ["0"]),
    ],
)
def test_without_body(one_server: Server, method: str, raw: bytes, length: list[str]) -> None:
    """Responses without a body pass, redirects too, and the connection can be used again."""

    async def main() -> None:
        async with proxied(one_server) as site:
            site.upstream.answering(raw)
            client = await site.client()
            for _ in range(2):
                await client.send(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                answer = await client.answer(method)
                assert str(answer.status).encode() in raw
                assert answer.head.all("content-length") == length
                assert answer.body == b""
            assert site.upstream.connections == 1

    run(main())


@pytest.mark.parametrize("cost", ["requests", "bytes", "lines"])
def test_bodies(one_server: Server, cost: str) -> None:
    """Bodies pass whole, with a length or chunked, also with GET, and trailers are dropped."""

    async def main() -> None:
        async with proxied(one_server, cost=cost, whole_bytes=100) as site:
            body = b'{"index": {}}\n{"n": 1}\n' * 40
            assert (await site.ask("/_bulk", method="POST", body=body)).status == 200
            assert (await site.ask("/_search", method="GET", body=b"{}")).status == 200
            assert (await site.ask("/_bulk", method="POST", body=b"")).status == 200
            assert (await site.ask("/_bulk", method="POST")).status == 200
            client = await site.client()
            await client.send(b"PUT /_bulk HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            await client.send(b"1\r\n%b\r\n%x\r\n%b\r\n" % (body[:1], len(body) - 1, body[1:]))
            await client.send(b"0\r\nX-Trailer: 1\r\nAuthorization: forged\r\n\r\n")
            assert (await client.answer()).status == 200
            assert site.upstream.bodies == [body, b"{}", b"", b"", body]
            assert [head.all("authorization") + head.all("x-trailer") for head in site.upstream.heads] == [[]] * 5

    run(main())


def test_trailers_at_once(one_server: Server) -> None:
    """Trailers that come together with the header are no headers."""

    async def main() -> None:
        async with proxied(one_server) as site:
            client = await site.client()
            await client.send(
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"1\r\na\r\n0\r\nAuthorization: forged\r\n\r\n"
            )
            assert (await client.answer()).status == 200
            assert site.upstream.heads[0].all("authorization") == []

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Latin: \xe9\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: x\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n",
    ],
)
def test_ambiguous(one_server: Server, raw: bytes) -> None:
    """A request that two servers could read in two ways is refused, and nothing of it reaches the upstream."""

    async def main() -> None:
        async with proxied(one_server) as site:
            client = await site.client()
            await client.send(raw)
            assert (await client.answer()).status in (400, 501)
            assert (site.upstream.heads, site.used) == ([], 0)

    run(main())


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"identity")],
        [(b"content-length", b"+5")],
        [(b"content-length", b"")],
    ],
)
def test_ambiguous_framing(headers: list[tuple[bytes, bytes]]) -> None:
    """What a parser less strict than that of the server lets through is refused here."""
    with pytest.raises(ProxyProblem):
        framing_of("POST", headers)


def test_without_host(one_server: Server) -> None:
    """A request of HTTP/1.0 needs no Host, and one of another host's name is refused before it costs anything."""

    async def main() -> None:
        async with product(one_server) as (ask, upstream):
            assert (await ask(b"GET / HTTP/1.0\r\n\r\n")).body == b"ok"
            assert upstream.heads[0].one("host") == f"127.0.0.1:{upstream.port}"
            assert (await ask(b"GET / HTTP/1.1\r\n\r\n")).status == 400
            refused = await ask(b"GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n")
            assert (refused.status, json.loads(refused.body)["upstream_received"]) == (421, "no")
            assert len(upstream.heads) == 1

    run(main())


def test_own_paths(one_server: Server) -> None:
    """The paths of the proxy itself are not those of the upstream, also where they do not exist."""

    async def main() -> None:
        async with product(one_server) as (ask, upstream):
            own = [b"healthz", b"readyz", b"metrics", b"else"]
            asked = [b"GET /.well-known/nexus-redis/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in own]
            answers = [await ask(raw) for raw in asked]
            assert [answer.status for answer in answers] == [200, 200, 200, 404]
            assert json.loads(answers[-1].body)["upstream_received"] == "no"
            assert upstream.heads == []

    run(main())


def test_workers_have_no_metrics(one_server: Server) -> None:
    """One of several workers does not answer with its own counts, which would seem to fall from scrape to scrape."""

    async def main() -> None:
        async with product(one_server, workers=2) as (ask, upstream):
            answer = await ask(b"GET /.well-known/nexus-redis/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answer.status == 404
            assert upstream.heads == []

    run(main())


def test_smuggled_by_name(one_server: Server) -> None:
    """A length that Connection names is kept, so the body is not taken for the next request."""

    async def main() -> None:
        async with proxied(one_server) as site:
            inner = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
            answer = await site.ask("/", "Connection: content-length, host", method="POST", body=inner)
            assert answer.status == 200
            assert site.upstream.bodies == [inner]
            assert len(site.upstream.heads) == 1

    run(main())


def test_expect_continue(one_server: Server) -> None:
    """The proxy asks for a body when the tokens are there, and the upstream is not asked to."""

    async def main() -> None:
        async with proxied(one_server) as site:
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert (await client.head()).line == "HTTP/1.1 100 Continue"
            await client.send(b"abc")
            assert (await client.answer()).body == b"ok"
            assert site.upstream.bodies == [b"abc"]
            assert site.upstream.heads[0].all("expect") == []

    run(main())


def test_streams_both_ways(one_server: Server) -> None:
    """Each part passes before the next one is there."""

    async def main() -> None:
        async with proxied(one_server) as site:
            arrived: asyncio.Queue[bytes] = asyncio.Queue()

            async def handle(visit: Visit) -> None:
                await arrived.put(await visit.reader.readexactly(3))
                await arrived.put(await visit.reader.readexactly(3))
                await visit.send(b"HTTP/1.1 200 OK\r\n\r\nthree")
                await gate.wait()
                await visit.send(b"four")
                visit.writer.close()

            gate = asyncio.Event()
            site.upstream.handle = handle
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\none")
            assert await arrived.get() == b"one"
            await client.send(b"two")
            assert await arrived.get() == b"two"
            await client.head()
            assert await client.reader.readexactly(len(b"5\r\nthree\r\n")) == b"5\r\nthree\r\n"
            gate.set()
            assert await client.reader.readuntil(b"0\r\n\r\n") == b"4\r\nfour\r\n0\r\n\r\n"

    run(main())


def test_early_answer(one_server: Server) -> None:
    """An upstream that answers before it has the body is heard at once, and its connection is not used again."""

    async def main() -> None:
        async with proxied(one_server) as site:

            async def handle(visit: Visit) -> None:
                await visit.send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
                await visit.is_cut()

            site.upstream.handle = handle
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nbegin")
            assert (await client.answer()).status == 413
            site.upstream.handle = site.upstream.say_ok
            assert (await site.ask()).status == 200
            assert site.upstream.connections == 2

    run(main())

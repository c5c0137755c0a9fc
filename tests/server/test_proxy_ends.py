"""Clients that go away, and a proxy that stops."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from nexus_redis.server.proxy.pacing import Pacer
from tests.harness.servers import Server
from tests.harness.support import run
from tests.server.proxied import OK, Proxied, Visit, proxied, until_reported

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
            assert len(site.nexus.budget("es")._session.ledger.waiters) == 1
            client.leave()
            await site.until(lambda: site.proxy._waiting == 0)
            assert len(site.nexus.budget("es")._session.ledger.waiters) == 0
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


@pytest.mark.parametrize(
    "body", [b"\r\n", b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
)
def test_gone_before_sent(one_server: Server, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """A client that goes away before its request was sent gets all of its tokens back."""

    async def main() -> None:
        async with proxied(one_server, cost="bytes") as site:
            connecting = asyncio.Event()

            async def connect(*_: object, **__: object) -> None:
                connecting.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + body)
            await connecting.wait()
            assert site.used > 0
            client.leave()
            await site.until(lambda: not site.proxy._exchanges)
            assert site.used == 0

    run(main())


@pytest.mark.parametrize(
    ("cost", "sent", "used"), [("requests", b"", 0), ("requests", b"abc", 1), ("bytes", b"abc", 3)]
)
def test_gone_in_body(one_server: Server, cost: str, sent: bytes, used: int) -> None:
    """A client that goes away amid its body has used the tokens of what was sent, and of no more."""

    async def main() -> None:
        async with proxied(one_server, cost=cost) as site:
            left: list[bytes] = []

            async def handle(visit: Visit) -> None:
                await visit.reader.readexactly(len(sent))
                left.append(await visit.is_cut())

            site.upstream.handle = handle
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" + sent)
            await site.until(lambda: site.upstream.heads if sent else site.upstream.connections)
            client.leave()
            await site.until(lambda: not site.proxy._exchanges)
            assert site.used == used
            assert len(site.upstream.heads) == bool(sent)

    run(main())


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
            assert site.used == 1

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
            ending = asyncio.create_task(site.proxy.stop())
            answer = await client.answer()
            assert (answer.status, json.loads(answer.body)["reason"]) == (503, "stopping")
            assert answer.head.all("retry-after")
            gate.set()
            assert (await running).status == 200
            await ending

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

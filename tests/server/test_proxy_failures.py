"""What a client gets where the upstream, or the client itself, does not do its part."""

from __future__ import annotations

import asyncio
import json

import pytest

from nexus_redis.server.proxy import texts
from tests.harness.servers import Server
from tests.harness.support import run
from tests.server.proxied import OK, Answer, Visit, proxied


def problem(answer: Answer) -> dict[str, object]:
    """The problem document of an answer."""
    assert answer.head.one("content-type") == "application/problem+json"
    found: dict[str, object] = json.loads(answer.body)
    assert found["status"] == answer.status
    return found


def test_unreachable(one_server: Server) -> None:
    """Without a connection the client learns that the upstream has received nothing."""

    async def main() -> None:
        async with proxied(one_server, upstream="http://127.0.0.1:1") as site:
            answer = await site.ask()
            assert (answer.status, problem(answer)["upstream_received"]) == (502, "no")

    run(main())


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_sent_once(one_server: Server, method: str) -> None:
    """A request whose connection breaks is not sent again, and the client learns that it may have arrived."""

    async def main() -> None:
        async with proxied(one_server) as site:

            async def handle(visit: Visit) -> None:
                if len(site.upstream.heads) == 1:
                    await visit.send(OK)  # the connection is kept, so the next request meets a used one
                else:
                    visit.writer.transport.abort()

            site.upstream.handle = handle
            assert (await site.ask(method=method)).status == 200
            answer = await site.ask(method=method)
            assert (answer.status, problem(answer)["upstream_received"]) == (502, "maybe")
            assert len(site.upstream.heads) == 2

    run(main())


def test_silent_upstream(one_server: Server) -> None:
    """An upstream that does not answer in time is a 504."""

    async def main() -> None:
        async with proxied(one_server, silence_s=0.05) as site:

            async def handle(visit: Visit) -> None:
                await visit.is_cut()

            site.upstream.handle = handle
            answer = await site.ask()
            assert (answer.status, problem(answer)["upstream_received"]) == (504, "maybe")

    run(main())


def test_silent_client(one_server: Server) -> None:
    """A client that stops in the middle of its body is told, and the upstream does not take that for the end."""

    async def main() -> None:
        async with proxied(one_server, silence_s=0.05) as site:
            left: list[bytes] = []

            async def handle(visit: Visit) -> None:
                left.append(await visit.is_cut())

            site.upstream.handle = handle
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            answer = await client.answer()
            assert (answer.status, problem(answer)["upstream_received"]) == (408, "maybe")
            await site.until(lambda: left)
            assert left == [b"3\r\nabc\r\n"]

    run(main())


@pytest.mark.parametrize("rest", [b"Content-Length: 9\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"])
def test_cut_response(one_server: Server, rest: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A response that breaks off does not look whole to the client."""

    async def main() -> None:
        async with proxied(one_server) as site:

            async def handle(visit: Visit) -> None:
                await visit.send(b"HTTP/1.1 200 OK\r\n" + rest)
                raise ConnectionError

            site.upstream.handle = handle
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await site.ask()

    run(main())
    assert texts.RESPONSE_CUT in [record.msg for record in caplog.records]


def test_malformed_response(one_server: Server) -> None:
    """A response that is not HTTP is a 502."""

    async def main() -> None:
        async with proxied(one_server) as site:
            site.upstream.answering(b"what?\r\n\r\n")
            assert (await site.ask()).status == 502

    run(main())

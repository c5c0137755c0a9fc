"""What a client gets where the upstream, or the client itself, does not do its part."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.outage import QUIET_S, Outage
from tests.harness.servers import Server
from tests.harness.support import HOST, free_port, run
from tests.server.proxied import OK, Answer, Proxied, Upstream, Visit, proxied


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
            assert site.used == 0

    run(main())


def test_closed_before_the_body(one_server: Server) -> None:
    """Where a connection ends before anything was sent on it, the client learns that too, and gets its tokens back."""

    async def main() -> None:
        async with proxied(one_server) as site:
            client = await site.client()
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            await site.until(lambda: site.upstream.connections)
            site.upstream.cut()
            answer = await client.answer()
            assert (answer.status, problem(answer)["upstream_received"]) == (502, "no")
            assert (site.used, site.upstream.heads) == (0, [])

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
            assert site.used == 1
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


def test_cut_responses_are_counted(one_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """However many responses break off, the log has one line about them each minute."""

    async def main() -> None:
        async with proxied(one_server) as site:

            async def handle(visit: Visit) -> None:
                await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
                raise ConnectionError

            site.upstream.handle = handle
            for _ in range(5):
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await site.ask()

    run(main())
    assert [record.msg for record in caplog.records] == [texts.RESPONSE_CUT]


def test_malformed_response(one_server: Server) -> None:
    """A response that is not HTTP is a 502, told in our own words."""

    async def main() -> None:
        async with proxied(one_server) as site:
            site.upstream.answering(b"what?\r\n\r\n")
            answer = await site.ask()
            assert answer.status == 502
            assert f"({texts.NOT_HTTP})" in str(problem(answer)["detail"])

    run(main())


def test_unasked_upgrade(one_server: Server) -> None:
    """An upstream that changes the protocol, which nobody has asked for, has given no valid response."""

    async def main() -> None:
        async with proxied(one_server) as site:
            site.upstream.answering(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
            answer = await site.ask()
            assert (answer.status, problem(answer)["upstream_received"]) == (502, "maybe")
            site.upstream.handle = site.upstream.say_ok
            assert (await site.ask()).status == 200
            assert site.upstream.connections == 2

    run(main())


# --- the log


def secretive(site: Proxied, rest: bytes) -> None:
    """Have the upstream give something else where the path says so."""

    async def handle(visit: Visit) -> None:
        await visit.send(rest if "/garbage" in visit.head.line else OK)
        if b"200 OK" not in rest or "/garbage" in visit.head.line:
            raise ConnectionError

    site.upstream.handle = handle


@pytest.mark.parametrize("garbage", [b"what?\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_no_query_in_the_log(one_server: Server, caplog: pytest.LogCaptureFixture, garbage: bytes) -> None:
    """Nothing of a query reaches the log or a problem document, because it may be a password."""

    async def main() -> None:
        async with proxied(one_server) as site:
            site.proxy.upstream._outage = Outage(itertools.count(0, 100).__next__)  # so that each request is long ago
            secretive(site, garbage)
            for _ in range(5):
                try:
                    answer = await site.ask("/garbage?api_key=s3cr3t")
                    assert b"s3cr3t" not in answer.body
                except (asyncio.IncompleteReadError, ConnectionError):
                    assert garbage.startswith(b"HTTP")

    caplog.set_level(0)
    run(main())
    records = [record for record in caplog.records if record.name == "nexus_redis"]
    assert records
    assert not [record for record in caplog.records if "s3cr3t" in f"{record.getMessage()} {record.__dict__}"]


def test_one_bad_path(one_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A path whose responses are garbage is no outage, so the log has no line for each of its requests."""

    async def main() -> None:
        async with proxied(one_server) as site:
            secretive(site, b"what?\r\n\r\n")
            for _ in range(10):
                assert (await site.ask("/garbage")).status == 502
                assert (await site.ask("/good")).status == 200

    run(main())
    assert [record.msg for record in caplog.records] == []


def test_outage_has_two_lines(one_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The log says once that no connection can be made, and once that the upstream answers again."""

    async def main() -> None:
        port = free_port()
        async with proxied(one_server, upstream=f"http://{HOST}:{port}") as site:
            for _ in range(3):
                assert (await site.ask()).status == 502
            async with Upstream(port):
                for _ in range(3):
                    assert (await site.ask()).status == 200
            assert (await site.ask()).status == 502

    caplog.set_level("INFO", logger="nexus_redis")
    run(main())
    lines = [record.msg for record in caplog.records if record.name == "nexus_redis"]
    assert lines == [texts.UPSTREAM_AWAY, texts.UPSTREAM_BACK]


def test_outage() -> None:
    """An outage begins when no request gets a response for a while, and ends with a response."""
    time = [100.0]
    outage = Outage(lambda: time[0])

    def later(seconds: float, *, is_connected: bool) -> bool:
        time[0] += seconds
        return outage.fail(is_connected=is_connected)

    assert [later(QUIET_S / 2, is_connected=True) for _ in range(4)] == [False, False, True, False]
    assert outage.answer()
    assert not outage.answer()
    assert [later(QUIET_S / 2, is_connected=False) for _ in range(3)] == [False, True, False]
    assert outage.answer()
    assert [later(0, is_connected=True) for _ in range(99)] == [False] * 99  # a burst, long after a response or not
    time[0] += QUIET_S
    assert outage.answer() is False
    assert Outage(lambda: 0.0).fail(is_connected=False)  # the first request of all

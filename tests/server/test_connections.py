"""What one client may cost the server: connections that send slowly, that never read, or that send no HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from uvicorn.supervisors import Multiprocess

from nexus_redis.server import Limits, texts
from nexus_redis.server import connection as connection_module
from nexus_redis.server.one_write import OneWrite
from nexus_redis.server.run import Workers
from nexus_redis.server.write_limit import WriteLimit
from tests.harness.logged import logged
from tests.harness.servers import Server
from tests.harness.support import HOST, PATIENCE, eventually, run
from tests.server.served import Served

POST = b"POST /v1/try HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def connected(served: Served, data: bytes) -> Iterator[socket.socket]:
    """A connection on which `data` was sent."""
    with socket.create_connection((HOST, served.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        yield connection


def until_end(connection: socket.socket, drip: bytes = b"") -> bytes:
    """All that comes until the server closes a connection, on which a client sends a little again and again."""
    connection.settimeout(0.02 if drip else PATIENCE)
    parts: list[bytes] = []

    def has_ended() -> bool:
        try:
            if drip:
                connection.send(drip)
            part = connection.recv(65_536)
        except TimeoutError:
            return False
        except OSError:  # the server has closed it, and a drop came afterwards
            return True
        parts.append(part)
        return not part

    assert eventually(has_ended)
    return b"".join(parts)


def problem_in(answer: bytes) -> dict[str, Any]:
    """The problem document of an answer as it came over the wire."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    found: dict[str, Any] = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {found['status']} ".encode())
    return found


@pytest.mark.parametrize(
    ("request_", "drip", "status"),
    [
        (POST + b"Content-Length: 60000\r\n\r\n", b" ", 408),
        (CHUNKED, b"1\r\n \r\n", 408),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: a\r\n", 408),
        (POST + b"Content-Length: 6000000\r\n\r\n", b" ", 413),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n", b" ", 200),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea", b"l", 200),
    ],
    ids=["body", "chunks", "trailers", "too large", "unread", "second header"],
)
def test_a_drip_is_cut_off(one_server: Server, request_: bytes, drip: bytes, status: int) -> None:
    """A client that sends a byte now and then gets its answer, and loses the connection even so."""
    with Served(one_server.url, limits=Limits(receive_s=0.3)) as served, connected(served, request_) as connection:
        assert until_end(connection, drip).startswith(b"HTTP/1.1 %d " % status)


def test_a_late_body_does_no_harm(one_server: Server) -> None:
    """A client that ends the body of an answered request in time goes on with the same connection."""
    body = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nab"
    with Served(one_server.url) as served, connected(served, body) as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"c" + body + b"c")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_who_never_reads_is_cut_off(one_server: Server) -> None:
    """Clients that ask for much and read none of it lose the connection, and others are served meanwhile."""
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300
    with Served(one_server.url, limits=Limits(write_s=0.2)) as served:
        open_now = served.server.server_state.connections
        with connected(served, ask), connected(served, ask):
            assert eventually(lambda: len(open_now) == 2)
            assert eventually(lambda: not open_now)
            assert served.get("/healthz").status_code == 200


def test_a_slow_reader_gets_it_all(one_server: Server) -> None:
    """A client that reads slowly, but reads, keeps its connection for many times the limit."""
    count = 60
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Served(one_server.url, limits=Limits(write_s=0.3)) as served:
        size = len(served.get("/openapi.json").content)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((HOST, served.port))
            connection.sendall(ask * count)
            connection.settimeout(PATIENCE)
            got, nothing = 0, socket.create_server((HOST, 0))
            with nothing:
                while got < size * count:
                    got += len(connection.recv(32_768))
                    nothing.settimeout(0.005)
                    with pytest.raises(TimeoutError):  # a rest
                        nothing.accept()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"what is this\r\n\r\n", 400),
        (CHUNKED + b"what\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000, 431),
        (b"GET /healthz HTTP/1.1\r\nHost: localh", 408),
    ],
)
def test_what_is_no_request(one_server: Server, sent: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """What is refused before it is a request gets a problem document, and the log has no line of it."""
    with Served(one_server.url, limits=Limits(receive_s=0.5)) as served, connected(served, sent) as connection:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert problem_in(until_end(connection))["status"] == status
        assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "nexus"))]


def test_an_upgrade_is_declined(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A client that would rather speak another protocol is answered in this one, and the log has no line of it."""
    caplog.clear()
    for other in ("h2c", "websocket"):
        answer = served.get("/healthz", headers={"connection": "upgrade", "upgrade": other})
        assert answer.status_code == 200
    assert served.get("/healthz").status_code == 200
    assert not [record for record in caplog.records if record.name.startswith(("uvicorn", "nexus"))]


def test_a_stop_answers_an_unread_body(one_server: Server) -> None:
    """A request whose body is still arriving when the server stops is answered at once."""
    with Served(one_server.url) as served, connected(served, POST + b'Content-Length: 50\r\n\r\n{"bud') as connection:
        assert eventually(lambda: served.service.waiting._reads)
        served.stop()
        assert problem_in(until_end(connection))["type"] == "/docs#stopping"


def test_as_many_as_there_are_files(
    one_server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There are fewer connections than open files, those beyond get 503, and the log has that once, with its end."""
    caplog.set_level(logging.INFO, "nexus_redis")
    monkeypatch.setattr(connection_module, "open_files", lambda: connection_module.SPARE_FILES + 4)
    with Served(one_server.url) as served:
        open_now = served.server.server_state.connections
        held = [socket.create_connection((HOST, served.port)) for _ in range(4)]
        assert eventually(lambda: len(open_now) == 4)
        for _ in range(5):
            with connected(served, b"") as connection:
                assert problem_in(until_end(connection))["type"] == "/docs#too-many-connections"
        for connection in held:
            connection.close()
        assert eventually(lambda: logged(caplog, texts.CONNECTIONS_FREE, "INFO"))
        assert len(logged(caplog, texts.CONNECTIONS_FULL)) == 1
        assert served.get("/healthz").status_code == 200


def test_workers_stop_behind_a_closed_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the workers stop, nobody can connect any more: a connection that nobody accepts would be reset."""
    found = socket.create_server((HOST, 0))
    told: list[int] = []
    monkeypatch.setattr(Multiprocess, "terminate_all", lambda _: told.append(found.fileno()))
    workers = Workers.__new__(Workers)  # without the signals of a parent process
    workers.sockets = [found]
    workers.terminate_all()
    assert told == [-1]


def test_a_head_is_answered(served: Served) -> None:
    """The header of an answer without a body is sent, though a header is else sent together with a body."""
    for method in ("HEAD", "GET", "HEAD"):
        assert served.client.request(method, "/healthz").status_code == 200


class Writes:
    """A transport that takes all at once, and has what was written."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> None:
        """Take a part."""
        self.parts.append(part)

    def get_write_buffer_size(self) -> int:
        """Return what is left to be sent."""
        return 0

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return False


@pytest.mark.parametrize("requests", [1, 2])
def test_a_whole_answer_is_one_write(requests: int) -> None:
    """The header and the body of a whole answer go together, and parts of a stream go each on its own, in order."""

    async def main() -> list[bytes]:
        writes: Any = Writes()
        loop = asyncio.get_running_loop()
        out = OneWrite(writes, range(requests), loop.call_soon, WriteLimit(writes, loop, 1.0))
        out.begin_whole()
        out.write(b"header ")
        assert writes.parts == []
        out.write(b"body")
        await asyncio.sleep(0)
        out.write(b"part 1")
        out.write(b"part 2")
        return list(writes.parts)

    assert run(main()) == [b"header body", b"part 1", b"part 2"]

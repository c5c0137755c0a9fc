"""A resolver that does not answer delays no outage, blocks no exit and costs one thread."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio

from nexus_redis import Nexus
from nexus_redis._protocol.plans import Fault
from nexus_redis._redis import connect
from nexus_redis._redis import resolver as resolving
from nexus_redis._redis.faults import classify
from nexus_redis._redis.resolver import lookup
from nexus_redis._values.results import Denied
from nexus_redis.asyncio import Nexus as AsyncNexus
from tests.harness.servers import Server
from tests.harness.support import PATIENCE, eventually, in_thread, run

URL = "redis://redis.example:6379?socket_connect_timeout=0.05"


class Resolver:
    """In the place of `socket.getaddrinfo`: it says nothing about redis.example until it is told to answer."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked: list[str] = []
        self.address: Any = OSError("it was never told what to say")

    def getaddrinfo(self, host: Any, port: Any, *args: Any, **given: Any) -> Any:
        if host != "redis.example":
            return ASK(host, port, *args, **given)
        self.asked.append(host)
        self.answers.wait(PATIENCE)
        if isinstance(self.address, Exception):
            raise self.address
        return ASK(self.address, port, *args, **given)

    def answer(self, address: str | Exception) -> None:
        """From now on, and to who waits."""
        self.address = address
        self.answers.set()


ASK = socket.getaddrinfo


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """One that hangs."""
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.answer(OSError("the test is over"))
    assert eventually(lambda: not resolving._under_way)


def test_a_hanging_resolver_is_an_outage(resolver: Resolver, one_server: Server) -> None:
    """An outage is noticed while the resolver hangs, and is over when it answers."""
    url = f"redis://redis.example:{one_server.port}?socket_connect_timeout=0.05"
    with Nexus.from_url(url) as nexus:
        budget = nexus.budget("stripe", rate=1000)
        denied = in_thread(budget.try_acquire)
        assert eventually(lambda: nexus._scheduler.failures > 5)
        assert isinstance(denied, Denied)
        assert denied.reason == "unavailable"
        assert len(resolver.asked) == 1
        assert "redis.example" in nexus._scheduler.cause
        resolver.answer("127.0.0.1")
        assert in_thread(lambda: budget.acquire(timeout=PATIENCE))


def test_a_loop_survives_a_hanging_resolver(resolver: Resolver, one_server: Server) -> None:
    """An event loop notices a resolver that hangs too, and goes on when the resolver answers."""

    async def main() -> None:
        url = f"redis://redis.example:{one_server.port}?socket_connect_timeout=0.05"
        async with AsyncNexus.from_url(url) as nexus:
            budget = nexus.budget("stripe", rate=1000)
            assert not await budget.try_acquire()
            assert await asyncio.to_thread(eventually, lambda: nexus._scheduler.failures > 5)
            assert len(resolver.asked) == 1
            resolver.answer("127.0.0.1")
            await budget.acquire(timeout=PATIENCE)
            assert (await budget.consumer().report(load=1, capacity=100)) == 100

    run(main())


HANGS = """
import asyncio, socket, sys, threading
import nexus_redis, nexus_redis.asyncio
socket.getaddrinfo = lambda *args, **given: threading.Event().wait()
nexus = nexus_redis.Nexus.from_url(sys.argv[1])
print(nexus.budget("stripe", rate=1).try_acquire().reason)
async def main():
    async with nexus_redis.asyncio.Nexus.from_url(sys.argv[1]) as nexus:
        print((await nexus.budget("stripe", rate=1).try_acquire()).reason)
asyncio.run(main())
"""


def test_a_process_ends_while_the_resolver_hangs() -> None:
    """A process ends while the resolver hangs."""
    done = subprocess.run(
        [sys.executable, "-c", HANGS, URL], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (0, "unavailable\nunavailable\n")


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), UnicodeError("no")])
def test_a_failed_lookup_executes_nothing(resolver: Resolver, error: Exception) -> None:
    """What the resolver says is reported, and nothing was executed."""
    resolver.answer(error)
    with connect.connect(URL) as client, pytest.raises(redis.ConnectionError) as raised:
        client.ping()
    assert classify(raised.value) is Fault.NOT_EXECUTED
    assert str(error.args[-1]) in str(raised.value)


def test_each_address_of_a_name_is_tried_in_turn(monkeypatch: pytest.MonkeyPatch, one_server: Server) -> None:
    """Each address of a name is tried in turn."""

    def getaddrinfo(host: Any, port: Any, *args: Any, **given: Any) -> Any:
        if host != "redis.example":
            return ASK(host, port, *args, **given)
        return [*ASK("127.0.0.9", port, *args, **given), *ASK("127.0.0.1", port, *args, **given)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    url = f"redis://redis.example:{one_server.port}"

    async def ping() -> Any:
        async with connect.connect_async(url) as client:
            return await client.ping()

    with connect.connect(url) as client:
        assert client.ping()
    assert run(ping())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_looked_up_nowhere(host: str) -> None:
    """An IP address is not looked up."""
    assert lookup(host, 6379) is None


def test_a_host_keeps_its_name_for_tls(resolver: Resolver, monkeypatch: pytest.MonkeyPatch, one_server: Server) -> None:
    """A host keeps its name for the certificate."""
    resolver.answer("127.0.0.1")
    named: list[Any] = []

    def wrap(self: Any, sock: socket.socket) -> Any:
        named.append((self.host, sock.getpeername()[0]))
        sock.close()
        raise ssl.SSLError("enough")

    monkeypatch.setattr(redis.SSLConnection, "_wrap_socket_with_ssl", wrap)
    url = f"rediss://redis.example:{one_server.port}"
    with connect.connect(url) as client, pytest.raises(redis.ConnectionError, match="enough"):
        client.ping()
    assert named == [("redis.example", "127.0.0.1")]


def test_a_loop_keeps_the_name_for_tls(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop gives the name for the certificate."""
    resolver.answer("127.0.0.1")
    opened: list[dict[str, Any]] = []

    async def open_connection(**given: Any) -> Any:
        opened.append(given)
        raise OSError("enough")

    monkeypatch.setattr(asyncio, "open_connection", open_connection)

    async def ping(url: str) -> None:
        async with connect.connect_async(url) as client:
            with pytest.raises(redis.ConnectionError, match=r"redis\.example"):
                await client.ping()

    run(ping("rediss://redis.example"))
    run(ping("redis://redis.example"))
    assert [(each["host"], each.get("server_hostname"), "ssl" in each) for each in opened] == [
        ("127.0.0.1", "redis.example", True), ("127.0.0.1", None, False),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_resolves_again(resolver: Resolver) -> None:
    """A forked child looks up the name for which its parent waits."""
    found = lookup("redis.example", 6379)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lookup("redis.example", 6379) is not found else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def made_by_us(client: Any) -> Any:
    """The class of its connections."""
    return client.connection_pool.connection_class


def test_own_clients_resolve_in_time() -> None:
    """All clients that we make look names up in time, and a given client is left as it is."""
    given, agiven = redis.Redis(), redis.asyncio.Redis()
    makers: list[Callable[[], Any]] = [
        lambda: connect.connect("redis://x"), lambda: connect.twin(given), lambda: connect.sync_twin(agiven),
    ]  # fmt: skip
    assert {made_by_us(make()) for make in makers} == {resolving.NamedConnection}
    assert made_by_us(connect.connect("rediss://x")) is resolving.NamedSSLConnection
    assert {made_by_us(connect.connect_async("redis://x")), made_by_us(connect.twin_async(agiven))} == {
        resolving.AsyncNamedConnection
    }
    assert made_by_us(connect.connect_async("rediss://x")) is resolving.AsyncNamedSSLConnection
    assert (made_by_us(given), made_by_us(agiven)) == (redis.Connection, redis.asyncio.Connection)
    assert made_by_us(connect.connect("unix:///x")) is redis.UnixDomainSocketConnection

"""Connections that look up the name of their host within the time limit for a connect.

`socket.getaddrinfo` takes no timeout, and a resolver that gets no answer tries again for many seconds (15 with glibc's
defaults and one name server). So another thread looks the name up. The connection waits for this thread as long as a
connect may take, and then fails as if the server had not answered.

    connect --> lookup(host, port) --> daemon thread: socket.getaddrinfo
       |             ^ waited for, at most socket_connect_timeout seconds
       v
    redis-py connects to the addresses, in their order

While a lookup hangs, the next connection to the same host waits only for the rest of that time. So an outage is noticed
at once, and no more threads are started. The thread is a daemon: it does not keep the process alive, as an executor's
thread would do. A host that is an IP address is not looked up.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import redis
import redis.asyncio

from nexus_redis._runtime.locks import ModuleLock
from nexus_redis._values import error_texts

C = TypeVar("C")
Place = tuple[str, int, int]  # host, port, address family or 0

DEADLINE: Final = 1.0  # seconds, if the connection has no limit of its own

_lock: Final = ModuleLock()
_under_way: dict[Place, Lookup] = {}


class Lookup:
    """One question to the resolver, shared by all connections to the same host."""

    def __init__(self, place: Place) -> None:
        self.place, self.since = place, time.monotonic()
        self.addresses: list[str] = []
        self.error: OSError | None = None
        self.is_over = threading.Event()
        self._then: list[Callable[[], None]] = []

    def start(self) -> None:
        """Look the name up in a thread, or in this one if the system gives no thread."""
        try:
            threading.Thread(target=self._run, name="nexus-redis-resolver", daemon=True).start()
        except RuntimeError:
            self._run()

    def _run(self) -> None:
        host, port, family = self.place
        try:
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        except (OSError, UnicodeError) as error:  # a label of a name may be too long to encode
            self.error = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error))
        with _lock:
            _under_way.pop(self.place, None)
            self.is_over.set()
            for each in self._then:
                each()

    def when_over(self, call: Callable[[], None]) -> None:
        """Let the thread call `call` when the lookup is over; call it at once if it is over already."""
        with _lock:
            if not self.is_over.is_set():
                self._then.append(call)
                return
        call()

    def left(self, seconds: float) -> float:
        """Return the rest of a limit of `seconds`, which began with the lookup."""
        return max(0.0, self.since + seconds - time.monotonic())

    def result(self, seconds: float) -> list[str]:
        """Return the addresses; raise the error of the resolver, or one that says that it did not answer."""
        if not self.is_over.is_set():
            raise socket.gaierror(socket.EAI_AGAIN, error_texts.name_not_resolved(self.place[0], seconds))
        if self.error is not None:
            raise type(self.error)(*self.error.args)
        return self.addresses


def lookup(host: str, port: int, family: int = 0) -> Lookup | None:
    """Begin to look up the addresses of a host, or join a lookup that runs; None if `host` is an address itself."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return None
    place = host, port, family
    with _lock:
        found = _under_way.get(place)
        if found is not None:
            return found
        found = _under_way[place] = Lookup(place)
    found.start()
    return found


class NamedConnection(redis.Connection):
    """redis-py's connection over TCP, with a time limit for the lookup."""

    def _connect(self) -> Any:
        host, seconds = self.host, self.socket_connect_timeout or DEADLINE
        found = lookup(host, self.port, self.socket_type)
        if found is None:
            return super()._connect()  # type: ignore[no-untyped-call]  # redis-py
        found.is_over.wait(found.left(seconds))
        failure: OSError | None = None
        try:
            for self.host in found.result(seconds):
                try:
                    return super()._connect()  # type: ignore[no-untyped-call]  # redis-py
                except OSError as error:
                    failure = error
        finally:
            self.host = host
        raise failure or OSError(error_texts.name_without_address(host))


class NamedSSLConnection(redis.SSLConnection, NamedConnection):
    """A `NamedConnection` with TLS: the base class asks `NamedConnection` for its socket, and checks the name."""


class AsyncNamedConnection(redis.asyncio.Connection):
    """A `NamedConnection` for asyncio."""

    _address: str | None = None

    async def _connect(self) -> None:
        seconds = self.socket_connect_timeout or DEADLINE
        found = lookup(self.host, self.port, self.socket_type)
        if found is None:
            await super()._connect()  # type: ignore[no-untyped-call]  # redis-py
            return
        await _wait_for(found, found.left(seconds))
        failure: OSError | None = None
        try:
            for self._address in found.result(seconds):
                try:
                    await super()._connect()  # type: ignore[no-untyped-call]  # redis-py
                    return
                except OSError as error:
                    failure = error
        finally:
            self._address = None
        raise failure or OSError(error_texts.name_without_address(self.host))

    def _connection_arguments(self) -> Mapping[str, Any]:
        given = dict(super()._connection_arguments())
        if self._address is not None:
            given["host"] = self._address
        return given


class AsyncNamedSSLConnection(redis.asyncio.SSLConnection, AsyncNamedConnection):
    """An `AsyncNamedConnection` with TLS."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        given = dict(super()._connection_arguments())
        if self._address is not None:
            given.setdefault("server_hostname", self.host)  # the certificate is for the name of the host
        return given


async def _wait_for(found: Lookup, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not over.done():
            over.set_result(None)

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed, so no task waits
            loop.call_soon_threadsafe(settle)

    found.when_over(tell)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await over


_NAMED: Final[dict[Any, Any]] = {
    redis.Connection: NamedConnection,
    redis.SSLConnection: NamedSSLConnection,
    redis.asyncio.Connection: AsyncNamedConnection,
    redis.asyncio.SSLConnection: AsyncNamedSSLConnection,
}


def with_deadline(client: C) -> C:
    """Let the connections of a client of ours look up names within their time limit, and return the client."""
    pool: Any = getattr(client, "connection_pool", None)
    if pool is not None:
        pool.connection_class = _NAMED.get(pool.connection_class, pool.connection_class)
    return client


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_under_way.clear)  # the threads of these lookups exist only in the parent

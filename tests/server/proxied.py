"""A proxy under uvicorn, an upstream that does what a test says, and a client that sees every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, Self

import uvicorn

from nexus_redis._values.parse import MICRO
from nexus_redis.asyncio import Nexus
from nexus_redis.server.connection import Connection
from nexus_redis.server.options import ServerOptions
from nexus_redis.server.proxy import Proxy, ProxyApplication, ProxyOptions
from tests.harness.servers import Server
from tests.harness.support import HOST, PATIENCE, free_port

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Head(NamedTuple):
    """The beginning of a message as it came: its first line, and its headers in their order."""

    line: str
    headers: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """The values of all headers of a name."""
        return [value for key, value in self.headers if key.lower() == name]

    def one(self, name: str) -> str:
        """The value of the only header of a name."""
        [value] = self.all(name)
        return value


def head_of(raw: bytes) -> Head:
    """The head of a message in bytes."""
    first, *lines = raw.decode().rstrip("\r\n").split("\r\n")
    pairs = [line.partition(":") for line in lines]
    return Head(first, [(name, value.strip()) for name, _, value in pairs])


class Visit:
    """One request as the upstream gets it."""

    def __init__(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head, self.reader, self.writer = head, reader, writer

    async def body(self) -> bytes:
        """Read the body to its end."""
        if self.head.all("transfer-encoding"):
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return body
        return await self.reader.readexactly(int((self.head.all("content-length") or ["0"])[0]))

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def is_cut(self) -> bytes:
        """Wait until the proxy has closed the connection; returns what came before."""
        with suppress(ConnectionError):
            return await self.reader.read()
        return b""


Handler = Callable[[Visit], Awaitable[None]]


class Upstream:
    """A server that notes each request, and has `handle` answer it. Without one, it says ok."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.heads: list[Head] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.handle: Handler = self.say_ok
        self._tasks: set[asyncio.Task[Any]] = set()

    async def say_ok(self, visit: Visit) -> None:
        self.bodies.append(await visit.body())
        await visit.send(OK)

    def answering(self, raw: bytes) -> None:
        """Answer each request so."""

        async def handle(visit: Visit) -> None:
            self.bodies.append(await visit.body())
            await visit.send(raw)

        self.handle = handle

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Close all connections."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            while raw := await _head(reader):
                self.heads.append(head_of(raw))
                await self.handle(Visit(self.heads[-1], reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            """The proxy has cut it, or the test is over."""
        finally:
            writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


class Answer(NamedTuple):
    """A response as the client gets it."""

    status: int
    head: Head
    body: bytes


class Client:
    """One connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        """Read the head of a response."""
        return head_of(await self.reader.readuntil(b"\r\n\r\n"))

    async def answer(self, method: str = "GET") -> Answer:
        """Read a response."""
        head = await self.head()
        status = int(head.line.split()[1])
        if method == "HEAD" or status in (204, 304):
            return Answer(status, head, b"")
        return Answer(status, head, await Visit(head, self.reader, self.writer).body())

    def leave(self) -> None:
        """Close the connection, whatever is in progress on it."""
        self.writer.transport.abort()


class Proxied:
    """A proxy before an upstream."""

    def __init__(self, proxy: Proxy, upstream: Upstream, nexus: Nexus, port: int) -> None:
        self.proxy, self.upstream, self.nexus, self.port = proxy, upstream, nexus, port
        self._clients: list[Client] = []

    async def client(self) -> Client:
        """Connect."""
        self._clients.append(Client(*await asyncio.open_connection(HOST, self.port)))
        return self._clients[-1]

    async def ask(self, target: str = "/", *headers: str, method: str = "GET", body: bytes | None = None) -> Answer:
        """Send one request on a connection of its own, and read the response."""
        client = await self.client()
        lines = [f"{method} {target} HTTP/1.1", "Host: proxy.example", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await client.send("\r\n".join((*lines, "", "")).encode() + (body or b""))
        return await client.answer(method)

    @property
    def used(self) -> float:
        """The tokens that requests have used, of the budget of `options`."""
        return self.nexus.budget("es")._session.ledger.used / MICRO

    async def until(self, is_so: Callable[[], object]) -> None:
        """Give others turns until it holds."""
        while not is_so():  # noqa: ASYNC110  # other tasks have no event for it
            await asyncio.sleep(0)

    def leave(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.writer.close()


def options(before: Upstream, **given: Any) -> ProxyOptions:
    """What a test does not name: a limit that no test meets, and a minute for whatever is not its subject."""
    known = {"budget": "es", "rate": 1_000_000, "wait_s": PATIENCE, "connect_s": PATIENCE, "silence_s": PATIENCE}
    return ProxyOptions(**{"upstream": before.url, **known, **given})


@asynccontextmanager
async def proxied(redis: Server, **given: Any) -> AsyncIterator[Proxied]:
    """Run a proxy with these options, within a minute."""
    async with (
        asyncio.timeout(PATIENCE), Upstream() as upstream, Nexus.from_url(redis.url) as nexus,
        serving(nexus, upstream, **given) as found,
    ):  # fmt: skip
        yield found


@asynccontextmanager
async def serving(nexus: Nexus, before: Upstream, **given: Any) -> AsyncIterator[Proxied]:
    """Run one more proxy before an upstream."""
    proxy = Proxy(nexus, options(before, **given))
    async with running(proxy) as port:
        found = Proxied(proxy, before, nexus, port)
        try:
            yield found
        finally:
            found.leave()


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[int]:
    """Run an application as the product does; yields its port."""
    port = free_port()
    config = uvicorn.Config(
        app, host=HOST, port=port, http=Connection, ws="none", lifespan="on", log_level="critical",
        server_header=False, date_header=False, proxy_headers=False, timeout_graceful_shutdown=int(PATIENCE),
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving_task = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0)
        yield port
    finally:
        server.should_exit = True
        await serving_task


Ask = Callable[[bytes], Awaitable[Answer]]


@asynccontextmanager
async def product(redis: Server, *, workers: int = 1, **given: Any) -> AsyncIterator[tuple[Ask, Upstream]]:
    """Run the proxy as one of its workers does, with the checks before it; yields how to ask it."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(PATIENCE))
        upstream = await stack.enter_async_context(Upstream())
        app = ProxyApplication(ServerOptions(url=redis.url, workers=workers), options(upstream, **given))
        port = await stack.enter_async_context(running(app))

        async def ask(raw: bytes) -> Answer:
            client = Client(*await asyncio.open_connection(HOST, port))
            await client.send(raw)
            answer = await client.answer()
            client.writer.close()
            return answer

        yield ask, upstream


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

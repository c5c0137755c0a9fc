"""A TCP proxy that misbehaves on demand: between a client and a real server, in a thread of its own.

with Proxy(server.port) as proxy:
    proxy.swallow(2)              # the second reply from now is lost with its connection; the command was executed
    proxy.loss = 0.1              # so is each tenth, on average
    proxy.latency = 0.05          # seconds, each way
    proxy.is_black_hole = True    # takes bytes, gives none: a cut cable
    proxy.is_deaf = True          # requests are executed, and no reply comes
    proxy.reset()                 # RST on all connections
    proxy.refuse() / proxy.accept()
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from nexus_redis._redis.embedded import HOST
from tests.harness.support import PATIENCE, join

CHUNK = 1 << 16


class Proxy:
    """Listens on `port`. Flags may be set from any thread and count for bytes that come later."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.latency = self.loss = 0.0
        self._random = random.Random(1)
        self.is_black_hole = self.is_deaf = False
        self.replies = self.swallowed = self.connections = 0
        self._swallow_at: set[int] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
        self._thread.start()
        self.accept()

    @property
    def url(self) -> str:
        """As redis-py takes it. A call fails when its connection does: no limit of time is needed to see that."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def hasty_url(self) -> str:
        """The same, for calls into a black hole that end soon, and for others that may end so on a busy machine."""
        return f"{self.url}?socket_timeout=0.1&socket_connect_timeout=0.2"

    @property
    def endless_url(self) -> str:
        """The same, for calls that do not end as long as the test lasts."""
        return f"{self.url}?socket_timeout=3600&socket_connect_timeout=3600"

    def swallow(self, *nth: int) -> None:
        """The n-th replies from now (1 is the next) do not arrive: the connection ends instead."""
        self._swallow_at |= {self.replies + n for n in nth}

    def reset(self) -> None:
        """Cut every connection as a crashed peer does."""
        self._run(self._reset)

    def refuse(self) -> None:
        """Nobody listens any more."""

        async def close() -> None:
            if self._listener is not None:
                # asyncio trips over what it has just accepted from a server that is closed, and leaves the socket open.
                for listening in self._listener.sockets:
                    self._loop.remove_reader(listening.fileno())
                for _ in range(4):  # accepted, made, served: a turn of the loop each
                    await asyncio.sleep(0)
                self._listener.close()
                self._listener = None
            await self._reset()

        self._run(close)

    def accept(self) -> None:
        """Listen, on the same port as before. No-op where it does."""

        async def listen() -> None:
            if self._listener is None:
                self._listener = await asyncio.start_server(self._serve, HOST, self.port)
                self.port = self._listener.sockets[0].getsockname()[1]

        self._run(listen)

    def close(self) -> None:
        """End."""
        self.refuse()

        async def cancel() -> None:
            # Also what is just being accepted, and has no name here yet: its socket would be left to the collector.
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)
            await self._reset()
            await asyncio.sleep(0)  # what was aborted is closed one turn of the loop later

        self._run(cancel)
        self._loop.call_soon_threadsafe(self._loop.stop)
        join(self._thread)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, act: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(act(), self._loop).result(PATIENCE)

    async def _reset(self) -> None:
        for writer in list(self._writers):
            self._abort(writer)

    def _abort(self, writer: asyncio.StreamWriter) -> None:
        sock: socket.socket | None = writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            target_reader, target = await asyncio.open_connection(HOST, self.target)
        except OSError:
            self._writers.discard(writer)
            self._abort(writer)
            return
        self._writers.add(target)
        for pump in (self._pump(reader, target, is_reply=False), self._pump(target_reader, writer, is_reply=True)):
            task = self._loop.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_reply: bool) -> None:
        try:
            while chunk := await source.read(CHUNK):
                if self.latency:
                    await asyncio.sleep(self.latency)
                if is_reply:
                    self.replies += 1
                    if self.replies in self._swallow_at or self._random.random() < self.loss:
                        self.swallowed += 1
                        break
                if not self.is_black_hole and not (is_reply and self.is_deaf):
                    sink.write(chunk)
                    await sink.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(sink)
            self._abort(sink)

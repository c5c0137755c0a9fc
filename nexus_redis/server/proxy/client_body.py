"""The client's side of a request: its body, part by part, and the news that the client has gone.

    receive() --> listener --> [ parts: about 64 KiB at most ] --> next_part()
                     '--> gone: the task of the request is cancelled

A full buffer stops the listener, the server then stops reading from the socket, and TCP stops the client. A body that
is cut short never looks like one that has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Final

from nexus_redis.server.call import DISCONNECT, Receive
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.problems import ProxyProblem

AHEAD: Final = 65_536  # bytes that are read before anybody asks for them
EXPECT_PATIENCE: Final = 1.0  # seconds; a client that expects "100 Continue" begins to send about then anyway


class ClientBody:
    """The body of one request. `on_gone` is called once, when the client has closed the connection."""

    def __init__(self, receive: Receive, silence: float, task: asyncio.Task[None]) -> None:
        self._receive, self._silence, self._task = receive, silence, task
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._listener: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = self._is_closed = False
        self.is_gone = False

    @property
    def is_at_end(self) -> bool:
        """Return whether all parts have been taken and the body is whole."""
        return self._has_ended and not self._parts

    def listen(self, *, is_expected: bool) -> None:
        """Begin to read ahead. The server sends "100 Continue" then, so a client that expects it waits a little."""
        loop = asyncio.get_running_loop()
        if is_expected:
            self._timer = loop.call_later(EXPECT_PATIENCE, self._begin)
        else:
            self._begin()

    def close(self) -> None:
        """Stop listening: what the client does from now on is of no interest."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _begin(self) -> None:
        if self._listener is None and not self._is_closed:
            self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == DISCONNECT:
                if not self._is_closed:
                    self.is_gone = True
                    self._task.cancel()
                return
            if part := message.get("body", b""):
                self._parts.append(part)
                self._size += len(part)
            self._has_ended = not message.get("more_body", False)
            self._news.set()
            if self._size >= AHEAD:
                self._room.clear()
                await self._room.wait()

    async def next_part(self) -> bytes | None:
        """Return the next part; None at the end of the body. Raise a problem where the client is silent too long."""
        self._begin()
        while not self._parts:
            if self._has_ended:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout(self._silence):
                    await self._news.wait()
            except TimeoutError:
                detail = texts.client_silent(self._silence)
                raise ProxyProblem(HTTPStatus.REQUEST_TIMEOUT, detail, headers=[(b"connection", b"close")]) from None
        part = self._parts.popleft()
        self._size -= len(part)
        if self._size < AHEAD:
            self._room.set()
        return part

"""One connection: what it may cost before a request is complete, and how the application learns that the server stops.

uvicorn bounds neither the bytes of a header nor the time in which it arrives (httptools does not either), so a client
that sends a byte a second would hold a connection for ever. And uvicorn waits for all requests before it ends the
application, while these requests wait for tokens. So a connection that is asked to shut down tells the application.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from nexus_redis.server.one_write import WHOLE, OneWrite
from nexus_redis.server.options import Limits

STOP: Final = "nexus_redis.stopping"  # the key in the state of the application
HEADER_END: Final = b"\r\n\r\n"


class Stopping:
    """What an application wants to be called with when the server begins to stop. Only the first call counts."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._is_stopping = stop, False

    def begin(self) -> None:
        """Tell the application."""
        if not self._is_stopping:
            self._is_stopping = True
            self._stop()


class Connection(HttpToolsProtocol):
    """A connection of uvicorn with the limits of the application that it serves (`config.app.limits`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app: Any = self.config.app
        self._limits: Limits = app.limits
        self._answer, self.app = self.app, self._answer_whole
        self._out: OneWrite
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes, self._is_in_header = 0, True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        """Begin, unless too many connections are open."""
        self._out = OneWrite(transport, self.tasks, self.loop.call_soon)
        super().connection_made(self._out)  # type: ignore[arg-type]  # it has what uvicorn uses
        if len(self.connections) > self._limits.connections:
            self._refuse(503)
        else:
            self._begin_timer()

    def data_received(self, data: bytes) -> None:
        """Parse a part of a request. Refuse one whose header is too long."""
        if self._is_in_header:
            self._header_bytes += len(data)
            if self._header_bytes > self._limits.header_bytes and not self._is_complete(data):
                self._refuse(431)
                return
        super().data_received(data)
        if self._is_in_header and self._header_bytes and self._timer is None:
            self._begin_timer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. A trailer is dropped, which the base would add to the headers that were checked already."""
        if self._is_in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._is_in_header = False
        self._end_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the header of the next request."""
        self._is_in_header, self._header_bytes = True, 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Tell the application that the server stops, and end after the request that is in progress."""
        stopping: Any = self.app_state.get(STOP)
        if stopping is not None:
            stopping.begin()
        super().shutdown()

    async def _answer_whole(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, with one write for an answer that is whole."""

        async def send_whole(message: Any) -> None:
            if WHOLE in message and scope["method"] != "HEAD":  # nothing is written after the header of a HEAD
                self._out.begin_whole()
            await send(message)

        await self._answer(scope, receive, send_whole)

    def _is_complete(self, data: bytes) -> bool:
        """Return whether one part has the whole header, within the limit, and a body behind it."""
        return self._header_bytes == len(data) and 0 <= data.find(HEADER_END) <= self._limits.header_bytes

    def _begin_timer(self) -> None:
        self._timer = self.loop.call_later(self._limits.receive_s, self._refuse, 408)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int) -> None:
        """End the connection, with a status if no request is in progress on it."""
        self._end_timer()
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request
        if cycle is None or cycle.response_complete:
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

"""One connection: what it may cost, and how the application learns that the server stops.

uvicorn bounds neither the bytes of a header nor the time in which it arrives (httptools does not either), so a client
that sends a byte a second would hold a connection for ever. One timer runs for a header, and for what is left of a
request that was answered already. In between, the application says how long it waits for a body. What the client takes
of its answers is watched by `write_limit.py`.

uvicorn waits for all requests before it ends the application, while these requests wait for tokens. So a connection
that is asked to shut down tells the application.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from nexus_redis.server import texts
from nexus_redis.server.one_write import WHOLE, OneWrite
from nexus_redis.server.open_files import open_files
from nexus_redis.server.options import Limits
from nexus_redis.server.problems import AWAY_RETRY, Problem
from nexus_redis.server.sending import problem_headers
from nexus_redis.server.trouble import Trouble
from nexus_redis.server.write_limit import WriteLimit

STOP: Final = "nexus_redis.stopping"  # the key in the state of the application
HEADER_END: Final = b"\r\n\r\n"
SPARE_FILES: Final = 64  # for Redis, for the files of the page, and for connections that are refused
# uvicorn's own lines about a connection are about what a client sends, so a client could fill the log with them.
SILENT: Final = logging.Logger("uvicorn.connection", logging.CRITICAL + 1)  # noqa: LOG001  # one of `getLogger` is anybody's


class Stopping:
    """What an application wants to be called with when the server begins to stop. Only the first call counts."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._is_stopping = stop, False

    def begin(self) -> None:
        """Tell the application."""
        if not self._is_stopping:
            self._is_stopping = True
            self._stop()


class Crowd:
    """The most connections of one server: as many as it may have, and no more than there are files for them."""

    def __init__(self, most: int) -> None:
        files = open_files()
        self.most = min(most, files - max(SPARE_FILES, files // 10))
        self._trouble = Trouble("connections_full", texts.CONNECTIONS_FULL, texts.CONNECTIONS_FREE)

    def is_full(self) -> None:
        """Note that a connection is refused."""
        self._trouble.note(f"{self.most:,}")

    def has(self, count: int) -> None:
        """Note how many are open after one has ended. Some room is needed, so that the log does not fill."""
        if count <= 0.9 * self.most:
            self._trouble.end()


# By the state of a server, which all connections of it share.
CROWDS: Final[WeakKeyDictionary[ServerState, Crowd]] = WeakKeyDictionary()


class Connection(HttpToolsProtocol):
    """A connection of uvicorn with the limits of the application that it serves (`config.app.limits`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app: Any = self.config.app
        self._limits: Limits = app.limits
        self._answer, self.app = self.app, self._answer_whole
        self.logger = SILENT
        self._out: OneWrite
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes, self._is_in_header = 0, True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        """Begin, unless too many connections are open."""
        self._write_limit = WriteLimit(transport, self.loop, self._limits.write_s)
        self._out = OneWrite(transport, self.tasks, self.loop.call_soon, self._write_limit)
        super().connection_made(self._out)  # type: ignore[arg-type]  # it has what uvicorn uses
        self._crowd = CROWDS.get(self.server_state) or CROWDS.setdefault(
            self.server_state, Crowd(self._limits.connections)
        )
        if len(self.connections) > self._crowd.most:
            self._crowd.is_full()
            detail = texts.too_many_connections(self._crowd.most)
            self._refuse(Problem("too-many-connections", detail, retry_after=AWAY_RETRY))
        else:
            self._begin_timer()

    def data_received(self, data: bytes) -> None:
        """Parse a part of a request. Refuse one whose header is too long, or that is not HTTP."""
        limit = self._limits.header_bytes
        if self._is_in_header:
            self._header_bytes += len(data)
            if self._header_bytes > limit and not self._is_complete(data):
                self._refuse(Problem("header-too-large", texts.header_too_large(limit)))
                return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade:  # it is declined, and the parser takes what comes behind it for the other protocol
            self.cycle.keep_alive = False
        except HttpParserError:
            self._refuse(Problem("malformed-request", texts.NOT_HTTP))
            return
        if self._is_in_header and self._header_bytes and self._timer is None:
            self._begin_timer()

    def on_message_begin(self) -> None:
        """Begin a header."""
        if not self._header_bytes:  # behind another request, in one part with it
            self._header_bytes = 1
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. A trailer is dropped, which the base would add to the headers that were checked already."""
        if self._is_in_header:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        if [name for name, _ in self.headers].count(b"host") > 1:  # a proxy before us may have read the other one
            raise ValueError
        super().on_headers_complete()
        self._is_in_header = False
        self._end_timer()

    def on_message_complete(self) -> None:
        """Expect the header of the next request."""
        self._is_in_header, self._header_bytes = True, 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._end_timer()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Go on with the next request. What is still to come of this one must come soon."""
        super().on_response_complete()
        if not self._is_in_header and self.cycle.response_complete and not self.transport.is_closing():
            self._begin_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end_timer()
        self._write_limit.end()
        super().connection_lost(exc)
        self._crowd.has(len(self.connections))

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

        try:
            await self._answer(scope, receive, send_whole)
        except Exception as error:
            texts.log_bug(scope["method"], scope["path"], error)
            raise

    def _is_complete(self, data: bytes) -> bool:
        """Return whether one part has the whole header, within the limit, and a body behind it."""
        return self._header_bytes == len(data) and 0 <= data.find(HEADER_END) <= self._limits.header_bytes

    def _begin_timer(self) -> None:
        self._end_timer()
        self._timer = self.loop.call_later(self._limits.receive_s, self._refuse_slow)

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse_slow(self) -> None:
        if self._is_in_header:
            self._refuse(Problem("too-slow", texts.header_too_slow(self._limits.receive_s)))
        else:  # it was answered
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """End the connection, with a problem unless that would be taken for the answer to another request."""
        self._end_timer()
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request
        is_of_cycle = not (self._is_in_header or self.pipeline or cycle.response_started)  # its body is malformed
        if is_of_cycle or cycle is None or cycle.response_complete:
            body = problem.body()
            headers = [*self.server_state.default_headers, *problem_headers(problem, body), (b"connection", b"close")]
            lines = b"".join(b"%s: %s\r\n" % header for header in headers)
            self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[problem.kind.status], lines, body))
        self.transport.close()

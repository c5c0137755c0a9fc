"""A transport that sends a whole answer with one write, and the answers of a busy turn of the event loop after it.

uvicorn writes a header, and then a body. Each write would be a system call and a packet, and would wake the client. And
while several requests are in progress, a client that is woken early takes the processor from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from typing import Any, Final

from nexus_redis.server.write_limit import WriteLimit

WHOLE: Final = "nexus_redis.whole"  # in the message that starts an answer: its body follows at once


class OneWrite:
    """The transport of a connection, seen by uvicorn in its place. `requests` are those in progress on the server."""

    def __init__(
        self, transport: asyncio.Transport, requests: Sized, call_soon: Callable[..., object], limit: WriteLimit
    ) -> None:
        self._transport, self._requests, self._call_soon, self._limit = transport, requests, call_soon, limit
        self._parts: list[bytes] = []
        self._is_header = self._is_body = False  # what is written next, of a whole answer
        self.is_closing = transport.is_closing

    def begin_whole(self) -> None:
        """Expect the header and then the body of a whole answer."""
        self._is_header = True

    def write(self, part: bytes) -> None:
        """Send a part, behind what is kept."""
        self._parts.append(part)
        if self._is_header:
            self._is_header, self._is_body = False, True
        elif self._is_body and len(self._requests) > 1:
            self._is_body = False
            self._call_soon(self._send)
        else:
            self._is_body = False
            self._send()

    def close(self) -> None:
        """Send what is kept, and close the connection."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            data = b"".join(parts)
            self._transport.write(data)
            self._limit.note(len(data))

    def __getattr__(self, name: str) -> Any:
        """Return what the transport has besides."""
        return getattr(self._transport, name)

"""A transport that sends a whole answer with one write, and the answers of a busy turn of the event loop after it.

uvicorn writes a header, and then a body. Each write would be a system call and a packet, and would wake the client. And
while several requests are in progress, a client that is woken early takes the processor from the others.

A client that takes nothing of what was written loses the connection after a while. One that reads slowly keeps it, even
if the system's buffer of some megabytes takes long to empty: what the system still holds counts as well.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sized
from typing import Any, Final

WHOLE: Final = "nexus_redis.whole"  # in the message that starts an answer: its body follows at once


class OneWrite:
    """The transport of a connection, seen by uvicorn in its place. `requests` are those in progress on the server.

    A client that takes nothing for `patience` seconds, while something is kept for it here, is cut off.
    """

    def __init__(
        self, transport: asyncio.Transport, requests: Sized, loop: asyncio.AbstractEventLoop, patience: float
    ) -> None:
        self._transport, self._requests, self._loop, self._patience = transport, requests, loop, patience
        self._parts: list[bytes] = []
        self._is_header = self._is_body = False  # what is written next, of a whole answer
        self._written = 0
        self._watch: asyncio.TimerHandle | None = None
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
            self._loop.call_soon(self._send)
        else:
            self._is_body = False
            self._send()

    def close(self) -> None:
        """Send what is kept, and close the connection."""
        self._send()
        self._transport.close()

    def end(self) -> None:
        """End: the connection is lost."""
        if self._watch is not None:
            self._watch.cancel()

    def _send(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            data = b"".join(parts)
            self._written += len(data)
            self._transport.write(data)
            if self._watch is None and self._transport.get_write_buffer_size():
                self._look_later()

    def _look_later(self) -> None:
        taken = self._written - self._transport.get_write_buffer_size() - _held_by_system(self._transport)
        self._watch = self._loop.call_later(self._patience, self._look, taken)

    def _look(self, before: int) -> None:
        """Cut a client off that has taken nothing since the last look."""
        self._watch = None
        kept = self._transport.get_write_buffer_size()
        if kept and self._written - kept - _held_by_system(self._transport) <= before:
            self._transport.abort()
        elif kept:
            self._look_later()

    def __getattr__(self, name: str) -> Any:
        """Return what the transport has besides."""
        return getattr(self._transport, name)


def _held_by_system(transport: asyncio.Transport) -> int:
    """Return the bytes that the client's system has not confirmed yet; 0 where ours does not tell."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import termios

    found = transport.get_extra_info("socket")
    try:
        return int.from_bytes(fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:  # the connection has ended
        return 0

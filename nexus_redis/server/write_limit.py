"""A client that takes nothing of its answers loses the connection after a while.

One that reads slowly keeps it, even if the system's buffer of some megabytes takes long to empty: what the system still
holds counts as well.
"""

from __future__ import annotations

import asyncio
import sys


class WriteLimit:
    """The limit of one connection: `patience` seconds in which its client takes nothing of what is kept for it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._transport, self._loop, self._patience = transport, loop, patience
        self._written = 0
        self._watch: asyncio.TimerHandle | None = None

    def note(self, count: int) -> None:
        """Note that so many bytes were written."""
        self._written += count
        if self._watch is None and self._transport.get_write_buffer_size():
            self._look_later()

    def end(self) -> None:
        """End: the connection is lost."""
        if self._watch is not None:
            self._watch.cancel()

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

"""The requests that wait: when a caller goes away, and when the server stops, their wait ends.

A request that is answered at once costs one timer. One that waits longer than `SHORT` also has a task that listens for
the end of the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nexus_redis.server import texts
from nexus_redis.server.call import DISCONNECT, CallerGone, Receive
from nexus_redis.server.problems import AWAY_RETRY, Problem

SHORT: Final = 0.02  # seconds: the caller of a request that takes no longer is taken to be there still


class Wait:
    """One request that waits. `end` cancels its task once, and says why."""

    __slots__ = ("_listener", "_receive", "_task", "_timer", "is_gone", "is_stopped")

    def __init__(self, receive: Receive) -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._receive, self._task = receive, task
        self.is_gone = self.is_stopped = False
        self._listener: asyncio.Task[None] | None = None
        self._timer = loop.call_later(SHORT, self._listen)

    def end(self) -> None:
        """End the wait because the server stops."""
        if not self.is_gone and not self.is_stopped:
            self.is_stopped = True
            self._task.cancel()

    def close(self) -> None:
        """Stop listening."""
        self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _listen(self) -> None:
        self._listener = asyncio.get_running_loop().create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != DISCONNECT:
            """A part of a body that nobody reads."""
        if not self.is_stopped:
            self.is_gone = True
            self._task.cancel()


class Waiting:
    """All requests of this process that wait."""

    def __init__(self, most: int) -> None:
        self._most, self._waits, self._is_stopping = most, set[Wait](), False

    def __len__(self) -> int:
        return len(self._waits)

    def stop(self) -> None:
        """End all waits, and those that begin later."""
        self._is_stopping = True
        for wait in list(self._waits):
            wait.end()

    @contextmanager
    def wait(self, receive: Receive) -> Iterator[Wait]:
        """End the block when the caller goes away (`CallerGone`) or the server stops (a `Problem`)."""
        if self._is_stopping:
            raise Problem("stopping", texts.SERVER_STOPS, retry_after=AWAY_RETRY)
        if len(self._waits) >= self._most:
            raise Problem("too-many-waiters", texts.too_many_waiters(self._most), retry_after=AWAY_RETRY)
        wait = Wait(receive)
        self._waits.add(wait)
        try:
            yield wait
        except asyncio.CancelledError:
            if not (wait.is_gone or wait.is_stopped):
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            if wait.is_gone:
                raise CallerGone from None
            raise Problem("stopping", texts.SERVER_STOPS, retry_after=AWAY_RETRY) from None
        finally:
            self._waits.discard(wait)
            wait.close()

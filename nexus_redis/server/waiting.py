"""The requests that wait: when a caller goes away, and when the server stops, their wait ends.

So does the wait for a body that is still arriving when the server stops. A request that is answered at once costs one
timer. One that waits longer than `SHORT` also has a task that listens for the end of the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from nexus_redis.server import texts
from nexus_redis.server.call import DISCONNECT, CallerGone, Receive
from nexus_redis.server.options import Limits
from nexus_redis.server.problems import AWAY_RETRY, Problem

SHORT: Final = 0.02  # seconds: the caller of a request that takes no longer is taken to be there still


class Wait:
    """One request that waits. `end` cancels its task once, and says why."""

    __slots__ = ("_listener", "_receive", "_task", "_timer", "is_gone", "is_stopped")

    def __init__(self, receive: Receive | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._receive, self._task = receive, task
        self.is_gone = self.is_stopped = False
        self._listener: asyncio.Task[None] | None = None
        self._timer = None if receive is None else asyncio.get_running_loop().call_later(SHORT, self._listen)

    def end(self) -> None:
        """End the wait because the server stops."""
        if not self.is_gone and not self.is_stopped:
            self.is_stopped = True
            self._task.cancel()

    def close(self) -> None:
        """Stop listening."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.cancel()

    def _listen(self) -> None:
        self._listener = asyncio.get_running_loop().create_task(self._until_gone())

    async def _until_gone(self) -> None:
        assert self._receive is not None
        while (await self._receive())["type"] != DISCONNECT:
            """A part of a body that nobody reads."""
        if not self.is_stopped:
            self.is_gone = True
            self._task.cancel()


class Waiting:
    """All requests of this process that wait: for tokens, or for the rest of their body."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._waits, self._reads, self._is_stopping = set[Wait](), set[Wait](), False

    def __len__(self) -> int:
        return len(self._waits)

    def stop(self) -> None:
        """End all waits, and those that begin later."""
        self._is_stopping = True
        for wait in [*self._waits, *self._reads]:
            wait.end()

    def wait(self, receive: Receive) -> AbstractContextManager[Wait]:
        """End the block when the caller goes away (`CallerGone`) or the server stops (a `Problem`)."""
        most = self.limits.waiters
        if len(self._waits) >= most and not self._is_stopping:
            raise Problem("too-many-waiters", texts.too_many_waiters(most), retry_after=AWAY_RETRY)
        return self._wait(receive, self._waits)

    def until_stop(self) -> AbstractContextManager[Wait]:
        """End the block when the server stops (a `Problem`)."""
        return self._wait(None, self._reads)

    @contextmanager
    def _wait(self, receive: Receive | None, among: set[Wait]) -> Iterator[Wait]:
        if self._is_stopping:
            raise Problem("stopping", texts.SERVER_STOPS, retry_after=AWAY_RETRY)
        wait = Wait(receive)
        among.add(wait)
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
            among.discard(wait)
            wait.close()

"""A look at something in Redis that is repeated, and never takes more than a part of the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis.errors import NexusError
from nexus_redis.server.live import texts

T = TypeVar("T")

INTERVAL: Final = 1.0  # seconds from the beginning of a look to that of the next


class Bell:
    """The news that something has changed. Take `next_ring` before reading the state, and await it afterwards."""

    def __init__(self) -> None:
        self.next_ring: asyncio.Event = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody who waits for the next ring."""
        rung, self.next_ring = self.next_ring, asyncio.Event()
        rung.set()


class Repeated(Generic[T]):
    """A look that a task repeats each `interval`, or later if looks take more than `part` of the time.

    Looks that take 0.2 s, with a part of 5 %, are repeated each 4 s. `newest` is the result of the last good look, and
    `trouble` says why the last look failed, "" if it did not; `since` is when the trouble began, in seconds since 1970.
    `nudge` asks for a look at once, so that a change is seen sooner; it comes after a rest as long as a look takes. The
    bell rings after each look.
    """

    def __init__(self, look: Callable[[], Awaitable[T]], bell: Bell, interval: float, part: float) -> None:
        self._look, self._bell, self._interval, self._part = look, bell, interval, part
        self._nudged = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self.newest: T | None = None
        self.trouble, self.since = "", 0.0

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="nexus-redis live")

    async def stop(self) -> None:
        """End the task, in the middle of a look if need be."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def nudge(self) -> None:
        """Look again at once."""
        self._nudged.set()

    async def _run(self) -> None:
        took = 0.0
        while True:
            began = time.monotonic()
            self._nudged.clear()
            await self._try()
            if self._is_stopped:  # redis-py can take a cancellation for a timeout of its own
                return
            before, took = took, time.monotonic() - began
            self._bell.ring()
            # One slow look says little: it may have waited until Redis was back. Nor does one that failed.
            work = 0.0 if self.trouble else min(before, took)
            await asyncio.sleep(work)
            await self._rest(max(self._interval, work / self._part) - took - work)

    async def _try(self) -> None:
        try:
            self.newest = await self._look()
            self.trouble = ""
        except NexusError as error:
            self._note(str(error))
        except Exception as error:  # a task that ends without a word would show old figures forever
            about = log_fields(event="look_failed", cause=repr(error))
            log.warning(texts.LOOK_FAILED, error, exc_info=True, extra=about)
            self._note(texts.LOOK_BUG.format(kind=type(error).__name__))

    def _note(self, trouble: str) -> None:
        if not self.trouble:
            self.since = time.time()
        self.trouble = trouble

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._nudged.wait(), seconds)
            except TimeoutError:
                return

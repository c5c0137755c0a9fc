"""Turns: callers that never wait let the other tasks of their event loop run.

An `await` that does not suspend gives no other task a turn. So `while True: await budget.acquire()` would keep the
event loop to itself as long as there are tokens at hand. Therefore callers may go on for `TURN` seconds in one turn of
the loop. A caller that comes later gives way, and goes on in one of the next turns:

    turns = Turns(clock)
    if clock() >= turns.end(loop):
        await turns.give_way(loop)

Callers that gave way go on in the order in which they came, a `CROWD` of them in each turn of the loop. A caller whose
turn was over before it could go on keeps its place. So of several tasks that never wait, each has as many turns as the
others.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

TURN: Final = 0.005  # seconds
CROWD: Final = 64  # callers: they take a few milliseconds where all have something to do


class Turns:
    """The turns of one event loop, as the callers of one Nexus see them."""

    __slots__ = ("_clock", "_end", "_numbers", "_waiting")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._end: float | None = None
        self._numbers = count()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # a heap

    def end(self, loop: asyncio.AbstractEventLoop) -> float:
        """Return when callers must give way. The first caller that asks begins the turn."""
        if self._end is None:
            self._end = self._clock() + TURN
            loop.call_soon(self._next, loop)  # our first callback in the loop's next turn
        return self._end

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._end = None
        if self._waiting:
            self.end(loop)  # before the futures below, so that `_next` runs first in the turn after, too
        for _ in range(min(CROWD, len(self._waiting))):
            _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    async def give_way(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let other tasks have their turn, then go on."""
        number = next(self._numbers)
        while True:
            future: asyncio.Future[None] = loop.create_future()
            heapq.heappush(self._waiting, (number, future))
            self.end(loop)
            await future
            if self._clock() < self.end(loop):
                return

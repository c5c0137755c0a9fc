"""A story whose acts come in the order of their time: what is to happen later waits in a heap."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import redis

from tests.harness.script_driver import ScriptDriver


class Timeline(ScriptDriver):
    """A story in virtual time. Acts at one instant come in the order in which they were asked for."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        super().__init__(client, name)
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def later(self, time: float, act: Callable[..., object], *args: Any) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._heap, (max(time, self.now), self._count, act, args))

    def advance(self, until: float) -> None:
        """Let time pass."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, act, args = heapq.heappop(self._heap)
            act(*args)
        self.now = until

"""Objects that end with their process, and begin again in a forked child."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from nexus_redis._runtime.process_end import at_end
from nexus_redis._values import log_texts
from nexus_redis._values.log import log


class Forkable(Protocol):
    """An object that must know when it is in a forked child."""

    def _after_fork(self) -> None:
        """Begin again: threads, tasks, locks and sockets are the parent's."""


T = TypeVar("T", bound=Forkable)


class Lifetimes(Generic[T]):
    """All living objects of one kind. `end` is called with each of them when the process ends."""

    def __init__(self, end: Callable[[T], None]) -> None:
        self._end = end
        self._living: WeakSet[T] = WeakSet()
        at_end(self._end_all)
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(after_in_child=self._after_fork)

    def add(self, it: T) -> None:
        """Watch over an object from now on."""
        self._living.add(it)

    def _end_all(self) -> None:
        for it in list(self._living):
            try:
                self._end(it)
            except Exception:
                log.exception(log_texts.CLOSE_BUG, it)

    def _after_fork(self) -> None:
        for it in list(self._living):
            try:
                it._after_fork()
            except Exception:  # the others must not go on as if they were the parent
                log.exception(log_texts.FORK_BUG, it)

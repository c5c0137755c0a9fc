"""Locks that are made when they are first taken, in the process that takes them.

A Nexus is often made at import time, before two things happen that a lock does not survive:

    monkey patching   gevent and eventlet replace `threading.RLock` in the worker. A lock that was made before is a lock
                      of the one thread in which all greenlets run: it excludes none of them
    a fork            another thread of the parent may hold the lock at that moment, and the child would wait forever

So no lock is made by a constructor or at import. `MadeAtFirstUse` describes an attribute that is made by the first
read; `forget` removes it in a forked child, where the next read makes another one. `ModuleLock` is the same for a lock
that belongs to a module.

`Latch` is what a caller waits for. `threading.Event` has a lock of its own, which a thread holds for a moment as it
begins and ends a wait. If a signal handler runs in that moment and wants the lock of the loop, and the loop is setting
the event, neither goes on.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar, overload

T = TypeVar("T")

SLICE: Final = 1.0  # seconds of a wait after which Python looks for signals


class Lock(Protocol):
    """What is used of a reentrant lock, of the standard library, gevent's or eventlet's."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, within a time."""

    def release(self) -> None:
        """Give it back."""

    def _is_owned(self) -> bool:
        """Whether this thread holds it; `threading.Condition` asks the same."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


class MadeAtFirstUse(Generic[T]):
    """An attribute that the first read makes, once for all threads. Later reads find it in the object itself."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, it: None, kind: type) -> Self: ...

    @overload
    def __get__(self, it: object, kind: type) -> T: ...

    def __get__(self, it: object | None, kind: type) -> Self | T:
        if it is None:
            return self
        made: T = vars(it).setdefault(self._name, self._make(it))  # atomic: of two threads, one makes it for both
        return made

    def forget(self, it: object) -> None:
        """Have the next read make another one."""
        vars(it).pop(self._name, None)


class Latch:
    """Is set by one thread at a time. Its one lock is the one that is waited for, so setting it never waits.

    Nothing is caught here: a signal handler may raise in the middle of a wait, whatever it likes, to end it. A wait
    goes by slices, since Python does not notice a signal that comes just before it waits for a lock, until it goes on.
    """

    __slots__ = ("_lock", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let all go on who wait, and who will."""
        if not self.is_set:
            self.is_set = True
            self._lock.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Until it is set; False where the time was over before."""
        ends = math.inf if seconds is None else time.monotonic() + seconds
        while not self.is_set:
            left = min(SLICE, max(0.0, ends - time.monotonic()))
            if self._lock.acquire(timeout=left):
                self._lock.release()  # the next one who waits
            elif not left:
                break
        return self.is_set


def new_lock(_owner: object = None) -> Lock:
    """Return a reentrant lock of whatever kind `threading` has at this moment."""
    lock: Any = threading.RLock()
    made: Lock = lock
    return made


class LazyLock:
    """A reentrant lock that its first use makes."""

    _lock: Final = MadeAtFirstUse(new_lock)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._lock.release()


class ModuleLock(LazyLock):
    """A reentrant lock for a module: made at its first use, and again in a forked child.

    One that is held across forks has a fork wait until no other thread holds it.
    """

    def __init__(self, *, is_held_across_forks: bool = False) -> None:
        if not hasattr(os, "register_at_fork"):  # Windows
            return
        if is_held_across_forks:
            os.register_at_fork(before=self.__enter__, after_in_parent=self._leave, after_in_child=self._forget)
        else:
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        LazyLock._lock.forget(self)

    def _leave(self) -> None:
        self._lock.release()

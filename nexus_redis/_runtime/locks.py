"""Locks that are made at their first use, in the process that uses them.

A Nexus is often made at import time, before two events that a lock does not survive:

    monkey patching   gevent and eventlet replace `threading.RLock` in the worker. A lock made before that belongs to
                      the one thread in which all greenlets run, so it excludes none of them
    a fork            another thread of the parent may hold the lock at that moment, and the child would wait forever

So no lock is made by a constructor or at import. `MadeAtFirstUse` describes an attribute that the first read makes.
`forget` removes it in a forked child, where the next read makes another one. `ModuleLock` does the same for a lock that
belongs to a module.

A caller waits for a `Latch`, not for a `threading.Event`. An event has a lock of its own, which a thread holds for a
moment when it begins and ends a wait. If a signal handler runs in that moment and wants the lock of the loop, while the
loop sets the event, neither can go on.
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

SLICE: Final = 1.0  # seconds of a wait after which Python handles signals


class Lock(Protocol):
    """The used part of a reentrant lock, which is one of the standard library, gevent or eventlet."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, within a time limit."""

    def release(self) -> None:
        """Release the lock."""

    def _is_owned(self) -> bool:
        """Return whether this thread holds it; `threading.Condition` calls the same method."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None: ...


class MadeAtFirstUse(Generic[T]):
    """A descriptor whose first read makes the attribute, once for all threads. Later reads find it in the object."""

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
        made: T = vars(it).setdefault(self._name, self._make(it))  # atomic: two threads get the same one
        return made

    def forget(self, it: object) -> None:
        """Remove the attribute, so that the next read makes another one."""
        vars(it).pop(self._name, None)


class Latch:
    """A flag to wait for, which is set once. Waiters wait for its only lock, so that `set` never waits.

    No exception is caught here: a signal handler may raise any exception during a wait to end it. A wait goes by
    slices, because Python does not notice a signal that arrives just before it waits for a lock until the wait is over.
    """

    __slots__ = ("_lock", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Release all threads that wait now or later. Only one thread at a time may call this."""
        if not self.is_set:
            self.is_set = True
            self._lock.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set; return False if the time is over before."""
        ends = math.inf if seconds is None else time.monotonic() + seconds
        while not self.is_set:
            left = min(SLICE, max(0.0, ends - time.monotonic()))
            if self._lock.acquire(timeout=left):
                self._lock.release()  # for the next thread that waits
            elif not left:
                break
        return self.is_set


def park() -> None:
    """Wait forever, in a greenlet that stands for a thread of the parent process.

    A fork copies the greenlets of gevent and eventlet, and no other thread. The copy must not go on, because its lock,
    its sockets and its sessions are the parent's. It must not end either: `threading` has forgotten it in the child,
    and gevent would print the KeyError that follows.
    """
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def new_lock(_owner: object = None) -> Lock:
    """Return a reentrant lock of the kind that `threading` has at this moment."""
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

    If it is held across forks, a fork waits until no other thread holds it.
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

"""Locks are made at first use: not by an import, not by a constructor, and again in a forked child."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

import nexus_redis
from nexus_redis._api import pace, pickling
from nexus_redis._redis import embedded
from nexus_redis._runtime import log_thread
from nexus_redis._runtime.locks import SLICE, Latch, MadeAtFirstUse, new_lock
from tests.harness.support import PATIENCE, in_thread

MAKES_NONE = """
import http.server, logging.handlers, redis, redis.asyncio, socketserver, sys, threading  # what these make is theirs

found = []

def spied(make):
    def made(*args, **given):
        at = sys._getframe(1)
        while at.f_globals["__name__"] == "threading":
            at = at.f_back
        if at.f_globals["__name__"].startswith("nexus_redis"):
            found.append(f"{at.f_code.co_filename}:{at.f_lineno}")
        return make(*args, **given)
    return made

for name in ("Lock", "RLock"):
    setattr(threading, name, spied(getattr(threading, name)))
for kind in (threading.Event, threading.Condition, threading.Semaphore, threading.Thread):
    kind.__init__ = spied(kind.__init__)

import nexus_redis, nexus_redis.asyncio, nexus_redis.contrib.asgi, nexus_redis.contrib.celery
import nexus_redis.contrib.dramatiq, nexus_redis.contrib.requests, nexus_redis.contrib.wsgi
for face in (nexus_redis, nexus_redis.asyncio):
    face.Nexus.from_url("redis://localhost:1")
    face.Nexus.from_url("embedded://")
nexus_redis._core.meter.Meter(None)
print(found)
"""


def test_an_import_makes_no_thread() -> None:
    """An import and a nexus make no lock, no event and no thread."""
    done = subprocess.run(
        [sys.executable, "-c", MAKES_NONE], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_threads_share_the_first_lock() -> None:
    """All threads get the lock that the first of them made."""

    class Owner:
        lock = MadeAtFirstUse(new_lock)

    owner, threads = Owner(), 16
    barrier, found = threading.Barrier(threads), set()

    def read() -> None:
        barrier.wait(PATIENCE)
        found.add(id(owner.lock))

    readers = [threading.Thread(target=read) for _ in range(threads)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(PATIENCE)
    assert found == {id(owner.lock)}
    before = owner.lock
    Owner.lock.forget(owner)
    assert owner.lock is not before


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_no_lock_of_its_parent() -> None:
    """A forked child has none of the locks that its parent held."""
    nexus = nexus_redis.Nexus.from_url("redis://localhost:1")
    consumer = nexus.budget("stripe").consumer()

    def locks() -> list[Any]:
        ours = [log_thread._queue._changed, pace._lock._lock, pickling._lock._lock]
        return [nexus._loop.lock, nexus._loop._free, nexus._naming, nexus._connections._starting, *ours]

    def all_are_free() -> bool:
        meter: Any = consumer._session.meter
        others = [embedded._lock._lock, meter._lock._lock]
        return all(lock.acquire(blocking=False) for lock in (*locks(), *others))

    def fork_with_all_held() -> int:
        for lock in locks():
            lock.acquire()
        pid = os.fork()
        if pid == 0:
            is_free = False
            try:
                is_free = in_thread(all_are_free)  # not the one that forked, which would own them still
            finally:
                os._exit(0 if is_free else 1)
        for lock in reversed(locks()):
            lock.release()
        return pid

    assert os.waitstatus_to_exitcode(os.waitpid(in_thread(fork_with_all_held), 0)[1]) == 0
    nexus.close()


class Watched:
    """A lock that somebody gets at the n-th try, and that notes for how long each was."""

    def __init__(self, tries: int) -> None:
        self.tries, self.limits = tries, list[float]()

    def acquire(self, *, timeout: float) -> bool:
        self.limits.append(timeout)
        return len(self.limits) >= self.tries

    def release(self) -> None:
        """It is free again."""


@pytest.mark.parametrize(("patience", "tries"), [(None, 5), (3600, 5), (0.2, 1)])
def test_signals_are_heard_between_slices(patience: float | None, tries: int) -> None:
    """A wait goes by slices, and between two of them signals are heard."""
    latch: Any = Latch()
    lock = latch._lock = Watched(tries)
    lock.release = lambda: setattr(latch, "is_set", True)  # type: ignore[method-assign]  # who gets it, gets it set
    assert latch.wait(patience)
    assert len(lock.limits) == tries
    assert max(lock.limits) <= SLICE


def test_a_wait_without_patience_ends_at_once() -> None:
    """A wait without patience ends at once."""
    latch = Latch()
    assert not latch.wait(0)
    latch.set()
    assert latch.wait(0)
    assert latch.wait()

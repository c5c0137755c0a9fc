"""The sync driver: the thread of the refill loop shares the hub's lock with all callers."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import redis

from nexus_redis._core.session import Session
from nexus_redis._drivers import threaded
from nexus_redis._drivers.threaded import LoopThread
from nexus_redis.errors import Closed
from tests.harness.support import PATIENCE, join


class Endless(Session):
    """Looked at again and again."""

    def __init__(self, loop: LoopThread) -> None:
        self.loop = loop

    def look(self, now: float) -> None:
        if not self.loop.scheduler.is_closing:
            self.loop.scheduler.touch(self)


def test_the_lock_is_free_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slices the lock is free while another thread can run."""
    had_a_turn = threading.Event()

    def other() -> None:
        if loop.lock.acquire(timeout=PATIENCE):
            had_a_turn.set()
            loop.lock.release()

    def sleep(_seconds: float) -> None:
        """What lets another thread run: here all of what it has to do."""
        if not had_a_turn.is_set():
            caller = threading.Thread(target=other)
            caller.start()
            join(caller)

    monkeypatch.setattr(threaded, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=sleep))
    loop = LoopThread(lambda: redis.Redis(port=1), "nowhere")
    with loop.lock:
        loop.scheduler.touch(Endless(loop))
        loop.ensure_running()
    try:
        assert had_a_turn.wait(PATIENCE)
    finally:
        loop.stop(Closed("nexus"))
    assert not loop.is_running

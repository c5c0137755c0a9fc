"""What a caller waits for, looked at through a lock that says how it is waited for."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_redis.locks import SLICE, Latch


class Watched:
    """A lock that is free at the n-th try."""

    def __init__(self, tries: int) -> None:
        self.tries, self.waits = tries, list[float]()

    def acquire(self, *, timeout: float) -> bool:
        self.waits.append(timeout)
        return len(self.waits) >= self.tries

    def release(self) -> None:
        """It is free again."""


@pytest.mark.parametrize("seconds", [None, 3600, 0.2])
def test_a_wait_goes_by_slices_in_which_signals_are_heard(seconds: float | None) -> None:
    latch: Any = Latch()
    lock = latch._lock = Watched(5 if seconds != 0.2 else 1)
    setter = lock.release

    def release() -> None:
        latch.is_set = True
        setter()

    lock.release = release  # type: ignore[method-assign]  # whoever got it is the last one
    assert latch.wait(seconds)
    assert max(lock.waits) <= SLICE
    assert len(lock.waits) == lock.tries


def test_a_wait_ends_when_its_time_is_over() -> None:
    latch = Latch()
    assert not latch.wait(0)
    assert not latch.wait(0.01)
    latch.set()
    assert latch.wait(0)
    assert latch.wait()

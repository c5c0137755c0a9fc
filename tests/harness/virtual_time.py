"""An event loop whose clock stands still while anything runs, and jumps to the next timer when nothing does."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jump(selectors.SelectSelector):
    """A selector that waits for nobody: it moves the clock on by as much as it was to wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready now."""
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main`, which may sleep for hours. `loop.time()` begins at 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)

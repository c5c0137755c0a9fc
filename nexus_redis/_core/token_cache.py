"""The tray: portions of tokens, cut ahead for whoever comes next. Taking one is a comparison, a clock and a pop.

Most calls of a busy process want what the one before wanted. So a ledger that has just served one lays out more of the
same, from one lease, and the shells take them without its lock:

    tray = ledger.tray
    if cost is tray.cost and monotonic() < tray.expires:
        tray.pop()                         # IndexError: it is empty, the ledger must look

- A list's `pop` is atomic, in CPython with and without the GIL and in PyPy, so two threads never take one portion. The
  ledger takes the rest back the same way, one by one: what it gets was not spent, what it does not get was.
- The clock is read for each, since a process may stand still for a second between any two instructions (SIGSTOP, a
  paused machine), and its tokens may have been given to others by then.
- An event loop's tray ends with the turn of its callers, before its tokens do (`keeps`), so that others have theirs.
- Cost and expiry of a tray never change; another cost is another tray. Costs are compared by identity: that is the
  fastest, it takes no `True` for a 1, and a loop passes the same object again. Who does not waits in no line for it.

A list of a thousand portions is 8 kB; the next tray is as large as twice what was taken from the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

LEAST: Final = 8  # portions; fewer are not worth the while
MOST: Final = 1024


class TokenCache:
    """`count` portions of `cost` (as the caller said it), `micro` micro-tokens each, until `expires`.

    The tokens themselves are good until `keeps`.
    """

    __slots__ = ("_portions", "cost", "count", "expires", "keeps", "micro", "pop")

    def __init__(self, cost: object, micro: int, count: int, keeps: float, until: float = math.inf) -> None:
        self.cost, self.micro, self.count, self.keeps = cost, micro, count, keeps
        self.expires = min(keeps, until)
        self._portions: list[None] = [None] * count
        self.pop: Callable[[], None] = self._portions.pop

    @property
    def left(self) -> int:
        """Micro-tokens that lie there."""
        return len(self._portions) * self.micro

    @property
    def taken(self) -> int:
        """Micro-tokens that were spent from it."""
        return self.count * self.micro - self.left

    def clear(self) -> int:
        """Take back what is left, in micro-tokens; whoever comes with this tray in hand finds it empty."""
        portions = 0
        try:
            while True:
                self.pop()
                portions += 1
        except IndexError:
            return portions * self.micro


EMPTY_CACHE: Final = TokenCache(object(), 0, 0, 0.0)

"""Portions of tokens that callers take without asking the ledger. Taking one is a comparison, a clock and a pop.

Most calls of a busy process want the same cost as the call before. So a ledger that has just served a call cuts more
portions of that cost from one lease, and the faces take them without the ledger's lock:

    cache = ledger.cache
    if cost is cache.cost and monotonic() < cache.expires:
        cache.pop()                        # IndexError: the cache is empty, so the ledger is asked

- A list's `pop` is atomic, in CPython with and without the GIL and in PyPy, so two threads never take one portion. The
  ledger takes the portions that are left back the same way, one by one. A portion that it gets was not spent; one that
  it does not get was spent.
- The clock is read for each portion. A process may stand still for a second between any two instructions (SIGSTOP, a
  paused machine), and the server may have given its tokens to others by then.
- In an event loop, a cache ends with the turn of its callers, before its tokens expire (`keeps`), so that other tasks
  have their turn.
- Cost and expiry of a cache never change; another cost is another cache. Costs are compared by identity. That is the
  fastest comparison, it does not take `True` for a 1, and a loop passes the same object again. A caller with an equal
  cost that is another object is served by the ledger.

A list of a thousand portions is 8 kB. The next cache is as large as twice what was taken from the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

LEAST: Final = 8  # portions; fewer are not worth the work
MOST: Final = 1024


class TokenCache:
    """`count` portions of `micro` micro-tokens each, to be taken until `expires`. `cost` is the object a caller passed.

    The tokens themselves may be spent until `keeps`.
    """

    __slots__ = ("_portions", "cost", "count", "expires", "keeps", "micro", "pop")

    def __init__(self, cost: object, micro: int, count: int, keeps: float, until: float = math.inf) -> None:
        self.cost, self.micro, self.count, self.keeps = cost, micro, count, keeps
        self.expires = min(keeps, until)
        self._portions: list[None] = [None] * count
        self.pop: Callable[[], None] = self._portions.pop

    @property
    def left(self) -> int:
        """Return the micro-tokens that are left."""
        return len(self._portions) * self.micro

    @property
    def portions_taken(self) -> int:
        """Return how many portions were taken."""
        return self.count - len(self._portions)

    @property
    def taken(self) -> int:
        """Return the micro-tokens that were taken."""
        return self.portions_taken * self.micro

    def clear(self) -> int:
        """Take all portions out; return them in micro-tokens. A caller that still has this cache finds it empty."""
        portions = 0
        try:
            while True:
                self.pop()
                portions += 1
        except IndexError:
            return portions * self.micro


EMPTY_CACHE: Final = TokenCache(object(), 0, 0, 0.0)

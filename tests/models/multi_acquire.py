"""The slow, clear referee of callers who want several budgets at once: everybody holds its place in every line.

Nobody lets anybody pass. Whoever is first in a line takes what the bucket gives into a pot of its own, and is served
when all its pots are full. That wastes tokens, and it is the latest that a caller may be served: to let others pass,
as `nexus_redis/_core/multi_acquire.py` does, must not make anybody wait much longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

STEP: Final = 0.01  # seconds


@dataclass
class Wish:
    """What one caller wants, by budget, and when it came; `served` is when it got all of it."""

    costs: Mapping[str, float]
    since: float
    served: float = -1.0
    pots: dict[str, float] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        return all(self.pots.get(name, 0.0) >= cost - 1e-9 for name, cost in self.costs.items())


def serve_strictly(wishes: Sequence[Wish], rates: Mapping[str, float]) -> None:
    """Find when each is served, by steps; `wishes` in the order in which they came."""
    tokens = dict.fromkeys(rates, 1.0)
    waiting = list(wishes)
    now = 0.0
    while waiting:
        for name, rate in rates.items():
            tokens[name] = min(1 + rate / 4, tokens[name] + rate * STEP)
        seen: set[str] = set()
        left: list[Wish] = []
        for wish in waiting:
            if wish.since > now:
                left.append(wish)
                continue
            for name, cost in wish.costs.items():
                if name not in seen:
                    taken = min(tokens[name], cost - wish.pots.get(name, 0.0))
                    tokens[name] -= taken
                    wish.pots[name] = wish.pots.get(name, 0.0) + taken
            if wish.is_full:
                wish.served = now
            else:
                seen |= wish.costs.keys()
                left.append(wish)
        waiting = left
        now += STEP

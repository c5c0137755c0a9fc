"""The callers that got no tokens from this server: how often each, and why. Only those denied most often are kept."""

from __future__ import annotations

from typing import Final, TypedDict

MOST: Final = 1_000  # counters; the least frequent half goes when there are more


class DenialJson(TypedDict):
    """How often a producer was denied for one reason."""

    producer_id: str
    reason: str
    count: int


class Denials:
    """The counters, by budget, producer and reason."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, budget: str, producer_id: str, reason: str) -> None:
        """Count a denial."""
        what = (budget, producer_id, reason)
        self._counts[what] = self._counts.get(what, 0) + 1
        if len(self._counts) > MOST:
            most = sorted(self._counts.items(), key=lambda pair: -pair[1])[: MOST // 2]
            self._counts = dict(most)

    def of(self, budget: str, shown: int = 10) -> list[DenialJson]:
        """Return the producers of a budget that were denied most often."""
        found = [(count, who, why) for (name, who, why), count in self._counts.items() if name == budget]
        return [
            {"producer_id": who, "reason": why, "count": count}
            for count, who, why in sorted(found, key=lambda each: (-each[0], each[1:]))[:shown]
        ]

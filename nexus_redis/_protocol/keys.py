"""The names of all keys. No other module spells one.

All keys of a budget share the hash tag `{name}`, so they are in one slot of a cluster. Every script gets them in one
order: the eleven keys of the budget, then the two keys of the member that the call is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

SHARED: Final = (
    "state", "consumers", "rates", "loads", "capacities", "frees", "edges", "ratios", "producers", "history",
)  # fmt: skip


@dataclass(frozen=True)
class BudgetKeys:
    """The keys of one budget: `BudgetKeys("nexus", "elasticsearch").budget` is `nexus:{elasticsearch}`."""

    namespace: str
    name: str

    @cached_property
    def budget(self) -> str:
        """Return the key of the hash for people: settings, rate, reason."""
        return f"{self.namespace}:{{{self.name}}}"

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """Return the keys that every script gets first."""
        return (self.budget, *(f"{self.budget}:{part}" for part in SHARED))

    @cached_property
    def state(self) -> str:
        """Return the key of the string that only the arithmetic reads."""
        return f"{self.budget}:state"

    @property
    def history(self) -> str:
        """Return the key of the stream of events."""
        return f"{self.budget}:history"

    @cached_property
    def producers(self) -> str:
        """Return the key of the sorted set of producers."""
        return f"{self.budget}:producers"

    @property
    def members(self) -> str:
        """Return a pattern that matches all keys of this budget except the first, and no key of another budget."""
        return f"{self.budget}:*"  # no character of a name has a meaning in a pattern

    @property
    def flow(self) -> str:
        """Return the channel on which a drop of the rate is published at once."""
        return f"{self.budget}:flow"

    def producer(self, producer_id: str) -> str:
        """Return the key of a producer's hash."""
        return f"{self.budget}:producer:{producer_id}"

    def producer_state(self, producer_id: str) -> str:
        """Return the key of a producer's state."""
        return f"{self.budget}:producer:{producer_id}:state"

    def consumer(self, consumer_id: str) -> str:
        """Return the key of a consumer's hash."""
        return f"{self.budget}:consumer:{consumer_id}"

    def consumer_state(self, consumer_id: str) -> str:
        """Return the key of a consumer's state."""
        return f"{self.budget}:consumer:{consumer_id}:state"


def budgets_key(namespace: str) -> str:
    """Return the key of the sorted set of budget names, by when they were last listed: a hint (budget_list.py)."""
    return f"{namespace}:budgets"


def idempotency_key(namespace: str, digest: str) -> str:
    """Return the key of what the HTTP server answered to a request with an `Idempotency-Key`."""
    return f"{namespace}:idempotency:{digest}"

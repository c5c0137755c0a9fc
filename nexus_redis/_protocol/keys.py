"""The only place that spells a key.

All keys of a budget share the hash tag `{name}`, so they live in one slot of a cluster, and every script gets them in
one order: the budget's own eleven, then the two of the member that it is about.
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
        """The hash for people: settings, rate, reason."""
        return f"{self.namespace}:{{{self.name}}}"

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """What every script gets first."""
        return (self.budget, *(f"{self.budget}:{part}" for part in SHARED))

    @cached_property
    def state(self) -> str:
        """The string of what only the arithmetic reads."""
        return f"{self.budget}:state"

    @property
    def history(self) -> str:
        """The stream of what happened."""
        return f"{self.budget}:history"

    @cached_property
    def producers(self) -> str:
        """The sorted set of producers."""
        return f"{self.budget}:producers"

    @property
    def members(self) -> str:
        """A pattern that all keys of this budget but the first match, and no key of another one."""
        return f"{self.budget}:*"  # a name has no sign that a pattern would take for more than itself

    @property
    def flow(self) -> str:
        """The channel on which a drop of the rate is told at once."""
        return f"{self.budget}:flow"

    def producer(self, producer_id: str) -> str:
        """One producer's hash."""
        return f"{self.budget}:producer:{producer_id}"

    def producer_state(self, producer_id: str) -> str:
        """One producer's state."""
        return f"{self.budget}:producer:{producer_id}:state"

    def consumer(self, consumer_id: str) -> str:
        """One consumer's hash."""
        return f"{self.budget}:consumer:{consumer_id}"

    def consumer_state(self, consumer_id: str) -> str:
        """One consumer's state."""
        return f"{self.budget}:consumer:{consumer_id}:state"


def budgets_key(namespace: str) -> str:
    """The sorted set of budget names, by when they were last opened: a hint (listing.py)."""
    return f"{namespace}:budgets"

"""The budgets that this process has seen: a misspelled name is an error, and not a new budget that grants nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final, Generic, TypeVar

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command
from nexus_redis._values.parse import SEPARATOR
from nexus_redis.errors import Unavailable
from nexus_redis.server import texts
from nexus_redis.server.batch import Batch
from nexus_redis.server.problems import Problem

MOST: Final = 10_000  # budgets that are remembered: those that were used last
LOOK_EACH: Final = 10.0  # seconds until a budget in use is looked for again: somebody may have deleted it

V = TypeVar("V")


class Latest(OrderedDict[str, V], Generic[V]):
    """A dictionary of the entries that were used last, `MOST` of them."""

    def use(self, name: str) -> V | None:
        """Return an entry, and note that it is in use."""
        found = self.get(name)
        if found is not None:
            self.move_to_end(name)
        return found

    def add(self, name: str, value: V) -> V:
        """Add an entry. Drop the one that has not been used for the longest time if there are too many."""
        self[name] = value
        if len(self) > MOST:
            self.popitem(last=False)
        return value


class KnownBudgets:
    """The names of budgets that exist, as of some seconds ago."""

    def __init__(self, batch: Batch, namespace: str) -> None:
        self._batch, self._namespace = batch, namespace
        self._until: Latest[float] = Latest()

    def forget(self, name: str) -> None:
        """Look for a budget again before it is used next."""
        self._until.pop(name, None)

    def has(self, name: str) -> bool:
        """Return whether a budget was there a moment ago."""
        return (self._until.use(name) or 0.0) > time.monotonic()

    async def require(self, name: str) -> None:
        """Raise the problem `unknown-budget` unless the budget exists. For one of a key, its parent is enough."""
        if self.has(name):
            return
        if await self._is_there(name):
            self._until.add(name, time.monotonic() + LOOK_EACH)
        else:
            self.forget(name)
            raise Problem("unknown-budget", texts.unknown_budget(name), budget=name)

    async def _is_there(self, name: str) -> bool:
        """Ask Redis. While it is away, a budget that was there before is taken to be there: the outage mode decides."""
        names = {name, name.partition(SEPARATOR)[0]}
        try:
            return any(await self._batch.ask(*(exists(BudgetKeys(self._namespace, each)) for each in names)))
        except Unavailable:
            if name not in self._until:
                raise
            return True


def exists(keys: BudgetKeys) -> Command[bool]:
    """Return the command that asks whether a budget exists. A key of another type in its place is not a budget."""
    return Command(("TYPE", keys.budget), lambda reply: text(reply) == "hash")

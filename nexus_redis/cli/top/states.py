"""The state of a budget in a word, and which budgets are in trouble: a colour only repeats what the word says."""

from enum import IntEnum
from typing import Final

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.snapshot import BudgetSnapshot

Seen = BudgetSnapshot | DamagedBudget
CALM: Final = "ok"
_WORDS: Final = {  # the reasons for which nothing is granted, the worst first
    "damaged": "damaged", "paused": "paused", "no_consumers": "no consumers", "unset": "unset", "window": "no reports",
}  # fmt: skip
_LEVELS: Final = ("level 3", "level 2", "level 1", CALM)


class Trouble(IntEnum):
    """How urgent a state is; each is a class of `top.tcss`, in lower case."""

    SERIOUS = 0
    BUSY = 1
    CALM = 2


def state(seen: Seen) -> str:
    """Return the state in a word or two: `paused`, `no consumers`, `level 2`, `ok`."""
    if isinstance(seen, DamagedBudget):
        return _WORDS["damaged"]
    if seen.paused_for is not None:
        return _WORDS["paused"]
    return _WORDS.get(seen.reason) or _LEVELS[3 - min(seen.level, 3)]


_ORDER: Final = {word: rank for rank, word in enumerate((*_WORDS.values(), *_LEVELS))}


def rank(seen: Seen) -> int:
    """Return the place of a budget among all: those in trouble come first."""
    return _ORDER[state(seen)]


def trouble(seen: Seen) -> Trouble:
    """Return how urgent the state is."""
    place = rank(seen)
    if place <= _ORDER["level 3"]:
        return Trouble.SERIOUS
    return Trouble.CALM if place == _ORDER[CALM] else Trouble.BUSY

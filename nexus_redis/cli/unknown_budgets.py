"""Refuse a verb for a budget that does not exist, and suggest similar names: the name is most likely misspelled.

`set NAME` with a value and `report` create a budget. Every other verb needs one that exists. If it does not exist, the
verb writes nothing and ends with 1, unless it has `--create`. For `run` and `pace` with a key it is enough that NAME
exists, because the budget of a key begins with its first use and takes over the settings of NAME.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command
from nexus_redis._values.parse import SEPARATOR
from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import Finding
from nexus_redis.cli.output import choice

if TYPE_CHECKING:
    from nexus_redis.cli.common_options import Target
    from nexus_redis.cli.context import Context
    from nexus_redis.cli.fast_connection import Connection

SIMILAR: Final = 0.6  # ratio of difflib: two letters in five differ
VERY_SIMILAR: Final = 0.8  # a letter in five differs: a name that differs by more is new on purpose
MOST: Final = 3  # suggestions


def exists(keys: BudgetKeys) -> Command[bool]:
    """Return the command that asks whether a budget exists. A key of another type in its place is not a budget."""
    return Command(("TYPE", keys.budget), lambda reply: text(reply) == "hash")


def require(context: "Context", target: "Target", *, can_create: bool = False) -> None:
    """Raise the error of `unknown` unless the budget exists."""
    if not context.ask(exists(context.keys(target.name)))[0]:
        raise unknown(context, *target, can_create=can_create)


def require_one(
    connection: "Connection",
    keys: BudgetKeys,
    parent: BudgetKeys | None,
    key: str | None,
    url: str | None,
    namespace: str | None,
) -> None:
    """Raise the error of `unknown` unless the budget exists, or its parent does. Passes while Redis does not answer."""
    asked = [exists(each) for each in (keys, parent) if each is not None]
    if any(connection.perform(asked)):  # True, or a `Failed` where Redis does not answer
        return
    from nexus_redis.cli.context import open_context

    with open_context(url, namespace) as context:
        raise unknown(context, keys.name, parent.name if parent is not None else None, key, can_create=True)


def unknown(
    context: "Context", name: str, parent: str | None = None, key: str | None = None, *, can_create: bool = False
) -> Exception:
    """Return the error for a budget that does not exist, with similar names, or whose key is of another type."""
    from nexus_redis._protocol.damage import damaged

    for keys in (context.keys(each) for each in (name, parent) if each is not None):
        if context.ask(Command(("TYPE", keys.budget), text))[0] not in ("hash", "none"):
            return damaged(keys, keys.budget)
    near = similar_budgets(context, name)
    if not near and parent is not None and not context.ask(exists(context.keys(parent)))[0]:
        near = [f"NAME {each}" for each in similar_budgets(context, parent)]
    shown = name if key is None or name == f"{parent}{SEPARATOR}{key}" else texts.hashed_key(name, key)
    return Finding(texts.unknown_budget(shown, context.where, suggestion(near), can_create=can_create))


def similar_budgets(context: "Context", name: str, cutoff: float = SIMILAR) -> list[str]:
    """Return the names of existing budgets that are similar to `name`, the most similar first."""
    listed: list[str] = context.ask(
        Command(("ZRANGE", budgets_key(context.namespace), 0, -1), lambda reply: [text(word) for word in reply])
    )[0]
    by_lower = {each.lower(): each for each in listed}
    near = [by_lower[each] for each in similar(name.lower(), by_lower, cutoff, 4 * MOST) if by_lower[each] != name]
    found = context.ask(*(exists(BudgetKeys(context.namespace, each)) for each in near)) if near else []
    return [each for each, is_there in zip(near, found, strict=True) if is_there][:MOST]


def similar(word: str, words: Iterable[str], cutoff: float = SIMILAR, most: int = MOST) -> list[str]:
    """Return those of `words` that are similar to `word`, the most similar first."""
    from difflib import get_close_matches

    return get_close_matches(word, list(words), most, cutoff)


def suggestion(names: list[str]) -> str:
    """Return the question for similar names, or an empty text if there are none.

    >>> suggestion(["a", "b", "c"])
    'Did you mean a, b or c?'
    """
    return texts.did_you_mean(choice(names)) if names else ""

"""Check that a budget exists, and suggest names where it does not: the name is most likely misspelled.

`set NAME` with a value and `report` create a budget. Every other verb needs one that exists. Where it does not exist,
the verb writes nothing and ends with 1, unless it has `--create`. For `run` and `pace` with a key it is enough that
NAME exists, since the budget of a key begins with its first use and takes over the settings of NAME.
"""

from typing import TYPE_CHECKING, Final

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command
from nexus_redis.cli.exit_codes import Finding
from nexus_redis.cli.output import printable

if TYPE_CHECKING:
    from nexus_redis.cli.context import Place
    from nexus_redis.cli.fast_connection import Connection

ALIKE: Final = 0.6  # of difflib's ratio: two letters in five differ
VERY_ALIKE: Final = 0.8  # a letter in five: a new name that differs by more is taken for one on purpose
SHOWN: Final = 3  # suggestions at most


def is_there(keys: BudgetKeys) -> Command[bool]:
    """Ask whether a budget exists. A key of another type in its place is not a budget."""
    return Command(("TYPE", keys.budget), lambda reply: text(reply) == "hash")


def require(here: "Place", name: str, parent: str | None = None, *, can_create: bool = False) -> None:
    """Raise a `Finding` unless the budget `name` exists. `parent`: NAME, where `name` is one of its keys."""
    if not here.ask(is_there(here.keys(name)))[0]:
        raise unknown(here, name, parent, can_create=can_create)


def require_one(
    connection: "Connection", keys: BudgetKeys, parent: BudgetKeys | None, url: str | None, namespace: str | None
) -> None:
    """Raise a `Finding` unless the budget exists, or its parent does. Passes while Redis does not answer."""
    if any(
        connection.perform([is_there(each) for each in (keys, parent) if each is not None])
    ):  # True, or an error: Redis does not answer
        return
    from nexus_redis.cli.context import place

    with place(url, namespace) as here:
        raise unknown(here, keys.name, parent.name if parent is not None else None, can_create=True)


def unknown(here: "Place", name: str, parent: str | None = None, *, can_create: bool = False) -> Finding:
    """Return the error for a budget that does not exist, with the names that are near."""
    near = alike(here, name)
    if not near and parent is not None and not here.ask(is_there(here.keys(parent)))[0]:
        near = [f"NAME {each}" for each in alike(here, parent)]
    where = f"in namespace {here.namespace} at {here.server}"
    meant = f" Did you mean {either(near)}?" if near else ""
    remedy = " To create it, add --create." if can_create else ""
    return Finding(f"there is no budget {name} {where}.{meant}{remedy}")


def alike(here: "Place", name: str, cutoff: float = ALIKE) -> list[str]:
    """Return the names of existing budgets that are like this one, the most alike first."""
    from difflib import get_close_matches

    listed: list[str] = here.ask(
        Command(("ZRANGE", budgets_key(here.namespace), 0, -1), lambda reply: [text(word) for word in reply])
    )[0]
    plain = {each.lower(): each for each in listed}
    near = [plain[each] for each in get_close_matches(name.lower(), plain, 4 * SHOWN, cutoff) if plain[each] != name]
    found = here.ask(*(is_there(BudgetKeys(here.namespace, each)) for each in near)) if near else []
    return [each for each, is_so in zip(near, found, strict=True) if is_so][:SHOWN]


def either(names: list[str]) -> str:
    """Return the names as a choice.

    >>> either(["a", "b", "c"])
    'a, b or c'
    """
    if not names:
        return ""
    *others, last = map(printable, names)
    return f"{', '.join(others)} or {last}" if others else last

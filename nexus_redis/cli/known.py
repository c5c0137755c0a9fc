"""Is there a budget of that name? One that nobody knows is most likely a slip of the pen: then nothing is written.

`set NAME` with a value and a `report` make a budget; all other verbs are about one that is there, and end with 1 where
it is not. Those that could make one take `--create`. A budget is there from the first call of anybody; for `run` and
`pace` NAME is enough, since the budget of a key begins with its first use, with the settings of NAME.
"""

from typing import TYPE_CHECKING, Final

from nexus_redis.calls import Command, text
from nexus_redis.cli.exits import Finding
from nexus_redis.cli.text import printable
from nexus_redis.keys import BudgetKeys, budgets_key

if TYPE_CHECKING:
    from nexus_redis.cli.place import Place
    from nexus_redis.cli.swift import Connection

ALIKE: Final = 0.6  # of difflib's ratio: two letters of five
VERY_ALIKE: Final = 0.8  # a letter of four: what may well be another name on purpose is not asked about
SHOWN: Final = 3  # names that are suggested


def is_there(keys: BudgetKeys) -> Command[bool]:
    """Ask whether Redis knows this budget; what somebody else has put in its place is none."""
    return Command(("TYPE", keys.budget), lambda reply: text(reply) == "hash")


def require(here: "Place", name: str, parent: str | None = None, *, can_create: bool = False) -> None:
    """Raise a `Finding` unless there is a budget `name`; `parent` is NAME where that is one of its keys."""
    if not here.ask(is_there(here.keys(name)))[0]:
        raise unknown(here, name, parent, can_create=can_create)


def require_one(
    connection: "Connection", keys: BudgetKeys, parent: BudgetKeys | None, url: str | None, namespace: str | None
) -> None:
    """The same for who uses it: the budget that it is a key of will do, and while Redis is away nobody can tell."""
    if any(connection.perform([is_there(each) for each in (keys, parent) if each is not None])):  # an error, too
        return
    from nexus_redis.cli.place import place

    with place(url, namespace) as here:
        raise unknown(here, keys.name, parent.name if parent is not None else None, can_create=True)


def unknown(here: "Place", name: str, parent: str | None = None, *, can_create: bool = False) -> Finding:
    """What to say of a budget that is not there."""
    near = alike(here, name)
    if not near and parent is not None and not here.ask(is_there(here.keys(parent)))[0]:
        near = [f"NAME {each}" for each in alike(here, parent)]
    meant = f"; did you mean {either(near)}?" if near else ""
    remedy = f"{'' if near else ';'} --create opens one" if can_create else ""
    return Finding(f"no budget {name} in namespace {here.namespace} at {here.server}{meant}{remedy}")


def alike(here: "Place", name: str, cutoff: float = ALIKE) -> list[str]:
    """The names of budgets that are there and differ from this one by little, the nearest first."""
    from difflib import get_close_matches

    listed: list[str] = here.ask(
        Command(("ZRANGE", budgets_key(here.namespace), 0, -1), lambda reply: [text(word) for word in reply])
    )[0]
    plain = {each.lower(): each for each in listed}
    near = [plain[each] for each in get_close_matches(name.lower(), plain, 4 * SHOWN, cutoff) if plain[each] != name]
    found = here.ask(*(is_there(BudgetKeys(here.namespace, each)) for each in near)) if near else []
    return [each for each, is_so in zip(near, found, strict=True) if is_so][:SHOWN]


def either(names: list[str]) -> str:
    """
    >>> either(["a", "b", "c"])
    'a, b or c'
    """
    if not names:
        return ""
    *others, last = map(printable, names)
    return f"{', '.join(others)} or {last}" if others else last

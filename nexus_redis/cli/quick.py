"""`signal` in a twentieth of a second: what a script calls in a loop does not wait for typer, pydantic and redis-py.

Here are only the words that are well formed, said to a Redis that answers. Anything else, from `--help` to a wrong rate
or password, is None, and the ordinary way does it again from the start and says what there is to say.
"""

import sys
from collections.abc import Sequence
from time import time
from typing import Any, Final

from nexus_redis import calls
from nexus_redis.cli.swift import namespace_of, swiftly
from nexus_redis.cli.text import as_message, rate, standing
from nexus_redis.errors import WORDS, InvalidSetting
from nexus_redis.keys import BudgetKeys, budgets_key
from nexus_redis.values import budget_name, micro, micro_rate, parse_name, parse_number, parse_rate

OPTIONS: Final = ("rate", "id", "weight", "priority", "key", "url", "namespace")


def main(words: Sequence[str]) -> int | None:
    """Do what was typed, if it is a usual `signal`: the exit code, or None."""
    said = parsed(words[1:]) if words[:1] == ["signal"] else None
    if said is None:
        return None
    try:
        name, weight = budget_name(said["name"], said.get("key")), said.get("weight")
        told = signal(
            name, said["rate"], said.get("id"), float(weight) if weight is not None else None, said.get("priority"),
            url=said.get("url"), namespace=said.get("namespace"),
        )  # fmt: skip
    except ValueError:  # InvalidSetting is one too
        return None
    if told is None:
        return None
    try:
        print(shown(told, json="json" in said))
        sys.stdout.flush()
    except OSError as error:
        from nexus_redis.cli.exits import exit_code

        problem = error  # the name above ends with its block

        def fail() -> None:
            raise problem

        return exit_code(fail)
    return 0


def parsed(words: Sequence[str]) -> dict[str, str] | None:
    """Options and the one argument by name; None where anything is not as usual."""
    said: dict[str, str] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        option, has_value, value = word.removeprefix("--").partition("=")
        if word == "--json":
            said["json"] = ""
        elif word.startswith("--") and option in OPTIONS and option not in said and (has_value or left):
            said[option] = value if has_value else left.pop(0)
        elif not word.startswith("-") and "name" not in said:
            said["name"] = word
        else:
            return None
    return said if {"name", "rate"} <= said.keys() else None


def signal(
    name: str,
    requested: str,
    id: str | None,
    weight: float | None,
    priority: str | None,
    *,
    url: str | None,
    namespace: str | None,
) -> dict[str, Any] | None:
    """Ask; the answer as the fields of a FlowControl, and what was asked for beside them."""
    parse_name(name)
    if priority not in (None, *WORDS["priority"]):
        raise InvalidSetting("priority", priority)
    asked, listed = question(name, requested, id, weight, priority, namespace)
    answers = swiftly(url, asked, listed)
    return None if answers is None else {**calls.flow_fields(name, answers[0]), "requested": parse_rate(requested)}


def question(
    name: str, requested: str, id: str | None, weight: float | None, priority: str | None, namespace: str | None
) -> tuple[calls.Call[calls.Answer], tuple[str, ...]]:
    """The claim of a signal, and the command that lists its budget."""
    # Without an incarnation nobody owns the id: there is nothing to leave, and a process of that id is not refused.
    claim = calls.Claim(
        requested_rate=micro_rate(parse_rate(requested)),
        weight=micro(parse_number("weight", weight) if weight is not None else 1),
        priority=priority or "normal",
    )
    prefix = namespace_of(namespace)
    asked = calls.claim(BudgetKeys(prefix, name), parse_name(id, "id") if id is not None else host(), claim,
                        with_all_keys=True)  # fmt: skip
    return asked, ("ZADD", budgets_key(prefix), str(int(time())), name)


def shown(told: dict[str, Any], *, json: bool) -> str:
    """What came of it: a FlowControl, or a line."""
    flow = dict(told)
    requested = flow.pop("requested")
    if json:
        return as_message({"action": "FlowControl", **flow})
    now = standing(flow["budget_rate"], flow["backpressure_level"], flow["reason"], flow["current_load"])
    return f"{flow['consumer_id']}: send {rate(flow['recommended_rate'])} of {rate(requested)}; the budget: {now}"


def host() -> str:
    """A name that is the same each time: with the usual random one each call would be another member."""
    from nexus_redis.ids import default_id

    return default_id().rsplit("-", 2)[0]

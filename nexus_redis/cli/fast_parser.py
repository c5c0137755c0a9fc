"""Read the words of `signal` and `run` without typer: scripts call these in a loop, and typer is slow to import.

Only usual words are read here. For all else, from `--help` to an option that is misspelled, `main` returns None. Then
typer reads the words from the start, and reports what is wrong.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import Listed, listed
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Command
from nexus_redis._values.parse import budget_name, micro, micro_rate, parse_name, parse_number, parse_rate
from nexus_redis.cli.exit_codes import exit_code
from nexus_redis.cli.fast_connection import Connection, namespace_of, swiftly, url_of
from nexus_redis.cli.output import as_message, rate, standing
from nexus_redis.errors import WORDS, InvalidSetting

# --- words -----------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """The words of a verb: options by name (the value of a flag is ""), and the other words in order."""

    options: dict[str, str]
    words: list[str]


WITH_A_VALUE: Final = {
    "signal": ("rate", "id", "weight", "priority", "key", "url", "namespace"),
    "run": ("cost", "timeout", "weight", "priority", "on-outage", "key", "url", "namespace"),
}
FLAGS: Final = {"signal": ("json", "create"), "run": ("create",)}


def main(words: Sequence[str]) -> int | None:
    """Run a usual `signal` or `run`, and return its exit code; None for anything else."""
    verb = _VERBS.get(words[0]) if words else None
    said = parsed(words[0], words[1:]) if verb is not None else None
    if verb is None or said is None:
        return None
    came: list[int | None] = []
    try:
        code = exit_code(lambda: came.append(verb(said)), words)
    except _Unusual:
        return None
    return code or (came[0] if came else 0)


def parsed(verb: str, words: Sequence[str]) -> Said | None:
    """Take the words of a verb apart; None for anything unusual."""
    said, left = Said({}, []), list(words)
    while left:
        word = left.pop(0)
        option, has_value, value = word.removeprefix("--").partition("=")
        if word == "--" and verb == "run":
            said.words.extend(left)
            break
        if not word.startswith("-"):
            said.words.append(word)
        elif not word.startswith("--") or option in said.options:
            return None
        elif option in FLAGS[verb] and not has_value:
            said.options[option] = ""
        elif option in WITH_A_VALUE[verb] and (has_value or left):
            said.options[option] = value if has_value else left.pop(0)
        else:
            return None
    return said


class _Unusual(Exception):
    """Words that typer must read."""


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _Unusual from None


# --- run -------------------------------------------------------------------------------------------------------------


def _run(said: Said) -> int:
    if len(said.words) < 2 or not said.words[1]:
        raise _Unusual
    from nexus_redis._values.parse import typed_seconds
    from nexus_redis.cli.fast_acquire import Wish, run

    name, *command = said.words
    of = said.options
    wish = Wish(
        name, of.get("key"), _float(of.get("cost", "1")), weight=_float(of.get("weight", "1")),
        timeout=typed_seconds(of["timeout"], "timeout") if "timeout" in of else None,
        priority=of.get("priority", "normal"), on_outage=of.get("on-outage", "share"), creates="create" in of,
        url=of.get("url"), namespace=of.get("namespace"),
    )  # fmt: skip
    return run(wish, command)


# --- signal ----------------------------------------------------------------------------------------------------------


def _signal(said: Said) -> int:
    of = said.options
    if len(said.words) != 1 or "rate" not in of:
        raise _Unusual
    weight = _float(of["weight"]) if "weight" in of else None
    name = budget_name(said.words[0], of.get("key"))
    told = signal(
        name, of["rate"], of.get("id"), weight, of.get("priority"), url=of.get("url"), namespace=of.get("namespace"),
        creates="create" in of,
    )  # fmt: skip
    if told is None:
        raise _Unusual
    print(shown(told, json="json" in of))
    return 0


_VERBS: Final[dict[str, Callable[[Said], int]]] = {"signal": _signal, "run": _run}


def signal(
    name: str,
    requested: str,
    id: str | None,
    weight: float | None,
    priority: str | None,
    *,
    url: str | None,
    namespace: str | None,
    creates: bool,
) -> dict[str, Any] | None:
    """Send the signal, and return the fields of the FlowControl with the requested rate beside them.

    Returns None where the caller must do it with redis-py: after any trouble, and where the budget does not exist.
    """
    from nexus_redis.cli.unknown_budgets import is_there

    budget_name(name)
    if priority not in (None, *WORDS["priority"]):
        raise InvalidSetting("priority", priority)
    asked, listed = question(name, requested, id, weight, priority, namespace)
    with Connection(url_of(url)) as connection:
        if not creates and swiftly(connection, is_there(BudgetKeys(namespace_of(namespace), name))) != [True]:
            return None
        answers = swiftly(connection, asked, listed)
    return None if answers is None else {**calls.flow_fields(name, answers[0]), "requested": parse_rate(requested)}


def question(
    name: str, requested: str, id: str | None, weight: float | None, priority: str | None, namespace: str | None
) -> tuple[Call[calls.Answer], Command[Listed]]:
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
    return asked, listed(prefix, name)


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
    from nexus_redis._values.identity import default_id

    return default_id().rsplit("-", 2)[0]

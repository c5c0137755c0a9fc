"""Parse the arguments of `signal` and `run` without typer: scripts call these in a loop, and typer imports slowly.

This parser knows the common forms only. For all others, from `--help` to a misspelled option, `main` returns None. Then
typer parses the arguments from the start, and reports what is wrong.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from nexus_redis._values.parse import budget_name
from nexus_redis.cli.exit_codes import exit_code


class Parsed(NamedTuple):
    """The arguments of a verb: options by name (a flag has the value ""), and the other words in order."""

    options: dict[str, str]
    words: list[str]


WITH_A_VALUE: Final = {
    "signal": ("rate", "id", "weight", "priority", "key", "url", "namespace"),
    "run": ("cost", "timeout", "weight", "priority", "on-outage", "key", "url", "namespace"),
}
FLAGS: Final = {"signal": ("json", "create"), "run": ("create",)}


class _NeedsTyper(Exception):
    """Arguments that typer must parse."""


def main(words: Sequence[str]) -> int | None:
    """Run a common form of `signal` or `run`, and return its exit code. Return None for anything else."""
    verb = _VERBS.get(words[0]) if words else None
    parsed = parse(words[0], words[1:]) if verb is not None else None
    if verb is None or parsed is None:
        return None
    codes: list[int] = []
    try:
        code = exit_code(lambda: codes.append(verb(parsed)), words)
    except _NeedsTyper:
        return None
    return code or (codes[0] if codes else 0)


def parse(verb: str, words: Sequence[str]) -> Parsed | None:
    """Return the options and words of a verb, or None if typer must parse them."""
    parsed, left = Parsed({}, []), list(words)
    while left:
        word = left.pop(0)
        option, has_value, value = word.removeprefix("--").partition("=")
        if word == "--" and verb == "run":
            parsed.words.extend(left)
            break
        if not word.startswith("-"):
            parsed.words.append(word)
        elif not word.startswith("--") or option in parsed.options:
            return None
        elif option in FLAGS[verb] and not has_value:
            parsed.options[option] = ""
        elif option in WITH_A_VALUE[verb] and (has_value or left):
            parsed.options[option] = value if has_value else left.pop(0)
        else:
            return None
    return parsed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _NeedsTyper from None


def _run(parsed: Parsed) -> int:
    if len(parsed.words) < 2 or not parsed.words[1]:
        raise _NeedsTyper
    from nexus_redis._values.parse import typed_seconds
    from nexus_redis.cli.fast_acquire import RunOptions, run

    name, *command = parsed.words
    given = parsed.options
    options = RunOptions(
        name, given.get("key"), _number(given.get("cost", "1")), weight=_number(given.get("weight", "1")),
        timeout=typed_seconds(given["timeout"], "timeout") if "timeout" in given else None,
        priority=given.get("priority", "normal"), on_outage=given.get("on-outage", "share"), creates="create" in given,
        url=given.get("url"), namespace=given.get("namespace"),
    )  # fmt: skip
    return run(options, command)


def _signal(parsed: Parsed) -> int:
    given = parsed.options
    if len(parsed.words) != 1 or "rate" not in given:
        raise _NeedsTyper
    from nexus_redis.cli.fast_signal import SignalOptions, formatted, send

    options = SignalOptions(
        budget_name(parsed.words[0], given.get("key")), given["rate"], given.get("id"),
        _number(given["weight"]) if "weight" in given else None, given.get("priority"), creates="create" in given,
        url=given.get("url"), namespace=given.get("namespace"),
    )  # fmt: skip
    flow = send(options)
    if flow is None:
        raise _NeedsTyper
    print(formatted(flow, options.rate, json="json" in given))
    return 0


_VERBS: Final[dict[str, Callable[[Parsed], int]]] = {"signal": _signal, "run": _run}

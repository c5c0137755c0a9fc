"""What typer refuses, in one line: the option as it was typed, what is wrong with it, and where the help is."""

import re
from collections.abc import Sequence
from typing import Any, Final

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import value_of
from nexus_redis.cli.output import PROGRAM

# The class has no public name, and moved when typer absorbed click. All releases have it among these bases.
_USAGE_ERROR: Final = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
_EXTRA: Final = re.compile(r"^Got unexpected extra argument\S* \(([^\s)]+)")
_NUMBER: Final = re.compile(r"\b(number|integer|float)\b")  # as typer's releases describe what they could not read


def is_usage_error(error: BaseException) -> bool:
    """Return whether typer refused the arguments."""
    return isinstance(error, _USAGE_ERROR)


def described(error: BaseException, words: Sequence[str]) -> str:
    """Return what is wrong with the arguments. `words` are the arguments as they were typed."""
    context = getattr(error, "ctx", None)
    verb = context.command_path if context is not None else PROGRAM
    problem = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    typed = getattr(error, "option_name", None)
    if context is None and typed and words and not words[0].startswith("-"):
        return texts.see_help(texts.needs_value(typed), f"{verb} {words[0]}")
    options = getattr(getattr(error, "param", None), "opts", ())
    option, value = next(((each, value) for each in options if (value := value_of(each, words)) is not None), ("", ""))
    if option and _NUMBER.search(problem):
        return texts.see_help(texts.not_a_number(option, value, is_whole="integer" in problem), verb)
    meant = _meant(typed or (_EXTRA.findall(problem) or [""])[0], context)
    if meant:
        problem = texts.no_such_option(typed, meant) if typed else texts.meant_option(problem, meant)
    elif verb.endswith(" run") and typed and "--" not in words:  # the option may belong to the command
        problem = texts.option_of_the_command(problem)
    return texts.see_help(problem, verb)


def _meant(typed: str, context: Any) -> str:
    """Return the option that differs from what was typed by `_`, `-` and capitals only: `--min_rate`, `minrate=5`."""

    def bare(word: str) -> str:
        return word.partition("=")[0].replace("_", "").replace("-", "").lower()

    options = [opt for param in context.command.params for opt in param.opts if opt.startswith("--")] if context else []
    return next((option for option in options if bare(option) == bare(typed)), "")

"""How a verb ends: an exit code, and at most one line on stderr.

0 well, 1 a finding or a loss, 2 usage, 69 Redis unreachable, 75 a deadline passed, 128+n by signal. A bug keeps its
traceback.
"""

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from nexus_redis.cli.output import printable
from nexus_redis.errors import AcquireTimeout, InvalidSetting, NexusError, ServerRefused

FINDING, USAGE, UNREACHABLE, TIMEOUT = 1, 2, 69, 75
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13
LONGEST_LINE = 500  # an argument of 100 kB is quoted in the error about it

_EXTRA = re.compile(r"^Got unexpected extra argument\S* \(([^\s)]+)")
_NUMBER = re.compile(r"\b(number|integer|float)\b")  # as typer's releases say what they could not read
_LOGIN = re.compile(r"://[^\s'\"]*@")


class Finding(Exception):
    """What was asked about is not well, or not there; exit code 1."""


class Misuse(Exception):
    """Arguments that each may pass, and don't make sense together; exit code 2."""


def exit_code(invoke: Callable[[], None], words: Sequence[str] = ()) -> int:
    """Run a verb and return its exit code. `words` are what was typed: an error names an option as it stands there."""
    try:
        code = _run(invoke, words)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        return _say(f"cannot write: {error.strerror}", FINDING)
    return code


CODES: Final = (  # the first that fits
    (KeyboardInterrupt, INTERRUPTED),
    (InvalidSetting, USAGE),
    (Misuse, USAGE),
    (AcquireTimeout, TIMEOUT),
    (ServerRefused, FINDING),
    (Finding, FINDING),
    (NexusError, UNREACHABLE),  # Unavailable; or of embedded://: no server is installed, or its port is another's
)


def _run(invoke: Callable[[], None], words: Sequence[str]) -> int:
    try:
        invoke()
    except BaseException as error:
        code = next((code for kind, code in CODES if isinstance(error, kind)), None)
        if code is not None:
            return code if code == INTERRUPTED else _say(_as_typed(error, words), code)
        import typer  # here, since `run` and `signal` do without it

        if isinstance(error, typer.Exit):
            return error.exit_code
        if isinstance(error, _usage_error()):
            return _say(_line(error, words), USAGE)
        raise
    return 0


def _usage_error() -> type[Exception]:
    # The class has no public name, and moved when typer absorbed click. All releases have it among these bases.
    import typer

    return next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def _as_typed(error: BaseException, words: Sequence[str]) -> str:
    """Return the error with its option as it was typed: `--min-rate 5` in place of `min_rate=5`."""
    said = str(error)
    if isinstance(error, InvalidSetting):
        option = as_option(error.field)
        told = f"{error.field}={error.value}" if error.value else error.field
        if said.startswith(told) and any(word.partition("=")[0] == option for word in words):
            value = "" if error.value in ("True", "False") else f" {error.value}"  # of a switch
            return f"{option}{value}".rstrip() + said.removeprefix(told)
    return said


def as_option(field: str) -> str:
    """Return the option of a field.

    >>> as_option("min_rate")
    '--min-rate'
    """
    return f"--{field.replace('_', '-')}"


def _line(error: BaseException, words: Sequence[str]) -> str:
    context = getattr(error, "ctx", None)
    verb = context.command_path if context is not None else "nexus-redis"
    what = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    typed = getattr(error, "option_name", None)
    if context is None and typed and words and not words[0].startswith("-"):
        return f"{typed} needs a value. See {verb} {words[0]} --help"
    option, value = _value_of(getattr(error, "param", None), words)
    if option and _NUMBER.search(what):
        return f"{option} {value!r}: use a {'whole number' if 'integer' in what else 'number'}. See {verb} --help"
    meant = _meant(typed or (_EXTRA.findall(what) or [""])[0], context)
    if meant and typed:
        what = f"No such option: {typed}. Use {meant}"
    elif meant:
        what += f". Use the option {meant}"
    if verb.endswith(" run") and typed and not meant:  # most likely it is the command's
        what += "; an option of the command goes behind a --"
    return f"{what}{'' if what.endswith('?') else '.'} See {verb} --help"


def _value_of(param: Any, words: Sequence[str]) -> tuple[str, str]:
    """Return an option and what was typed for it: `--load 95%`, `--load=95%`; two empty texts where it is not there."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option in getattr(param, "opts", ()):
            return option, value if equals else after
    return "", ""


def _meant(typed: str, context: Any) -> str:
    """Return the option that differs from what was typed by `_`, `-` and capitals only: `--min_rate`, `minrate=5`."""

    def bare(word: str) -> str:
        return word.partition("=")[0].replace("_", "").replace("-", "").lower()

    options = [opt for param in context.command.params for opt in param.opts if opt.startswith("--")] if context else []
    return next((option for option in options if bare(option) == bare(typed)), "")


def _say(text: str, code: int) -> int:
    line = printable(_LOGIN.sub("://***@", " ".join(text.split())))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE - 3]}..."
    print(f"nexus-redis: {line}", file=sys.stderr)
    return code


def _drop_output() -> None:
    # Python flushes once more when it exits, and would complain again.
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

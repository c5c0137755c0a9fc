"""The exit codes of all verbs, and which error ends with which; each error is one line on stderr.

0 success, 1 a finding or a loss, 2 usage, 69 Redis unreachable, 75 a deadline passed, 126 and 127 as in the shell,
128+n by signal n. A bug keeps its traceback.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from nexus_redis.cli import texts
from nexus_redis.cli.output import print_error
from nexus_redis.errors import AcquireTimeout, InvalidSetting, NexusError, ServerRefused

FINDING, USAGE, UNREACHABLE, TIMEOUT = 1, 2, 69, 75
CANNOT_EXECUTE, NOT_FOUND = 126, 127  # of a command that `run` starts
SIGNALLED: Final = 128  # plus the number of the signal
INTERRUPTED, BROKEN_PIPE = SIGNALLED + 2, SIGNALLED + 13


class Finding(Exception):
    """What the user asked about does not exist, or is not well; exit code 1."""


class Misuse(Exception):
    """Arguments that are valid one by one and do not make sense together; exit code 2."""


CODES: Final = (  # the first kind that fits
    (KeyboardInterrupt, INTERRUPTED),
    (InvalidSetting, USAGE),
    (Misuse, USAGE),
    (AcquireTimeout, TIMEOUT),
    (ServerRefused, FINDING),
    (Finding, FINDING),
    (NexusError, UNREACHABLE),  # Unavailable; or embedded:// without a server, or with its port in use
)


def exit_code(invoke: Callable[[], None], words: Sequence[str] = ()) -> int:
    """Run a verb and return its exit code. `words` are the arguments as typed, so that errors can quote options."""
    try:
        code = _run(invoke, words)
        if sys.stdout is not None:  # None where the parent process closed it
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        return _end(texts.output_failed(error.strerror or ""), FINDING)
    return code


def _run(invoke: Callable[[], None], words: Sequence[str]) -> int:
    try:
        invoke()
    except BaseException as error:
        code = next((code for kind, code in CODES if isinstance(error, kind)), None)
        if code is not None:
            return code if code == INTERRUPTED else _end(_as_typed(error, words), code)
        import typer  # here, since `run` and `signal` do without it

        if isinstance(error, typer.Exit):
            return error.exit_code
        from nexus_redis.cli.usage_errors import described, is_usage_error

        if is_usage_error(error):
            return _end(described(error, words), USAGE)
        raise
    return 0


def _as_typed(error: BaseException, words: Sequence[str]) -> str:
    """Return the error with its option as it was typed: `--min-rate 5` in place of `min_rate=5.0`."""
    text = str(error)
    if isinstance(error, InvalidSetting):
        option = as_option(error.field)
        subject = f"{error.field}={error.value}" if error.value else error.field
        typed = value_of(option, words)
        if text.startswith(subject) and typed is not None:
            value = "" if error.value in ("True", "False") else typed if _is_number(error.value) else error.value
            return f"{option} {value}".rstrip() + text.removeprefix(subject)  # a switch takes no value
    return text


def value_of(option: str, words: Sequence[str]) -> str | None:
    """Return the value of an option as it was typed, `--load 95%` or `--load=95%`; None if the option was not typed.

    >>> value_of("--load", ["report", "es", "--load=95%"])
    '95%'
    """
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else after
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def end_with_damage(problems: Sequence[str]) -> None:
    """Write what cannot be read to stderr, a line each, and end the verb with 1. Without problems, return.

    The verb has printed everything else before, so that one damaged budget does not hide the others.
    """
    if not problems:
        return
    import typer  # here, as above

    print(end="", flush=True)  # so that the lines stand in this order where both streams go to one file
    for each in problems:
        print_error(each)
    raise typer.Exit(FINDING)


def as_option(field: str) -> str:
    """Return the option of a field.

    >>> as_option("min_rate")
    '--min-rate'
    """
    return f"--{field.replace('_', '-')}"


def _end(text: str, code: int) -> int:
    print_error(text)
    return code


def _drop_output() -> None:
    # Python flushes stdout again when it exits, and would report the same error again.
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

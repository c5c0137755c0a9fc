"""How a verb ends: an exit code, and at most one line on stderr.

0 well, 1 a finding or a loss, 2 usage, 69 Redis unreachable, 75 a deadline passed, 128+n by signal. A bug keeps its
traceback.
"""

import errno
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import typer

from nexus_redis.cli.text import printable
from nexus_redis.errors import AcquireTimeout, InvalidSetting, NexusError, ServerRefused

FINDING, USAGE, UNREACHABLE, TIMEOUT = 1, 2, 69, 75
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13
LONGEST_LINE = 500  # an argument of 100 kB is quoted in the error about it

_LOGIN = re.compile(r"://[^\s'\"]*@")


class Finding(Exception):
    """What was asked about is not well, or not there; exit code 1."""


class Misuse(Exception):
    """Arguments that each may pass, and don't make sense together; exit code 2."""


def exit_code(invoke: Callable[[], None]) -> int:
    """Run it; what it came to."""
    try:
        code = _run(invoke)
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


# Typer's errors of usage have no public name, and moved when it took click in; all releases have their base here.
_USAGE_ERROR: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

CODES: Final = (  # the first that fits
    (KeyboardInterrupt, INTERRUPTED),
    (_USAGE_ERROR, USAGE),
    (InvalidSetting, USAGE),
    (Misuse, USAGE),
    (AcquireTimeout, TIMEOUT),
    (ServerRefused, FINDING),
    (Finding, FINDING),
    (NexusError, UNREACHABLE),  # Unavailable; or of embedded://: no server is installed, or its port is another's
)


def _run(invoke: Callable[[], None]) -> int:
    try:
        invoke()
    except typer.Exit as end:
        return end.exit_code
    except BaseException as error:
        code = next((code for kind, code in CODES if isinstance(error, kind)), None)
        if code is None:
            raise
        return code if code == INTERRUPTED else _say(_line(error), code)
    return 0


def _line(error: BaseException) -> str:
    if not isinstance(error, _USAGE_ERROR):
        return str(error)
    context = getattr(error, "ctx", None)
    verb = context.command_path if context is not None else "nexus-redis"
    what = str(getattr(error, "format_message", error.__str__)()).rstrip(".")
    if verb.endswith(" run") and hasattr(error, "option_name"):  # most likely it is the command's
        what += "; an option of the command goes behind a --"
    return f"{what}{'' if what.endswith('?') else '.'} See {verb} --help"


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

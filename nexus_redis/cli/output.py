"""What a verb writes: a budget in one line and other phrases for people, JSON for programs, errors on stderr."""

import json
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from nexus_redis._values.formatting import percent, printable, rate, setting_value, whole

PROGRAM: Final = "nexus-redis"
LONGEST_LINE: Final = 500  # characters: an argument of 100 kB is quoted in the error about it
_LOGIN: Final = re.compile(r"://[^\s'\"]*@")


def standing(rate_per_s: float, level: int, reason: str, load: float | None = None) -> str:
    """Return the state of a budget in one line, without its name.

    >>> standing(100, 2, "load", 95)
    '100/s, level 2, load 95 %, reason load'
    """
    how_full = f", load {percent(load)}" if load is not None else ""
    return f"{rate(rate_per_s)}, level {level}{how_full}, reason {printable(reason)}"


def setting(field: str, value: str | float | bool) -> str:
    """Return a setting as the option of `set` spells it, so that it can be typed again."""
    return f"{field.replace('_', '-')} {setting_value(field, value)}"


def choice(names: Iterable[str]) -> str:
    """Return names as a choice.

    >>> choice(["a", "b", "c"]), choice(["a"])
    ('a, b or c', 'a')
    """
    *others, last = map(printable, names)
    return f"{', '.join(others)} or {last}" if others else last


def as_json(value: Any) -> str:
    """Return one line of JSON; whole floats become integers, as in the messages of the protocol."""
    return json.dumps(whole(value), allow_nan=False)


def as_message(fields: Mapping[str, Any]) -> str:
    """Return the JSON text of a message of the protocol: the same bytes as its `to_json` gives."""
    return json.dumps(whole(fields), separators=(",", ":"), ensure_ascii=False)


def print_error(text: str) -> None:
    """Write one line to stderr: without passwords, at most `LONGEST_LINE` characters."""
    line = printable(_LOGIN.sub("://***@", " ".join(text.split())))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE - 3]}..."
    print(f"{PROGRAM}: {line}", file=sys.stderr)


class _Lines(logging.Handler):
    """Writes a record as an error is written. A bug keeps its traceback, on the lines after it."""

    def emit(self, record: logging.LogRecord) -> None:
        print_error(record.getMessage())
        if record.exc_info:
            print(logging.Formatter().formatException(record.exc_info), file=sys.stderr)


def print_warnings() -> None:
    """Write the warnings of the library to stderr from now on, as lines of this program."""
    logging.getLogger("nexus_redis").addHandler(_Lines(logging.WARNING))

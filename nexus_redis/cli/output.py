"""What a verb writes: a budget in one line and other phrases for people, JSON for programs, errors on stderr."""

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from nexus_redis._values.formatting import percent, printable, rate, setting_value, whole

PROGRAM: Final = "nexus-redis"
LONGEST_LINE: Final = 500  # characters: an argument of 100 kB is quoted in the error about it
LOG_FORMATS: Final = ("text", "json")
LOG_FORMAT: Final = "NEXUS_REDIS_LOG_FORMAT"  # the variable of the environment that names one of them
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
    """Write one line to stderr: without passwords, at most `LONGEST_LINE` characters. With JSON as format, as JSON."""
    line = printable(_without_passwords(" ".join(text.split())))
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE - 3]}..."
    if is_json_log():
        print_record(logging.LogRecord("nexus_redis.cli", logging.ERROR, "", 0, line, None, None))
    else:
        print(f"{PROGRAM}: {line}", file=sys.stderr)


def print_record(record: logging.LogRecord) -> None:
    """Write a log record to stderr. As text, a bug keeps its traceback, on the lines after the message."""
    if is_json_log():
        from nexus_redis.logs import JsonFormatter  # here, since most verbs log nothing

        print(_without_passwords(JsonFormatter().format(record)), file=sys.stderr, flush=True)
        return
    print_error(record.getMessage())
    if record.exc_info:
        print(logging.Formatter().formatException(record.exc_info), file=sys.stderr)


def is_json_log() -> bool:
    """Return whether stderr gets JSON, as --log-format or NEXUS_REDIS_LOG_FORMAT says."""
    return os.environ.get(LOG_FORMAT) == "json"


def _without_passwords(text: str) -> str:
    return _LOGIN.sub("://***@", text)


class LogHandler(logging.Handler):
    """Writes records to stderr in the format of the command line. A server may give it the logs of its libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print_record(record)
        except Exception:  # noqa: BLE001  # logging's own rule: a record that cannot be written stops nobody
            self.handleError(record)


def print_warnings() -> None:
    """Write the warnings of the library to stderr from now on, as lines of this program."""
    logging.getLogger("nexus_redis").addHandler(LogHandler(logging.WARNING))

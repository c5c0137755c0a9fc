"""Log records as JSON, one line each, for `logging.config.dictConfig`.

    {"version": 1,
     "formatters": {"json": {"class": "nexus_redis.logs.JsonFormatter"}},
     "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
     "loggers": {"nexus_redis": {"handlers": ["stderr"], "level": "INFO"}}}

docs/operations.md has a table of the fields of our records.
"""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["JsonFormatter"]

_OF_EVERY_RECORD: Final = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A formatter whose output is one line of JSON in ASCII, whatever the message holds.

    The line has `time` (RFC 3339, UTC), `level`, `logger`, `message`, each field that `extra=` gave the record, and
    `exception` and `stack` where the record has them. A value that JSON cannot hold becomes a string:

        {"time": "2026-11-30T22:04:05.123Z", "level": "WARNING", "logger": "nexus_redis",
         "message": "Redis answers again", "nexus_event": "redis_back"}
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        given = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
        if record.exc_info and record.exc_info != (None, None, None):
            line["exception"] = self.formatException(record.exc_info)
        elif record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        extra = {name: _as_json(value) for name, value in given.items() if name not in line}
        return json.dumps({**line, **extra}).replace("\x7f", "\\u007f")  # a control character that JSON need not escape


def _as_json(value: object) -> object:
    """Return a value that JSON can hold: the value itself, or its text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)
    return value

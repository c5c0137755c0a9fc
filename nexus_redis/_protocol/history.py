"""The history of a budget, newest entry first: the stream that `settle` in lua/lib/rate.lua writes.

The stream is plain text, so that redis-cli shows it too: `rate 100 -> 20`, in the units of the settings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.fields import ENTRY, Fields
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command
from nexus_redis._values.formatting import printable, seconds, setting_value
from nexus_redis.errors import SETTINGS

HISTORY: Final = 100  # entries that are read: one or two screens
SILENT: Final = "consumers fell silent"  # what a deadline that has passed means
OVER: Final = "a pause or a grace period ended, or a consumer fell silent"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the history: the rate (tokens/s) from then on. `age` is in seconds, `at` in seconds since 1970.

    `by` is the cause: report, deadline, leave, code or operator. `who` is the consumer, or the user and host that
    acted. `what` is the change ("rate 100 -> 20"), and `why` the reason that was given. A text that is not known is
    empty. `load` is in percent. `str()` has who, what and why: `rate 100/s -> 20/s by anna@ops1: "maintenance"`.
    """

    at: float
    age: float
    rate: float
    level: int
    load: float
    reason: str
    by: str
    who: str = ""
    what: str = ""
    why: str = ""

    def __str__(self) -> str:
        why = f': "{printable(self.why)}"' if self.why else ""
        who = printable(self.who)
        match self.by:
            case "report" if who:
                return f"report of {who}"
            case "leave" if who:
                return f"{who} left"
            case "operator":
                by = who or "an operator"
            case "code":
                by = f"code, {who}" if who else "code"
            case "deadline":
                return SILENT if self.reason == "no_consumers" else OVER
            case _:
                return f"{printable(self.by)}{why}"
        what = ", ".join(_change(each) for each in self.what.split(", ")) if self.what else ""
        return f"{what} by {by}{why}".lstrip()


def events(keys: BudgetKeys) -> Command[list[Any]]:
    """Return the command that reads the newest entries, each for `event_of`."""
    return Command(("XREVRANGE", keys.history, "+", "-", "COUNT", HISTORY), list)


def entry_of(keys: BudgetKeys, reply: Any) -> tuple[str, Fields]:
    """Return the id and the fields of an entry of the stream."""
    where, fields = reply
    if not isinstance(fields, dict):
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    return text(where), Fields(keys, keys.history, ENTRY, {text(name): text(said) for name, said in fields.items()})


def event_of(keys: BudgetKeys, reply: Any, now: float) -> Event:
    """Return an entry of the stream as an `Event`. Raise `damaged` if a person has added one that cannot be read."""
    where, said = entry_of(keys, reply)
    at = int(where.partition("-")[0]) / 1e3
    return Event(
        at=at,
        age=max(0.0, now - at),
        rate=said.get("rate_per_s", 0.0),
        level=said.get("level", 0),
        load=said.get("load_percent", 0.0),
        reason=printable(said.text("reason")),
        by=said.text("by"),
        who=said.text("who"),
        what=said.text("what"),
        why=said.text("why"),
    )


def before_the_last(history: Sequence[Event], field: str) -> str:
    """Return the value that a setting had before an operator last changed it, with its unit; "" if it is not known."""
    changes = (
        _CHANGE.fullmatch(change) for each in history if each.by == "operator" for change in each.what.split(", ")
    )
    last = next((change for change in changes if change and change[1] == field), None)
    return _value(field, last[2]) if last is not None and last[2] else ""


def _change(what: str) -> str:
    """Return a change with units: `rate 100/s -> 20/s`. A text of another form stays as it is.

    >>> _change("min_rate 100 -> 0.1"), _change("burst unset -> 60"), _change("paused for 600 s")
    ('min-rate 100/s -> 6/min', 'burst unset -> 60 s', 'paused for 10 min')
    """
    match = _CHANGE.fullmatch(what)
    if match is None:
        return _PAUSED.sub(lambda found: seconds(float(found[0][:-2])), printable(what))
    field, old, new, hidden = match.groups()
    moved = f"{_value(field, old)} -> " if old else ""
    told = f" (hidden by {_value(field, hidden)})" if hidden else ""
    return f"{field.replace('_', '-')} {moved}{_value(field, new)}{told}"


def _value(field: str, value: str) -> str:
    try:
        return "unset" if value == "unset" else setting_value(field, value)
    except ValueError:  # the scripts did not write this text
        return printable(value)


_CHANGE: Final = re.compile(rf"({'|'.join(SETTINGS)}) (?:(\S+) -> )?(\S+)(?: \(hidden by (\S+)\))?")
_PAUSED: Final = re.compile(r"(?<=^paused for )[\d.]{1,12} s$")

"""The hashes and the stream that people read: what each field holds, and the one way to read it.

Every number, word and time that Python reads from them goes through `Fields.get`. A value that no script can have
written raises `damaged`, which names the key, the field and the value. `repair` (deletion.py) looks at all fields.

docs/state.md explains each field. A test compares its tables with the tables here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from nexus_redis._protocol.damage import damaged
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis.errors import LARGEST_COUNT, RANGES, SETTINGS, WORDS

Parser = Callable[[str], Any]  # raises ValueError for a text that no script writes

LONGEST_NUMBER: Final = 40  # characters, as in `decimal` of lua/lib/number.lua
_DECIMAL: Final = re.compile(r"[0-9]+\.?[0-9]*")  # settings, as in the same function
_NUMBER: Final = re.compile(r"-?[0-9]+\.?[0-9]*(e[+-][0-9]{2,3})?")  # what string.format writes in Lua
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_SWITCHES: Final = {"0": False, "1": True}


# --- kinds of fields -------------------------------------------------------------------------------------------------


def _number(text: str) -> float:
    """Return a number that may be negative: tokens that are owed."""
    return _float(_NUMBER, text)


def _amount(text: str) -> float:
    amount = _number(text)
    if not 0 <= amount <= LARGEST_COUNT:
        raise ValueError(text)
    return amount


def _count(text: str) -> int:
    count = _amount(text)
    if not count.is_integer():
        raise ValueError(text)
    return int(count)


def _level(text: str) -> int:
    if text not in ("0", "1", "2", "3"):
        raise ValueError(text)
    return int(text)


def instant(text: str) -> float:
    """Return a date of the scripts as seconds since 1970: 0.25 for `1970-01-01T00:00:00.250Z`."""
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text).timestamp()


def _text(text: str) -> str:
    return text


def _word(*words: str) -> Parser:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return parse


def _fair_level(text: str) -> float:
    return math.inf if text == "uncontended" else _amount(text)


def _setting(name: str) -> Parser:
    """Return the parser of a setting; it takes what lua/lib/settings.lua takes."""
    if name == "lossless":
        return _switch
    return _word(*WORDS[name]) if name in WORDS else lambda text: _in_range(name, text)


def _switch(text: str) -> bool:
    if text not in _SWITCHES:
        raise ValueError(text)
    return _SWITCHES[text]


def _in_range(name: str, text: str) -> float:
    value = _float(_DECIMAL, text)
    if not RANGES[name].holds(value):
        raise ValueError(text)
    return value


def _float(spelling: re.Pattern[str], text: str) -> float:
    if len(text) > LONGEST_NUMBER or not spelling.fullmatch(text) or math.isinf(value := float(text)):
        raise ValueError(text)
    return value


# --- the fields ------------------------------------------------------------------------------------------------------

SOURCES: Final = ("operator", "code")  # an operator's value wins
ENDS: Final = ("left", "silent", "forgotten", "overruled")  # of the last consumer
BUDGET: Final[dict[str, Parser]] = {
    "schema": _count, "birth": _count, "updated_at": instant, "rate_per_s": _amount, "level": _level,
    "load_percent": _amount, "reason": _text, "tokens": _number, "burst_s": _amount, "granted_total": _count,
    "demand_per_s": _amount, "producers_in_demand": _count, "granted_per_s": _amount,
    **{f"fair_level_{name}_per_s": _fair_level for name in WORDS["priority"]},
    **{f"{name}_by_{source}": _setting(name) for name in SETTINGS for source in SOURCES},
    **{f"{name}_set_by": _text for name in SETTINGS},
    "paused_until": _text, "paused_until_us": _count, "pause_reason": _text, "pause_by": _text, "pause_who": _text,
    "pause_of_operator_us": _count, "pause_of_operator_who": _text, "pause_of_operator_why": _text,
    "last_consumer_end": _word(*ENDS),
    "left_us": _count, "left_rate_per_s": _amount,
}  # fmt: skip
CONSUMER: Final[dict[str, Parser]] = {
    "law": _word(*WORDS["law"]), "rate_per_s": _amount, "capacity_per_s": _amount, "load_percent": _amount,
    **dict.fromkeys(("queue_depth", "queue_limit", "done", "errors", "cancelled", "in_flight", "latency_ms"), _amount),
    "arrivals_per_s": _amount, "labels": _text, "reported_at": instant, "joined_at": instant, "paused_until": instant,
}  # fmt: skip
PRODUCER: Final[dict[str, Parser]] = {
    "demand_per_s": _amount, "share_per_s": _amount, "held": _number, "weight": _amount,
    "priority": _word(*WORDS["priority"]),
}  # fmt: skip
ENTRY: Final[dict[str, Parser]] = {  # of the history
    "rate_per_s": _amount, "level": _level, "load_percent": _amount, "reason": _text, "by": _text, "who": _text,
    "what": _text, "why": _text,
}  # fmt: skip
# Fields that the script `inspect` adds to those of the budget's hash.
INSPECTED: Final[dict[str, Parser]] = {**BUDGET, "called_at_us": _count, "due_us": _count, "refresh_us": _count}


class Fields:
    """The fields of one hash, or of one entry of the history, and the key that they were read from."""

    __slots__ = ("key", "keys", "parsers", "texts")

    def __init__(self, keys: BudgetKeys, key: str, parsers: Mapping[str, Parser], texts: Mapping[str, str]) -> None:
        self.keys, self.key, self.parsers, self.texts = keys, key, parsers, texts

    def __contains__(self, field: str) -> bool:
        return field in self.texts

    def get(self, field: str, default: Any = None) -> Any:
        """Return the value of a field, or `default` if the hash has no such field. Raise `damaged` if it is neither."""
        text = self.texts.get(field)
        if text is None:
            return default
        try:
            return self.parsers[field](text)
        except ValueError:
            raise damaged(self.keys, self.key, field, text) from None

    def text(self, field: str, default: str = "") -> str:
        """Return a field as its text, after the same check."""
        self.get(field)
        return self.texts.get(field, default)

    def damages(self) -> Iterator[str]:
        """Yield the names of the fields that cannot be read."""
        for field in sorted(self.parsers.keys() & self.texts.keys()):
            try:
                self.parsers[field](self.texts[field])
            except ValueError:
                yield field

"""Single values, checked and in exact units. It imports next to nothing: a command line of one call starts with it.

A refusal is always an `InvalidSetting`; the ranges stand in one table, `errors.RANGES`.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import Final

from nexus_redis.errors import NAME_REMEDY, RANGES, InvalidSetting

DEFAULT_URL: Final = "redis://localhost:6379/0"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

LONGEST_KEY: Final = 256  # bytes
LONGEST_NAME: Final = 64  # as in NAME_PATTERN
DIGEST: Final = 32  # hexadecimal digits of the hash
HASHED: Final = "_"  # begins a hashed key, so that no plain key can be taken for one

_MICRO: Final = 1_000_000
_FLOAT_NOISE: Final = 4  # units in the last place: what a few operations on a decimal like 0.1 leave behind

_NAME: Final = re.compile(NAME_PATTERN)
_RATE: Final = re.compile(r"(?ai)\s*(\d{1,20}(?:\.\d{0,20})?(?:e[+-]?\d{1,3})?)\s*(?:/\s*(s|min|h|d)\s*)?")
_DURATION: Final = re.compile(r"(?ai)\s*(\d{1,20}(?:\.\d{0,20})?(?:e[+-]?\d{1,3})?)\s*(s|min|h|d)?\s*")
_SECONDS_PER: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_DURATION_SPELLINGS: Final = ', as a number or like "90s", "5min", "2h"'
_RATE_SPELLINGS: Final = ', as a number or like "100/s", "6000/min", "10/h", "5/d"'


# --- exact units -----------------------------------------------------------------------------------------------------


def micro(x: float) -> int:
    """`x` in whole millionths, to the nearest (half to even): 0.1 -> 100000."""
    return round(x * _MICRO)


def micro_rate(per_second: float) -> int:
    """A rate in millionths per second, rounded up, so that "20/min" has its token back after 3 s and not 1 us later.

    >>> micro_rate(20 / 60), micro_rate(0.1), micro_rate(0.1 + 0.2)
    (333334, 100000, 300000)
    """
    scaled = per_second * _MICRO
    nearest = round(scaled)
    return nearest if abs(scaled - nearest) <= _FLOAT_NOISE * math.ulp(scaled) else math.ceil(scaled)


def from_micro(millionths: int) -> float:
    """The other way: 333334 -> 0.333334."""
    return millionths / _MICRO


# --- single values ---------------------------------------------------------------------------------------------------


def parse_number(field: str, value: object) -> float:
    """`value` as a float within the range that `field` has in `RANGES`: no bool, no text, no NaN, no infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not RANGES[field].holds(value):
        raise InvalidSetting(field, value)
    return float(value)


def parse_rate(value: object, field: str = "rate") -> float:
    """A rate in tokens per second, from a number (per second) or text: "100/s", "6000/min", "10/h", "5/d", "100".

    >>> parse_rate("6000/min")
    100.0
    """
    number = value
    if isinstance(value, str):
        match = _RATE.fullmatch(value)
        if match is None:
            raise InvalidSetting(field, value, RANGES[field].remedy + _RATE_SPELLINGS)
        number = float(match[1]) / _SECONDS_PER[(match[2] or "s").lower()]
    try:
        return parse_number(field, number)
    except InvalidSetting:
        raise InvalidSetting(field, value, RANGES[field].remedy + _RATE_SPELLINGS) from None


def parse_seconds(text: str, field: str) -> float:
    """A duration as a person types it, in seconds, with the units of a rate.

    >>> parse_seconds("90", "pause"), parse_seconds("5min", "pause"), parse_seconds("0.5 h", "pause")
    (90.0, 300.0, 1800.0)
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidSetting(field, text, RANGES[field].remedy + _DURATION_SPELLINGS)
    return parse_number(field, float(match[1]) * _SECONDS_PER[(match[2] or "s").lower()])


def parse_limit(value: object) -> float:
    """What a queue can hold, in tokens: more than 0."""
    limit = parse_number("queue_limit", value)
    if limit <= 0:
        raise InvalidSetting("limit", value, "use how many entries may wait at most: more than 0")
    return limit


def parse_cost(value: object, field: str = "cost") -> float:
    """The tokens of one unit of work: 1e-6 to 1e9."""
    return parse_number(field, value)


def parse_name(value: object, field: str = "name") -> str:
    """The name of a budget, namespace, producer or consumer; it goes into keys, hence no braces, spaces or colons."""
    # fullmatch, since `$` would let a line feed through at the end.
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidSetting(field, value, NAME_REMEDY)
    return value


def is_name(text: str) -> bool:
    """Whether it could be a budget's."""
    return _NAME.fullmatch(text) is not None


def budget_name(name: str, key: str | None = None) -> str:
    """The name of `nexus.budget(name, key=key)`, checked."""
    return parse_name(name) if key is None else keyed_name(parse_name(name), key)


def keyed_name(parent: str, key: str) -> str:
    """The name of `parent`'s budget for `key`: the key itself where it can be part of a name, else its hash.

    >>> keyed_name("stripe", "cust-42")
    'stripe.cust-42'
    >>> keyed_name("stripe", "Zoe & Co")
    'stripe._45bf10a334a3b1c5174416f3a67f55b1'
    """
    given: object = key
    if not isinstance(given, str) or not 0 < len(raw := given.encode("utf-8", "surrogatepass")) <= LONGEST_KEY:
        raise InvalidSetting("key", key, f"use a text of 1 to {LONGEST_KEY} bytes")
    if not key.startswith(HASHED):
        try:
            return parse_name(f"{parent}.{key}")
        except InvalidSetting:
            pass
    digest = hashlib.sha256(parent.encode() + b"\0" + raw).hexdigest()[:DIGEST]
    return f"{parent[: LONGEST_NAME - 1 - len(HASHED) - DIGEST]}.{HASHED}{digest}"

"""Parse single values into exact units, and check them.

A refusal is always an `InvalidSetting`. The ranges are in one table, `errors.RANGES`. This module imports next to
nothing, because the command line starts with it even for a single call.
"""

from __future__ import annotations

import math
import re
from typing import Final

from nexus_redis._values import error_texts, log_texts
from nexus_redis.errors import LONGEST_KEY, RANGES, InvalidSetting, Range

DEFAULT_URL: Final = "redis://localhost:6379/0"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

LONGEST_NAME: Final = 64  # as in NAME_PATTERN; a name together with a key is not longer
DIGEST: Final = 32  # hexadecimal digits of the hash
HASHED: Final = "_"  # begins a hashed key, so that no plain key looks like one
# Between a name and a key. No name, plain key or hash contains it, so a full name can be split in one way only. It
# needs no quotes in a shell, and has no meaning in a glob, in an ACL pattern or in a hash tag.
SEPARATOR: Final = "/"
BUDGET_PATTERN: Final = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}(?:{SEPARATOR}[A-Za-z0-9._-]{{1,62}})?$"

MICRO: Final = 1_000_000  # micro-tokens in a token: amounts are whole numbers of micro-tokens, so sums are exact
_FLOAT_NOISE: Final = 4  # units in the last place: the error after a few operations on a decimal like 0.1

_NAME: Final = re.compile(NAME_PATTERN)
_BUDGET: Final = re.compile(BUDGET_PATTERN)
_PLAIN_KEY: Final = re.compile(rf"(?!{HASHED})[A-Za-z0-9._-]+")
LONGEST_TEXT: Final = 64  # characters of a rate or duration: a longer text is refused before any pattern is tried
_SECONDS_PER: Final = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
_TIMES: Final = {None: 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_NUMBER: Final = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?)"  # or 10,000
_UNIT: Final = "|".join(sorted(_SECONDS_PER, key=len, reverse=True))
_RATE: Final = re.compile(rf"(?ai)\s*({_NUMBER})\s?(?-i:([kKMG])\b)?\s?(?:(?:/|per\b)\s?({_NUMBER})?\s?({_UNIT})\s*)?")
_DURATION: Final = re.compile(rf"(?ai)\s*(?:({_NUMBER})|(?:{_NUMBER}\s?(?:{_UNIT})\s?)+)\s*")
_PART: Final = re.compile(rf"(?ai)({_NUMBER})\s?({_UNIT})")
FRACTION: Final = log_texts.LOAD_IS_FRACTION  # by its name here until `cli` takes it from there


# --- exact units -----------------------------------------------------------------------------------------------------


def micro(x: float) -> int:
    """Return `x` in whole millionths, rounded to the nearest (half to even): 0.1 -> 100000."""
    return round(x * MICRO)


def micro_rate(per_second: float) -> int:
    """Return a rate in millionths per second, rounded up. So "20/min" has its token back after 3 s, and not 1 us later.

    >>> micro_rate(20 / 60), micro_rate(0.1), micro_rate(0.1 + 0.2)
    (333334, 100000, 300000)
    """
    scaled = per_second * MICRO
    nearest = round(scaled)
    return nearest if abs(scaled - nearest) <= _FLOAT_NOISE * math.ulp(scaled) else math.ceil(scaled)


def from_micro(millionths: int) -> float:
    """Return millionths as tokens: 333334 -> 0.333334."""
    return millionths / MICRO


# --- single values ---------------------------------------------------------------------------------------------------


def parse_number(field: str, value: object) -> float:
    """Return `value` as a float in the range of `field` (`RANGES`). A bool, a text, NaN and infinity are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not RANGES[field].holds(value):
        raise InvalidSetting(field, value)
    return float(value)


def parse_rate(value: object, field: str = "rate") -> float:
    """Return a rate in tokens per second, from a number (per second) or a text.

    A text is a number, optionally followed by `k`, `M` or `G`, and a time: `/s`, `/min`, `/hour`, `per day`, `/10s`.
    Without a time, the rate is per second.

    >>> [parse_rate(text) for text in ("6000/min", "1.5k/s", "100 per 10 seconds")]
    [100.0, 1500.0, 10.0]
    """
    number = value
    if isinstance(value, str):
        match = _RATE.fullmatch(value) if len(value) <= LONGEST_TEXT else None
        if match is None:
            raise InvalidSetting(field, value, RANGES[field].remedy + error_texts.RATE_SPELLINGS)
        count, times, length, unit = match.groups()
        seconds = _float(length or "1") * _SECONDS_PER[(unit or "s").lower()]
        number = _float(count) * _TIMES[times] / seconds if 0 < seconds < math.inf else math.inf
    try:
        return parse_number(field, number)
    except InvalidSetting:
        raise InvalidSetting(field, value, RANGES[field].remedy + error_texts.RATE_SPELLINGS) from None


def parse_seconds(value: object, field: str) -> float:
    """Return a duration in seconds, from a number or a text with a unit.

    A text without a unit is refused: "30" may be a shell variable in the wrong place.

    >>> [parse_seconds(text, "pause") for text in ("90s", "5m", "0.5 hours", "1h30m", "250ms")]
    [90.0, 300.0, 1800.0, 5400.0, 0.25]
    """
    return _duration(value, field, RANGES[field], needs_unit=True)


def parse_milliseconds(value: object, field: str) -> float:
    """Return a duration in milliseconds, from a number of milliseconds or a text with a unit.

    >>> parse_milliseconds(250, "latency_target_ms"), parse_milliseconds("1.5s", "latency_target_ms")
    (250.0, 1500.0)
    """
    return _duration(value, field, RANGES[field], unit_s=0.001, needs_unit=True)


def typed_seconds(text: str, field: str, span: Range | None = None) -> float:
    """Return a duration in seconds, as people type it on a command line: without a unit it is in seconds.

    Its range is `span`, or else that of `field`.

    >>> [typed_seconds(text, "pause") for text in ("90", "90s", "1.5")]
    [90.0, 90.0, 1.5]
    """
    return _duration(text, field, span or RANGES[field])


def typed_milliseconds(text: str, field: str) -> float:
    """Return a duration in milliseconds, as people type it on a command line: without a unit it is in milliseconds.

    >>> typed_milliseconds("250", "latency_target_ms"), typed_milliseconds("1.5s", "latency_target_ms")
    (250.0, 1500.0)
    """
    return _duration(text, field, RANGES[field], unit_s=0.001)


def _duration(value: object, field: str, span: Range, *, unit_s: float = 1, needs_unit: bool = False) -> float:
    number = value
    if isinstance(value, str) and len(value) <= LONGEST_TEXT and (match := _DURATION.fullmatch(value)):
        if not match[1]:
            number = sum(_float(count) * _SECONDS_PER[unit.lower()] for count, unit in _PART.findall(value)) / unit_s
        elif not needs_unit:
            number = _float(match[1])
    if isinstance(number, bool) or not isinstance(number, int | float) or not span.holds(number):
        spellings = error_texts.DURATION_SPELLINGS if unit_s == 1 else error_texts.MILLISECOND_SPELLINGS
        raise InvalidSetting(field, value, span.remedy + spellings)
    return float(number)


def _float(text: str) -> float:
    return float(text.replace(",", ""))


def is_fraction(load: float | None) -> bool:
    """Return whether a load looks like 0.95 where 95 % is meant. `FRACTION` is the warning."""
    return load is not None and 0 < load < 1


def parse_limit(value: object) -> float:
    """Return the number of tokens that a queue can hold; 0 is refused."""
    limit = parse_number("queue_limit", value)
    if limit <= 0:
        raise InvalidSetting("limit", value, error_texts.EMPTY_QUEUE_LIMIT)
    return limit


def parse_cost(value: object, field: str = "cost") -> float:
    """Return the cost of one unit of work, 1e-6 to 1e9 tokens."""
    return parse_number(field, value)


def parse_name(value: object, field: str = "name") -> str:
    """Return the name of a budget, namespace, producer or consumer. It goes into keys: no braces, spaces or colons."""
    # fullmatch, because `$` would accept a line feed at the end.
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidSetting(field, value, error_texts.KEYED_NAME if is_budget(value) else error_texts.INVALID_NAME)
    return value


def is_budget(text: object) -> bool:
    """Return whether `text` is the full name of a budget: a name, or name and key as lists show them."""
    return isinstance(text, str) and len(text) <= LONGEST_NAME and _BUDGET.fullmatch(text) is not None


def budget_name(name: str, key: str | None = None) -> str:
    """Return the full name of the budget of `name` and `key`; without a key, `name` may be a full name itself.

    >>> budget_name("stripe", "cust-42"), budget_name("stripe/cust-42")
    ('stripe/cust-42', 'stripe/cust-42')
    """
    if key is not None:
        return keyed_name(parse_name(name), key)
    return name if is_budget(name) else parse_name(name)


def split_name(name: str, key: str | None = None) -> tuple[str, str | None]:
    """Return `name` and `key` of a budget, where `name` may be a full name.

    >>> split_name("stripe/cust-42")
    ('stripe', 'cust-42')
    """
    if key is not None or not is_budget(name) or SEPARATOR not in name:
        return parse_name(name), key
    parent, key = name.split(SEPARATOR)
    if key.startswith(HASHED):
        raise InvalidSetting("name", name, error_texts.HASHED_KEY)
    return parent, key


def keyed_name(parent: str, key: str) -> str:
    """Return the name of `parent`'s budget for `key`, with the key itself if it fits into a name, or else its hash.

    No two pairs of parent and key have the same name, and no name without a key equals one with a key.

    >>> keyed_name("stripe", "cust-42")
    'stripe/cust-42'
    >>> keyed_name("stripe", "Zoe & Co")
    'stripe/_45bf10a334a3b1c5174416f3a67f55b1'
    """
    return _joined(parent, SEPARATOR, key)


def source_id(kind: str, key: str) -> str:
    """Return the id of the consumer that watches work in Redis.

    >>> source_id("list", "mails")
    'list.mails'
    """
    return _joined(kind, ".", key)


def _joined(first: str, separator: str, key: str) -> str:
    given: object = key
    if not isinstance(given, str) or not 0 < len(raw := given.encode("utf-8", "surrogatepass")) <= LONGEST_KEY:
        raise InvalidSetting("key", key, error_texts.invalid_key(LONGEST_KEY))
    plain = f"{first}{separator}{key}"
    if len(plain) <= LONGEST_NAME and _PLAIN_KEY.fullmatch(key):
        return plain
    import hashlib  # slow to import, and few keys are hashed

    digest = hashlib.sha256(first.encode() + b"\0" + raw).hexdigest()[:DIGEST]
    return f"{first[: LONGEST_NAME - 1 - len(HASHED) - DIGEST]}{separator}{HASHED}{digest}"

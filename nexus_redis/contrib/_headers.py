"""What a server says about its limit, read from one response. No I/O, and no clock where the server tells its own.

    429 or 503 with `Retry-After: 7`, or an HTTP date                   7 s, or until then
    429 with `x-ratelimit-reset: 7`, or the time as Unix seconds        the same
    any status with `x-ratelimit-remaining: 0` and a reset              until the reset: the next one would be refused

The names come with and without `x-`, and per subject: `x-ratelimit-remaining-tokens` goes with
`x-ratelimit-reset-tokens`. Times are also read as `6m0s` and `20ms`. A date is compared with the response's own `Date`
where there is one, so that a host's clock counts only for servers that do not tell theirs. What cannot be read says
nothing: a limit is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, NamedTuple

from nexus_redis.errors import SECONDS

REFUSALS: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_EPOCH_SECONDS: Final = 1e9  # a larger number is a time since 1970 and no duration, which would be 31 years
_EPOCH_MILLISECONDS: Final = 1e12
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_PARTS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s)")
_PART_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_REMAINING: Final = re.compile(r"((?:x-)?ratelimit)-remaining((?:-[a-z0-9-]+)?)")


class Told(NamedTuple):
    """Send nothing for `seconds` (0 to a day); `why` is the header that said so, for the budget's history."""

    seconds: float
    why: str


def told_to_wait(status: int, headers: Mapping[str, str]) -> Told | None:
    """How long the server wants to be left alone; None where it does not say.

    >>> told_to_wait(429, {"retry-after": "7"})
    Told(seconds=7.0, why='429 Retry-After: 7')
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    now = _now(lower.get("date", ""))
    candidates = []
    if status in REFUSALS and "retry-after" in lower:
        candidates = [("retry-after", "Retry-After")]
    else:
        spent = [_REMAINING.fullmatch(name) for name, left in lower.items() if _is_zero(left)]
        resets = [f"{match[1]}-reset{match[2]}" for match in spent if match]
        if not resets and status == HTTPStatus.TOO_MANY_REQUESTS:
            resets = ["x-ratelimit-reset", "ratelimit-reset"]
        candidates = [(name, name) for name in resets if name in lower]
    told = [
        Told(min(seconds, SECONDS.high), f"{status} {label}: {lower[name][:40]}")
        for name, label in candidates
        if (seconds := _seconds(lower[name], now)) is not None and seconds > 0
    ]
    return max(told, default=None)


def _now(date: str) -> datetime:
    return _date(date) or datetime.now(UTC)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)  # "-0000" is UTC that does not say where it is


def _is_zero(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None and float(text) == 0


def _seconds(text: str, now: datetime) -> float | None:
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number >= _EPOCH_MILLISECONDS:
            number /= 1e3
        return number - now.timestamp() if number >= _EPOCH_SECONDS else number
    parts = _PARTS.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _PART_SECONDS[unit] for number, unit in parts)
    date = _date(text)
    return (date - now).total_seconds() if date else None

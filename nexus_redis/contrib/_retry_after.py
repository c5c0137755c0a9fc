"""How long a response asks its client to wait. No I/O, and no clock where the server tells its own time.

    429 or 503 with `retry-after-ms: 120`, or `Retry-After: 7`, or an HTTP date    for 0.12 s, 7 s, or until then
    429 with `x-ratelimit-reset-after: 0.3` or `x-ratelimit-reset: 7`              for 0.3 s or 7 s
    any status with `x-ratelimit-remaining: 0` and its reset                       until the reset
    any status with `RateLimit: "default";r=0;t=30`                                for 30 s

The first line that applies counts. The last two lines apply before any request is refused. If two quotas are used up,
the one that is reset later counts.

The words "remaining" and "reset" make a pair, whatever stands around them: `x-ratelimit-remaining-tokens` goes with
`x-ratelimit-reset-tokens`, `anthropic-ratelimit-tokens-remaining` with `anthropic-ratelimit-tokens-reset`, and
`ratelimit-remaining` with `ratelimit-reset-after`. A reset is read as seconds, as text like `6m0s` and `20ms`, as Unix
time, and as a date of HTTP or of RFC 3339. A date is compared with the response's own `Date` where it has one, so the
clock of this host counts only for servers that do not tell theirs. A header that cannot be read asks for nothing,
because a limit is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, NamedTuple

from nexus_redis.errors import SECONDS

REFUSALS: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
RETRY_AFTER: Final = (("retry-after-ms", 1e-3), ("x-ms-retry-after-ms", 1e-3), ("retry-after", 1.0))  # most exact first
_EPOCH_SECONDS: Final = 1e9  # a larger number is a time since 1970: as a duration it would be 31 years
_EPOCH_MILLISECONDS: Final = 1e12
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_PARTS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s)")
_PART_SECONDS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_REMAINING: Final = re.compile(r"((?:[a-z0-9-]+-)?rate-?limit(?:-[a-z0-9-]+)?)-remaining((?:-[a-z0-9-]+)?)")
_TIMESTAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,18}(Z|[+-][0-9]{2}:[0-9]{2})")

# The parts of a Structured Field (RFC 9651): a String, a Token, any other bare item; parameters; a member of a list.
_STRING: Final = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_WORD: Final = r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
_BARE: Final = rf"(?:{_STRING}|{_WORD}|:[A-Za-z0-9+/=]*:|-?[0-9]{{1,15}}(?:\.[0-9]{{1,3}})?|\?[01])"
_PARAMETER: Final = re.compile(rf"; *([a-z*][a-z0-9_.*-]*)(?:=({_BARE}))?")
_MEMBER: Final = re.compile(rf"[ \t]*(?:{_STRING}|{_WORD})((?:; *[a-z*][a-z0-9_.*-]*(?:={_BARE})?)*)[ \t]*(?:,|$)")
_OLD_MEMBER: Final = r"(limit|remaining|reset)=([0-9]{1,15})"
_OLD: Final = re.compile(rf"{_OLD_MEMBER}(?:, *{_OLD_MEMBER})*")  # the form of the draft up to its version 07
_SHOWN: Final = {"retry-after": "Retry-After", "ratelimit": "RateLimit"}


class RequestedWait(NamedTuple):
    """A time without requests, `seconds` (0 to a day). `header` is what asked for it: status, field and value."""

    seconds: float
    header: str


def requested_wait(status: int, headers: Mapping[str, str]) -> RequestedWait | None:
    """Return the wait that a response asks for; None where it asks for none.

    >>> requested_wait(429, {"retry-after": "7"})
    RequestedWait(seconds=7.0, header='429 Retry-After: 7')
    """
    lower: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        # A list may be split over several fields, which some libraries give one by one.
        lower[key] = f"{lower[key]}, {value.strip()}" if key == "ratelimit" and key in lower else value.strip()
    if status not in REFUSALS and _number(lower.get("age", "")):  # out of a cache: the quota is of an earlier time
        return None
    now = _now(lower.get("date", ""))
    requests = list(_refusal(status, lower, now)) or [*_resets(status, lower, now), *_windows(lower)]
    waits = [
        RequestedWait(min(seconds, SECONDS.high), f"{status} {_SHOWN.get(name, name)}: {text[:40]}")
        for name, text, seconds in requests
        if seconds is not None and seconds > 0
    ]
    return max(waits, default=None)


Requests = Iterator[tuple[str, str, float | None]]  # a header, its value, and the seconds that it means


def _refusal(status: int, headers: Mapping[str, str], now: datetime) -> Requests:
    """Yield the wait that a refusal asks for. The first header that can be read counts, and no other header does."""
    if status not in REFUSALS:
        return
    for name, unit in RETRY_AFTER:
        if name in headers:
            seconds = _seconds(headers[name], now) if unit == 1 else _number(headers[name], unit)
            if seconds is not None:
                yield name, headers[name], seconds
                return


def _resets(status: int, headers: Mapping[str, str], now: datetime) -> Requests:
    """Yield the reset of each quota of which nothing remains; for a refusal that names no quota, the only reset."""
    pairs = [_REMAINING.fullmatch(name) for name, left in headers.items() if _number(left) == 0]
    names = [(match[1], match[2]) for match in pairs if match]
    if not names and status == HTTPStatus.TOO_MANY_REQUESTS:
        names = [("x-ratelimit", ""), ("ratelimit", "")]
    for before, after in names:
        for reset in (f"{before}-reset-after{after}", f"{before}-reset{after}"):  # first the one that needs no clock
            if reset in headers:
                yield reset, headers[reset], _seconds(headers[reset], now)
                break


def _windows(headers: Mapping[str, str]) -> Requests:
    """Yield the window of each quota in `RateLimit` of which nothing is left. A malformed field is ignored."""
    text, at = headers.get("ratelimit", ""), 0
    if _OLD.fullmatch(text):
        old = dict(re.findall(_OLD_MEMBER, text))
        if _number(old.get("remaining", "")) == 0:
            yield "ratelimit", text, _number(old.get("reset", ""))
        return
    windows = []
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None or (member.end() == len(text) and text[-1] == ","):
            return
        given = dict(_PARAMETER.findall(member[1]))
        windows.append(given.get("t") if _number(given.get("r", "")) == 0 else None)
        at = member.end()
    for window in windows:
        if window is not None:
            yield "ratelimit", text, _number(window)


def _now(date: str) -> datetime:
    return _date(date) or datetime.now(UTC)


def _date(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if _TIMESTAMP.fullmatch(text) else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)  # "-0000" is UTC from a host that hides its time zone


def _number(text: str, unit: float = 1.0) -> float | None:
    return float(text) * unit if _NUMBER.fullmatch(text) else None


def _seconds(text: str, now: datetime) -> float | None:
    number = _number(text)
    if number is not None:
        if number >= _EPOCH_MILLISECONDS:
            number /= 1e3
        return number - now.timestamp() if number >= _EPOCH_SECONDS else number
    parts = _PARTS.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _PART_SECONDS[unit] for number, unit in parts)
    date = _date(text)
    return (date - now).total_seconds() if date else None

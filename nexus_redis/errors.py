"""The errors of this package, as a tree. Catch a leaf, the root, or the builtin that you would have caught anyway.

    NexusError
    |-- AcquireTimeout   (TimeoutError)     the deadline passed; nothing was taken
    |-- Unavailable      (ConnectionError)  Redis does not answer, and the mode is "closed"
    |-- InvalidSetting   (ValueError)       a value out of its range: names the field, and says what to write instead
    |-- ServerRefused                       Redis said no, and would say it again: ACL, schema, an id that is taken
    |-- Closed           (RuntimeError)     used after close()
    |-- WrongLoop        (RuntimeError)     an async Nexus, used in another event loop than the one that it belongs to
    |-- NoLoop           (RuntimeError)     an async Nexus, used where no event loop of asyncio runs, as under trio
    |-- ReentrantCall    (RuntimeError)     called by a signal handler that interrupted another call of this thread
    |-- NoThread         (RuntimeError)     the system gives this process no further thread
    |-- NotPicklable     (TypeError)        an object that belongs to one process was copied, or sent to another one
    `-- MissingLibrary   (ImportError)      a helper in `contrib` without the library that it is for

A denial is not an error: `try_acquire` returns a falsy result. Each error carries its data as attributes, its message
is made of them, and it survives pickling (a worker pool hands errors to its parent). A message never repeats a value
that may be a secret: see `shown`.

This module has the tree, the ranges of all numbers, and the spelling of messages. The texts are in
`_values/error_texts.py`.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any, Final, NamedTuple

from nexus_redis._values import error_texts

SHOWN_CHARACTERS: Final = 80  # one line of a log: enough to recognise a value, too little to fill a disk


class Range(NamedTuple):
    """The numbers that a field may have, in its unit: `low` to `high`, both included, and also 0 if `or_zero`."""

    low: float
    high: float
    unit: str
    or_zero: bool = False

    def holds(self, value: float) -> bool:
        """Return whether `value` is inside; NaN never is."""
        return self.low <= value <= self.high or (self.or_zero and value == 0)

    @property
    def remedy(self) -> str:
        """Return the range as advice: `use 0, or 1e-6 to 1e9 tokens per second`."""
        return error_texts.out_of_range(_plain(self.low), _plain(self.high), self.unit, or_zero=self.or_zero)


def _plain(bound: float) -> str:
    brief = f"{bound:g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    return brief if "e" in brief and float(brief) == bound else f"{bound:,}".removesuffix(".0")


MOST_LABELS: Final = 16
LONGEST_LABEL: Final = 64
LONGEST_NOTE: Final = 200  # bytes
LONGEST_KEY: Final = 256  # bytes
LONGEST_WHO: Final = 64  # bytes

LARGEST_COUNT: Final = 2**53  # Lua's numbers are doubles: whole numbers are exact up to here

RATE: Final = Range(1e-6, 1e9, "tokens per second", or_zero=True)
CAPACITY: Final = Range(1e-6, 1e9, "tokens per second")
COST: Final = Range(1e-6, 1e9, "tokens")
USED: Final = Range(0, 1e9, "tokens")
TOKENS: Final = Range(0, 9e9, "tokens")  # in millionths still below LARGEST_COUNT
COUNT: Final = Range(0, LARGEST_COUNT, "")
SECONDS: Final = Range(0, 86_400, "seconds")
MILLISECONDS: Final = Range(0, 86_400_000, "milliseconds")
PERCENT: Final = Range(0, 100, "percent")
LEVEL: Final = Range(0, 3, "")
WEIGHT: Final = Range(0.01, 1000, "")
INTERVAL: Final = Range(0.01, 86_400, "seconds")  # faster reports cost more than their news is worth

RANGES: Final[dict[str, Range]] = {
    **dict.fromkeys(("rate", "min_rate", "requested_rate", "demand"), RATE),
    "capacity": CAPACITY,
    **dict.fromkeys(("recommended_rate", "budget_rate", "fallback_rate"), RATE),
    "cost": COST,
    "used": USED,
    **dict.fromkeys(("tokens", "want", "need", "held", "unused", "burned", "degraded", "granted"), TOKENS),
    **dict.fromkeys(("done", "failed", "errors", "cancelled", "in_flight", "slots"), COUNT),
    **dict.fromkeys(("queue_depth", "queue_limit", "seq", "granted_total", "uptime_ms", "busy_ms"), COUNT),
    **dict.fromkeys(("burst", "transit", "grace", "timeout", "wait", "hold", "pause", "seconds"), SECONDS),
    "interval": INTERVAL,
    "trip": Range(0, 1_000_000, "microseconds"),
    **dict.fromkeys(("latency_ms", "latency_p25_ms", "latency_p10_ms", "latency_target_ms"), MILLISECONDS),
    **dict.fromkeys(("interval_ms", "pause_ms", "timeout_ms"), MILLISECONDS),
    **dict.fromkeys(("lease_ms", "refresh_ms", "retry_after_ms"), MILLISECONDS),
    **dict.fromkeys(("load", "current_load"), PERCENT),
    "backpressure_level": LEVEL,
    "weight": WEIGHT,
    "offset": Range(0, 1e9, ""),
    "count": Range(1, 1000, ""),
}

WORDS: Final = {
    "law": ("range", "drain", "aimd"),
    "combine": ("sum", "spread", "min"),
    "priority": ("high", "normal", "low"),
    "on_outage": ("share", "closed", "open"),
    **dict.fromkeys(("lossless", "smooth", "observe", "whole"), ("true", "false")),
}
SETTINGS: Final = ("rate", "min_rate", "burst", "law", "combine", "latency_target_ms", "lossless", "transit", "grace")
_OTHERS: Final = {
    "labels": error_texts.invalid_labels(MOST_LABELS, LONGEST_LABEL),
    **dict.fromkeys(("note", "reason"), error_texts.text_too_long(LONGEST_NOTE)),
    **dict.fromkeys(("who", "by"), error_texts.text_too_long(LONGEST_WHO)),
    "key": error_texts.invalid_key(LONGEST_KEY),
    "setting": error_texts.unknown_setting(SETTINGS),
    "source": error_texts.INVALID_SOURCE,
    "at_us": error_texts.INVALID_INSTANT,
    **dict.fromkeys(("arguments", "keys"), error_texts.NOT_OUR_CALL),
    "message": error_texts.NOT_A_MESSAGE,
}
_NAMES: Final = {
    "name", "budget", "namespace", "id", "producer_id", "consumer_id", "instance_id", "incarnation", "birth",
}  # fmt: skip

# What a script knows and a range does not: a value that does not go with the other settings or with the consumers.
_IN_CONTEXT: Final = {
    "NEXUS_NO_LAW": ("load", error_texts.LOAD_WITHOUT_RATE),
    "NEXUS_INVALID_MIN_RATE": ("min_rate", error_texts.floor_above_ceiling(RATE.remedy)),
    "NEXUS_INVALID_BURST": ("burst", error_texts.burst_above_bucket(SECONDS.remedy)),
    "NEXUS_INVALID_LOSSLESS": ("lossless", error_texts.LOSSLESS_UNMEASURED),
    "NEXUS_INVALID_QUEUE_LIMIT": ("queue_limit", error_texts.ZERO_LIMIT),
    "NEXUS_INVALID_SLOTS": ("slots", error_texts.ZERO_LIMIT),
}
_FIELD: Final = re.compile(r"[\w.-]{1,64}")  # any other name came from outside, and is quoted and cut like a value
_CODE: Final = re.compile(r"NEXUS_[A-Z0-9_]{1,58}")


def remedy_for(field: str) -> str:
    """Return what to write instead of a refused value of `field`."""
    if field in RANGES:
        return RANGES[field].remedy
    if field in WORDS:
        return error_texts.not_one_of(WORDS[field])
    return error_texts.INVALID_NAME if field in _NAMES else _OTHERS.get(field, error_texts.NO_RANGE_KNOWN)


def shown(value: object) -> str:
    """Return `value` for a message: one short line, without any part of an address that may hold a password.

    >>> shown("redis://:hunter2@cache:6379/0?timeout=1")
    "'redis://***@cache:6379/0?***'"
    """
    try:
        text = _short.repr(_without_secret(value) if isinstance(value, str) else value)
    except ValueError:  # an int with more digits than Python prints
        text = f"<a huge {type(value).__name__}>"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = SHOWN_CHARACTERS


def _without_secret(text: str) -> str:
    scheme, is_address, rest = text.partition("://")
    if not is_address:
        return text
    login, at, place = rest.rpartition("@")
    place, query, _ = place.partition("?")
    if "?" in login:  # a password may hold both signs, so its end is not known
        return f"{scheme}://***"
    return f"{scheme}://{'***@' if at else ''}{place}{'?***' if query else ''}"


class NexusError(Exception):
    """The root of all errors that this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args`, which is the message here and not the data that it was made of.
        return _revive, (type(self), self.args, vars(self))


def _revive(kind: type[NexusError], args: tuple[object, ...], data: dict[str, object]) -> NexusError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(data)
    return error


class AcquireTimeout(NexusError, TimeoutError):
    """The tokens did not come within the timeout. None was taken: the tokens collected so far went back.

    `budget` is the name of the budget, `cost` is in tokens, and `waited` in seconds. `reason` says why the budget was
    slow ("paused", "load"...), and `retry_after` is as in `Denied`.

    >>> AcquireTimeout("stripe", 5, 2.0, "paused")
    AcquireTimeout('budget stripe: 5 tokens did not come within 2 s, because the budget is paused; no token was taken')
    """

    def __init__(self, budget: str, cost: float, waited: float, reason: str = "", retry_after: float = 0.0) -> None:
        self.budget, self.cost, self.waited, self.reason = budget, cost, waited, reason
        self.retry_after = retry_after
        super().__init__(error_texts.acquire_timeout(budget, cost, waited, "" if reason == "ok" else reason))


class Unavailable(NexusError, ConnectionError):
    """Redis does not answer.

    `server` is its address without passwords (or ""), `cause` says what went wrong, and `waited` is in seconds.
    """

    def __init__(self, server: str, cause: str, waited: float = 0.0) -> None:
        self.server, self.cause, self.waited = _without_secret(server), cause, waited
        super().__init__(error_texts.no_answer(self.server, waited, cause))


class InvalidSetting(NexusError, ValueError):
    """A value was refused.

    `field` is its name, `value` how it looked (see `shown`; "" if unknown), and `remedy` says what to write instead.

    >>> InvalidSetting("weight", -1, "use 0.01 to 1,000")
    InvalidSetting('weight=-1: use 0.01 to 1,000')
    """

    _UNKNOWN: Final = object()

    def __init__(self, field: str, value: object = _UNKNOWN, remedy: str = "") -> None:
        self.field = field if _FIELD.fullmatch(field) else shown(field)
        self.value = "" if value is self._UNKNOWN else shown(value)
        self.remedy = remedy or remedy_for(field)
        subject = f"{self.field}={self.value}" if self.value else self.field
        super().__init__(f"{subject}: {self.remedy}")


class ServerRefused(NexusError):
    """Redis refused, and asking again will not help. `code` is its code word, and `remedy` says what to do.

    >>> ServerRefused("NEXUS_ID_TAKEN").code
    'NEXUS_ID_TAKEN'
    """

    def __init__(self, code: str, remedy: str = "") -> None:
        self.code, self.remedy = code, remedy or error_texts.REFUSED.get(code, error_texts.NO_RANGE_KNOWN)
        super().__init__(f"{self.code}: {self.remedy}")


class Closed(NexusError, RuntimeError):
    """An object was used after its end. `what` names it: a nexus, a producer, a consumer, an embedded server."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(error_texts.closed(what))


class WrongLoop(NexusError, RuntimeError):
    """An async Nexus was used in another event loop than the one that first used it, to which it belongs.

    `owner` and `caller` are the two loops, as text.
    """

    def __init__(self, owner: object, caller: object) -> None:
        self.owner, self.caller = f"{owner!r} ({id(owner):#x})", f"{caller!r} ({id(caller):#x})"
        super().__init__(error_texts.wrong_loop(self.owner, self.caller))


class NoLoop(NexusError, RuntimeError):
    """The async face was used where no event loop of asyncio runs."""

    def __init__(self) -> None:
        super().__init__(error_texts.NO_LOOP)


class ReentrantCall(NexusError, RuntimeError):
    """A signal handler or a finalizer calls nexus_redis while the same thread is in the middle of another call of it.

    That other call holds a lock, and goes on only when the handler returns. To wait for the lock would take forever.
    """

    def __init__(self) -> None:
        super().__init__(error_texts.REENTRANT_CALL)


class NoThread(NexusError, RuntimeError):
    """A thread could not be started. `cause` is what the system said."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(error_texts.no_thread(cause))


class NotPicklable(NexusError, TypeError):
    """An object that belongs to its process was pickled or copied.

    `what` names the object, and `remedy` says what to do instead.

    >>> NotPicklable("producer", "pass its budget, and make a producer there")
    NotPicklable('a producer cannot be pickled or copied: pass its budget, and make a producer there')
    """

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        super().__init__(error_texts.not_picklable(what, remedy))


class MissingLibrary(NexusError, ImportError):
    """A module was imported without the library that it is for, which is `library`. The message names our extra for it.

    Without `module` and `extra`, the module is the helper in `contrib` that is named as the library and its extra are.
    """

    def __init__(self, library: str, module: str = "", extra: str = "") -> None:
        self.library = library
        super().__init__(error_texts.missing_library(library, module or f"contrib.{library}", extra or library))


def from_code(code: str) -> NexusError:
    """Return the error that a script's answer stands for; only its code word counts.

    `NEXUS_INVALID_RATE` and `NEXUS_MISSING_RATE` are an `InvalidSetting` of `rate`. So is the code of a value that does
    not go with the other settings or the consumers of its budget. Every other code is a `ServerRefused`.
    """
    match = _CODE.search(code)
    word = match.group() if match else "".join(code.split()[:1])[:SHOWN_CHARACTERS]
    if word in _IN_CONTEXT:
        field, remedy = _IN_CONTEXT[word]
        return InvalidSetting(field, remedy=remedy)
    _, kind, field = word.partition("NEXUS_MISSING_" if word.startswith("NEXUS_MISSING_") else "NEXUS_INVALID_")
    if not field:
        return ServerRefused(word)
    return InvalidSetting(field.lower(), remedy=error_texts.measure_missing() if kind == "NEXUS_MISSING_" else "")

"""What can go wrong, as a tree. Catch a leaf, the root, or the builtin that you would have caught anyway.

    NexusError
    |-- AcquireTimeout   (TimeoutError)     the deadline passed; nothing was taken
    |-- Unavailable      (ConnectionError)  Redis does not answer, and the mode is "closed"
    |-- InvalidSetting   (ValueError)       a value out of its range: says which, and what to write instead
    |-- ServerRefused                       Redis said no, and would say it again: ACL, schema, an id that is taken
    |-- Closed           (RuntimeError)     used after close()
    |-- WrongLoop        (RuntimeError)     an async Nexus, used in another event loop than the one that it belongs to
    |-- NoLoop           (RuntimeError)     an async Nexus, used where no event loop of asyncio runs, as under trio
    |-- ReentrantCall    (RuntimeError)     called by a signal handler that interrupted another call of this thread
    |-- NoThread         (RuntimeError)     the system gives this process no more threads
    |-- NotPicklable     (TypeError)        what belongs to one process was to be copied or sent to another one
    `-- MissingLibrary   (ImportError)      a helper in `contrib` without the library that it is for

A denial is no error: `try_acquire` answers with a falsy result. Each error carries its data as attributes, its message
is made of them, and it survives pickling (a worker pool hands errors to its parent). A message never repeats what may
be a secret: see `shown`.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any, Final, NamedTuple

SHOWN_CHARACTERS: Final = 80  # one line of a log: enough to recognise a value, too little to fill a disk


class Range(NamedTuple):
    """Where a number may lie, in its unit: `low` to `high`, both included, and 0 as well where `or_zero`."""

    low: float
    high: float
    unit: str
    or_zero: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; NaN lies nowhere."""
        return self.low <= value <= self.high or (self.or_zero and value == 0)

    @property
    def remedy(self) -> str:
        """The range as advice: `use 0, or 1e-6 to 1e9 tokens per second`."""
        zero = "0, or " if self.or_zero else ""
        return f"use {zero}{_plain(self.low)} to {_plain(self.high)} {self.unit}".rstrip()


def _plain(bound: float) -> str:
    brief = f"{bound:g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    return brief if "e" in brief and float(brief) == bound else f"{bound:,}"


MOST_LABELS: Final = 16
LONGEST_LABEL: Final = 64

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
INTERVAL: Final = Range(0.01, 86_400, "seconds")  # reports that come faster cost more than they tell

RANGES: Final[dict[str, Range]] = {
    **dict.fromkeys(("rate", "min_rate", "requested_rate", "demand"), RATE),
    "capacity": CAPACITY,
    **dict.fromkeys(("recommended_rate", "budget_rate", "fallback_rate"), RATE),
    "cost": COST,
    "used": USED,
    **dict.fromkeys(("tokens", "want", "need", "held", "unused", "burned", "degraded", "granted"), TOKENS),
    **dict.fromkeys(("done", "failed", "errors", "cancelled", "in_flight", "slots"), COUNT),
    **dict.fromkeys(("queue_depth", "queue_limit", "seq", "granted_total", "uptime_ms", "busy_ms"), COUNT),
    **dict.fromkeys(("burst", "transit", "grace", "timeout", "hold", "pause"), SECONDS),
    "interval": INTERVAL,
    "trip": Range(0, 1_000_000, "microseconds"),
    **dict.fromkeys(("latency_ms", "latency_p25_ms", "latency_p10_ms", "latency_target_ms"), MILLISECONDS),
    **dict.fromkeys(("interval_ms", "pause_ms"), MILLISECONDS),
    **dict.fromkeys(("lease_ms", "refresh_ms", "retry_after_ms"), MILLISECONDS),
    **dict.fromkeys(("load", "current_load"), PERCENT),
    "backpressure_level": LEVEL,
    "weight": WEIGHT,
}

WORDS: Final = {
    "law": ("range", "drain", "aimd"),
    "combine": ("sum", "spread", "min"),
    "priority": ("high", "normal", "low"),
    "on_outage": ("share", "closed", "open"),
    **dict.fromkeys(("lossless", "smooth", "observe", "whole"), ("true", "false")),
}
NAME_REMEDY: Final = "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or a digit"
KEYED_REMEDY: Final = 'The budget of a key is named with the key beside the name: budget("stripe", key="cust-42")'
_OTHERS: Final = {
    "labels": f"use at most {MOST_LABELS}, named as budgets are, each a text of at most {LONGEST_LABEL} characters",
    "note": "use at most 200 bytes",
    "who": "use at most 64 bytes",
    "setting": "use one of rate, min_rate, burst, law, combine, latency_target_ms, lossless, transit, grace",
    "source": "use code or operator",
    "offset": "use 0 to 1e9",
    "count": "use 1 to 1,000",
    "at_us": "use 0 for the server's clock, or microseconds since 1970",
    **dict.fromkeys(("arguments", "keys"), "this is not how the script is called: see docs/protocol.md"),
    "message": "send one CapacitySignal, FlowControl or LoadReport as a JSON object or a msgpack map",
}
_NAMES: Final = {"name", "namespace", "id", "producer_id", "consumer_id", "instance_id", "incarnation", "birth"}

_SERVER_REMEDIES: Final = {
    "NEXUS_STALE": "a later call of this producer or consumer was answered already",
    "NEXUS_ID_TAKEN": "another live process uses this id: leave the id out, or wait until its lease is over",
    "NEXUS_NEEDS_KEYS": "something is due at this budget: send the same claim again, with all its keys",
    "NEXUS_DAMAGED": "what lies in Redis was changed by hand: `nexus-redis repair NAME` takes away what cannot be read",
    "NEXUS_SCHEMA": "a newer release wrote the state in this Redis: upgrade here, or use another namespace",
}
_MEASURES: Final = "queue_limit, queue_depth, done, errors and in_flight"
# What a script knows and a range does not: the settings or the consumers that a value does not go with.
_IN_CONTEXT: Final = {
    "NEXUS_NO_LAW": ("load", "says how full, not how fast: add capacity= or done=, or set rate on the budget"),
    "NEXUS_INVALID_MIN_RATE": ("min_rate", f"{RATE.remedy}, and no more than the budget's rate"),
    "NEXUS_INVALID_BURST": ("burst", f"{SECONDS.remedy}, and less than 9e9 tokens at the budget's rate"),
    "NEXUS_INVALID_LOSSLESS": (
        "lossless",
        f"live consumers that report no queue_limit: first let all report {_MEASURES}",
    ),
    "NEXUS_INVALID_QUEUE_LIMIT": ("queue_limit", "use more than 0, or leave it out"),
    "NEXUS_INVALID_SLOTS": ("slots", "use more than 0, or leave it out"),
}
_FIELD: Final = re.compile(r"[\w.-]{1,64}")  # another name came from outside: quoted and cut like any value
_CODE: Final = re.compile(r"NEXUS_[A-Z0-9_]{1,58}")


def remedy_for(field: str) -> str:
    """What to write instead of a refused value of `field`."""
    if field in RANGES:
        return RANGES[field].remedy
    if field in WORDS:
        *others, last = WORDS[field]
        return f"use {', '.join(others)} or {last}"
    return NAME_REMEDY if field in _NAMES else _OTHERS.get(field, "see docs/protocol.md")


def shown(value: object) -> str:
    """`value` as a message may show it: cut to one line, and of an address no part that may hold a password.

    >>> shown("redis://:hunter2@cache:6379/0?timeout=1")
    "'redis://***@cache:6379/0?***'"
    """
    try:
        text = _short.repr(_without_secret(value) if isinstance(value, str) else value)
    except ValueError:  # an int of more digits than Python is willing to print
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
    if "?" in login:  # a password may hold both signs: which part it is cannot be told
        return f"{scheme}://***"
    return f"{scheme}://{'***@' if at else ''}{place}{'?***' if query else ''}"


class NexusError(Exception):
    """The root: everything that this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args`, which here is the message and not the data it was made of.
        return _revive, (type(self), self.args, vars(self))


def _revive(kind: type[NexusError], args: tuple[object, ...], data: dict[str, object]) -> NexusError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(data)
    return error


class AcquireTimeout(NexusError, TimeoutError):
    """The tokens did not come within the timeout. None was taken: what was collected went back.

    `budget` is its name, `cost` in tokens, `waited` in seconds, `reason` why the budget was slow ("paused", "load"...),
    `retry_after` as in `Denied`.

    >>> AcquireTimeout("stripe", 5, 2.0, "paused")
    AcquireTimeout('budget stripe: no 5 tokens within 2 s (paused); none was taken')
    """

    def __init__(self, budget: str, cost: float, waited: float, reason: str = "", retry_after: float = 0.0) -> None:
        self.budget, self.cost, self.waited, self.reason = budget, cost, waited, reason
        self.retry_after = retry_after
        why = f" ({reason})" if reason not in ("", "ok") else ""
        what = "token" if cost == 1 else f"{cost:g} tokens" if cost else "answer"  # who only asks has no cost
        super().__init__(f"budget {budget}: no {what} within {waited:.3g} s{why}; none was taken")


class Unavailable(NexusError, ConnectionError):
    """Redis does not answer. `server` is its address, masked (or ""), `cause` what went wrong, `waited` in seconds."""

    def __init__(self, server: str, cause: str, waited: float = 0.0) -> None:
        self.server, self.cause, self.waited = _without_secret(server), cause, waited
        place = f" at {self.server}" if server else ""
        after = f" after {waited:.3g} s" if waited else ""
        super().__init__(f"no answer from Redis{place}{after}: {cause}")


class InvalidSetting(NexusError, ValueError):
    """A refused value. `field` is its name, `value` how it looked (see `shown`; "" if unknown), `remedy` the way out.

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
    """Redis refused, and asking again will not help. `code` is its code word, `remedy` the way out.

    >>> ServerRefused("NEXUS_STALE")
    ServerRefused('NEXUS_STALE: a later call of this producer or consumer was answered already')
    """

    def __init__(self, code: str, remedy: str = "") -> None:
        self.code, self.remedy = code, remedy or _SERVER_REMEDIES.get(code, "see docs/protocol.md")
        super().__init__(f"{self.code}: {self.remedy}")


class Closed(NexusError, RuntimeError):
    """Used after its end. `what` was closed: a nexus, a producer, a consumer, an embedded server."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"this {what} is closed: open a new one")


class WrongLoop(NexusError, RuntimeError):
    """An async Nexus belongs to the event loop that first used it. `owner` and `caller` are the two loops, as text."""

    def __init__(self, owner: object, caller: object) -> None:
        self.owner, self.caller = f"{owner!r} ({id(owner):#x})", f"{caller!r} ({id(caller):#x})"
        super().__init__(f"this nexus belongs to {self.owner} and was used from {self.caller}: make one for each loop")


class NoLoop(NexusError, RuntimeError):
    """The async face was used where no event loop of asyncio runs."""

    def __init__(self) -> None:
        super().__init__(
            "nexus_redis.asyncio needs asyncio, and no event loop of it runs here. Under trio use the sync face: "
            "await trio.to_thread.run_sync(budget.acquire)"
        )


class ReentrantCall(NexusError, RuntimeError):
    """A signal handler or a finalizer calls nexus_redis while the same thread is in the middle of another call of it.

    That other call holds a lock, and goes on only when the handler returns: to wait for it would take forever.
    """

    def __init__(self) -> None:
        super().__init__(
            "a signal handler or a finalizer has interrupted another call of nexus_redis in the same thread, which has "
            "to end first. Set a flag in the handler and call from the main program, or from another thread; close() "
            "may be called from a handler"
        )


class NoThread(NexusError, RuntimeError):
    """A thread could not be started. `cause` is what the system said."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(
            f"nexus_redis needs a thread in this process and could not start it: {cause}. Raise the limit on processes "
            "and threads (ulimit -u, the container's pids limit), and do not begin to use a Nexus while the "
            "interpreter ends"
        )


class NotPicklable(NexusError, TypeError):
    """A thing that belongs to its process cannot be pickled or copied. `what` it is, `remedy` what to do instead.

    >>> NotPicklable("producer", "pass its budget, and make a producer there")
    NotPicklable('a producer is neither pickled nor copied: pass its budget, and make a producer there')
    """

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"a {what} is neither pickled nor copied: {remedy}")


class MissingLibrary(NexusError, ImportError):
    """A helper was imported without the library that it is for. `library` is its name, and that of our extra."""

    def __init__(self, library: str) -> None:
        self.library = library
        super().__init__(f"nexus_redis.contrib.{library} needs {library}: pip install '.[{library}]'")


def from_code(code: str) -> NexusError:
    """The error that a script's answer stands for; only its code word counts.

    `NEXUS_INVALID_RATE` and `NEXUS_MISSING_RATE` are an `InvalidSetting` of `rate`, and so is a value that goes with
    nothing else that the budget knows; every other code is a `ServerRefused`.
    """
    match = _CODE.search(code)
    word = match.group() if match else "".join(code.split()[:1])[:SHOWN_CHARACTERS]
    if word in _IN_CONTEXT:
        field, remedy = _IN_CONTEXT[word]
        return InvalidSetting(field, remedy=remedy)
    _, kind, field = word.partition("NEXUS_MISSING_" if word.startswith("NEXUS_MISSING_") else "NEXUS_INVALID_")
    if not field:
        return ServerRefused(word)
    is_missing = kind == "NEXUS_MISSING_"
    return InvalidSetting(field.lower(), remedy=f"missing: a lossless budget needs {_MEASURES}" if is_missing else "")

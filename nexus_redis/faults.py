"""What went wrong on the way to Redis: every error is in exactly one class, and the class says what may be done.

NOT_EXECUTED   the call changed nothing: make a new one, in the caller's deadline
UNKNOWN        it may or may not have been executed: send the same one (same seq), which is never charged twice
PERMANENT      asking again will not help: tell the caller

redis-py is imported when there is an error to classify, since `nexus-redis run` has none as a rule and does without it.
"""

from __future__ import annotations

import re
import socket
from enum import Enum
from typing import Final

from nexus_redis.errors import NexusError, ServerRefused, from_code


class Fault(Enum):
    """See the head of the file."""

    NOT_EXECUTED = "not executed"
    UNKNOWN = "unknown"
    PERMANENT = "permanent"


class Refusal(Exception):
    """A refusal of one of our scripts, as text. Calls that go through redis-py get a `ResponseError` instead."""


_TRANSIENT: Final = frozenset([
    "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS", "OOM",
    "MISCONF", "NOSCRIPT",
])  # fmt: skip
# Redis 6.2 tells what a command in a script ran into so; later ones tell it as if the script were that command.
_IN_A_SCRIPT: Final = re.compile(r"(?:ERR )?Error running script \(call to \w+\):(?: @user_script: ?\d+:)+ -([A-Z]+) ")
_DAMAGED: Final = re.compile(r"NEXUS_DAMAGED (([\w.-]{1,64}):\{([\w./-]{1,64})\}[\w.:-]*) ?(\w*)")
_NEVER_SENT: Final = (ConnectionRefusedError, FileNotFoundError, socket.gaierror)


def classify(error: BaseException) -> Fault:
    """The one class of `error`.

    >>> import redis
    >>> classify(redis.TimeoutError("Timeout reading from socket"))
    <Fault.UNKNOWN: 'unknown'>
    """
    if isinstance(error, Refusal):
        return Fault.PERMANENT
    from redis import exceptions

    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return Fault.PERMANENT
        case exceptions.BusyLoadingError() | exceptions.MaxConnectionsError():
            return Fault.NOT_EXECUTED
        case exceptions.ResponseError():
            return Fault.NOT_EXECUTED if _code(error) in _TRANSIENT or _is_transient(error) else Fault.PERMANENT
        case exceptions.ConnectionError() | exceptions.TimeoutError() | OSError():
            return Fault.NOT_EXECUTED if _was_never_sent(error) else Fault.UNKNOWN
        case exceptions.RedisError() | exceptions.RedisClusterException():
            return Fault.UNKNOWN
    return Fault.PERMANENT


def code_of(error: BaseException) -> str:
    """Our scripts' code word, or ""."""
    word = _code(error)
    return word if word.startswith("NEXUS_") else ""


def as_nexus_error(error: BaseException) -> NexusError:
    """A permanent fault as the error that callers are promised."""
    if isinstance(error, NexusError):
        return error
    code = code_of(error)
    if code == "NEXUS_DAMAGED" and (said := _DAMAGED.search(str(error))) is not None:
        key, namespace, name, field = said.groups()
        place = f"the field {field} of the key {key}" if field else f"the key {key} is of another type and"
        where = "" if namespace == "nexus" else f" --namespace {namespace}"
        remedy = f"{place} cannot be read: `nexus-redis repair {name}{where}` takes it away and keeps the settings"
        return ServerRefused(code, remedy)
    return from_code(code) if code else ServerRefused(_code(error) or type(error).__name__, str(error)[:200])


def is_demoted(reply: object) -> bool:
    """The server is a primary no more: its address has another one by now."""
    if not isinstance(reply, Exception):
        return False
    from redis import exceptions

    return isinstance(reply, exceptions.ReadOnlyError) or (
        isinstance(reply, exceptions.ResponseError) and _code(reply) == "READONLY"
    )


def _code(error: BaseException) -> str:
    text = str(error)
    if (inside := _IN_A_SCRIPT.match(text)) is not None:
        return inside[1]
    words = text.split(maxsplit=1)
    return words[0] if words and words[0].isupper() else ""


def _is_transient(error: Exception) -> bool:
    from redis import exceptions

    # redis-py has classes of its own for some codes, and takes the code word out of their text.
    transient = (
        exceptions.NoScriptError, exceptions.ReadOnlyError, exceptions.AskError, exceptions.TryAgainError,
        exceptions.ClusterDownError, exceptions.OutOfMemoryError,
    )  # fmt: skip
    return isinstance(error, transient)


def _was_never_sent(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, _NEVER_SENT):
            return True
        error = error.__cause__ or error.__context__
    return False

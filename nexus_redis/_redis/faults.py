"""What went wrong on the way to Redis: every error is in exactly one class, and the class says what may be done.

NOT_EXECUTED   the call changed nothing: make a new one, in the caller's deadline
UNKNOWN        it may or may not have been executed: send the same one (same seq), which is never charged twice
PERMANENT      asking again will not help: tell the caller

Only a client of a cluster can follow MOVED and ASK, and ours does (cluster.py), so whoever gets one has another client.
A certificate that is not believed will not be in a second either: that is no outage. Errors of valkey-py are those of
redis-py under other names.

redis-py is imported when there is an error to classify, since `nexus-redis run` has none as a rule and does without it.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any, Final

from nexus_redis._protocol.plans import Failed, Fault
from nexus_redis._values import error_texts
from nexus_redis.errors import NexusError, ServerRefused, from_code


class Refusal(Exception):
    """A refusal of one of our scripts, as text. Calls that go through redis-py get a `ResponseError` instead."""


_TRANSIENT: Final = frozenset([
    "TRYAGAIN", "CLUSTERDOWN", "LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS", "OOM",
    "MISCONF", "NOSCRIPT",
])  # fmt: skip
# Redis 6.2 tells what a command in a script ran into so; later ones tell it as if the script were that command.
_IN_A_SCRIPT: Final = re.compile(r"(?:ERR )?Error running script \(call to \w+\):(?: @user_script: ?\d+:)+ -([A-Z]+) ")
_DAMAGED: Final = re.compile(r"NEXUS_DAMAGED (([\w.-]{1,64}):\{([\w./-]{1,64})\}[\w.:-]*) ?(\w*)")
_CODE_OF: Final = {  # redis-py takes the code word out of the text of these
    "AuthenticationError": "NOAUTH", "AuthenticationWrongNumberOfArgsError": "NOAUTH", "MovedError": "MOVED",
    "AskError": "ASK",
}  # fmt: skip
_OF_A_PASSWORD: Final = {"invalid": "WRONGPASS", "WRONGPASS": "WRONGPASS", "AUTH": "AUTH"}
# Of what has no code word of its own: a text in it, and ours.
_BY_TEXT: Final = (
    ("unknown command 'HELLO'", "HELLO"), ("cluster support disabled", "NOCLUSTER"),
    ("unknown command 'SENTINEL'", "NOSENTINEL"), ("unknown command 'EVALSHA'", "NOSCRIPTS"),
    ("unknown command 'CLUSTER'", "NOSCRIPTS"),
)  # fmt: skip
# How redis-py shows a client: of that only where it goes is of use to a person.
_OF_REDIS_PY: Final = re.compile(r"<redis\..*?\bhost=([^,]*),port=(\d+).*?\)>\)>\)>")
_OF_A_CERTIFICATE: Final = re.compile("CERTIFICATE|UNKNOWN_CA")
_NEVER_SENT: Final = (ConnectionRefusedError, FileNotFoundError, socket.gaierror)


def failed(error: BaseException, took: float = 0.0) -> Failed:
    """Classify an error, once: what the core sees of it. `took` is how many seconds the batch took.

    >>> import redis
    >>> failed(redis.ResponseError("NEXUS_STALE")).code
    'NEXUS_STALE'
    """
    told = as_nexus_error(error)
    if told is not error:
        told.__cause__ = error  # so that a traceback shows both
    return Failed(classify(error), code_of(error), type(error).__name__, described(error), told, took)


def classify(error: BaseException) -> Fault:
    """The one class of `error`.

    >>> import redis
    >>> classify(redis.TimeoutError("Timeout reading from socket"))
    <Fault.UNKNOWN: 'unknown'>
    """
    if isinstance(error, Refusal):
        return Fault.PERMANENT
    from redis import exceptions

    error = _by_redis_py(error)
    match error:
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return Fault.PERMANENT
        case exceptions.BusyLoadingError() | exceptions.MaxConnectionsError():
            return Fault.NOT_EXECUTED
        case exceptions.ResponseError():
            return Fault.NOT_EXECUTED if _code(error) in _TRANSIENT or _is_transient(error) else Fault.PERMANENT
        case exceptions.ConnectionError() | exceptions.TimeoutError() | OSError():
            if _distrust(error):
                return Fault.PERMANENT
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
    if code == "NEXUS_DAMAGED" and (damage := _DAMAGED.search(str(error))) is not None:
        key, namespace, name, field = damage.groups()
        option = "" if namespace == "nexus" else f" --namespace {namespace}"
        return ServerRefused(code, error_texts.damaged(key, field, f"nexus-redis repair {name}{option}"))
    if code:
        return from_code(code)
    distrust = _distrust(error)
    if distrust:
        return ServerRefused("CERTIFICATE", error_texts.certificate_not_trusted(distrust[:200]))
    error = _by_redis_py(error)
    code, said = _CODE_OF.get(type(error).__name__) or _code(error), str(error)[:200]
    if code == "NOAUTH":  # redis-py has one class for all that concerns a password
        code = next((other for begin, other in _OF_A_PASSWORD.items() if said.startswith(begin)), code)
    elif code == "NOPROTO":
        code = "HELLO"
    else:
        code = next((other for words, other in _BY_TEXT if words in said.replace("`", "'")), code)
    if code in error_texts.SERVER_REFUSED:
        return ServerRefused(code, error_texts.server_said(error_texts.SERVER_REFUSED[code], said))
    return ServerRefused(code or type(error).__name__, said)


def described(error: BaseException) -> str:
    """What keeps Redis away, for a log or a person, and what to do where it stays so."""
    remedy = error_texts.OUTAGE_REMEDIES.get(type(error).__name__) or error_texts.OUTAGE_REMEDIES.get(_code(error))
    return _OF_REDIS_PY.sub(r"\1:\2", str(error)) + (f"; {remedy}" if remedy else "")


def is_demoted(reply: object) -> bool:
    """The server is a primary no more: its address has another one by now."""
    if not isinstance(reply, Exception):
        return False
    from redis import exceptions

    reply = _by_redis_py(reply)
    return isinstance(reply, exceptions.ReadOnlyError) or (
        isinstance(reply, exceptions.ResponseError) and _code(reply) == "READONLY"
    )


def is_unknown_script(reply: object) -> bool:
    """The server does not know a script by its digest."""
    return type(reply).__name__ == "NoScriptError"


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
        exceptions.NoScriptError, exceptions.ReadOnlyError, exceptions.TryAgainError, exceptions.ClusterDownError,
        exceptions.OutOfMemoryError,
    )  # fmt: skip
    return isinstance(error, transient)


def _was_never_sent(error: BaseException) -> bool:
    return any(isinstance(cause, _NEVER_SENT) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _distrust(error: BaseException) -> str:
    """What is wrong with a certificate, the server's or ours; "" where that is not the matter."""
    from ssl import SSLCertVerificationError, SSLError  # slow to import, and here redis-py has done it

    for cause in _causes(error):
        if isinstance(cause, SSLCertVerificationError):
            return str(getattr(cause, "verify_message", "") or cause)
        reason = getattr(cause, "reason", "") if isinstance(cause, SSLError) else ""
        if reason and _OF_A_CERTIFICATE.search(str(reason)):
            return str(reason).lower().replace("_", " ")
    return ""


def _by_redis_py(error: Any) -> Any:
    """The same error as redis-py would raise it, for one of valkey-py; any other one is itself."""
    if not type(error).__module__.startswith("valkey."):
        return error
    from redis import exceptions

    for kind in type(error).__mro__:
        same = getattr(exceptions, kind.__name__.replace("Valkey", "Redis"), None)
        if kind.__module__ == "valkey.exceptions" and same is not None:
            twin = same(str(error))
            twin.__cause__, twin.__context__ = error.__cause__, error.__context__
            return twin
    return error

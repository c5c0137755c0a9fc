"""Classify errors of calls to Redis: which replies are lost, which calls were never executed, and what stays wrong.

Every error is in exactly one class, and the class says what may be done.

NOT_EXECUTED   the call changed nothing: make a new one, before the caller's deadline
REPLY_LOST     the call may or may not have been executed: send it again (same seq), which is never charged twice
PERMANENT      the same call would fail again: tell the caller, unless another call may help (another id, all keys)

Only a client of a cluster can follow MOVED and ASK, and ours does (cluster.py). So a caller that gets one of these has
given another kind of client. A certificate that is not trusted now will not be trusted in a second either, so that is
not an outage. valkey-py has the errors of redis-py under other names.

redis-py is imported when there is an error to classify, because `nexus-redis run` usually has none and needs no
redis-py.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any, Final

from nexus_redis._protocol.damage import DAMAGED, damaged
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Failed, Fault
from nexus_redis._values import error_texts
from nexus_redis.errors import NexusError, ServerRefused, from_code


class Refusal(Exception):
    """A refusal by one of our scripts, as text. Calls through redis-py get a `ResponseError` instead."""


_TRANSIENT: Final = frozenset([
    "TRYAGAIN", "CLUSTERDOWN", "LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS", "OOM",
    "MISCONF", "NOSCRIPT",
])  # fmt: skip
# How Redis 6.2 reports an error of a command in a script. Later servers report it as an error of the script itself.
_IN_A_SCRIPT: Final = re.compile(r"(?:ERR )?Error running script \(call to \w+\):(?: @user_script: ?\d+:)+ -([A-Z]+) ")
_DAMAGED: Final = re.compile(r"NEXUS_DAMAGED (([\w.-]{1,64}):\{([\w./-]{1,64})\}[\w.:-]*) ?(\w*)")
_CODE_OF: Final = {  # redis-py removes the code word from the text of these
    "AuthenticationError": "NOAUTH", "AuthenticationWrongNumberOfArgsError": "NOAUTH", "MovedError": "MOVED",
    "AskError": "ASK", "NoPermissionError": "NOPERM",
}  # fmt: skip
_BY_FIRST_WORD: Final = {"invalid": "WRONGPASS", "WRONGPASS": "WRONGPASS", "AUTH": "AUTH"}
# Errors without a code word of their own: a part of their text, and our code word.
_BY_TEXT: Final = (
    ("unknown command 'HELLO'", "HELLO"), ("cluster support disabled", "NOCLUSTER"),
    ("unknown command 'SENTINEL'", "NOSENTINEL"), ("unknown command 'EVALSHA'", "NOSCRIPTS"),
    ("unknown command 'CLUSTER'", "NOSCRIPTS"), ("ACL failure in script", "NOPERM"),
)  # fmt: skip
# How redis-py shows a client. Only its host and port are of use to a person.
_OF_REDIS_PY: Final = re.compile(r"<redis\..*?\bhost=([^,]*),port=(\d+).*?\)>\)>\)>")
_OF_A_CERTIFICATE: Final = re.compile("CERTIFICATE|UNKNOWN_CA")
_NEVER_SENT: Final = (ConnectionRefusedError, FileNotFoundError, socket.gaierror)


def failed(error: BaseException, took: float = 0.0) -> Failed:
    """Classify an error, once, as the core sees it. The batch took `took` seconds.

    >>> import redis
    >>> failed(redis.ResponseError("NEXUS_STALE")).code
    'NEXUS_STALE'
    """
    told = as_nexus_error(error)
    if told is not error:
        told.__cause__ = error  # so that a traceback shows both
    return Failed(classify(error), code_of(error), type(error).__name__, described(error), told, took)


def classify(error: BaseException) -> Fault:
    """Return the class of `error`.

    >>> import redis
    >>> classify(redis.TimeoutError("Timeout reading from socket"))
    <Fault.REPLY_LOST: 'reply lost'>
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
            return Fault.NOT_EXECUTED if _was_never_sent(error) else Fault.REPLY_LOST
        case exceptions.RedisError() | exceptions.RedisClusterException():
            return Fault.REPLY_LOST
    return Fault.PERMANENT


def code_of(error: BaseException) -> str:
    """Return the code word of one of our scripts, or ""."""
    word = _code(error)
    return word if word.startswith("NEXUS_") else ""


def as_nexus_error(error: BaseException) -> NexusError:
    """Return a permanent fault as the error that the API promises to callers."""
    if isinstance(error, NexusError):
        return error
    code = code_of(error)
    if code == DAMAGED and (damage := _DAMAGED.search(str(error))) is not None:
        key, namespace, name, field = damage.groups()
        return damaged(BudgetKeys(namespace, name), key, field)
    if code:
        return from_code(code)
    distrust = _distrust(error)
    if distrust:
        return ServerRefused("CERTIFICATE", error_texts.certificate_not_trusted(distrust[:200]))
    error = _by_redis_py(error)
    code, said = _CODE_OF.get(type(error).__name__) or _code(error), str(error)[:200]
    if code == "NOAUTH":  # redis-py has one class for all errors of passwords
        code = next((other for begin, other in _BY_FIRST_WORD.items() if said.startswith(begin)), code)
    elif code == "NOPROTO":
        code = "HELLO"
    else:
        code = next((other for words, other in _BY_TEXT if words in said.replace("`", "'")), code)
    if code in error_texts.SERVER_REFUSED:
        return ServerRefused(code, error_texts.server_said(error_texts.SERVER_REFUSED[code], said))
    return ServerRefused(code or type(error).__name__, said)


def described(error: BaseException) -> str:
    """Describe an outage for a log or a person, with the remedy in case that it lasts."""
    remedy = error_texts.OUTAGE_REMEDIES.get(type(error).__name__) or error_texts.OUTAGE_REMEDIES.get(_code(error))
    return _OF_REDIS_PY.sub(r"\1:\2", str(error)) + (f"; {remedy}" if remedy else "")


def is_demoted(reply: object) -> bool:
    """Return whether a reply says that the server is no longer a primary: its address leads to another one by now."""
    if not isinstance(reply, Exception):
        return False
    from redis import exceptions

    reply = _by_redis_py(reply)
    return isinstance(reply, exceptions.ReadOnlyError) or (
        isinstance(reply, exceptions.ResponseError) and _code(reply) == "READONLY"
    )


def is_unknown_script(reply: object) -> bool:
    """Return whether a reply says that the server does not know a script by its digest."""
    return type(reply).__name__ == "NoScriptError"


def _code(error: BaseException) -> str:
    text = str(error)
    if (inside := _IN_A_SCRIPT.match(text)) is not None:
        return inside[1]
    words = text.split(maxsplit=1)
    return words[0] if words and words[0].isupper() else ""


def _is_transient(error: Exception) -> bool:
    from redis import exceptions

    # redis-py has classes of its own for some codes, and removes the code word from their text.
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
    """Return what is wrong with a certificate, the server's or ours; "" if the error is about something else."""
    from ssl import SSLCertVerificationError, SSLError  # slow to import, but redis-py has imported it by now

    for cause in _causes(error):
        if isinstance(cause, SSLCertVerificationError):
            return str(getattr(cause, "verify_message", "") or cause)
        reason = getattr(cause, "reason", "") if isinstance(cause, SSLError) else ""
        if reason and _OF_A_CERTIFICATE.search(str(reason)):
            return str(reason).lower().replace("_", " ")
    return ""


def _by_redis_py(error: Any) -> Any:
    """Return the error of redis-py for one of valkey-py; return any other error as it is."""
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

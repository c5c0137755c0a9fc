"""A few calls over a bare socket, for verbs that are done before redis-py and pydantic have been imported.

Only the usual case goes this way: a plain `redis://` address, a server that answers. Whatever else happens, the answer
is None, and the verb asks again by the ordinary way, which knows what to say of it; so only what is safe to repeat may
be asked here.
"""

import os
import socket
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

from nexus_redis.calls import Call
from nexus_redis.cli.resp import Failure, read, written
from nexus_redis.values import DEFAULT_URL, parse_name

CONNECT_TIMEOUT: Final = 1.0  # seconds, as in `wire`
CALL_TIMEOUT: Final = 0.25


def namespace_of(given: str | None) -> str:
    """The argument, else NEXUS_REDIS_NAMESPACE, else nexus."""
    return parse_name(given or os.environ.get("NEXUS_REDIS_NAMESPACE") or "nexus", "namespace")


def swiftly(url: str | None, *jobs: Call[Any] | tuple[str, ...]) -> list[Any] | None:
    """The answers, decoded, in order (of plain commands as they came), or None."""
    try:
        place = urlsplit(url or os.environ.get("NEXUS_REDIS_URL") or DEFAULT_URL)
        database = place.path.strip("/") or "0"
        if place.scheme != "redis" or place.query or not database.isdigit():
            return None
        login = [unquote(word) for word in (place.username, place.password) if word]
        before: list[tuple[str, ...]] = [("AUTH", *login)] if login else []
        if database != "0":
            before.append(("SELECT", database))
        with socket.create_connection((place.hostname or "localhost", place.port or 6379), CONNECT_TIMEOUT) as wire:
            wire.settimeout(CALL_TIMEOUT)
            with wire.makefile("rb") as stream:
                return _answers(wire, stream, before, jobs)
    except (OSError, ValueError, LookupError):
        return None


def _answers(
    wire: socket.socket, stream: IO[bytes], before: list[tuple[str, ...]], jobs: tuple[Call[Any] | tuple[str, ...], ...]
) -> list[Any] | None:
    wire.sendall(b"".join(map(_command, [*before, *(_short(job) for job in jobs)])))
    logged_in = [read(stream) for _ in before]
    answers = [read(stream) for _ in jobs]
    for at, job in enumerate(jobs):
        if isinstance(answers[at], Failure) and answers[at].startswith("NOSCRIPT") and isinstance(job, Call):
            wire.sendall(_command(("EVAL", job.script.text, *_rest(job))))
            answers[at] = read(stream)
    if any(isinstance(answer, Failure) for answer in (*logged_in, *answers)):
        return None
    return [job.decode(answer) if isinstance(job, Call) else answer for job, answer in zip(jobs, answers, strict=True)]


def _short(job: Call[Any] | tuple[str, ...]) -> tuple[str, ...]:
    return ("EVALSHA", job.script.sha, *_rest(job)) if isinstance(job, Call) else job


def _rest(job: Call[Any]) -> tuple[str, ...]:
    return (str(len(job.keys)), *job.keys, *map(str, job.args))


def _command(words: tuple[str, ...]) -> bytes:
    return written([word.encode() for word in words])

"""Connections: an address becomes a redis-py client, a batch of calls one round trip.

The clients that we make have short timeouts and never retry by themselves: a retried script could charge twice, and
which retry is safe is the ledger's business. `socket_timeout` and `socket_connect_timeout` in the URL win. A caller's
own client keeps what it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, NoScriptError, RedisError
from redis.retry import Retry

from nexus_redis.calls import Call
from nexus_redis.errors import InvalidSetting

T = TypeVar("T")
CONNECT_TIMEOUT: Final = 1.0
CALL_TIMEOUT: Final = 0.25
DEFAULT_URL: Final = "redis://localhost:6379/0"
_SCHEMES: Final = ("redis", "rediss", "unix", "embedded")


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """One plain command, for what needs no script: reading a hash, a sorted set."""

    args: tuple[Any, ...]
    decode: Callable[[Any], T]


Job = Call[Any] | Command[Any]
Outcome = Any  # what `decode` made of a reply, or the exception


def address(url: str | None) -> str:
    """The URL to use: the argument, else NEXUS_REDIS_URL, else localhost."""
    found = url or os.environ.get("NEXUS_REDIS_URL") or DEFAULT_URL
    scheme = urlsplit(found).scheme
    if scheme not in _SCHEMES:
        raise InvalidSetting("url", found, f"use one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    return found


def connect(url: str) -> redis.Redis:
    """A sync client for a redis://, rediss:// or unix:// address; connects at its first call."""
    try:
        return redis.Redis.from_url(url, **_timeouts(), retry=Retry(NoBackoff(), 0))
    except ValueError as error:
        raise InvalidSetting("url", url, f"use an address like {DEFAULT_URL}") from error


def connect_async(url: str) -> redis.asyncio.Redis:
    """The same for asyncio."""
    try:
        return redis.asyncio.Redis.from_url(url, **_timeouts(), retry=AsyncRetry(NoBackoff(), 0))
    except ValueError as error:
        raise InvalidSetting("url", url, f"use an address like {DEFAULT_URL}") from error


def sync_twin(client: redis.asyncio.Redis) -> redis.Redis:
    """A sync client to where an async one goes, for the thread that reports."""
    settings = dict(client.connection_pool.connection_kwargs)
    for name in ("retry", "connection_class", "event_dispatcher", "maint_notifications_config"):
        settings.pop(name, None)
    path = settings.pop("path", None)
    kind = client.connection_pool.connection_class
    if path is not None:
        settings["unix_socket_path"] = path
    if issubclass(kind, redis.asyncio.SSLConnection):
        settings["ssl"] = True
    settings = {"socket_timeout": CALL_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, **settings}
    return redis.Redis(**settings, retry=Retry(NoBackoff(), 0))


def _timeouts() -> dict[str, Any]:
    return {"socket_timeout": CALL_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}


def where(client: Any) -> str:
    """Host and port of a client, for messages: never a password."""
    pool = getattr(client, "connection_pool", None)
    settings = getattr(pool, "connection_kwargs", {})
    return str(settings.get("path") or f"{settings.get('host', '?')}:{settings.get('port', '?')}")


def perform(client: redis.Redis, jobs: Sequence[Job]) -> list[Outcome]:
    """Run a batch in one round trip (two where the server does not know a script); one outcome each, never raises."""
    try:
        replies = _batch(client, [_short(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            for i, reply in zip(unknown, _batch(client, [_long(jobs[i]) for i in unknown]), strict=True):
                replies[i] = reply
    except (RedisError, OSError) as error:
        return [error] * len(jobs)
    return [_outcome(job, reply) for job, reply in zip(jobs, replies, strict=True)]


async def perform_async(client: redis.asyncio.Redis, jobs: Sequence[Job]) -> list[Outcome]:
    """The same for asyncio."""
    try:
        replies = await _batch_async(client, [_short(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await _batch_async(client, [_long(jobs[i]) for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
    except (RedisError, OSError) as error:
        return [error] * len(jobs)
    return [_outcome(job, reply) for job, reply in zip(jobs, replies, strict=True)]


def _batch(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    return pipe.execute(raise_on_error=False)


async def _batch_async(client: redis.asyncio.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    return replies


def _short(job: Job) -> tuple[Any, ...]:
    if isinstance(job, Command):
        return job.args
    return ("EVALSHA", job.script.sha, len(job.keys), *job.keys, *job.args)


def _long(job: Job) -> tuple[Any, ...]:
    assert isinstance(job, Call)
    return ("EVAL", job.script.text, len(job.keys), *job.keys, *job.args)


def _outcome(job: Job, reply: Any) -> Outcome:
    if isinstance(reply, Exception):
        return reply
    try:
        return job.decode(reply)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return InvalidResponse(f"a reply of another shape: {error}")

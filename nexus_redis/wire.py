"""Connections: an address becomes a redis-py client, a batch of calls one round trip.

The clients that we make have short timeouts and never retry by themselves: a retried script could charge twice, and
which retry is safe is the ledger's business. `socket_timeout` and `socket_connect_timeout` in the URL win. Of a
caller's own client we make a twin: its address, login, timeouts, but connections of our own, and no retries.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import iscoroutinefunction
from itertools import chain
from typing import Any, Final
from urllib.parse import urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, NoScriptError
from redis.retry import Retry

from nexus_redis.calls import Call, Command, Job, Outcome
from nexus_redis.errors import InvalidSetting
from nexus_redis.faults import is_demoted
from nexus_redis.resolving import with_deadline
from nexus_redis.values import DEFAULT_URL

CONNECT_TIMEOUT: Final = 1.0
CALL_TIMEOUT: Final = 0.25
ABREAST: Final = 32  # calls of an event loop's thread in one pipeline: a few milliseconds of it
_SCHEMES: Final = ("redis", "rediss", "unix", "embedded")


def address(url: Any) -> str:
    """The URL to use: the argument, else NEXUS_REDIS_URL, else localhost."""
    found = url or os.environ.get("NEXUS_REDIS_URL") or DEFAULT_URL
    try:
        scheme = urlsplit(found).scheme if isinstance(found, str) else None
    except ValueError:  # "redis://[::1"
        raise InvalidSetting("url", found, f"use an address like {DEFAULT_URL}") from None
    if scheme not in _SCHEMES:
        if isinstance(found, str) and "://" not in found and "@" in found:  # a password may come before it
            found = f"***@{found.rpartition('@')[2]}"
        raise InvalidSetting("url", found, f"use one of {', '.join(f'{s}://' for s in _SCHEMES)}")
    return found


def checked(client: Any, kind: type) -> Any:
    """Return a caller's client after a check that it is of the kind that this shell can use, sync or async.

    `kind` is the class of redis-py. A client of another library that behaves like it passes.
    """
    ours = _spelled(kind)
    if isinstance(client, str | bytes):
        raise InvalidSetting("client", client, "an address is for Nexus.from_url()")
    if isinstance(client, type) or not hasattr(client, "pipeline"):
        given = client if isinstance(client, type) else type(client)
        raise InvalidSetting("client", _spelled(given), f"use an instance of {ours}, or Nexus.from_url()")
    is_async, wants_async = iscoroutinefunction(client.execute_command), issubclass(kind, redis.asyncio.Redis)
    if is_async is not wants_async:
        remedy = (
            f"it is async and this Nexus is sync: use a {ours}, or nexus_redis.asyncio.Nexus"
            if is_async
            else f"it is sync and this Nexus is async: use a {ours}, or nexus_redis.Nexus"
        )
        raise InvalidSetting("client", _spelled(type(client)), remedy)
    return client


def _spelled(kind: type) -> str:
    """Return the name of a class as people import it: `redis.asyncio.Redis`, which is in redis.asyncio.client."""
    module = kind.__module__.removesuffix(".client").removesuffix(".cluster")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def connect(url: str) -> redis.Redis:
    """A sync client for a redis://, rediss:// or unix:// address; connects at its first call."""
    with _naming_faults(url):
        client = redis.Redis.from_url(url, **_timeouts(), retry=Retry(NoBackoff(), 0))
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    return with_deadline(client)


def connect_async(url: str) -> redis.asyncio.Redis:
    """The same for asyncio."""
    with _naming_faults(url):
        client = redis.asyncio.Redis.from_url(url, **_timeouts(), retry=AsyncRetry(NoBackoff(), 0))
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    return with_deadline(client)


@contextmanager
def _naming_faults(url: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InvalidSetting("url", url, f"use an address like {DEFAULT_URL}") from error
    except TypeError as error:  # an option after the ? that redis-py doesn't know, seen when a connection is made
        raise InvalidSetting("url", url, "it has an option after `?` that redis-py does not know") from error


_TIED: Final = (  # what redis-py ties to one pool
    "retry", "event_dispatcher", "himport_registry", "maint_notifications_config", "maint_notifications_pool_handler",
    "orig_host_address", "orig_socket_connect_timeout", "orig_socket_timeout",
)  # fmt: skip
_SYNC_KIND: Final[dict[type, type[redis.Connection]]] = {
    redis.asyncio.Connection: redis.Connection,
    redis.asyncio.SSLConnection: redis.SSLConnection,
    redis.asyncio.UnixDomainSocketConnection: redis.UnixDomainSocketConnection,  # type: ignore[dict-item]  # redis-py
}


def twin(client: redis.Redis) -> redis.Redis:
    """A client to where this one goes, without its retries; itself where its pool is of a kind that we don't know."""
    pool: Any = getattr(client, "connection_pool", None)
    if type(pool) not in (redis.ConnectionPool, redis.BlockingConnectionPool):
        return client
    return _sync_client(pool.connection_class, _settings_of(pool))


def twin_async(client: redis.asyncio.Redis) -> redis.asyncio.Redis:
    """The same for asyncio."""
    pool: Any = getattr(client, "connection_pool", None)
    if type(pool) not in (redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool):
        return client
    settings = {**_settings_of(pool), "retry": AsyncRetry(NoBackoff(), 0)}
    return with_deadline(redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(pool.connection_class, **settings)))


def sync_twin(client: redis.asyncio.Redis) -> redis.Redis:
    """A sync client to where an async one goes, for the thread that reports."""
    pool = client.connection_pool
    kind = next((sync for known, sync in _SYNC_KIND.items() if pool.connection_class is known), None)
    if kind is None:
        remedy = "consumers need a redis.asyncio client of TCP, TLS or unix"
        raise InvalidSetting("client", pool.connection_class.__name__, remedy)
    settings = {"socket_timeout": CALL_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, **_settings_of(pool)}
    return _sync_client(kind, settings)


def _sync_client(kind: type[redis.Connection], settings: dict[str, Any]) -> redis.Redis:
    pool = redis.ConnectionPool(kind, **{**settings, "retry": Retry(NoBackoff(), 0)})
    return with_deadline(redis.Redis.from_pool(pool))


def _settings_of(pool: Any) -> dict[str, Any]:
    return {name: value for name, value in pool.connection_kwargs.items() if name not in _TIED}


def _timeouts() -> dict[str, Any]:
    return {"socket_timeout": CALL_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT}


def where(client: Any) -> str:
    """Host and port of a client, for messages: never a password."""
    pool = getattr(client, "connection_pool", None)
    settings = getattr(pool, "connection_kwargs", {})
    return str(settings.get("path") or f"{settings.get('host', '?')}:{settings.get('port', '?')}")


def perform(connection: Callable[[], redis.Redis], jobs: Sequence[Job]) -> list[Outcome]:
    """Run a batch in one round trip (two where the server does not know a script); one outcome each, never raises."""
    try:
        client = connection()
        replies = _batch(client, [_short(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            for i, reply in zip(unknown, _batch(client, [_long(jobs[i]) for i in unknown]), strict=True):
                replies[i] = reply
    except Exception as error:  # noqa: BLE001  # whatever it is, those who wait for the outcomes must be told
        return [error] * len(jobs)
    return [_outcome(job, reply) for job, reply in zip(jobs, replies, strict=True)]


async def perform_async(
    connection: Callable[[], redis.asyncio.Redis], jobs: Sequence[Job], turns: int = 0
) -> list[Outcome]:
    """The same for asyncio, after so many turns of the loop.

    A large batch goes as several, a turn apart: redis-py packs and reads each without a break.
    """
    if len(jobs) > ABREAST:
        slices = [jobs[at : at + ABREAST] for at in range(0, len(jobs), ABREAST)]
        parts = await asyncio.gather(*(perform_async(connection, each, turn) for turn, each in enumerate(slices)))
        return list(chain.from_iterable(parts))
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        client = connection()
        replies = await _batch_async(client, [_short(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = await _batch_async(client, [_long(jobs[i]) for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
    except Exception as error:  # noqa: BLE001  # whatever it is, those who wait for the outcomes must be told
        return [error] * len(jobs)
    return [_outcome(job, reply) for job, reply in zip(jobs, replies, strict=True)]


def raise_if_cancelled() -> None:
    """For a task that has just awaited redis-py: that may have taken the cancellation for a timeout of its own."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _batch(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    replies = pipe.execute(raise_on_error=False)
    if any(is_demoted(reply) for reply in replies):  # a primary no more: the address has another by now
        client.connection_pool.disconnect()
    return replies


async def _batch_async(client: redis.asyncio.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    if any(is_demoted(reply) for reply in replies):
        await client.connection_pool.disconnect()
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

"""Connections: an address becomes a redis-py client, a batch of calls one round trip.

The clients that we make have short timeouts and never retry by themselves: a retried script could charge twice, and
which retry is safe is the ledger's business. `socket_timeout` and `socket_connect_timeout` in the URL win. Of a
caller's own client we make a twin: its address, login, timeouts, but connections of our own, and no retries. What an
address or a client says is read by target.py; how a cluster is spoken to is cluster.py's business.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from itertools import chain
from time import monotonic
from typing import Any, Final, cast

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse
from redis.retry import Retry

from nexus_redis._protocol.plans import Call, Command, Job, Outcome
from nexus_redis._redis.address import CALL_TIMEOUT, CONNECT_TIMEOUT, SCHEMES, Host, Target, target_of, target_of_url
from nexus_redis._redis.cluster import AsyncCluster, Cluster, key_of
from nexus_redis._redis.faults import failed, is_demoted, is_unknown_script
from nexus_redis._redis.resolver import with_deadline
from nexus_redis._values.parse import DEFAULT_URL
from nexus_redis.errors import InvalidSetting

ABREAST: Final = 32  # calls of an event loop's thread in one pipeline: a few milliseconds of it


def address(url: Any) -> str:
    """The URL to use: the argument, else NEXUS_REDIS_URL, else localhost."""
    found = url or os.environ.get("NEXUS_REDIS_URL") or DEFAULT_URL
    if not isinstance(found, str) or found.partition(":")[0].lower() not in SCHEMES:
        if isinstance(found, str) and "://" not in found and "@" in found:  # a password may come before it
            found = f"***@{found.rpartition('@')[2]}"
        raise InvalidSetting("url", found, f"use one of {', '.join(f'{s}://' for s in SCHEMES)}")
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
    if hasattr(client, "command_stack"):
        raise InvalidSetting("client", _spelled(type(client)), "it is a pipeline: use the client that it is from")
    is_async, wants_async = iscoroutinefunction(client.execute_command), issubclass(kind, redis.asyncio.Redis)
    if is_async is not wants_async:
        remedy = (
            f"it is async and this Nexus is sync: use a {ours}, or nexus_redis.asyncio.Nexus"
            if is_async
            else f"it is sync and this Nexus is async: use a {ours}, or nexus_redis.Nexus"
        )
        raise InvalidSetting("client", _spelled(type(client)), remedy)
    target_of(client)  # raises for one that goes to replicas
    return client


def _spelled(kind: type) -> str:
    """Return the name of a class as people import it: `redis.asyncio.Redis`, which is in redis.asyncio.client."""
    module = kind.__module__.removesuffix(".client").removesuffix(".cluster")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def connect(url: str) -> redis.Redis:
    """A sync client for an address; connects at its first call."""
    return client_to(target_of_url(url))


def connect_async(url: str) -> redis.asyncio.Redis:
    """The same for asyncio."""
    return async_client_to(target_of_url(url))


def twin(client: redis.Redis) -> redis.Redis:
    """A client to where this one goes, without its retries; itself where its pool is of a kind that we don't know."""
    target = target_of(client)
    return client if target is None else client_to(target)


def twin_async(client: redis.asyncio.Redis) -> redis.asyncio.Redis:
    """The same for asyncio."""
    target = target_of(client)
    return client if target is None else async_client_to(target)


def sync_twin(client: redis.asyncio.Redis) -> redis.Redis:
    """A sync client to where an async one goes, for the thread that reports."""
    target = target_of(client)
    if target is None or target.kind not in _KINDS:
        kind = type(client).__name__ if target is None else target.kind.__name__
        raise InvalidSetting("client", kind, "consumers need a redis.asyncio client of TCP, TLS or unix")
    return client_to(target)


_KINDS: Final[dict[type, type]] = {
    redis.SSLConnection: redis.asyncio.SSLConnection,
    redis.UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
    redis.Connection: redis.asyncio.Connection,
    redis.asyncio.SSLConnection: redis.SSLConnection,
    redis.asyncio.UnixDomainSocketConnection: redis.UnixDomainSocketConnection,
    redis.asyncio.Connection: redis.Connection,
}


class _SentinelPool(redis.sentinel.SentinelConnectionPool):
    """Closes the connections to the Sentinels, too: redis-py leaves them to whoever made the Sentinel object."""

    def disconnect(self, inuse_connections: bool = True) -> None:  # redis-py's
        super().disconnect(inuse_connections)
        if inuse_connections:
            for each in self.sentinel_manager.sentinels:
                each.connection_pool.disconnect()


class _AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """The same for asyncio."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # redis-py's
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for each in self.sentinel_manager.sentinels:
                await each.connection_pool.disconnect()


def client_to(target: Target) -> redis.Redis:
    """A sync client without retries, or what stands for one where it goes to a cluster (cluster.py)."""
    return cast("redis.Redis", _client_to(target, redis, redis.sentinel, Retry(NoBackoff(), 0), _SentinelPool, Cluster))


def async_client_to(target: Target) -> redis.asyncio.Redis:
    """The same for asyncio."""
    no_retries = AsyncRetry(NoBackoff(), 0)
    made = _client_to(target, redis.asyncio, redis.asyncio.sentinel, no_retries, _AsyncSentinelPool, AsyncCluster)
    return cast("redis.asyncio.Redis", made)


def _client_to(
    target: Target, face: Any, by_sentinels: Any, retry: object, pool: Callable[..., Any], cluster: Callable[..., Any]
) -> Any:
    """Make it of the classes of one face of redis-py, which have the same names in both."""
    settings = {**_timeouts(target.settings), "retry": retry}
    kind = target.kind
    if issubclass(kind, redis.Connection | redis.UnixDomainSocketConnection) is not (face is redis):
        kind = _KINDS.get(kind, kind)

    def to(*host: Host, kind: type = kind, settings: dict[str, Any] = settings) -> Any:
        place = {"host": host[0][0], "port": host[0][1]} if host else {}
        return with_deadline(face.Redis.from_pool(face.ConnectionPool(kind, **place, **settings)))

    if target.is_cluster:
        return cluster(target, to)
    if not target.service:
        return to(*target.hosts)
    manager = by_sentinels.Sentinel([], force_master_ip=target.forced_ip)
    sentinel_kind = face.SSLConnection if target.are_sentinels_encrypted else face.Connection
    of_sentinels = {**_timeouts(target.of_sentinels), "retry": retry}
    manager.sentinels = [to(host, kind=sentinel_kind, settings=of_sentinels) for host in target.hosts]
    encrypted = {"ssl": True} if target.is_encrypted else {}
    return face.Redis.from_pool(pool(target.service, manager, **encrypted, **settings))


def _timeouts(settings: Any) -> dict[str, Any]:
    """Ours, where a client has none of its own."""
    return {"socket_timeout": CALL_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, **settings}


def where(client: Any) -> str:
    """Host and port of a client, the Sentinels' name, or nodes of a cluster, for messages: never a password."""
    if isinstance(client, Cluster | AsyncCluster):
        return client.target.shown
    target = target_of(client)
    if target is not None:
        return target.shown
    pool = getattr(client, "connection_pool", None)
    settings = getattr(pool, "connection_kwargs", {})
    return str(settings.get("path") or f"{settings.get('host', '?')}:{settings.get('port', '?')}")


def node_for(client: redis.Redis, key: str) -> redis.Redis:
    """The client itself, or, where it goes to a cluster, one of the node that a key is on."""
    found: Any = client
    return cast("redis.Redis", found.client_for(("TYPE", key)) if isinstance(found, Cluster) else found)


def is_single(client: Any) -> bool:
    """Whether it goes to one server, so that another one like it is a connection and nothing more."""
    pool = getattr(client, "connection_pool", None)
    return not (isinstance(client, Cluster | AsyncCluster) or hasattr(pool, "sentinel_manager"))


def placing(client: Any, connection: Callable[[], Any]) -> Callable[[str | Job], str] | None:
    """How to tell which node of a cluster a key is on, or a call goes to; None where all is in one place."""

    def place_of(it: str | Job) -> str:
        key = it.encode() if isinstance(it, str) else key_of(_short(it))
        return str(connection().place_of(key)) if key else ""

    return place_of if isinstance(client, Cluster | AsyncCluster) else None


def perform(connection: Callable[[], redis.Redis], jobs: Sequence[Job]) -> list[Outcome]:
    """Run a batch in one round trip (two where the server does not know a script); one outcome each, never raises."""
    began = monotonic()
    try:
        client = connection()
        replies = _batch(client, [_short(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if is_unknown_script(reply)]
        if unknown:
            for i, reply in zip(unknown, _batch(client, [_long(jobs[i]) for i in unknown]), strict=True):
                replies[i] = reply
    except Exception as error:  # noqa: BLE001  # whatever it is, those who wait for the outcomes must be told
        return [failed(error, monotonic() - began)] * len(jobs)
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
    began = monotonic()
    try:
        client = connection()
        replies = await _batch_async(client, [_short(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if is_unknown_script(reply)]
        if unknown:
            again = await _batch_async(client, [_long(jobs[i]) for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
    except Exception as error:  # noqa: BLE001  # whatever it is, those who wait for the outcomes must be told
        return [failed(error, monotonic() - began)] * len(jobs)
    return [_outcome(job, reply) for job, reply in zip(jobs, replies, strict=True)]


def raise_if_cancelled() -> None:
    """For a task that has just awaited redis-py: that may have taken the cancellation for a timeout of its own."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _batch(client: redis.Redis | Cluster, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    if isinstance(client, Cluster):
        return client.run(commands)
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    replies = pipe.execute(raise_on_error=False)
    if any(is_demoted(reply) for reply in replies):  # a primary no more: the address has another by now
        client.connection_pool.disconnect()
    return replies


async def _batch_async(client: redis.asyncio.Redis | AsyncCluster, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    if isinstance(client, AsyncCluster):
        return await client.run(commands)
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
        return failed(reply)
    try:
        return job.decode(reply)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return failed(InvalidResponse(f"a reply of another shape: {error}"))

"""An address, or a caller's client, becomes a redis-py client of our own.

The clients that we make have short timeouts and never retry by themselves: a retried script could charge twice, and the
ledger decides which retry is safe. `socket_timeout` and `socket_connect_timeout` in the address win over ours. Of a
caller's own client we make a twin. It has that client's address, login and timeouts, but its own connections, and no
retries.

`address.py` reads what an address or a client says, `cluster.py` speaks to a cluster, and `execute.py` sends batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Final, cast

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from nexus_redis._redis.address import (
    CALL_TIMEOUT,
    CONNECT_TIMEOUT,
    SCHEMES,
    Endpoint,
    Host,
    endpoint_of_client,
    endpoint_of_url,
)
from nexus_redis._redis.cluster import Cluster
from nexus_redis._redis.cluster_asyncio import AsyncCluster
from nexus_redis._redis.resolver import with_deadline
from nexus_redis._values import error_texts
from nexus_redis._values.parse import DEFAULT_URL
from nexus_redis.errors import InvalidSetting


def address(url: Any) -> str:
    """Return the URL to use: the argument, else NEXUS_REDIS_URL, else that of localhost."""
    found = url or os.environ.get("NEXUS_REDIS_URL") or DEFAULT_URL
    if not isinstance(found, str) or found.partition(":")[0].lower() not in SCHEMES:
        if isinstance(found, str) and "://" not in found and "@" in found:  # a password may stand before the @
            found = f"***@{found.rpartition('@')[2]}"
        raise InvalidSetting("url", found, error_texts.unknown_scheme(SCHEMES))
    return found


def checked(client: Any, kind: type) -> Any:
    """Return a caller's client, after a check that it is of the kind that this face can use, sync or async.

    `kind` is the class of redis-py. A client of another library that behaves like it passes.
    """
    ours = _import_name(kind)
    if isinstance(client, str | bytes):
        raise InvalidSetting("client", client, error_texts.CLIENT_IS_ADDRESS)
    if isinstance(client, type) or not hasattr(client, "pipeline"):
        given = client if isinstance(client, type) else type(client)
        raise InvalidSetting("client", _import_name(given), error_texts.not_a_client(ours))
    if hasattr(client, "command_stack"):
        raise InvalidSetting("client", _import_name(type(client)), error_texts.CLIENT_IS_PIPELINE)
    is_async, wants_async = iscoroutinefunction(client.execute_command), issubclass(kind, redis.asyncio.Redis)
    if is_async is not wants_async:
        remedy = error_texts.client_is_async(ours) if is_async else error_texts.client_is_sync(ours)
        raise InvalidSetting("client", _import_name(type(client)), remedy)
    endpoint_of_client(client)  # raises for one that goes to replicas
    return client


def _import_name(kind: type) -> str:
    """Return the name of a class as people import it: `redis.asyncio.Redis`, which is in redis.asyncio.client."""
    module = kind.__module__.removesuffix(".client").removesuffix(".cluster")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def connect(url: str) -> redis.Redis:
    """Return a sync client for an address; it connects at its first call."""
    return client_to(endpoint_of_url(url))


def connect_async(url: str) -> redis.asyncio.Redis:
    """Return an async client for an address; it connects at its first call."""
    return async_client_to(endpoint_of_url(url))


def twin(client: redis.Redis) -> redis.Redis:
    """Return a client to the same place without retries; the client itself if we do not know the kind of its pool."""
    endpoint = endpoint_of_client(client)
    return client if endpoint is None else client_to(endpoint)


def twin_async(client: redis.asyncio.Redis) -> redis.asyncio.Redis:
    """Return the twin of an async client, as `twin` does."""
    endpoint = endpoint_of_client(client)
    return client if endpoint is None else async_client_to(endpoint)


def sync_twin(client: redis.asyncio.Redis) -> redis.Redis:
    """Return a sync client to the server of an async one, for the thread that reports."""
    endpoint = endpoint_of_client(client)
    if endpoint is None or endpoint.kind not in _KINDS:
        kind = type(client).__name__ if endpoint is None else endpoint.kind.__name__
        raise InvalidSetting("client", kind, error_texts.CLIENT_WITHOUT_TWIN)
    return client_to(endpoint)


_KINDS: Final[dict[type, type]] = {
    redis.SSLConnection: redis.asyncio.SSLConnection,
    redis.UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
    redis.Connection: redis.asyncio.Connection,
    redis.asyncio.SSLConnection: redis.SSLConnection,
    redis.asyncio.UnixDomainSocketConnection: redis.UnixDomainSocketConnection,
    redis.asyncio.Connection: redis.Connection,
}


class _SentinelPool(redis.sentinel.SentinelConnectionPool):
    """A pool that also closes the connections to the Sentinels; redis-py leaves these to the caller."""

    def disconnect(self, inuse_connections: bool = True) -> None:  # redis-py's signature
        super().disconnect(inuse_connections)
        if inuse_connections:
            for each in self.sentinel_manager.sentinels:
                each.connection_pool.disconnect()


class _AsyncSentinelPool(redis.asyncio.sentinel.SentinelConnectionPool):
    """A `_SentinelPool` for asyncio."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # redis-py's signature
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for each in self.sentinel_manager.sentinels:
                await each.connection_pool.disconnect()


def client_to(endpoint: Endpoint) -> redis.Redis:
    """Return a sync client without retries; for a cluster, the `Cluster` that stands for one."""
    no_retries = Retry(NoBackoff(), 0)
    made = _client_to(endpoint, redis, redis.sentinel, no_retries, _SentinelPool, Cluster)
    return cast("redis.Redis", made)


def async_client_to(endpoint: Endpoint) -> redis.asyncio.Redis:
    """Return an async client without retries; for a cluster, the `AsyncCluster` that stands for one."""
    no_retries = AsyncRetry(NoBackoff(), 0)
    made = _client_to(endpoint, redis.asyncio, redis.asyncio.sentinel, no_retries, _AsyncSentinelPool, AsyncCluster)
    return cast("redis.asyncio.Redis", made)


def _client_to(
    endpoint: Endpoint,
    face: Any,
    by_sentinels: Any,
    retry: object,
    pool: Callable[..., Any],
    cluster: Callable[..., Any],
) -> Any:
    """Return a client made of the classes of one face of redis-py; both faces give them the same names."""
    settings = {**_timeouts(endpoint.settings), "retry": retry}
    kind = endpoint.kind
    if issubclass(kind, redis.Connection | redis.UnixDomainSocketConnection) is not (face is redis):
        kind = _KINDS.get(kind, kind)

    def to(*host: Host, kind: type = kind, settings: dict[str, Any] = settings) -> Any:
        place = {"host": host[0][0], "port": host[0][1]} if host else {}
        return with_deadline(face.Redis.from_pool(face.ConnectionPool(kind, **place, **settings)))

    if endpoint.is_cluster:
        return cluster(endpoint, to)
    if not endpoint.service:
        return to(*endpoint.hosts)
    manager = by_sentinels.Sentinel([], force_master_ip=endpoint.forced_ip)
    sentinel_kind = face.SSLConnection if endpoint.are_sentinels_encrypted else face.Connection
    of_sentinels = {**_timeouts(endpoint.of_sentinels), "retry": retry}
    manager.sentinels = [to(host, kind=sentinel_kind, settings=of_sentinels) for host in endpoint.hosts]
    encrypted = {"ssl": True} if endpoint.is_encrypted else {}
    return face.Redis.from_pool(pool(endpoint.service, manager, **encrypted, **settings))


def _timeouts(settings: Any) -> dict[str, Any]:
    """Return settings with our timeouts if a client has none of its own."""
    return {"socket_timeout": CALL_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, **settings}


def where(client: Any) -> str:
    """Return where a client goes, for messages: host and port, Sentinels, or nodes of a cluster. Never a password."""
    if isinstance(client, Cluster | AsyncCluster):
        return client.endpoint.shown
    endpoint = endpoint_of_client(client)
    if endpoint is not None:
        return endpoint.shown
    pool = getattr(client, "connection_pool", None)
    settings = getattr(pool, "connection_kwargs", {})
    return str(settings.get("path") or f"{settings.get('host', '?')}:{settings.get('port', '?')}")


def node_for(client: redis.Redis, key: str) -> redis.Redis:
    """Return the client itself, or, if it goes to a cluster, the client of the node that a key is on."""
    found: Any = client
    return cast("redis.Redis", found.client_for(("TYPE", key)) if isinstance(found, Cluster) else found)


def is_single(client: Any) -> bool:
    """Return whether a client goes to one server, so that a twin of it is only one more connection."""
    pool = getattr(client, "connection_pool", None)
    return not (isinstance(client, Cluster | AsyncCluster) or hasattr(pool, "sentinel_manager"))

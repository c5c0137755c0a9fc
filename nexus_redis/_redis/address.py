"""The place that a Nexus connects to, as plain values, read from an address or from a caller's client. No I/O.

    redis://HOST/DB, rediss://, unix://PATH            one server
    redis+sentinel://HOST,HOST:PORT/NAME/DB            the primary that the Sentinels name; each connection asks again
    redis+cluster://HOST,HOST:PORT                     the cluster that one of these nodes belongs to

`rediss+sentinel://` and `rediss+cluster://` encrypt each connection, also those to the Sentinels. The user and the
password before the `@` are those of the Redis servers. `sentinel_username` and `sentinel_password` after the `?` are
for the Sentinels. All other options there are those of redis-py, as for `redis://`.

valkey-py is a fork of redis-py, and its clients have the same settings. Only settings that both libraries know are
taken over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode

import redis
import redis.asyncio

from nexus_redis._values import error_texts
from nexus_redis._values.parse import DEFAULT_URL
from nexus_redis.errors import InvalidSetting

Host = tuple[str, int]
Remap = Callable[[Host], Host]

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
CONNECT_TIMEOUT: Final = 1.0
CALL_TIMEOUT: Final = 1.0  # of a socket; the scheduler decides when an answer is overdue (round_trips.py)
MANY: Final = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SCHEMES: Final = ("redis", "rediss", "unix", "embedded", *MANY)

_PARTS: Final = re.compile(
    r"(?P<base>rediss?)\+(?P<kind>sentinel|cluster)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:@\s]+)(?::(?P<port>\d{1,5}))?")
_DATABASE: Final = re.compile(r"/?(\d*)/?")
_TIED: Final = (  # settings that redis-py ties to one pool
    "retry", "event_dispatcher", "himport_registry", "maint_notifications_config", "maint_notifications_pool_handler",
    "orig_host_address", "orig_socket_connect_timeout", "orig_socket_timeout", "connection_pool", "host", "port",
    "oss_cluster_maint_notifications_handler", "response_callbacks", "connection_class", "max_connections", "ssl",
    "parser_class",
)  # fmt: skip
_SHARED: Final = frozenset([  # settings with one meaning in redis-py and valkey-py, sync and async
    "db", "username", "password", "credential_provider", "client_name", "decode_responses", "encoding",
    "encoding_errors", "health_check_interval", "path", "protocol", "socket_connect_timeout", "socket_keepalive",
    "socket_keepalive_options", "socket_timeout", "ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_cert_reqs",
    "ssl_certfile", "ssl_check_hostname", "ssl_ciphers", "ssl_keyfile", "ssl_min_version", "ssl_password",
])  # fmt: skip
_OF_SENTINELS: Final = re.compile("ssl_|socket_|protocol$")  # settings of a server that also hold for its Sentinels


@dataclass(frozen=True, eq=False)
class Endpoint:
    """The place that clients connect to, and how.

    `kind` is redis-py's class of connection, sync or async, and `settings` are those of each connection. `hosts` has
    one server (or none, if `settings` have the path of a socket), or the Sentinels that know `service`, or some nodes
    of a cluster, whose addresses go through `remap`. `forced_ip` replaces the address that Sentinels answer.
    """

    kind: type
    settings: Mapping[str, Any]
    hosts: tuple[Host, ...] = ()
    service: str = ""
    of_sentinels: Mapping[str, Any] = field(default_factory=dict)
    are_sentinels_encrypted: bool = False
    forced_ip: str | None = None
    is_cluster: bool = False
    remap: Remap | None = None

    @property
    def is_encrypted(self) -> bool:
        """Return whether its connections are encrypted."""
        return _is_ssl(self.kind)

    @property
    def connect_timeout(self) -> float:
        """Return the seconds that it may take to connect."""
        return float(self.settings.get("socket_connect_timeout") or CONNECT_TIMEOUT)

    @property
    def shown(self) -> str:
        """Return the place for a message, never with a password."""
        places = ",".join(map(host_text, self.hosts)) or str(self.settings.get("path", "?:?"))
        if self.service:
            return f"{self.service} (Sentinels {places})"
        return f"cluster {places}" if self.is_cluster else places


def host_text(host: Host) -> str:
    """Return a host and its port as they stand in an address.

    >>> host_text(("::1", 7000))
    '[::1]:7000'
    """
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


# --- from an address


def endpoint_of_url(url: str) -> Endpoint:
    """Take an address apart; raise `InvalidSetting` if no client could use it."""
    parts = _PARTS.fullmatch(url)
    if parts is None:
        if url.startswith(tuple(f"{scheme}:" for scheme in MANY)):
            raise InvalidSetting("url", url, error_texts.malformed_address(_example(url)))
        return _one(url)
    hosts = _hosts(url, parts["hosts"], SENTINEL_PORT if parts["kind"] == "sentinel" else PORT)
    login = f"{parts['login']}@" if parts["login"] else ""
    options = parse_qsl(parts["query"] or "", keep_blank_values=True)
    plain = urlencode([(name, value) for name, value in options if not name.startswith("sentinel_")])
    if parts["kind"] == "cluster":
        if parts["path"].strip("/") not in ("", "0") or dict(options).get("db", "0") != "0":
            raise InvalidSetting("url", url, error_texts.CLUSTER_DATABASE)
        one = _one(f"{parts['base']}://{login}cluster/0?{plain}", url)
        return Endpoint(one.kind, one.settings, hosts, is_cluster=True)
    service, _, database = parts["path"].removeprefix("/").partition("/")
    if not service:
        raise InvalidSetting("url", url, error_texts.service_missing(_example(url)))
    one = _one(f"{parts['base']}://{login}sentinel/{database}?{plain}", url)
    of_sentinels = {name: value for name, value in one.settings.items() if _OF_SENTINELS.match(name)}
    for name, value in options:
        if name.startswith("sentinel_"):
            of_sentinels[name.removeprefix("sentinel_")] = value
    if of_sentinels.keys() - one.settings.keys() - {"username", "password"}:
        raise InvalidSetting("url", url, error_texts.SENTINEL_OPTIONS)
    return Endpoint(one.kind, one.settings, hosts, unquote(service), of_sentinels, _is_ssl(one.kind))


def _example(url: str) -> str:
    scheme = url.partition(":")[0]
    return f"{scheme}://HOST:26379,HOST:26379/NAME" if "sentinel" in scheme else f"{scheme}://HOST:6379,HOST:6379"


def _hosts(url: str, given: str, port: int) -> tuple[Host, ...]:
    found = [_HOST.fullmatch(each) for each in given.split(",")]
    hosts = [(each["host"].strip("[]"), int(each["port"] or port)) for each in found if each is not None]
    if len(hosts) < len(found) or not all(0 < number < 65_536 for _, number in hosts):
        raise InvalidSetting("url", url, error_texts.malformed_hosts(_example(url)))
    return tuple(hosts)


def _one(url: str, given: str = "") -> Endpoint:
    """Take the address of one server apart; errors show the address that was `given`."""
    given = given or url
    if not url.startswith("unix:"):
        path = url.partition("://")[2].partition("?")[0].partition("/")[2]
        if _DATABASE.fullmatch(path) is None:
            found = "the text after the host" if "@" in path else repr(path[:40])  # a password may hold a "/"
            raise InvalidSetting("url", given, error_texts.malformed_database(DEFAULT_URL, found))
    try:
        pool = redis.ConnectionPool.from_url(url, socket_timeout=CALL_TIMEOUT, socket_connect_timeout=CONNECT_TIMEOUT)
        pool.connection_class(**pool.connection_kwargs)
    except ValueError as error:
        raise InvalidSetting("url", given, error_texts.malformed_plain_address(DEFAULT_URL)) from error
    except TypeError as error:  # an option after the ? that redis-py does not know: it shows at a connection
        raise InvalidSetting("url", given, error_texts.UNKNOWN_OPTION) from error
    return _of_pool(pool)


# --- from a client


def endpoint_of_client(client: Any) -> Endpoint | None:
    """Return the place that a caller's client connects to; None for a kind that must be used as it is."""
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        return _of_cluster(client, nodes)
    pool = getattr(client, "connection_pool", None)
    if type(pool) in _POOLS:
        return _of_pool(pool)
    if hasattr(pool, "sentinel_manager"):
        return _of_sentinels(pool)
    if _is_valkey(pool) and type(pool).__name__ in ("ConnectionPool", "BlockingConnectionPool"):
        return _of_pool(pool)
    return None


_POOLS: Final = (
    redis.ConnectionPool, redis.BlockingConnectionPool,
    redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool,
)  # fmt: skip


def _of_pool(pool: Any) -> Endpoint:
    given = pool.connection_kwargs
    hosts = () if "path" in given else (_host_of(given),)
    return Endpoint(_kind_of(pool, pool.connection_class), _settings(pool, given), hosts)


def _of_sentinels(pool: Any) -> Endpoint:
    if not pool.is_master:
        raise InvalidSetting("client", pool.service_name, error_texts.CLIENT_OF_REPLICAS)
    first, *_ = sentinels = [each.connection_pool for each in pool.sentinel_manager.sentinels]
    of_sentinels = {name: value for name, value in _settings(first, first.connection_kwargs).items() if name != "db"}
    return Endpoint(
        _kind_of(pool, pool.connection_class),
        _settings(pool, pool.connection_kwargs),
        tuple(_host_of(each.connection_kwargs) for each in sentinels),
        str(pool.service_name),
        of_sentinels,
        _is_ssl(_kind_of(first, first.connection_class)),
        getattr(pool.sentinel_manager, "_force_master_ip", None),
    )


def _of_cluster(client: Any, nodes: Any) -> Endpoint:
    given = getattr(nodes, "connection_kwargs", None) or client.connection_kwargs
    hosts = tuple((str(node.host), int(node.port)) for node in nodes.startup_nodes.values())
    is_async = ".asyncio." in f"{type(client).__module__}."
    face: Any = redis.asyncio if is_async else redis
    kind = given.get("connection_class")
    is_encrypted = bool(given.get("ssl")) or (kind is not None and "SSL" in kind.__name__)
    settings = {name: value for name, value in _settings(client, given).items() if name != "db"}
    kind = face.SSLConnection if is_encrypted else face.Connection
    return Endpoint(kind, settings, hosts, is_cluster=True, remap=getattr(nodes, "address_remap", None))


def _host_of(settings: Mapping[str, Any]) -> Host:
    return str(settings.get("host") or "localhost"), int(settings.get("port") or PORT)


def _settings(owner: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    if _is_valkey(owner):
        return {name: value for name, value in given.items() if name in _SHARED and value is not None}
    return {name: value for name, value in given.items() if name not in _TIED}


def _is_valkey(it: Any) -> bool:
    return type(it).__module__.partition(".")[0] == "valkey"


def _is_ssl(kind: type) -> bool:
    return issubclass(kind, redis.SSLConnection | redis.asyncio.SSLConnection)


def _kind_of(owner: Any, kind: type) -> type:
    """Return redis-py's plain class of connection for `kind`, which may be one for Sentinels, or one of valkey-py."""
    is_ours = not _is_valkey(owner)
    if is_ours and not kind.__name__.startswith("SentinelManaged"):
        return kind
    is_async = ".asyncio." in type(owner).__module__
    face: Any = redis.asyncio if is_async else redis
    names = [parent.__name__ for parent in kind.__mro__]
    if any("SSL" in name for name in names):
        return face.SSLConnection  # type: ignore[no-any-return]  # a module is Any here
    if any("Unix" in name for name in names):
        return face.UnixDomainSocketConnection  # type: ignore[no-any-return]  # likewise
    return face.Connection  # type: ignore[no-any-return]  # likewise

"""Where an address or a client goes: what is read of it, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
import valkey
import valkey.asyncio
import valkey.sentinel

import nexus_redis
import nexus_redis.asyncio
from nexus_redis._redis.address import SCHEMES, endpoint_of_client, endpoint_of_url
from nexus_redis._redis.connect import where
from nexus_redis._values import error_texts
from nexus_redis._values.parse import DEFAULT_URL
from nexus_redis.errors import InvalidSetting

SENTINEL, CLUSTER = "redis+sentinel://HOST:26379,HOST:26379/NAME", "redis+cluster://HOST:6379,HOST:6379"  # examples
SENTINELS = "redis+sentinel://web:s%40cret@h1,h2:26380/orders/3?socket_timeout=2&sentinel_password=other"


def test_sentinels_service_and_database() -> None:
    """An address of Sentinels names the Sentinels, the service and the database."""
    endpoint = endpoint_of_url(SENTINELS)
    assert (endpoint.hosts, endpoint.service) == ((("h1", 26379), ("h2", 26380)), "orders")
    told = {name: endpoint.settings[name] for name in ("username", "password", "db", "socket_timeout")}
    assert told == {"username": "web", "password": "s@cret", "db": 3, "socket_timeout": 2}
    assert (endpoint.of_sentinels["password"], endpoint.of_sentinels["socket_timeout"]) == ("other", 2)
    assert "username" not in endpoint.of_sentinels
    assert not endpoint.is_encrypted
    assert not endpoint.are_sentinels_encrypted


def test_a_cluster_address_names_nodes() -> None:
    """An address of a cluster names nodes of it."""
    endpoint = endpoint_of_url("rediss+cluster://:pw@h1,[::1]:7001?ssl_cert_reqs=none")
    assert (endpoint.hosts, endpoint.is_cluster, endpoint.is_encrypted) == ((("h1", 6379), ("::1", 7001)), True, True)
    assert (endpoint.settings["password"], endpoint.settings["ssl_cert_reqs"]) == ("pw", "none")
    encrypted = endpoint_of_url("rediss+sentinel://h1/orders?ssl_ca_certs=ca.pem")
    assert (encrypted.is_encrypted, encrypted.are_sentinels_encrypted) == (True, True)
    assert encrypted.of_sentinels["ssl_ca_certs"] == "ca.pem"


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://host/cache", error_texts.malformed_database(DEFAULT_URL, "'cache'")),
        ("redis://host/1/2", error_texts.malformed_database(DEFAULT_URL, "'1/2'")),
        ("rediss://host/-1", error_texts.malformed_database(DEFAULT_URL, "'-1'")),
        ("redis+sentinel://h1/orders/cache", error_texts.malformed_database(DEFAULT_URL, "'cache'")),
        ("redis+sentinel://h1,h2", error_texts.service_missing(SENTINEL)),
        ("redis+sentinel://h1,,h2/orders", error_texts.malformed_hosts(SENTINEL)),
        ("redis+cluster://h1:0", error_texts.malformed_hosts(CLUSTER)),
        ("redis+cluster://h1:70000", error_texts.malformed_hosts(CLUSTER)),
        ("redis+cluster://", error_texts.malformed_hosts(CLUSTER)),
        ("redis+cluster:h1", error_texts.malformed_address(CLUSTER)),
        ("redis+cluster://h1/2", error_texts.CLUSTER_DATABASE),
        ("redis+cluster://h1?db=2", error_texts.CLUSTER_DATABASE),
        ("redis+cluster://h1?retries=5", error_texts.UNKNOWN_OPTION),
        ("redis+sentinel://h1/orders?sentinel_port=5", error_texts.SENTINEL_OPTIONS),
        ("redis+ring://h1", error_texts.unknown_scheme(SCHEMES)),
    ],
)
@pytest.mark.parametrize("module", [nexus_redis, nexus_redis.asyncio])
def test_a_wrong_address_is_refused(module: Any, url: str, remedy: str) -> None:
    """A text that is not an address is refused with the field and the remedy."""
    with pytest.raises(InvalidSetting) as refusal:
        module.Nexus.from_url(url)
    assert (refusal.value.field, refusal.value.remedy) == ("url", remedy)


def test_each_address_in_the_docs_is_one() -> None:
    """Each address in the docs is an address."""
    page = (Path(__file__).parents[2] / "docs" / "servers.md").read_text()
    addresses = re.findall(r"\| `([a-z+]+://[^`]*)` \|", page)
    assert {url.partition(":")[0] for url in addresses} == set(SCHEMES)
    for url in addresses:
        if not url.startswith("embedded:"):
            assert "?:?" not in repr(nexus_redis.Nexus.from_url(url))


def test_a_password_is_in_no_message() -> None:
    """A password is in no message."""
    for url in ("redis+sentinel://:hunter2@h1/", "redis+cluster://u:hunter2@h1/5", "redis://:hunter2/x@h1/0"):
        with pytest.raises(InvalidSetting) as refusal:
            endpoint_of_url(url)
        assert "hunter2" not in str(refusal.value)
    assert "s@cret" not in endpoint_of_url(SENTINELS).shown


@pytest.mark.parametrize("module", [nexus_redis, nexus_redis.asyncio])
def test_a_nexus_shows_its_hosts(module: Any) -> None:
    """A nexus names the hosts that it was given and connects to none of them."""
    assert "orders (Sentinels h1:26379,h2:26380)" in repr(module.Nexus.from_url(SENTINELS))
    assert "cluster h1:6379,[::1]:7001" in repr(module.Nexus.from_url("redis+cluster://h1,[::1]:7001"))


def sentinel_clients() -> list[Any]:
    """What people have: redis-py's and valkey-py's, sync and async."""
    given: dict[str, Any] = {"password": "pw", "db": 3, "socket_timeout": 2.0}
    places = [("h1", 26379), ("h2", 26380)]
    sentinels = {"password": "other"}
    modules: list[Any] = [redis.sentinel, redis.asyncio.sentinel, valkey.sentinel, valkey.asyncio.sentinel]
    return [each.Sentinel(places, sentinel_kwargs=sentinels, **given).master_for("orders") for each in modules]


def test_any_client_by_sentinels_is_read() -> None:
    """A client by Sentinels is read, whether redis-py or its user has made it."""
    for client in sentinel_clients():
        endpoint = endpoint_of_client(client)
        assert endpoint is not None
        assert (endpoint.shown, endpoint.settings["db"]) == ("orders (Sentinels h1:26379,h2:26380)", 3)
        assert (endpoint.settings["password"], endpoint.of_sentinels["password"]) == ("pw", "other")
        assert endpoint.settings["socket_timeout"] == 2.0
        assert where(client) == endpoint.shown


def test_a_client_of_replicas_is_refused() -> None:
    """A client by Sentinels that goes to replicas is refused."""
    for module in (redis.sentinel, valkey.sentinel):
        client = module.Sentinel([("h1", 26379)]).slave_for("orders")
        with pytest.raises(InvalidSetting) as refusal:
            nexus_redis.Nexus(client)
        assert refusal.value.remedy == error_texts.CLIENT_OF_REPLICAS


def test_an_async_cluster_client_is_read() -> None:
    """An async client of a cluster is read with its nodes and its map of addresses."""

    def remap(host: tuple[str, int]) -> tuple[str, int]:
        return host[0], host[1] + 1

    client: Any = redis.asyncio.RedisCluster(host="h1", port=7000, password="pw", ssl=True, address_remap=remap)
    endpoint = endpoint_of_client(client)
    assert endpoint is not None
    assert (endpoint.shown, endpoint.settings["password"], endpoint.is_encrypted) == ("cluster h1:7000", "pw", True)
    assert endpoint.remap is remap
    ported = endpoint_of_client(valkey.asyncio.ValkeyCluster(host="h1", port=7000, password="pw"))
    assert ported is not None
    assert (ported.shown, ported.settings["password"], ported.is_encrypted) == ("cluster h1:7000", "pw", False)


@pytest.mark.parametrize("face", [valkey, valkey.asyncio])
def test_a_client_of_valkey_py_is_understood(face: Any) -> None:
    """A client of valkey-py is served by connections of redis-py."""
    module = nexus_redis if face is valkey else nexus_redis.asyncio
    client = face.Valkey(host="h1", port=7000, password="pw", db=3, ssl=True, ssl_cert_reqs="none")
    nexus = module.Nexus(client)
    assert "h1:7000" in repr(nexus)
    pool = nexus._connections.client().connection_pool
    assert issubclass(pool.connection_class, redis.SSLConnection | redis.asyncio.SSLConnection)
    told = {name: pool.connection_kwargs[name] for name in ("host", "port", "password", "db", "ssl_cert_reqs")}
    assert told == {"host": "h1", "port": 7000, "password": "pw", "db": 3, "ssl_cert_reqs": "none"}
    assert type(nexus._connections.client()).__module__.partition(".")[0] == "redis"

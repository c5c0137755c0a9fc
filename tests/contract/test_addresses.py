"""Each way to name a server, and what is said where the way does not lead there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import redis.sentinel
import valkey
import valkey.asyncio

from nexus_redis import ServerRefused
from nexus_redis._redis.embedded import HOST, ServerProcess
from nexus_redis._values import error_texts
from tests.conftest import serve_fleet
from tests.harness.faces import LONG, Opener
from tests.harness.fleets import SERVICE, Fleet, FleetServer, SentinelFleet
from tests.harness.servers import MISSING, Server, binary, launch
from tests.harness.support import PATIENCE, is_missing
from tests.harness.tls import certify, encrypting


@pytest.fixture(params=["cluster-valkey", pytest.param("cluster-redis7", marks=pytest.mark.soak)])
def cluster(request: pytest.FixtureRequest, fleets: dict[str, Fleet]) -> Iterator[Server]:
    yield from serve_fleet(request.param, fleets)


@pytest.fixture(params=["sentinel-valkey", pytest.param("sentinel-redis7", marks=pytest.mark.soak)])
def sentinels(request: pytest.FixtureRequest, fleets: dict[str, Fleet]) -> Iterator[Server]:
    yield from serve_fleet(request.param, fleets)


pytestmark = pytest.mark.xdist_group("fleets")


def used(nexus: Any) -> bool:
    """A producer and a consumer work there; the consumer reports by a connection of its own."""
    budget = nexus.budget("stripe", rate=1000)
    budget.acquire()
    with budget.consumer("es-1", capacity=400, interval=LONG) as consumer:
        return bool(consumer.report(load=95) == 100) and "stripe" in nexus.budgets()


def opened(open_nexus: Opener, make: Any) -> Any:
    """A Nexus on a client that is made in the loop, where there is one."""

    async def made() -> Any:
        return make()

    return open_nexus.around(open_nexus.run(made) if open_nexus.is_async else make())


def close(open_nexus: Opener, client: Any) -> None:
    open_nexus.run(getattr(client, "aclose", client.close))


def test_a_client_of_valkey_py_is_served(open_nexus: Opener, one_server: Server) -> None:
    """A client of valkey-py is served."""
    face: Any = valkey.asyncio if open_nexus.is_async else valkey
    client = face.Valkey(host=HOST, port=one_server.port, decode_responses=True)
    assert used(open_nexus.around(client))
    close(open_nexus, client)


def test_any_client_of_a_cluster_is_served(open_nexus: Opener, cluster: Server) -> None:
    """A client of a cluster is served, whether redis-py or its user has made it."""
    assert isinstance(cluster, FleetServer)
    port = cluster.fleet.processes[1].port
    modules: list[Any] = [redis.asyncio, valkey.asyncio] if open_nexus.is_async else [redis, valkey]
    for module in modules:
        kind = getattr(module, "RedisCluster", None) or module.ValkeyCluster
        nexus = opened(open_nexus, lambda kind=kind: kind(host=HOST, port=port))
        assert used(nexus)
        assert f"cluster {HOST}:" in repr(getattr(nexus, "it", nexus))


def test_a_client_by_sentinels_is_served(open_nexus: Opener, sentinels: Server) -> None:
    """A client by Sentinels is served."""
    nexus = opened(open_nexus, sentinels.aclient if open_nexus.is_async else sentinels.client)
    assert used(nexus)
    assert f"{SERVICE} (Sentinels {HOST}:" in repr(getattr(nexus, "it", nexus))


def test_sentinels_select_the_database(open_nexus: Opener, sentinels: Server) -> None:
    """Behind Sentinels the database is the one that the address names."""
    assert isinstance(sentinels, FleetServer)
    assert isinstance(sentinels.fleet, SentinelFleet)
    assert used(open_nexus(f"{sentinels.url}/3"))
    there = redis.Redis(host=HOST, port=sentinels.fleet.primary.port, db=3, socket_timeout=PATIENCE)
    assert there.exists("nexus:{stripe}")
    there.flushdb()
    there.close()


def test_a_plain_address_of_a_node_is_refused(open_nexus: Opener, cluster: Server) -> None:
    """A plain address of a node of a cluster is refused, and the error says that the server is a cluster."""
    assert isinstance(cluster, FleetServer)
    nexus = open_nexus(f"redis://{HOST}:{cluster.fleet.processes[0].port}")

    def use_some() -> None:
        for i in range(100):  # two thirds of the names are on other nodes
            nexus.budget(f"stripe-{i}", rate=5).acquire()

    with pytest.raises(ServerRefused) as refusal:
        use_some()
    assert refusal.value.code == "MOVED"
    assert refusal.value.remedy.startswith(error_texts.SERVER_REFUSED["MOVED"])


@pytest.fixture(scope="module")
def without_hello() -> Iterator[ServerProcess]:
    """As old proxies are: it knows no HELLO."""
    server = launch("valkey", "--rename-command", "HELLO", "")
    yield server
    server.stop()


def test_protocol_2_replaces_a_refused_hello(open_nexus: Opener, without_hello: ServerProcess) -> None:
    """Protocol 2 goes where the server refuses HELLO, and protocol 3 is refused there with the remedy."""
    assert used(open_nexus(f"redis://{HOST}:{without_hello.port}/0?protocol=2"))
    with pytest.raises(ServerRefused) as refusal:
        open_nexus(f"redis://{HOST}:{without_hello.port}/0?protocol=3").budget("stripe").acquire()
    assert refusal.value.code == "HELLO"
    assert refusal.value.remedy.startswith(error_texts.SERVER_REFUSED["HELLO"])


@pytest.mark.skipif(binary("redis62") is None, reason=MISSING["redis62"])
def test_redis_6_2_may_replicate_scripts_as_text(open_nexus: Opener) -> None:
    """Redis 6.2 may be told to replicate scripts as text."""
    server = launch("redis62", "--lua-replicate-commands", "no")
    try:
        nexus = open_nexus(f"redis://{HOST}:{server.port}/0")
        assert used(nexus)
        assert nexus.budget("stripe").delete()
    finally:
        server.stop()


@pytest.mark.skipif(is_missing("openssl"), reason="openssl is not installed")
@pytest.mark.parametrize("name", ["localhost", "elsewhere"])
def test_an_untrusted_certificate_is_told_at_once(
    open_nexus: Opener, one_server: Server, tmp_path: Path, name: str
) -> None:
    """A certificate that is not trusted is reported at once."""
    certify(tmp_path, name)
    with encrypting(tmp_path, one_server.port) as port:
        url, trusting = f"rediss://localhost:{port}/0", f"?ssl_ca_certs={tmp_path / 'cert.pem'}"
        with pytest.raises(ServerRefused) as refusal:
            open_nexus(url if name == "localhost" else url + trusting).budget("stripe", rate=5).acquire()
        assert refusal.value.code == "CERTIFICATE"
        if name == "localhost":
            assert used(open_nexus(url + trusting))


def test_a_wrong_password_is_told(open_nexus: Opener) -> None:
    """A missing or wrong password is reported with the remedy."""
    server = launch("valkey")
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", "secret")
    try:
        place = f"{HOST}:{server.port}/0"
        for login, code in (("", "NOAUTH"), (":wrong@", "WRONGPASS")):
            with pytest.raises(ServerRefused) as refusal:
                open_nexus(f"redis://{login}{place}").budget("stripe", rate=5).acquire()
            assert refusal.value.code == code
            assert refusal.value.remedy.startswith(error_texts.SERVER_REFUSED[code])
        assert used(open_nexus(f"redis://:secret@{place}"))
    finally:
        server.stop()


def test_the_command_line_takes_each_address(cluster: Server, sentinels: Server) -> None:
    """The command line goes to a server of each kind by its address."""

    def shell(server: Server, *words: str) -> str:
        environment = {**os.environ, "NEXUS_REDIS_URL": server.url}
        command = [sys.executable, "-m", "nexus_redis", *words]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout

    for server in (cluster, sentinels):
        assert shell(server, "set", "stripe", "--rate", "100").startswith("stripe (new")
        assert shell(server, "run", "stripe", "--", "echo", "hi") == "hi\n"
        assert "hash" in shell(server, "redis", "TYPE", "nexus:{stripe}")
        assert shell(server, "list").startswith("stripe")

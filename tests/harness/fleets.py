"""Several real servers as one: a cluster of three primaries, and a primary and its replica watched by Sentinels.

Each is started from the same programs as the single servers. A test that kills or moves something has one of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import redis
import redis.asyncio.sentinel
import redis.sentinel
from redis.crc import key_slot

from nexus_redis._redis.embedded import HOST, ServerProcess
from tests.harness.servers import MISSING, Server, binary
from tests.harness.support import PATIENCE, eventually, free_port

SLOTS: Final = 16_384
SERVICE: Final = "mymaster"
BUS: Final = 10_000  # a cluster node of Redis 6.2 listens to the others on its port and this


def _program(kind: str) -> Path:
    program = binary(kind)
    if program is None:
        raise LookupError(MISSING[kind])
    return program


def _client(process: ServerProcess) -> Any:
    return redis.Redis(host=HOST, port=process.port, socket_timeout=PATIENCE, decode_responses=True)


def _port_with_a_bus() -> int:
    while True:
        port = free_port() % 20_000 + 20_000  # beneath those that the system gives out, and so is the other one
        with suppress(OSError):
            for each in (port, port + BUS):
                socket.create_server((HOST, each)).close()
            return port


class Fleet:
    """Servers that belong together; `stop()` them."""

    kind: str
    url: str

    def __init__(self) -> None:
        self.processes: list[ServerProcess] = []

    def clients(self) -> list[Any]:
        """Those of the servers that have keys and take writes."""
        raise NotImplementedError

    def is_alive(self) -> bool:
        """Whether all of them run."""
        return all(process.is_alive() for process in self.processes)

    def kill(self, process: ServerProcess) -> None:
        """End one as a crash does."""
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End all of them."""
        for process in self.processes:
            process.stop()


class ClusterFleet(Fleet):
    """Three primaries, each with so many replicas; `silence`: seconds after which a primary counts as dead."""

    def __init__(self, kind: str, replicas: int = 0, silence: float = 20.0, primaries: int = 3) -> None:
        super().__init__()
        self.kind = f"cluster-{kind}"
        program = _program(kind)
        options = (
            "--cluster-enabled", "yes", "--cluster-node-timeout", str(int(silence * 1000)),
            "--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0",
            "--repl-diskless-sync-delay", "0",
        )  # fmt: skip
        self.processes = [
            ServerProcess(program, _port_with_a_bus(), *options) for _ in range(primaries * (1 + replicas))
        ]
        self.primaries = self.processes[:primaries]
        self.url = f"redis+cluster://{','.join(f'{HOST}:{each.port}' for each in self.primaries)}"
        try:
            self._join()
        except BaseException:
            self.stop()
            raise

    def _join(self) -> None:
        clients = [_client(process) for process in self.processes]
        first = clients[0]
        for i, client in enumerate(clients):
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for process in self.processes[1:]:
            first.execute_command("CLUSTER", "MEET", HOST, process.port)
        per = -(-SLOTS // len(self.primaries))
        for i, client in enumerate(clients[: len(self.primaries)]):
            client.execute_command("CLUSTER", "ADDSLOTS", *range(i * per, min(SLOTS, (i + 1) * per)))
        ids = [str(client.execute_command("CLUSTER", "MYID")) for client in clients]
        assert eventually(lambda: all(self._knows(client, ids) for client in clients))
        for i, client in enumerate(clients[len(self.primaries) :]):
            client.execute_command("CLUSTER", "REPLICATE", ids[i % len(self.primaries)])
        assert eventually(lambda: all(self._is_ok(client) for client in clients))

    @staticmethod
    def _knows(client: Any, ids: list[str]) -> bool:
        known = str(client.execute_command("CLUSTER NODES", NEVER_DECODE=True))
        return all(each in known for each in ids) and "handshake" not in known

    def _is_ok(self, client: Any) -> bool:
        info: Any = client.execute_command("CLUSTER INFO")
        if info["cluster_state"] != "ok":
            return False
        role: Any = client.info("replication")
        return bool(role["role"] == "master" or role["master_link_status"] == "up")

    def clients(self) -> list[Any]:
        found = []
        for process in self.processes:
            client = _client(process)
            with suppress(redis.ConnectionError):
                role: Any = client.info("replication")
                if role["role"] == "master":
                    found.append(client)
        return found

    def owner(self, key: str) -> ServerProcess:
        """The primary that serves a key."""
        return self._owner_of(key_slot(key.encode()))

    def _owner_of(self, slot: int) -> ServerProcess:
        client = self.clients()[0]
        for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(each for each in self.processes if each.port == port)
        raise LookupError(slot)

    def move(self, slot: int, to: ServerProcess) -> None:
        """Migrate a slot as redis-cli does: its keys go one by one, while it is open on both sides."""
        source = self._owner_of(slot)
        if source is to:
            return
        there, here = _client(to), _client(source)
        ids = {each.port: str(_client(each).execute_command("CLUSTER", "MYID")) for each in (source, to)}
        there.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        here.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to.port])
        while keys := here.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                here.execute_command("MIGRATE", HOST, to.port, key, 0, 5000)
        for each in (there, here, *(_client(one) for one in self.primaries if one not in (source, to))):
            each.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[to.port])


class SentinelFleet(Fleet):
    """A primary, a replica, and Sentinels that promote it when the primary was silent for `silence` seconds."""

    def __init__(self, kind: str, sentinels: int = 1, silence: float = 30.0) -> None:
        super().__init__()
        self.kind = f"sentinel-{kind}"
        self._folder = Path(tempfile.mkdtemp(prefix="nexus-redis-sentinels-"))
        program = _program(kind)
        options = ("--repl-diskless-sync-delay", "0")
        self.primary = ServerProcess(program, free_port(), *options)
        replica_of = ("--replicaof", f"{HOST} {self.primary.port}")
        self.replica = ServerProcess(program, free_port(), *options, *replica_of)
        self.processes = [self.primary, self.replica]
        self.sentinels: list[ServerProcess] = []
        try:
            replica = _client(self.replica)
            assert eventually(lambda: replica.info("replication").get("master_link_status") == "up")
            for _ in range(sentinels):
                self.sentinels.append(self._sentinel(program, sentinels // 2 + 1, silence))
            self.processes += self.sentinels
            assert eventually(self._is_ready)
        except BaseException:
            self.stop()
            raise
        ports = ",".join(f"{HOST}:{each.port}" for each in self.sentinels)
        self.url = f"redis+sentinel://{ports}/{SERVICE}"

    def _sentinel(self, program: Path, quorum: int, silence: float) -> ServerProcess:
        port = free_port()
        settings, starter = self._folder / f"{port}.conf", self._folder / f"{port}.sh"
        settings.write_text(
            f"port {port}\nbind {HOST}\ndir {self._folder}\n"
            f"sentinel monitor {SERVICE} {HOST} {self.primary.port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} {int(silence * 1000)}\n"
            f"sentinel failover-timeout {SERVICE} {int(silence * 6000)}\n"
        )
        starter.write_text(f'#!/bin/sh\nexec "{program}" "{settings}" --sentinel\n')  # takes none of a server's options
        starter.chmod(0o755)
        return ServerProcess(starter, port)

    def _is_ready(self) -> bool:
        seen: list[Any] = [_client(each).execute_command("SENTINEL", "MASTER", SERVICE) for each in self.sentinels]
        found = [each if isinstance(each, dict) else dict(zip(each[::2], each[1::2], strict=True)) for each in seen]
        others = len(self.sentinels) - 1
        return all(int(each["num-slaves"]) == 1 and int(each["num-other-sentinels"]) == others for each in found)

    def clients(self) -> list[Any]:
        found = []
        for process in (self.primary, self.replica):
            client = _client(process)
            with suppress(redis.ConnectionError):
                role: Any = client.info("replication")
                if role["role"] == "master":
                    found.append(client)
        return found

    def stop(self) -> None:
        super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)


FLEETS: Final[dict[str, Callable[[], Fleet]]] = {
    "cluster-valkey": lambda: ClusterFleet("valkey"),
    "cluster-redis7": lambda: ClusterFleet("redis7"),
    "sentinel-valkey": lambda: SentinelFleet("valkey"),
    "sentinel-redis7": lambda: SentinelFleet("redis7"),
}


class FleetServer(Server):
    """A fleet as a test sees a server."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.kind)
        self.fleet = fleet

    @property
    def url(self) -> str:
        return self.fleet.url

    def client(self, **options: Any) -> Any:
        client = self._made(redis, redis.sentinel, {"socket_timeout": PATIENCE, **options})
        self._clients.append(client)
        return client

    def aclient(self, **options: Any) -> Any:
        return self._made(redis.asyncio, redis.asyncio.sentinel, {"socket_timeout": PATIENCE, **options})

    def _made(self, face: Any, by_sentinels: Any, options: dict[str, Any]) -> Any:
        if isinstance(self.fleet, SentinelFleet):
            places = [(HOST, each.port) for each in self.fleet.sentinels]
            return by_sentinels.Sentinel(places, **options).master_for(SERVICE)
        return face.RedisCluster(host=HOST, port=self.fleet.processes[0].port, **options)

    def nodes(self) -> list[Any]:
        found = self.fleet.clients()
        self._clients += found
        return found

    def flush(self) -> None:
        for client in self.nodes():
            client.flushall()
            client.script_flush()

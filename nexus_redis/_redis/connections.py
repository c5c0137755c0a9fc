"""The clients of one Nexus: made when they are first needed, from its address or like the client that it was given.

A Nexus and its threads share one `Connections`. The threads hold no reference to the Nexus, so a Nexus that nobody
refers to is collected, and ends its threads and connections then.

    Nexus  -->  Connections  <--  LoopThread, LoopTask
"""

from __future__ import annotations

import redis
import redis.asyncio

from nexus_redis._redis import embedded
from nexus_redis._redis.connect import connect, connect_async, sync_twin, twin, twin_async, where
from nexus_redis._runtime.locks import MadeAtFirstUse, new_lock


class _Address:
    """An address or a given client, and the embedded server where the address asks for one."""

    _starting = MadeAtFirstUse(new_lock)

    def __init__(self, url: str) -> None:
        self._url = url
        self.servers: list[embedded.EmbeddedServer] = []

    @property
    def is_embedded(self) -> bool:
        """Return whether the address asks for a server of this process."""
        return self._url.startswith("embedded:")

    @property
    def url(self) -> str:
        """Return the address in use. Start the server of an `embedded://` address, and return the one for redis-cli."""
        if not self.is_embedded:
            return self._url
        with self._starting:
            if not self.servers:
                self.servers.append(embedded.acquire(self._url))
            return self.servers[0].start().url

    def _stop_servers(self) -> None:
        for server in self.servers:
            server.stop()


class Connections(_Address):
    """The client of a sync Nexus."""

    def __init__(self, url: str, given: redis.Redis | None) -> None:
        super().__init__(url)
        self.given = given
        self.made = None if self.is_embedded else self.connect()
        self.server = where(self.made) if self.made is not None else url

    def connect(self) -> redis.Redis:
        """Make a client, with connections of its own."""
        return twin(self.given) if self.given is not None else connect(self.url)

    def client(self) -> redis.Redis:
        """Return the client that all calls of the Nexus go through."""
        with self._starting:
            if self.made is None:
                self.made = self.connect()
            return self.made

    def close(self) -> None:
        """Close the connections, and stop the embedded server. A client that was given stays open."""
        if self.made is not None and self.made is not self.given:
            self.made.close()
        self._stop_servers()

    def after_fork(self) -> None:
        """Forget the client in a forked child, where its sockets are the parent's too."""
        _Address._starting.forget(self)
        self.made = None


class AsyncConnections(_Address):
    """The clients of an async Nexus: one for its event loop, and a sync one for the thread that reports."""

    _inherited: list[redis.asyncio.Redis] = []  # noqa: RUF012  # a parent's: never used again, and never collected

    def __init__(self, url: str, given: redis.asyncio.Redis | None) -> None:
        super().__init__(url)
        self.given = given
        self.made = None if self.is_embedded else self.connect()
        self.made_sync: redis.Redis | None = None
        self.server = where(self.made) if self.made is not None else url

    def connect(self) -> redis.asyncio.Redis:
        """Make an async client, with connections of its own."""
        return twin_async(self.given) if self.given is not None else connect_async(self.url)

    def client(self) -> redis.asyncio.Redis:
        """Return the client that all calls of the event loop go through."""
        if self.made is None:
            self.made = self.connect()
        return self.made

    def sync_client(self) -> redis.Redis:
        """Return the client of the thread that reports."""
        if self.made_sync is None:
            self.made_sync = sync_twin(self.given) if self.given is not None else connect(self.url)
        return self.made_sync

    def close_sync(self) -> None:
        """Close what needs no event loop: the thread's client and the embedded server."""
        if self.made_sync is not None:
            self.made_sync.close()
        self._stop_servers()

    async def close(self) -> None:
        """Close the connections, and stop the embedded server. A client that was given stays open."""
        self.close_sync()
        if self.made is not None and self.made is not self.given:
            await self.made.aclose()

    def after_fork(self) -> None:
        """Forget the clients in a forked child.

        The sockets are the parent's too, and so is the epoll in which they are registered. To close ours would remove
        the parent's from it.
        """
        _Address._starting.forget(self)
        self.made_sync = None
        if self.made is not None:
            self._inherited.append(self.made)
            self.made = None

"""A client of a Redis Cluster: each call goes to the node that serves its slot, and all nodes work side by side.

redis-py's own cluster client stops a whole pipeline if one node is down, and asks for the slots when it is made. We use
only connections of redis-py, here one pool for each node. `cluster_map.py` decides which node gets which command.

- A node that failed is left alone by the batches that follow. One thread or task tries it again, and a batch waits for
  that only GRACE seconds. So a node that is down or hangs costs the budgets of the other nodes one call timeout.
- A node that answers is asked for the slots before the first batch. It is asked again while something says that the
  slots have changed (a redirect, a demoted node, a node that fails), at most once in LOOK_EACH seconds.
- TRYAGAIN, CLUSTERDOWN and the like are replies: their call was not executed, and the scheduler decides the next step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from nexus_redis._redis.address import Endpoint, Host, host_text
from nexus_redis._redis.cluster_map import GRACE, Args, Batch, Node, Slots, any_of, key_of
from nexus_redis._values import error_texts


class _SyncNode(Node):
    """A node, and those connections to it that no batch uses at the moment."""

    def __init__(self, host: Host, client: redis.Redis) -> None:
        super().__init__(host)
        self.client = client
        self._pool: Any = client.connection_pool
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._trying: threading.Thread | None = None

    def take(self) -> Any:
        """Return a connection, a new one if none is idle; raise if the node cannot be reached."""
        if self.error is not None:
            self._wait_a_moment()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            if self.error is not None:
                raise self.down()
            connection = self._pool.make_connection()
        try:
            if connection.can_read():  # this connects; data before a question is the end of the connection
                raise RedisConnectionError(error_texts.CONNECTION_CLOSED)
        except (RedisError, OSError):
            connection.disconnect()
            connection.connect()
        return connection

    def give_back(self, connection: Any) -> None:
        with self._lock:
            self._idle.append(connection)

    def _wait_a_moment(self) -> None:
        with self._lock:
            thread = self._trying
            if thread is None and self.is_due:
                thread = self._trying = threading.Thread(target=self._try, name="nexus-redis-node", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is about to end, or may have no more threads
                    thread = self._trying = None
        if thread is not None:
            thread.join(GRACE)

    def _try(self) -> None:
        connection = self._pool.make_connection()
        try:
            connection.connect()
            connection.send_command("PING")
            connection.read_response()
        except Exception as error:  # noqa: BLE001  # whatever the error is, the node cannot be used
            connection.disconnect()
            self.failed(error)
        else:
            self.give_back(connection)
            self.answered()
        finally:
            self._trying = None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()
        self.client.close()


class Cluster:
    """A stand-in for a sync client, with what `execute.py` and `pubsub.py` use of one. Threads can share it."""

    def __init__(self, endpoint: Endpoint, to: Callable[[Host], redis.Redis]) -> None:
        self.endpoint, self._to = endpoint, to
        self.slots = Slots(endpoint)
        self._nodes: dict[Host, _SyncNode] = {}
        self._lock = threading.Lock()

    def run(self, commands: Sequence[Args]) -> list[Any]:
        """Send each command to its node, and return a reply or an error for each. Raise if no node tells the slots."""
        self._look()
        batch = Batch(self.slots, commands)
        for groups in batch.rounds():
            sent = []
            for host, part in groups.items():
                node = self._node(host)
                connection = None
                try:
                    connection = node.take()
                    packed = connection.pack_commands(batch.written(part))
                    connection.send_packed_command(packed)
                except (RedisError, OSError) as error:
                    self._lost(node, connection, error)
                    batch.fail(part, error)
                else:
                    sent.append((node, connection, part))
            for node, connection, part in sent:
                try:
                    replies = [self._read(node, connection, command) for command in list(batch.written(part))]
                except (RedisError, OSError) as error:
                    self._lost(node, connection, error)
                    batch.fail(part, error)
                except BaseException:
                    connection.disconnect()
                    raise
                else:
                    node.give_back(connection)
                    batch.take(node.host, part, replies)
        return batch.replies

    @staticmethod
    def _read(node: _SyncNode, connection: Any, command: Args) -> Any:
        try:
            return node.client.parse_response(connection, command[0])  # type: ignore[no-untyped-call]  # redis-py
        except ResponseError as error:
            return error

    @staticmethod
    def _lost(node: _SyncNode, connection: Any, error: Exception) -> None:
        if connection is not None:
            connection.disconnect()
        if node.error is None:
            node.failed(error)

    def _look(self) -> None:
        """Ask a node for the slots, if that is due. Raise what went wrong if no slots are known yet."""
        if not self.slots.is_due(time.monotonic()) and self.slots.is_known:
            return
        last: Exception | None = None
        began = time.monotonic()
        for node in sorted(map(self._node, self.slots.hosts), key=lambda node: node.error is not None):
            connection = None
            try:
                connection = node.take()
                connection.send_command("CLUSTER", "SLOTS")
                self.slots.learn(connection.read_response(disable_decoding=True), node.host)
            except ResponseError as error:
                node.give_back(connection)
                last = error
            except (RedisError, OSError) as error:
                self._lost(node, connection, error)
                last = error
            else:
                node.give_back(connection)
                return
            if self.slots.is_known or time.monotonic() - began > self.endpoint.connect_timeout:
                break
        if last is not None and not self.slots.is_known:
            raise last

    def _node(self, host: Host) -> _SyncNode:
        with self._lock:
            node = self._nodes.get(host)
            if node is None:
                node = self._nodes[host] = _SyncNode(host, self._to(host))
            return node

    def place_of(self, key: bytes) -> str:
        """Return the node that a key's calls go to, as text; "" while it is not known."""
        host = self.slots.owner(key)
        return "" if host is None else host_text(host)

    def client_for(self, command: Sequence[Any]) -> redis.Redis:
        """Return the client of one node: the one that serves this command, or any that answers."""
        self._look()
        key = key_of(command)
        host = self.slots.owner(key) if key is not None else None
        if host is not None:
            return self._node(host).client
        return any_of(map(self._node, self.slots.hosts)).client

    def pubsub(self, **options: Any) -> Any:
        """Return a subscriber at any node that answers: PUBLISH reaches all nodes."""
        client = any_of(map(self._node, self.slots.hosts)).client
        return client.pubsub(**options)  # type: ignore[no-untyped-call]  # redis-py

    def close(self) -> None:
        """Close all connections that no batch uses."""
        with self._lock:
            nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

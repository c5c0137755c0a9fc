"""A client of a Redis Cluster for asyncio: what `cluster.py` does with threads, done with tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import RedisError

from nexus_redis._redis.address import Endpoint, Host, host_text
from nexus_redis._redis.cluster_map import GRACE, Args, Batch, Node, Slots, any_of


class _AsyncNode(Node):
    """A node and its client; the task `_trying` finds out whether a failed node is back."""

    def __init__(self, host: Host, client: redis.asyncio.Redis) -> None:
        super().__init__(host)
        self.client = client
        self._trying: asyncio.Task[None] | None = None

    async def run(self, commands: Sequence[Args]) -> list[Any]:
        """Do one round trip; raise if the node does not answer."""
        if self.error is not None:
            await self._wait_a_moment()
        if self.error is not None:
            raise self.down()
        pipe = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        try:
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            if self.error is None:
                self.failed(error)
            raise
        return replies

    async def _wait_a_moment(self) -> None:
        if (self._trying is None or self._trying.done()) and self.is_due:
            self._trying = asyncio.create_task(self._try(), name="nexus-redis-node")
        if self._trying is not None:
            await asyncio.wait([self._trying], timeout=GRACE)

    async def _try(self) -> None:
        try:
            await self.client.execute_command("PING")  # type: ignore[no-untyped-call]  # redis-py
        except Exception as error:  # noqa: BLE001  # whatever the error is, the node cannot be used
            self.failed(error)
        else:
            self.answered()

    async def close(self) -> None:
        if self._trying is not None:
            self._trying.cancel()
            with suppress(asyncio.CancelledError):
                await self._trying
        await self.client.aclose()


class AsyncCluster:
    """A stand-in for an async client, with what `execute.py` and `pubsub.py` use of one."""

    def __init__(self, endpoint: Endpoint, to: Callable[[Host], redis.asyncio.Redis]) -> None:
        self.endpoint, self._to = endpoint, to
        self.slots = Slots(endpoint)
        self._nodes: dict[Host, _AsyncNode] = {}

    async def run(self, commands: Sequence[Args]) -> list[Any]:
        """Send each command to its node, and return a reply or an error for each. Raise if no node tells the slots."""
        await self._look()
        batch = Batch(self.slots, commands)
        for groups in batch.rounds():
            nodes = [self._node(host) for host in groups]
            parts = list(groups.values())
            came = await asyncio.gather(
                *(node.run(list(batch.written(part))) for node, part in zip(nodes, parts, strict=True)),
                return_exceptions=True,
            )
            for node, part, replies in zip(nodes, parts, came, strict=True):
                if isinstance(replies, RedisError | OSError):
                    batch.fail(part, replies)
                elif isinstance(replies, BaseException):
                    raise replies
                else:
                    batch.take(node.host, part, replies)
        return batch.replies

    async def _look(self) -> None:
        """Ask a node for the slots, if that is due. Raise what went wrong if no slots are known yet."""
        if not self.slots.is_due(time.monotonic()) and self.slots.is_known:
            return
        last: Exception | None = None
        began = time.monotonic()
        for node in sorted(map(self._node, self.slots.hosts), key=lambda node: node.error is not None):
            try:
                # In two words, so that redis-py does not decode the reply: its releases do that differently.
                [reply] = await node.run([("CLUSTER", "SLOTS")])
                if isinstance(reply, Exception):
                    raise reply
                self.slots.learn(reply, node.host)
            except (RedisError, OSError) as error:
                last = error
            else:
                return
            if self.slots.is_known or time.monotonic() - began > self.endpoint.connect_timeout:
                break
        if last is not None and not self.slots.is_known:
            raise last

    def _node(self, host: Host) -> _AsyncNode:
        node = self._nodes.get(host)
        if node is None:
            node = self._nodes[host] = _AsyncNode(host, self._to(host))
        return node

    def place_of(self, key: bytes) -> str:
        """Return the node that a key's calls go to, as text; "" while it is not known."""
        host = self.slots.owner(key)
        return "" if host is None else host_text(host)

    def pubsub(self, **options: Any) -> Any:
        """Return a subscriber at any node that answers: PUBLISH reaches all nodes."""
        return any_of(map(self._node, self.slots.hosts)).client.pubsub(**options)

    async def aclose(self) -> None:
        """Close all connections."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.close()

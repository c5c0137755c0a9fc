"""A Redis Cluster: each call goes to the node that serves its slot, all nodes side by side, each call for itself.

redis-py's own cluster client stops a whole pipeline where one node is down, and asks for the slots when it is made. Of
redis-py we use connections, here one pool for each node.

    batch -> by node -> written to all -> read from all -> MOVED, ASK: those again, where the answer says (REDIRECTS)

- A node that failed is left alone by the batches that follow: one thread or task tries it, and a batch waits for that
  only GRACE. So a node that is down or hangs costs the budgets of the others one call timeout.
- The slots are asked for before the first batch, and again while something says that they have changed (a redirect, a
  demoted node, a node that fails), from a node that answers; LOOK_EACH at most.
- TRYAGAIN, CLUSTERDOWN and the like are answers: their call was not executed, and the hub decides what comes next.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, Self, TypeVar

import redis
import redis.asyncio
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from nexus_redis._redis.address import Host, Target, spelled
from nexus_redis._redis.faults import is_demoted
from nexus_redis._values import error_texts

SLOTS: Final = 16_384
REDIRECTS: Final = 3  # a slot that has moved on meanwhile moves no oftener
LOOK_EACH: Final = 0.1  # seconds between two questions for the slots
GRACE: Final = 0.02  # seconds that a batch waits for a node that has failed: one that is back needs no longer
FIRST_PAUSE: Final = 0.05  # before a node that has failed is tried again, doubled each time
LONGEST_PAUSE: Final = 1.0

Args = tuple[Any, ...]
_BEHIND_A_COUNT: Final = frozenset(["EVAL", "EVALSHA"])  # their first key is the third argument
_KEYLESS: Final = frozenset(["TIME", "PING", "INFO", "SCRIPT", "CLUSTER", "COMMAND", "ROLE", "HELLO"])


def key_of(command: Sequence[Any]) -> bytes | None:
    """The key by which a command goes to its node; None where any node will do."""
    name = _text(command[0]).upper()
    if name in _KEYLESS or len(command) < 2:
        return None
    if name in _BEHIND_A_COUNT:
        return _bytes(command[3]) if len(command) > 3 and int(command[2]) else None
    if name == "SCAN":  # ours name one budget, so all that they find is in its slot
        words = [_text(word).upper() for word in command]
        return _bytes(command[words.index("MATCH") + 1]) if "MATCH" in words else None
    return _bytes(command[2 if name in ("XINFO", "OBJECT") and len(command) > 2 else 1])


def _bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _text(word: Any) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


class Redirect(NamedTuple):
    """What MOVED or ASK says. An empty host is the one that said it."""

    is_moved: bool
    slot: int
    host: Host


def redirect_of(reply: object) -> Redirect | None:
    """Take MOVED and ASK apart, as redis-py's own classes or as text, which older releases have."""
    if not isinstance(reply, ResponseError):
        return None
    kind = type(reply).__name__.removesuffix("Error").upper()
    words = str(reply).split()
    if words and words[0] in ("MOVED", "ASK"):
        kind, *words = words
    if kind not in ("MOVED", "ASK") or len(words) < 2:
        return None
    name, _, port = words[1].rpartition(":")
    try:
        return Redirect(kind == "MOVED", int(words[0]), (name.strip("[]"), int(port)))
    except ValueError:
        return None


class Slots:
    """Which node serves which slot, as last heard. No I/O."""

    def __init__(self, target: Target) -> None:
        self._remap = target.remap or (lambda host: host)
        self._seeds = target.hosts
        self._owners: list[Host | None] = [None] * SLOTS
        self.is_stale = True
        self._asked_at = -LOOK_EACH

    @property
    def is_known(self) -> bool:
        """Whether any node has said it."""
        return any(self._owners)

    @property
    def hosts(self) -> list[Host]:
        """Those that serve a slot, then those that we were told at the beginning; each once."""
        return list(dict.fromkeys([*(owner for owner in self._owners if owner is not None), *self._seeds]))

    def is_due(self, now: float) -> bool:
        """Whether to ask now; then it is taken for done."""
        if not self.is_stale or now - self._asked_at < LOOK_EACH:
            return False
        self._asked_at = now
        return True

    def owner(self, key: bytes) -> Host | None:
        """The node that serves a key."""
        return self._owners[key_slot(key)]

    def learn(self, reply: Any, asked: Host) -> None:
        """The answer to CLUSTER SLOTS, not decoded, of the node `asked`."""
        owners: list[Host | None] = [None] * SLOTS
        for first, last, primary, *_ in reply:
            host = self._reachable(_text(primary[0] or b""), int(primary[1]), asked)
            owners[int(first) : int(last) + 1] = [host] * (int(last) - int(first) + 1)
        if any(owners):
            self._owners, self.is_stale = owners, False

    def move(self, to: Redirect, said_by: Host) -> Host:
        """Take note of a redirect; the node that it names."""
        host = self._reachable(*to.host, said_by)
        if to.is_moved:
            self._owners[to.slot], self.is_stale = host, True
        return host

    def _reachable(self, name: str, port: int, said_by: Host) -> Host:
        return self._remap((said_by[0] if name in ("", "?") else name, port))


class _Node:
    """What both faces know of a node: whether it failed, and when to try it again."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.error: Exception | None = None
        self._failures = 0
        self._next_try = 0.0

    def failed(self, error: Exception) -> None:
        self.error = error
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        self._next_try = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads, guards nothing

    def answered(self) -> None:
        self.error, self._failures = None, 0

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._next_try

    def down(self) -> RedisConnectionError:
        """The error of a call that was not sent."""
        error = RedisConnectionError(error_texts.node_down(spelled(self.host), self.error))
        error.__cause__ = ConnectionRefusedError()  # so that it counts as never sent
        return error


N = TypeVar("N", bound=_Node)


def _any_of(nodes: Iterable[N]) -> N:
    """One by chance, of those that answered the last time where there are any."""
    shuffled = sorted(nodes, key=lambda node: (node.error is not None, random.random()))  # noqa: S311  # it spreads
    return shuffled[0]


class Batch:
    """The commands of one batch, the replies so far, and which are to be sent where next. No I/O."""

    def __init__(self, slots: Slots, commands: Sequence[Args]) -> None:
        self._slots, self._commands = slots, commands
        self.replies: list[Any] = [None] * len(commands)
        self._left: dict[int, Host | None] = dict.fromkeys(range(len(commands)))  # with who is to be ASKed

    def rounds(self) -> Iterator[dict[Host, list[int]]]:
        """For each round trip, the commands that go to each node."""
        for _ in range(REDIRECTS + 1):
            groups: dict[Host, list[int]] = {}
            for i, asked in self._left.items():
                key = key_of(self._commands[i])
                host = asked or (self._slots.owner(key) if key is not None else next(iter(self._slots.hosts)))
                if host is None:
                    self._slots.is_stale = True
                    self.replies[i] = _never_sent(error_texts.SLOT_WITHOUT_NODE)
                else:
                    groups.setdefault(host, []).append(i)
            if not groups:
                return
            yield groups
        for i in self._left:
            self.replies[i] = _never_sent(error_texts.SLOT_IS_MOVING)

    def written(self, part: Iterable[int]) -> Iterator[Args]:
        """The commands of one node, with ASKING before those that it was named for by ASK."""
        for i in part:
            if self._left.get(i) is not None:
                yield ("ASKING",)
            yield self._commands[i]

    def take(self, host: Host, part: Sequence[int], replies: Sequence[Any]) -> None:
        """What came of `written`."""
        answers = iter(replies)
        for i in part:
            if self._left.pop(i) is not None:
                next(answers)
            reply = next(answers)
            to = redirect_of(reply)
            if to is not None:
                named = self._slots.move(to, host)
                self._left[i] = None if to.is_moved else named
            elif is_demoted(reply) or type(reply).__name__ == "ClusterDownError":
                self._slots.is_stale = True
            self.replies[i] = reply

    def fail(self, part: Sequence[int], error: Exception) -> None:
        """A node did not answer."""
        self._slots.is_stale = True
        for i in part:
            self._left.pop(i)
            self.replies[i] = error


def _never_sent(why: str) -> RedisConnectionError:
    error = RedisConnectionError(error_texts.not_sent(why))
    error.__cause__ = ConnectionRefusedError()
    return error


class _SyncNode(_Node):
    """A node, and the connections to it that nobody uses at the moment."""

    def __init__(self, host: Host, client: redis.Redis) -> None:
        super().__init__(host)
        self.client = client
        self._pool: Any = client.connection_pool
        self._idle: list[Any] = []
        self._lock = threading.Lock()
        self._trying: threading.Thread | None = None

    def take(self) -> Any:
        """A connection, made if need be; raises where there is none."""
        if self.error is not None:
            self._wait_a_moment()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            if self.error is not None:
                raise self.down()
            connection = self._pool.make_connection()
        try:
            if connection.can_read():  # connects; what can be read before a question is the end of the connection
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
        except Exception as error:  # noqa: BLE001  # whatever it is, the node is not to be used
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
    """Stands for a sync client: what wire.py and push.py use of one. Safe to share between threads."""

    def __init__(self, target: Target, to: Callable[[Host], redis.Redis]) -> None:
        self.target, self._to = target, to
        self.slots = Slots(target)
        self._nodes: dict[Host, _SyncNode] = {}
        self._lock = threading.Lock()

    def run(self, commands: Sequence[Args]) -> list[Any]:
        """Send each to its node, all nodes side by side; a reply or an error for each. Raises where none answers."""
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
        """Ask a node for the slots, where that is due. Nothing is known yet: raise what went wrong."""
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
            if self.slots.is_known or time.monotonic() - began > self.target.connect_timeout:
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
        """The node that a key's calls go to, as text; "" while none is known."""
        host = self.slots.owner(key)
        return "" if host is None else spelled(host)

    def client_for(self, command: Sequence[Any]) -> redis.Redis:
        """A client of one node: of the one for this command, or of any that answers."""
        self._look()
        key = key_of(command)
        host = self.slots.owner(key) if key is not None else None
        if host is not None:
            return self._node(host).client
        return _any_of(map(self._node, self.slots.hosts)).client

    def pubsub(self, **options: Any) -> Any:
        """Of any node that answers: PUBLISH reaches all of them."""
        client = _any_of(map(self._node, self.slots.hosts)).client
        return client.pubsub(**options)  # type: ignore[no-untyped-call]  # redis-py

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            node.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AsyncNode(_Node):
    """A node and its client; `trying` is the task that sees whether it is back."""

    def __init__(self, host: Host, client: redis.asyncio.Redis) -> None:
        super().__init__(host)
        self.client = client
        self._trying: asyncio.Task[None] | None = None

    async def run(self, commands: Sequence[Args]) -> list[Any]:
        """One round trip; raises where the node does not answer."""
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
        except Exception as error:  # noqa: BLE001  # whatever it is, the node is not to be used
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
    """The same for asyncio."""

    def __init__(self, target: Target, to: Callable[[Host], redis.asyncio.Redis]) -> None:
        self.target, self._to = target, to
        self.slots = Slots(target)
        self._nodes: dict[Host, _AsyncNode] = {}

    async def run(self, commands: Sequence[Args]) -> list[Any]:
        """Send each to its node, all nodes side by side; a reply or an error for each. Raises where none answers."""
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
        if not self.slots.is_due(time.monotonic()) and self.slots.is_known:
            return
        last: Exception | None = None
        began = time.monotonic()
        for node in sorted(map(self._node, self.slots.hosts), key=lambda node: node.error is not None):
            try:
                # In two words, so that redis-py does not decode it: its releases do that differently.
                [reply] = await node.run([("CLUSTER", "SLOTS")])
                if isinstance(reply, Exception):
                    raise reply
                self.slots.learn(reply, node.host)
            except (RedisError, OSError) as error:
                last = error
            else:
                return
            if self.slots.is_known or time.monotonic() - began > self.target.connect_timeout:
                break
        if last is not None and not self.slots.is_known:
            raise last

    def _node(self, host: Host) -> _AsyncNode:
        node = self._nodes.get(host)
        if node is None:
            node = self._nodes[host] = _AsyncNode(host, self._to(host))
        return node

    def place_of(self, key: bytes) -> str:
        """The node that a key's calls go to, as text; "" while none is known."""
        host = self.slots.owner(key)
        return "" if host is None else spelled(host)

    def pubsub(self, **options: Any) -> Any:
        """Of any node that answers: PUBLISH reaches all of them."""
        return _any_of(map(self._node, self.slots.hosts)).client.pubsub(**options)

    async def aclose(self) -> None:
        """Close all connections."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.close()

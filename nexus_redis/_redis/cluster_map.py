"""The decisions of a client of a Redis Cluster: slots, redirects, and the node for each command of a batch. No I/O.

A batch has rounds. In each, `Batch` says which commands go to which node, and takes their replies:

    commands -> by node -> written to all -> read from all -> MOVED, ASK: those again, where the reply says (REDIRECTS)

`cluster.py` and `cluster_asyncio.py` do the writing and reading.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from nexus_redis._redis.address import Endpoint, Host, host_text
from nexus_redis._redis.faults import is_demoted
from nexus_redis._values import error_texts

SLOTS: Final = 16_384
REDIRECTS: Final = 3  # a slot that moves again meanwhile does not move more often
LOOK_EACH: Final = 0.1  # seconds, at least, between two questions for the slots
GRACE: Final = 0.02  # seconds that a batch waits for a node that has failed; a node that is back answers sooner
FIRST_PAUSE: Final = 0.05  # seconds until a node that has failed is tried again, doubled each time
LONGEST_PAUSE: Final = 1.0

Args = tuple[Any, ...]
_BEHIND_A_COUNT: Final = frozenset(["EVAL", "EVALSHA"])  # their first key is the third argument
_KEYLESS: Final = frozenset(["TIME", "PING", "INFO", "SCRIPT", "CLUSTER", "COMMAND", "ROLE", "HELLO"])


def key_of(command: Sequence[Any]) -> bytes | None:
    """Return the key that decides to which node a command goes; None if any node will do."""
    name = _text(command[0]).upper()
    if name in _KEYLESS or len(command) < 2:
        return None
    if name in _BEHIND_A_COUNT:
        return _bytes(command[3]) if len(command) > 3 and int(command[2]) else None
    if name == "SCAN":  # our patterns name one budget, and all of its keys are in one slot
        words = [_text(word).upper() for word in command]
        return _bytes(command[words.index("MATCH") + 1]) if "MATCH" in words else None
    return _bytes(command[2 if name in ("XINFO", "OBJECT") and len(command) > 2 else 1])


def _bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _text(word: Any) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


class Redirect(NamedTuple):
    """What MOVED or ASK says. An empty host means the node that said it."""

    is_moved: bool
    slot: int
    host: Host


def redirect_of(reply: object) -> Redirect | None:
    """Take MOVED or ASK apart; return None for another reply.

    Newer releases of redis-py have classes for these, older ones only the text.
    """
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
    """The map from slots to the nodes that serve them, as it was last heard."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._remap = endpoint.remap or (lambda host: host)
        self._seeds = endpoint.hosts
        self._owners: list[Host | None] = [None] * SLOTS
        self.is_stale = True
        self._asked_at = -LOOK_EACH

    @property
    def is_known(self) -> bool:
        """Return whether any node has told the map."""
        return any(self._owners)

    @property
    def hosts(self) -> list[Host]:
        """Return the nodes that serve a slot, then those of the address, each once."""
        return list(dict.fromkeys([*(owner for owner in self._owners if owner is not None), *self._seeds]))

    def is_due(self, now: float) -> bool:
        """Return whether to ask for the map now; if so, note that it is being asked for."""
        if not self.is_stale or now - self._asked_at < LOOK_EACH:
            return False
        self._asked_at = now
        return True

    def owner(self, key: bytes) -> Host | None:
        """Return the node that serves a key; None while it is not known."""
        return self._owners[key_slot(key)]

    def learn(self, reply: Any, asked: Host) -> None:
        """Take in the reply of the node `asked` to CLUSTER SLOTS, not decoded."""
        owners: list[Host | None] = [None] * SLOTS
        for first, last, primary, *_ in reply:
            host = self._reachable(_text(primary[0] or b""), int(primary[1]), asked)
            owners[int(first) : int(last) + 1] = [host] * (int(last) - int(first) + 1)
        if any(owners):
            self._owners, self.is_stale = owners, False

    def move(self, to: Redirect, said_by: Host) -> Host:
        """Take note of a redirect, and return the node that it names."""
        host = self._reachable(*to.host, said_by)
        if to.is_moved:
            self._owners[to.slot], self.is_stale = host, True
        return host

    def _reachable(self, name: str, port: int, said_by: Host) -> Host:
        return self._remap((said_by[0] if name in ("", "?") else name, port))


class Node:
    """A node as both faces see it: whether it failed, and when to try it again."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.error: Exception | None = None
        self._failures = 0
        self._next_try = 0.0

    def failed(self, error: Exception) -> None:
        """Note that the node failed, and when to try it again."""
        self.error = error
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        self._next_try = time.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads, guards nothing

    def answered(self) -> None:
        """Note that the node answered."""
        self.error, self._failures = None, 0

    @property
    def is_due(self) -> bool:
        """Return whether to try a failed node again."""
        return time.monotonic() >= self._next_try

    def down(self) -> RedisConnectionError:
        """Return the error of a call that is not sent to this node."""
        error = RedisConnectionError(error_texts.node_down(host_text(self.host), self.error))
        error.__cause__ = ConnectionRefusedError()  # so that the call counts as never sent
        return error


N = TypeVar("N", bound=Node)


def any_of(nodes: Iterable[N]) -> N:
    """Return a node by chance, one that answered the last time if there is any."""
    shuffled = sorted(nodes, key=lambda node: (node.error is not None, random.random()))  # noqa: S311  # it spreads calls
    return shuffled[0]


class Batch:
    """The commands of one batch, the replies so far, and where the rest of the commands go next."""

    def __init__(self, slots: Slots, commands: Sequence[Args]) -> None:
        self._slots, self._commands = slots, commands
        self.replies: list[Any] = [None] * len(commands)
        self._left: dict[int, Host | None] = dict.fromkeys(range(len(commands)))  # with the node that ASK named

    def rounds(self) -> Iterator[dict[Host, list[int]]]:
        """Yield, for each round trip, the indices of the commands that go to each node."""
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
        """Yield the commands for one node, with ASKING before each one that an ASK sent there."""
        for i in part:
            if self._left.get(i) is not None:
                yield ("ASKING",)
            yield self._commands[i]

    def take(self, host: Host, part: Sequence[int], replies: Sequence[Any]) -> None:
        """Take in the replies to `written`."""
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
        """Give the commands of a node that did not answer its error."""
        self._slots.is_stale = True
        for i in part:
            self._left.pop(i)
            self.replies[i] = error


def _never_sent(why: str) -> RedisConnectionError:
    error = RedisConnectionError(error_texts.not_sent(why))
    error.__cause__ = ConnectionRefusedError()
    return error

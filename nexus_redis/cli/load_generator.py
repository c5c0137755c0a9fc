"""A server driven to its limit: many connections, each with one call under way, as a fleet's are.

Bytes go out ready-made and replies are only looked at for errors, so that one Python process keeps a server busy: the
connections work in two halves, one is being answered while the other is read.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import redis

from nexus_redis._protocol.plans import Call

END = b"\r\n"
LARGEST = 65_536


def packed(*words: str | float | bytes) -> bytes:
    """A command as it goes over the wire."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def packed_call(call: Call[Any]) -> bytes:
    """A script's call, by its SHA."""
    return packed("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def drive(client: redis.Redis, commands: Iterable[bytes], connections: int) -> tuple[float, list[float]]:
    """Send them all; how long it took, and how long each waited for its answer, both in seconds. Errors raise."""
    half = max(1, connections // 2)
    pool = client.connection_pool
    with ExitStack() as stack:
        sockets: list[Any] = []
        for _ in range(2 * half):
            connection: Any = pool.get_connection()
            stack.callback(pool.release, connection)
            stack.callback(connection.disconnect)  # first: after an error there are replies that nobody has read
            sockets.append(connection._sock)  # it has done the login and TLS; only bytes from here on
        clock = time.perf_counter
        left, waits = iter(commands), list[float]()
        idle, busy = sockets[:half], sockets[half:]
        began = clock()
        sent = _send(busy, left)
        while sent:
            other = _send(idle, left)
            waits += _receive(busy, sent)
            idle, busy, sent = busy, idle, other
        return clock() - began, waits


def _send(sockets: list[Any], commands: Iterator[bytes]) -> list[float]:
    """One each, as far as there are any; when each went out."""
    sent = []
    for socket, command in zip(sockets, islice(commands, len(sockets)), strict=False):
        sent.append(time.perf_counter())
        socket.sendall(command)
    return sent


def _receive(sockets: list[Any], sent: list[float]) -> list[float]:
    waits = []
    for socket, at in zip(sockets, sent, strict=False):
        reply = socket.recv(LARGEST)
        while not _is_whole(reply):
            more = socket.recv(LARGEST)
            if not more:
                raise redis.ConnectionError("the server closed the connection")
            reply += more
        if reply[:1] == b"-":
            raise redis.ResponseError(reply[1 : -len(END)].decode(errors="replace"))
        waits.append(time.perf_counter() - at)
    return waits


def _is_whole(reply: bytes) -> bool:
    """Of a status, number, error or text; none of ours has an end of line in it."""
    return reply.endswith(END) and (reply[:1] != b"$" or reply.count(END) > 1)

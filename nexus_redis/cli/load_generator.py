"""Drive a server to its limit, for `bench`: many connections, each with one call under way, as those of a fleet.

Commands are encoded beforehand, and replies are searched for errors only, so that one Python process keeps a server
busy. The connections work in two halves: the server answers one half while this process reads the other.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import redis

from nexus_redis._protocol.plans import Call
from nexus_redis.cli import texts
from nexus_redis.cli.resp import encode

END = b"\r\n"
LARGEST = 65_536


def encode_call(call: Call[Any]) -> bytes:
    """Return the call of a script as it is sent, by its SHA."""
    return encode("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def drive(client: redis.Redis, commands: Iterable[bytes], connections: int) -> tuple[float, list[float]]:
    """Send all commands, and return the seconds in all and the seconds that each waited. An error reply is raised."""
    half = max(1, connections // 2)
    pool = client.connection_pool
    with ExitStack() as stack:
        sockets: list[Any] = []
        for _ in range(2 * half):
            connection: Any = pool.get_connection()
            stack.callback(pool.release, connection)
            stack.callback(connection.disconnect)  # runs first: after an error there are replies that nobody has read
            sockets.append(connection._sock)  # redis-py has done the login and TLS; from here on it is bytes only
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
    """Send one command over each socket, while there are any, and return when each was sent."""
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
                raise redis.ConnectionError(texts.CONNECTION_CLOSED)
            reply += more
        if reply[:1] == b"-":
            raise redis.ResponseError(reply[1 : -len(END)].decode(errors="replace"))
        waits.append(time.perf_counter() - at)
    return waits


def _is_whole(reply: bytes) -> bool:
    """Return whether a reply is complete: a status, number, error or text, which here never holds an end of line."""
    return reply.endswith(END) and (reply[:1] != b"$" or reply.count(END) > 1)

"""A redis-py client for simulations: what they send most often goes over a Unix socket and past redis-py.

A claim costs a real server about 100 microseconds. redis-py, its pool and TCP cost this process as much again; this
client costs a fifth of that, and half of the time of the tests of the scripts goes into such calls.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import redis

from tests.harness.support import HOST, PATIENCE

OWN: Final = frozenset({"EVALSHA", "GET"})  # commands whose replies redis-py gives to its caller as they come


class FastClient(redis.Redis):
    """A client of one server and one thread: scripts and strings on a socket of its own, the rest by redis-py."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(host=HOST, port=port, socket_timeout=PATIENCE, single_connection_client=True)
        self._own = socket.socket(socket.AF_UNIX)
        self._own.settimeout(PATIENCE)
        self._own.connect(path)
        self._replies = self._own.makefile("rb")

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command, and return its reply as redis-py does."""
        if args[0] in OWN:
            return self.ask(*args)
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py's

    def ask(self, *words: Any) -> Any:
        """Send a command, and return its reply as the server gave it."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
        self._own.sendall(b"".join(parts))
        return self._reply()

    def _reply(self) -> Any:
        line = self._replies.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._replies.read(size + 2)[:-2]
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        if kind == b"+":
            return rest
        if kind == b"-":
            code, _, text = rest.decode().partition(" ")
            error = redis.exceptions.NoScriptError if code == "NOSCRIPT" else redis.ResponseError
            raise error(text if code in {"NOSCRIPT", "ERR"} else rest.decode())
        raise redis.ConnectionError(f"the server said {line!r}")

    def close(self) -> None:
        """Close both connections."""
        self._replies.close()
        self._own.close()
        super().close()

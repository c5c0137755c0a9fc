"""The options of the server, as `nexus-redis serve` takes them. They are plain values, so that workers inherit them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may cost the server: bytes, seconds, and counts for one process.

    `header_bytes` and `body_bytes` bound a request. `receive_s` is the time in which its header, and then its body,
    must arrive; what is left of an answered request gets as long again. A client that takes nothing of its answer for
    `write_s` loses the connection. `waiters` callers may wait for tokens at once, and `connections` may be open.
    """

    header_bytes: int = 16_384
    body_bytes: int = 65_536
    receive_s: float = 10.0
    write_s: float = 60.0
    idle_s: float = 75.0
    waiters: int = 10_000
    connections: int = 20_000


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The Redis, the address to listen on, who may call, and the limits.

    `socket` is the path of a unix socket, in place of `host` and `port`. `tokens` is the file of bearer tokens; without
    one, everybody who reaches the address may do everything, so only a loopback address or a socket is allowed.
    `hosts` are names beside the address itself that a `Host` header may have. `origins` are the web origins whose pages
    may call the API. `wait_s` is the deadline of an acquire that names none.
    """

    url: str | None = None
    namespace: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    socket: Path | None = None
    tokens: Path | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    wait_s: float = 30.0
    workers: int = 1
    certificate: Path | None = None
    private_key: Path | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def is_local(self) -> bool:
        """Return whether only this host can reach the server."""
        return self.socket is not None or self.host in LOOPBACK or self.host.startswith("127.")

"""Run an application on uvicorn: bind the address first, then serve it from this process or from several workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from nexus_redis.errors import InvalidSetting
from nexus_redis.server import texts
from nexus_redis.server.access import Access
from nexus_redis.server.connection import Connection
from nexus_redis.server.open_files import raise_file_limit
from nexus_redis.server.options import ServerOptions
from nexus_redis.server.proxy import ProxyApplication

STOP_SECONDS: Final = 4  # for requests in progress; the tokens are handed back after that, within 5 s in all
BACKLOG: Final = 4096
SOCKET_MODE: Final = 0o660


def check(options: ServerOptions, *, is_open: bool = False) -> None:
    """Raise `InvalidSetting` for an address that everybody could reach without a token, and for unreadable tokens."""
    if options.tokens is None and not options.is_local and not is_open:
        raise InvalidSetting("host", options.host, texts.NEEDS_TOKENS)
    if (options.certificate is None) != (options.private_key is None):
        raise InvalidSetting("tls_cert", str(options.certificate), texts.CERTIFICATE_AND_KEY)
    Access(options.tokens)  # reads the file


@contextlib.contextmanager
def bound(options: ServerOptions) -> Iterator[socket.socket]:
    """Bind the address or the unix socket, and remove the socket's file at the end."""
    try:
        found = _bind_unix(options.socket) if options.socket is not None else _bind(options.host, options.port)
    except OSError as error:
        where = str(options.socket) if options.socket is not None else f"{options.host}:{options.port}"
        raise InvalidSetting("address", where, texts.cannot_listen(error.strerror or str(error))) from None
    try:
        yield found
    finally:
        found.close()
        if options.socket is not None:
            options.socket.unlink(missing_ok=True)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol: asyncio sets TCP_NODELAY on the connections of a socket that names it, and on no other. Without
    # it each answer would wait 40 ms for the client's acknowledgement of its header.
    with _closed_if_it_fails(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(BACKLOG)
    return found


def _bind_unix(path: Path) -> socket.socket:
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            if probe.connect_ex(str(path)) != 0:  # a server that was killed has left it
                path.unlink()
    old = os.umask(0o777 & ~SOCKET_MODE)
    try:
        with _closed_if_it_fails(socket.socket(socket.AF_UNIX)) as found:
            found.bind(str(path))
            found.listen(BACKLOG)
    finally:
        os.umask(old)
    return found


@contextlib.contextmanager
def _closed_if_it_fails(found: socket.socket) -> Iterator[socket.socket]:
    try:
        yield found
    except BaseException:
        found.close()
        raise


def address_of(options: ServerOptions, found: socket.socket) -> str:
    """Return the address for people: `http://127.0.0.1:8080`, or `unix:/run/nexus.sock`."""
    if options.socket is not None:
        return f"unix:{options.socket}"
    host, port = found.getsockname()[:2]
    scheme = "https" if options.certificate is not None else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def config(app: Any, options: ServerOptions, logging: dict[str, Any] | None = None) -> uvicorn.Config:
    """Return the configuration of uvicorn for an application with `limits`."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="on",
        workers=options.workers,
        access_log=False,
        log_config=logging,  # in each worker
        server_header=False,
        date_header=not isinstance(app, ProxyApplication),  # an upstream has sent a date
        proxy_headers=False,
        timeout_keep_alive=int(options.limits.idle_s),
        timeout_graceful_shutdown=STOP_SECONDS,
        backlog=BACKLOG,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.private_key,
    )


def serve(app: Any, options: ServerOptions, found: socket.socket, logging: dict[str, Any] | None = None) -> None:
    """Serve an application on a bound socket until a signal ends this process. `logging` is for `dictConfig`."""
    raise_file_limit()
    # uvicorn sends itself the signal again after it has ended. The blocks around this one must end all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    chosen = config(app, options, logging)
    if options.workers > 1:
        Multiprocess(chosen, sockets=[found]).run()
    else:
        uvicorn.Server(chosen).run(sockets=[found])

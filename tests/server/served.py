"""A server of the product in a thread of the test, with a client: `Served(redis_url)`, at a port that it chose."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import uvicorn

from nexus_redis.server import Application, ServerOptions, run
from tests.harness.support import HOST, PATIENCE, eventually, join

JSON: Final = {"content-type": "application/json"}


class Served:
    """A running server. `options` are those of `ServerOptions`; `app` may be another application with `limits`."""

    def __init__(self, url: str, app: Any = None, **options: Any) -> None:
        self.options = ServerOptions(url=url, **{"port": 0, **options})
        run.check(self.options)
        self.app = app if app is not None else Application(self.options)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.socket: socket.socket = self._stack.enter_context(run.bound(self.options))
        self.address = run.address_of(self.options, self.socket)
        self.server = uvicorn.Server(run.config(self.app, self.options))
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.socket]}, name="served", daemon=True
        )
        self.thread.start()
        assert eventually(lambda: self.server.started or not self.thread.is_alive())
        # Without TLS: certificates take long to load.
        uds = str(self.options.socket) if self.options.socket else None
        transport = httpx.HTTPTransport(uds=uds, verify=False)
        base = "http://socket" if self.options.socket else self.address
        self.client = self._stack.enter_context(httpx.Client(base_url=base, timeout=PATIENCE, transport=transport))
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.stop()
        self._stack.close()

    def stop(self) -> None:
        """Stop as a signal does, and wait for the end."""
        self.server.should_exit = True
        join(self.thread)

    @property
    def port(self) -> int:
        """The port that the server chose."""
        port = urlsplit(self.address).port
        assert port is not None
        return port

    @property
    def service(self) -> Any:
        """The open server inside."""
        return self.app._service

    def get(self, path: str, **given: Any) -> httpx.Response:
        """Send a GET."""
        return self.client.get(path, **given)

    def post(self, path: str, fields: Any, **given: Any) -> httpx.Response:
        """Send a POST with JSON."""
        return self.client.post(path, json=fields, **given)

    def put(self, name: str, reason: str = "", **settings: Any) -> httpx.Response:
        """Set settings of a budget."""
        return self.client.put(f"/v1/budgets/{name}", json={"settings": settings, "reason": reason})

    def begin(self, path: str, body: bytes, headers: str = "") -> socket.socket:
        """Send a request on a connection of its own, and return the connection without waiting for the answer."""
        connection = self._stack.enter_context(socket.create_connection((HOST, self.port), timeout=PATIENCE))
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return connection


def problem(answer: httpx.Response) -> dict[str, Any]:
    """Return a problem document, and check what all have in common."""
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == answer.status_code
    assert found["title"]
    assert found["detail"]
    return found


def kind_of(answer: httpx.Response) -> str:
    """Return the name of the kind of a problem."""
    return str(problem(answer)["type"]).rpartition("#")[2]

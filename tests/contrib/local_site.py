"""A local HTTP server that answers as its address says: `/?status=429&Retry-After=2`, and `/silence` not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.harness.support import join


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the usual 5, fifty clients at once wait for the kernel to try again, seconds later


class LocalSite:
    """A site that notes each request in `log` as (time by `now`, tokens), and its path in `paths`."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = lambda: 0.0
        self.log: list[tuple[float, float]] = []
        self.paths: list[str] = []
        self.status: Callable[[], int] = lambda: 200  # where the address names no status
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Return its address, to which a path may be added."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.log.append((site.now(), 1.0))
                site.paths.append(self.path)
                said = dict(parse_qsl(urlsplit(self.path).query))
                if self.path == "/silence":
                    self.close_connection = True
                    return
                self.send_response(int(said.pop("status", "0")) or site.status())
                for name, value in said.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *said: Any) -> None:
                """Print nothing."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        join(self._thread)

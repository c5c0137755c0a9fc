"""The files of the page, with the headers that keep other sites and injected scripts out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from nexus_redis.server.call import Receive, Scope, Send
from nexus_redis.server.problems import Headers

FOLDER: Final = Path(__file__).parent / "page"
CSP: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_SECURITY: Final[Headers] = [
    (b"content-security-policy", CSP),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
FILE_SECURITY: Final[Headers] = [
    *PAGE_SECURITY,
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),  # a browser asks each time, and gets 304 unless the server was upgraded
]


class Files:
    """The ASGI application of `/static`, or of one file."""

    def __init__(self, name: str = "") -> None:
        path = FOLDER / name
        self._app: Any = FileResponse(path) if name else StaticFiles(directory=FOLDER, check_dir=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a file."""

        async def send_secured(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *FILE_SECURITY]
            await send(message)

        await self._app(scope, receive, send_secured)

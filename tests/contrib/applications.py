"""Applications with a limit, each made in another way, behind one face: so their promises are tested once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import fastapi
import httpx

import nexus_redis
import nexus_redis.asyncio
from nexus_redis.contrib import asgi, wsgi
from nexus_redis.contrib.fastapi import limit
from tests.harness.servers import Server
from tests.harness.support import run


class Visits(Protocol):
    """Visit these paths, one after the other; `budget` returns the budget that the limit is made with."""

    def __call__(
        self, server: Server, budget: Callable[[Any], Any], paths: list[str], **settings: Any
    ) -> list[httpx.Response]: ...


@dataclass(frozen=True)
class Application:
    """An application with a limit. `path` returns the path of the request that the limit's functions get."""

    visit: Visits
    path: Callable[[Any], str]


def _async(make: Callable[..., Any]) -> Visits:
    def visit(server: Server, budget: Callable[[Any], Any], paths: list[str], **settings: Any) -> list[httpx.Response]:
        async def main() -> list[httpx.Response]:
            async with nexus_redis.asyncio.Nexus.from_url(server.url) as nexus:
                transport = httpx.ASGITransport(make(budget(nexus), **settings))
                async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
                    return [await client.get(path) for path in paths]

        return run(main())

    return visit


async def _hello(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"ratelimit", b'"mine";r=7')]})
    await send({"type": "http.response.body", "body": b"hello"})


def _asgi(budget: Any, **settings: Any) -> Any:
    return asgi.Limit(_hello, budget, **settings)


def _fastapi(budget: Any, **settings: Any) -> Any:
    app = fastapi.FastAPI(openapi_url=None)

    @app.get("/{path:path}", dependencies=[fastapi.Depends(limit(budget, **settings))])
    async def hello(path: str, response: fastapi.Response) -> str:
        response.headers.append("ratelimit", '"mine";r=7')
        return "hello"

    return app


def _hello_wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("RateLimit", '"mine";r=7')])
    return [b"hello"]


def _wsgi(server: Server, budget: Callable[[Any], Any], paths: list[str], **settings: Any) -> list[httpx.Response]:
    with nexus_redis.Nexus.from_url(server.url) as nexus:
        transport = httpx.WSGITransport(wsgi.Limit(_hello_wsgi, budget(nexus), **settings))
        with httpx.Client(transport=transport, base_url="http://web") as client:
            return [client.get(path) for path in paths]


APPLICATIONS: Final = {
    "asgi": Application(_async(_asgi), lambda scope: str(scope["path"])),
    "fastapi": Application(_async(_fastapi), lambda request: str(request.url.path)),
    "wsgi": Application(_wsgi, lambda environ: str(environ["PATH_INFO"])),
}

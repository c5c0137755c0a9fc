"""The ASGI application of `nexus-redis serve`, made of the table of operations and of a few pages beside it.

    request --> gate (Host, Origin) --> caller (bearer token) --> operation --> answer, or a problem document

Any ASGI server that sends lifespan events can run it: `uvicorn.run(Application(ServerOptions()), port=8080)`. `run.py`
runs it with limits on each connection, and with an orderly end.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount, Route, Router

from nexus_redis._values.parse import budget_name
from nexus_redis.errors import NexusError
from nexus_redis.metrics import exposition
from nexus_redis.server import texts
from nexus_redis.server.access import ANYONE, EVERY, OBSERVER, ROLES, WhoamiJson
from nexus_redis.server.call import Call, CallerGone, Receive, Reply, Scope, Send
from nexus_redis.server.codec import encode
from nexus_redis.server.connection import STOP, Stopping
from nexus_redis.server.gate import header_map
from nexus_redis.server.health import ReadyJson
from nexus_redis.server.openapi import document
from nexus_redis.server.operations import OPERATIONS
from nexus_redis.server.options import ServerOptions
from nexus_redis.server.pages import docs_page
from nexus_redis.server.problems import AWAY_RETRY, Headers, Problem, problem_of
from nexus_redis.server.sending import send_problem, send_stream, send_whole
from nexus_redis.server.service import Service
from nexus_redis.server.static import PAGE_SECURITY, Files

Handler = Callable[[Call], Awaitable[Reply]]

TEXT: Final = b"text/plain; charset=utf-8"
HTML: Final = b"text/html; charset=utf-8"
EVENTS_QUERY: Final = ("budget", "key")
EVENTS: Final = b"text/event-stream"
OPENAPI: Final = b"application/vnd.oai.openapi+json;version=3.1"


class Application:
    """The server as an ASGI application. It opens its Nexus when the server starts it, once in each worker."""

    def __init__(self, options: ServerOptions) -> None:
        self._options, self.limits = options, options.limits
        self._service: Service | None = None
        self._router: Router | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. The server calls this."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:  # a websocket
            await receive()
            await send({"type": "websocket.close"})

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._service = service = Service(self._options)
        except NexusError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._router = Router(_routes(service), default=_unknown_path, redirect_slashes=False)
        if "state" in scope:
            scope["state"][STOP] = Stopping(service.stop)
        await service.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await service.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, router = self._service, self._router
        assert service is not None, texts.NO_LIFESPAN
        assert router is not None
        has_begun, headers = False, header_map(scope["headers"])
        cors = service.gate.cors(headers)

        async def send_noted(message: Any) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = [*message.get("headers", ()), *cors]
            await send(message)

        try:
            service.gate.check(scope, headers)
            if scope["method"] == "OPTIONS":
                await send_whole(send, 204, service.gate.preflight(headers), b"")
                return
            # The path as it was sent: an encoded slash in the name of a budget is no separator.
            path = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
            await router({**scope, "path": path, "app": self, "headers_by_name": headers}, receive, send_noted)
        except CallerGone:
            return
        except HTTPException as error:
            await send_problem(send_noted, _routing_problem(error))
        except Exception as error:
            if has_begun:
                raise
            service.health.failed(error)
            problem = problem_of(error)
            if problem.kind.status == 500:
                texts.log_bug(scope["method"], scope["path"], error)
            await send_problem(send_noted, problem)


class Endpoint:
    """The ASGI application of one operation, with its parameters after the `?`. One that `is_open` needs no token."""

    def __init__(self, service: Service, handler: Handler, query: Sequence[str] = (), *, is_open: bool = False) -> None:
        self._service, self._handler, self._query, self._is_open = service, handler, query, is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the operation out, and send its answer."""
        service, headers = self._service, scope["headers_by_name"]
        caller = ANYONE if self._is_open else service.access.caller(headers.get(b"authorization"))
        call = Call(scope, receive, headers, caller, service.waiting)
        if scope["query_string"]:
            call.check_query(self._query)
        reply = await self._handler(call)
        if reply.value is None:
            await send_whole(send, reply.status, list(reply.headers), b"")
            return
        body, kind = encode(reply.value, headers.get(b"accept", b""))
        await send_whole(send, reply.status, [(b"content-type", kind), *reply.headers], body)


class EventStream:
    """The ASGI application of `GET /v1/events`: what changes in all budgets, and in the one of `?budget=NAME`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the caller goes away, its token is not the same any more, or the server stops."""
        service, headers = self._service, scope["headers_by_name"]
        token = headers.get(b"authorization")
        caller = service.access.caller(token)
        call = Call(scope, receive, headers, caller, service.waiting)
        call.check_query(EVENTS_QUERY)
        query = call.query
        budget = budget_name(query["budget"], query.get("key")) if "budget" in query else None
        caller.require(OBSERVER, budget)

        async def while_valid() -> AsyncGenerator[bytes]:
            async with aclosing(service.watcher.stream(budget, caller.sees)) as parts:
                async for part in parts:
                    if not service.access.is_still(caller, token):
                        return
                    yield part

        await send_stream(receive, send, EVENTS, while_valid())


class Metrics:
    """The ASGI application of `GET /metrics`. It names all budgets, so a token of some of them is not enough."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI passes it
        """Send the page."""
        service, headers = self._service, scope["headers_by_name"]
        service.access.caller(headers.get(b"authorization")).require(OBSERVER, EVERY)
        accept = headers.get(b"accept", b"").decode("latin-1")
        is_alone = service.options.workers == 1
        body, kind = await exposition(service.nexus, accept=accept, client=is_alone)
        await send_whole(send, 200, [(b"content-type", kind.encode())], body)


class Constant:
    """The ASGI application of an answer that is always the same."""

    def __init__(self, body: bytes, kind: bytes, headers: Headers | None = None) -> None:
        self._body, self._headers = body, [(b"content-type", kind), *(headers or ())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI passes them
        """Send the answer."""
        await send_whole(send, 200, self._headers, self._body)


def _routes(service: Service) -> list[BaseRoute]:
    async def whoami(call: Call) -> Reply:
        caller = call.caller
        found: WhoamiJson = {
            "name": caller.name, "roles": [role for role in ROLES if caller.may(role)],
            "budgets": list(caller.patterns), "needs_token": service.access.needs_token,
        }  # fmt: skip
        return Reply(found)

    async def readyz(call: Call) -> Reply:  # noqa: ARG001  # every handler gets it
        trouble = await service.health.trouble()
        if trouble:
            raise Problem("temporary-reduced-capacity", trouble, retry_after=AWAY_RETRY, reason="unavailable")
        ready: ReadyJson = {"ready": True}
        return Reply(ready)

    api = [
        Route(each.path, Endpoint(service, getattr(service, each.handler), each.query), methods=[each.method])
        for each in OPERATIONS
    ]
    return [
        *_by_path(api),
        Route("/v1/whoami", Endpoint(service, whoami), methods=["GET"]),
        Route("/v1/events", EventStream(service), methods=["GET"]),
        Route("/metrics", Metrics(service), methods=["GET"]),
        Route("/healthz", Constant(b"ok\n", TEXT), methods=["GET"]),
        Route("/readyz", Endpoint(service, readyz, is_open=True), methods=["GET"]),
        Route("/openapi.json", Constant(json.dumps(document()).encode(), OPENAPI), methods=["GET"]),
        Route("/docs", Constant(docs_page(), HTML, PAGE_SECURITY), methods=["GET"]),
        Route("/", Files("index.html"), methods=["GET"]),
        Mount("/static", Files()),
    ]


def _by_path(routes: list[Route]) -> list[BaseRoute]:
    """Return one route for each path: Starlette would answer 405 with the methods of the first one only."""
    found: dict[str, dict[str, Route]] = {}
    for route in routes:
        for method in route.methods or ():
            found.setdefault(route.path, {})[method] = route
    return [
        routes_of[next(iter(routes_of))] if len(set(map(id, routes_of.values()))) == 1
        else Route(path, ByMethod(routes_of), methods=list(routes_of))
        for path, routes_of in found.items()
    ]  # fmt: skip


class ByMethod:
    """The ASGI application of a path with several operations."""

    def __init__(self, routes: dict[str, Route]) -> None:
        self._apps = {method: route.app for method, route in routes.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry out the operation of the method."""
        await self._apps[scope["method"]](scope, receive, send)


async def _unknown_path(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # ASGI passes them
    raise Problem("unknown-path", texts.unknown_path(scope["path"]))


def _routing_problem(error: HTTPException) -> Problem:
    if error.status_code != 405:  # no such file
        return Problem("unknown-path", texts.unknown_path(""))
    allow = (error.headers or {}).get("Allow", "")
    return Problem("wrong-method", texts.wrong_method(allow), headers=[(b"allow", allow.encode())])

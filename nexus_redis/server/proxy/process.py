"""The ASGI application of `nexus-redis serve --upstream`: the proxy, with a Nexus of its own.

All paths belong to the upstream, but for `/.well-known/nexus-redis/healthz`, `readyz` and `metrics`, which tell of the
proxy itself.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from nexus_redis.asyncio import Nexus
from nexus_redis.errors import NexusError
from nexus_redis.metrics import NexusCollector
from nexus_redis.server.batch import Batch
from nexus_redis.server.call import Receive, Scope, Send
from nexus_redis.server.connection import STOP, Stopping
from nexus_redis.server.gate import Gate, header_map
from nexus_redis.server.health import Health
from nexus_redis.server.options import ServerOptions
from nexus_redis.server.problems import AWAY_RETRY, Problem
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.application import Proxy
from nexus_redis.server.proxy.options import ProxyOptions
from nexus_redis.server.proxy.problems import ProxyProblem
from nexus_redis.server.sending import send_problem, send_whole

OWN: Final = b"/.well-known/nexus-redis/"
TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class ProxyApplication:
    """The proxy as an application that a server starts, once in each worker."""

    def __init__(self, options: ServerOptions, proxy: ProxyOptions) -> None:
        self._options, self._proxy_options, self.limits = options, proxy, proxy.limits
        self._proxy: Proxy | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it. The server calls this."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        assert self._proxy is not None
        if scope["type"] == "http":
            headers = header_map(scope["headers"])
            try:
                if b"host" in headers:  # a browser sends it always, and HTTP/1.0 knows none
                    self._gate.check_host(headers)
            except Problem as problem:
                wrong = ProxyProblem(HTTPStatus.MISDIRECTED_REQUEST, texts.wrong_host(problem.detail))
                await send_problem(send, wrong)
                return
            if scope["raw_path"].startswith(OWN):
                await self._own(scope, send)
                return
        await self._proxy(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        try:
            nexus = Nexus.from_url(self._options.url, namespace=self._options.namespace)
            self._proxy = proxy = Proxy(nexus, self._proxy_options)
        except NexusError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        self._gate, self._health, self._registry = Gate(self._options), Health(Batch(nexus)), CollectorRegistry()
        self._registry.register(NexusCollector(nexus))
        if "state" in scope:
            scope["state"][STOP] = Stopping(proxy.drain)
        await proxy.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await proxy.stop()
        await nexus.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _own(self, scope: Scope, send: Send) -> None:
        """Answer for the proxy itself."""
        match scope["raw_path"].removeprefix(OWN):
            case b"healthz":
                await send_whole(send, 200, [TEXT], b"ok\n")
            case b"readyz":
                trouble = await self._health.trouble()
                if trouble:
                    away = Problem("temporary-reduced-capacity", trouble, retry_after=AWAY_RETRY, reason="unavailable")
                    await send_problem(send, away)
                else:
                    await send_whole(send, 200, [TEXT], b"ready\n")
            case b"metrics" if self._options.workers > 1:  # each scrape would reach another one, with other counts
                await send_problem(send, ProxyProblem(HTTPStatus.NOT_FOUND, texts.METRICS_OF_WORKERS))
            case b"metrics":
                accept = header_map(scope["headers"]).get(b"accept", b"").decode("latin-1")
                encode, kind = choose_encoder(accept)
                await send_whole(send, 200, [(b"content-type", kind.encode())], encode(self._registry))
            case _:
                await send_problem(send, ProxyProblem(HTTPStatus.NOT_FOUND, texts.no_own_path(OWN.decode())))

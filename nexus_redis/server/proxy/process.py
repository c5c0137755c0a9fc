"""The proxy of one process: it opens a Nexus of its own when the server starts it, so it can be sent to a worker."""

from __future__ import annotations

from typing import Any

from nexus_redis.asyncio import Nexus
from nexus_redis.errors import NexusError
from nexus_redis.server.call import Receive, Send
from nexus_redis.server.options import ServerOptions
from nexus_redis.server.proxy.application import Proxy
from nexus_redis.server.proxy.options import ProxyOptions


class ProxyApplication:
    """The application that `nexus-redis serve --upstream` runs, in one process or in several workers.

    `server` names the Redis and the namespace. A setting that cannot be used fails the start.
    """

    def __init__(self, server: ServerOptions, options: ProxyOptions) -> None:
        self._server, self._options, self.limits = server, options, options.limits
        self._proxy: Proxy | None = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan of the server."""
        if scope["type"] != "lifespan":
            assert self._proxy is not None, "the server has not sent the event lifespan.startup"
            await self._proxy(scope, receive, send)
            return
        try:
            nexus = Nexus.from_url(self._server.url, namespace=self._server.namespace)
            self._proxy = Proxy(nexus, self._options)
        except NexusError as error:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        ends: list[Any] = []  # what tells the server that all is closed, so that it ends the process

        async def send_but_end(message: Any) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                ends.append(message)
            else:
                await send(message)

        async with nexus:
            await self._proxy(scope, receive, send_but_end)
        for end in ends:
            await send(end)

"""The HTTP server, `nexus-redis serve`: budgets for programs in any language, and for the people who run them.

    Application(ServerOptions(url="redis://redis:6379/0"))     an ASGI application, for uvicorn

Needs the extra `server`. docs/http.md describes the API.
"""

from nexus_redis.server.application import Application
from nexus_redis.server.options import Limits, ServerOptions

__all__ = ["Application", "Limits", "ServerOptions"]

"""Helpers for the libraries that already make the calls: each a module, an extra and a page of its own.

    httpx, httpx2, requests, aiohttp    a client that acquires tokens before each request
    asgi, wsgi, fastapi                 an application that reports its load, or refuses requests over budget
    celery, dramatiq, taskiq            workers that keep one budget together

`nexus_redis` itself imports none of them. They use public names only (`nexus_redis`, `nexus_redis.asyncio`,
`nexus_redis.errors`, `nexus_redis.extending`), so each is an example for the author of another helper.
"""

from __future__ import annotations

from importlib import import_module

from nexus_redis.errors import MissingLibrary

__all__ = ["MissingLibrary", "need"]


def need(library: str) -> None:
    """Raise `MissingLibrary` if `library` is not installed.

    >>> need("celery")
    MissingLibrary("nexus_redis.contrib.celery needs celery: pip install '.[celery]'")
    """
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:  # it is installed, and lacks another library
            raise
        raise MissingLibrary(library) from None

"""Helpers for the libraries that already make the calls: each a module, an extra and a page of its own.

    httpx, httpx2, requests, aiohttp    a client that takes its tokens before each request
    asgi, wsgi, fastapi                 an application that reports its load, or refuses what is over budget
    celery, dramatiq, taskiq            workers that keep one budget together

None is imported by `nexus_redis` itself. They use the public API of the core alone, so each is also an example of how
to write the next one.
"""

from __future__ import annotations

from importlib import import_module

from nexus_redis.errors import MissingLibrary

__all__ = ["MissingLibrary", "need"]


def need(library: str) -> None:
    """Raise `MissingLibrary`, in one line, where `library` is not installed.

    >>> need("celery")
    MissingLibrary("nexus_redis.contrib.celery needs celery: pip install '.[celery]'")
    """
    try:
        import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:  # it is there, and lacks something itself
            raise
        raise MissingLibrary(library) from None

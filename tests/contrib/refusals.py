"""What a helper says about a value that it refuses, by field and remedy instead of by prose."""

from __future__ import annotations

from nexus_redis.contrib import _texts


def wrong_kind(kind: str, face: str) -> str:
    """Return the remedy for an object that is not a `kind` of `face`, sync or async."""
    module = {"sync": "nexus_redis", "async": "nexus_redis.asyncio"}[face]
    return _texts.wrong_kind(kind, module)

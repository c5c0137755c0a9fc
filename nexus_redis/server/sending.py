"""Send an answer that is there as a whole, with the headers that every answer has."""

from __future__ import annotations

from typing import Final

from nexus_redis.server.call import Send
from nexus_redis.server.problems import CONTENT_TYPE, Headers, Problem

SECURITY: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send an answer."""
    length = [(b"content-length", b"%d" % len(body))] if status != 204 else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length, *SECURITY]})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    """Send a problem document."""
    await send_whole(send, problem.kind.status, [(b"content-type", CONTENT_TYPE), *problem.headers], problem.body())

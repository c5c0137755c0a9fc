"""Send an answer, whole or part by part, with the headers that every answer has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from nexus_redis.server.call import DISCONNECT, Receive, Send
from nexus_redis.server.one_write import WHOLE
from nexus_redis.server.problems import CONTENT_TYPE, Headers, Problem

SECURITY: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


async def send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send an answer."""
    headers = [*headers, *([(b"content-length", b"%d" % len(body))] if status != 204 else []), *SECURITY]
    await send({"type": "http.response.start", "status": status, "headers": headers, WHOLE: True})
    await send({"type": "http.response.body", "body": body})


async def send_stream(receive: Receive, send: Send, kind: bytes, parts: AsyncGenerator[bytes]) -> None:
    """Send an answer part by part, until it ends or the caller goes away."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), *SECURITY]})
    body = asyncio.ensure_future(_send_parts(send, parts))
    gone = asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait((body, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (body, gone):
            task.cancel()
        await asyncio.gather(body, gone, return_exceptions=True)
        await parts.aclose()


async def _send_parts(send: Send, parts: AsyncGenerator[bytes]) -> None:
    async for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != DISCONNECT:
        """A part of a body that nobody reads."""


async def send_problem(send: Send, problem: Problem) -> None:
    """Send a problem document."""
    await send_whole(send, problem.kind.status, [(b"content-type", CONTENT_TYPE), *problem.headers], problem.body())


def problem_headers(problem: Problem, body: bytes) -> Headers:
    """Return the headers of a problem document that is not sent by an application."""
    return [
        (b"content-type", CONTENT_TYPE), *problem.headers, (b"content-length", b"%d" % len(body)), *SECURITY,
    ]  # fmt: skip

"""What a type checker sees of the helpers' classes. mypy checks this file, and no test runs it."""

from __future__ import annotations

from typing import assert_type

import httpx
import httpx2

import nexus_redis
import nexus_redis.asyncio
from nexus_redis.contrib import httpx as with_httpx
from nexus_redis.contrib import httpx2 as with_httpx2


def first(budget: nexus_redis.Budget, other: nexus_redis.asyncio.Budget) -> None:
    """Use the transports of httpx as that library's own."""
    transport = with_httpx.Transport(budget, httpx.HTTPTransport(), cost=lambda request: len(request.url.path))
    base: httpx.BaseTransport = transport
    httpx.Client(transport=transport, mounts={"https://api.example": base})
    httpx.AsyncClient(transport=with_httpx.AsyncTransport(other, cost=lambda request: len(request.content)))
    assert_type(transport.handle_request(httpx.Request("GET", "/")), httpx.Response)
    with transport as entered:
        assert_type(entered, with_httpx.Transport)
    with_httpx.Transport(budget, httpx2.HTTPTransport())  # type: ignore[arg-type]  # of the other library
    with_httpx.Transport(other)  # type: ignore[arg-type]  # of the other face
    httpx2.Client(transport=transport)  # type: ignore[arg-type]  # of the other library


def second(budget: nexus_redis.Budget, other: nexus_redis.asyncio.Budget) -> None:
    """Use the transports of httpx2 as that library's own."""
    transport = with_httpx2.Transport(budget, httpx2.HTTPTransport(), cost=lambda request: len(request.url.path))
    base: httpx2.BaseTransport = transport
    httpx2.Client(transport=transport, mounts={"https://api.example": base})
    httpx2.AsyncClient(transport=with_httpx2.AsyncTransport(other, cost=lambda request: len(request.content)))
    assert_type(transport.handle_request(httpx2.Request("GET", "/")), httpx2.Response)
    with_httpx2.Transport(budget, httpx.HTTPTransport())  # type: ignore[arg-type]  # of the other library
    httpx.Client(transport=transport)  # type: ignore[arg-type]  # of the other library


async def both_async(client: with_httpx.AsyncTransport, client2: with_httpx2.AsyncTransport) -> None:
    """Send with the async transports."""
    assert_type(await client.handle_async_request(httpx.Request("GET", "/")), httpx.Response)
    assert_type(await client2.handle_async_request(httpx2.Request("GET", "/")), httpx2.Response)

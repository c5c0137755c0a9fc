"""The HTTP clients behind one face, so that their promises are tested once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final, Protocol

import aiohttp
import httpx
import httpx2
import requests

import nexus_redis
import nexus_redis.asyncio
from nexus_redis.contrib import aiohttp as with_aiohttp
from nexus_redis.contrib import httpx as with_httpx
from nexus_redis.contrib import httpx2 as with_httpx2
from nexus_redis.contrib import requests as with_requests
from tests.harness.servers import Server
from tests.harness.support import PATIENCE

TIMED_OUT: Final = -1  # in place of a status


class Script(Protocol):
    """Send requests to these addresses with one of the clients, and return the statuses."""

    def __call__(
        self, server: Server, urls: list[str], *, patience: float | None = None, at_once: bool = False, **settings: Any
    ) -> list[int]: ...


def _sync_httpx(library: ModuleType, helper: Any) -> Script:
    def play(
        server: Server, urls: list[str], *, patience: float | None = None, at_once: bool = False, **settings: Any
    ) -> list[int]:
        with nexus_redis.Nexus.from_url(server.url) as nexus:
            transport = helper.Transport(nexus.budget("api", **_rate(settings)), **settings)
            timeout = library.Timeout(PATIENCE, pool=patience)
            with library.Client(transport=transport, timeout=timeout) as client:

                def get(url: str) -> int:
                    try:
                        return int(client.get(url).status_code)
                    except library.PoolTimeout as error:
                        assert isinstance(error.__cause__, nexus_redis.AcquireTimeout)
                        return TIMED_OUT

                return [get(url) for url in urls]

    return play


def _async_httpx(library: ModuleType, helper: Any) -> Script:
    def play(
        server: Server, urls: list[str], *, patience: float | None = None, at_once: bool = False, **settings: Any
    ) -> list[int]:
        async def main() -> list[int]:
            async with nexus_redis.asyncio.Nexus.from_url(server.url) as nexus:
                transport = helper.AsyncTransport(nexus.budget("api", **_rate(settings)), **settings)
                timeout = library.Timeout(PATIENCE, pool=patience)
                async with library.AsyncClient(transport=transport, timeout=timeout) as client:

                    async def get(url: str) -> int:
                        try:
                            return int((await client.get(url)).status_code)
                        except library.PoolTimeout as error:
                            assert isinstance(error.__cause__, nexus_redis.AcquireTimeout)
                            return TIMED_OUT

                    return await _each(get, urls, at_once)

        return asyncio.run(main())

    return play


def _requests(
    server: Server, urls: list[str], *, patience: float | None = None, at_once: bool = False, **settings: Any
) -> list[int]:
    with nexus_redis.Nexus.from_url(server.url) as nexus, requests.Session() as session:
        session.mount("http://", with_requests.Adapter(nexus.budget("api", **_rate(settings)), **settings))

        def get(url: str) -> int:
            try:
                return session.get(url, timeout=(patience, PATIENCE)).status_code
            except requests.ConnectTimeout as error:
                assert isinstance(error.__cause__, nexus_redis.AcquireTimeout)
                return TIMED_OUT

        return [get(url) for url in urls]


def _aiohttp(
    server: Server, urls: list[str], *, patience: float | None = None, at_once: bool = False, **settings: Any
) -> list[int]:
    async def main() -> list[int]:
        async with nexus_redis.asyncio.Nexus.from_url(server.url) as nexus:
            middleware = with_aiohttp.Middleware(nexus.budget("api", **_rate(settings)), **settings)
            timeout = aiohttp.ClientTimeout(total=patience)
            async with aiohttp.ClientSession(middlewares=[middleware], timeout=timeout) as session:

                async def get(url: str) -> int:
                    try:
                        async with session.get(url) as response:
                            return response.status
                    except TimeoutError:
                        return TIMED_OUT

                return await _each(get, urls, at_once)

    return asyncio.run(main())


async def _each(get: Callable[[str], Any], urls: list[str], at_once: bool) -> list[int]:
    if at_once:
        return list(await asyncio.gather(*(get(url) for url in urls)))
    return [await get(url) for url in urls]


def _rate(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings.pop(name) for name in ("rate", "burst") if name in settings}


CLIENTS: Final[dict[str, Script]] = {
    "httpx": _sync_httpx(httpx, with_httpx),
    "httpx-async": _async_httpx(httpx, with_httpx),
    "httpx2": _sync_httpx(httpx2, with_httpx2),
    "httpx2-async": _async_httpx(httpx2, with_httpx2),
    "requests": _requests,
    "aiohttp": _aiohttp,
}

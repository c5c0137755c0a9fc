"""The transports of httpx and httpx2, written once: the two libraries have the same classes under two names.

`contrib/httpx.py` and `contrib/httpx2.py` name the library's own types and inherit from the library's own base class,
so type checkers and `isinstance` see a transport of that library:

    SyncTransport[Request, Response, Inner]     AsyncTransport[Request, Response, Inner]
              '--- httpx.Transport (httpx.BaseTransport)    '--- httpx.AsyncTransport (httpx.AsyncBaseTransport)
              '--- httpx2.Transport (httpx2.BaseTransport)  '--- httpx2.AsyncTransport (httpx2.AsyncBaseTransport)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis import client
from nexus_redis.contrib._http import AsyncLimiter, AsyncReport, Limiter, Report
from nexus_redis.errors import AcquireTimeout


class _Url(Protocol):
    @property
    def host(self) -> str: ...


class _Request(Protocol):
    extensions: Any

    @property
    def url(self) -> _Url: ...


class _Response(Protocol):
    status_code: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    async def aclose(self) -> None: ...


Request = TypeVar("Request", bound=_Request)
Response = TypeVar("Response", bound=_Response)
Inner = TypeVar("Inner")


class SyncTransport(Generic[Request, Response, Inner]):
    """A transport for the sync client of `_library`."""

    _library: Any  # the module httpx or httpx2

    def __init__(
        self,
        budget: client.Budget,
        inner: Inner | None = None,
        *,
        cost: float | Callable[[Request], float] = 1,
        producer: client.Producer | None = None,
        report: Report = False,
    ) -> None:
        self._inner: Any = self._library.HTTPTransport() if inner is None else inner
        self._limiter = Limiter(budget, cost, producer, report)

    def handle_request(self, request: Request) -> Response:
        """Acquire the tokens and send the request. The client calls this once for each request that goes out."""
        try:
            attempt = self._limiter.acquire(request, _pool_timeout(request))
        except AcquireTimeout as error:
            raise self._library.PoolTimeout(str(error), request=request) from error
        with attempt:
            response: Response = self._inner.handle_request(request)
            attempt.answered(response.status_code)
        self._limiter.pause_if_asked(response.status_code, response.headers, request.url.host)
        return response

    def close(self) -> None:
        """Close the inner transport. The budget stays open, because others use it."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)


class AsyncTransport(Generic[Request, Response, Inner]):
    """A transport for the async client of `_library`."""

    _library: Any  # the module httpx or httpx2

    def __init__(
        self,
        budget: nexus_asyncio.Budget,
        inner: Inner | None = None,
        *,
        cost: float | Callable[[Request], float] = 1,
        producer: nexus_asyncio.Producer | None = None,
        report: AsyncReport = False,
    ) -> None:
        self._inner: Any = self._library.AsyncHTTPTransport() if inner is None else inner
        self._limiter = AsyncLimiter(budget, cost, producer, report)

    async def handle_async_request(self, request: Request) -> Response:
        """Acquire the tokens and send the request. The client calls this once for each request that goes out."""
        try:
            attempt = await self._limiter.acquire(request, _pool_timeout(request))
        except AcquireTimeout as error:
            raise self._library.PoolTimeout(str(error), request=request) from error
        with attempt:
            response: Response = await self._inner.handle_async_request(request)
            attempt.answered(response.status_code)
        try:
            await self._limiter.pause_if_asked(response.status_code, response.headers, request.url.host)
        except BaseException:  # cancelled: the caller does not get the response, so the caller does not close it
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        """Close the inner transport. The budget stays open, because others use it."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)


def _pool_timeout(request: _Request) -> float | None:
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeouts.get("pool")

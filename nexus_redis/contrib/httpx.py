"""httpx: a transport that acquires tokens before each request, sync and async.

    stripe = nexus.budget("stripe", rate="100/s")
    client = httpx.Client(transport=Transport(stripe))                                      # every request
    client = httpx.Client(mounts={"https://api.stripe.com": Transport(stripe)})             # the requests to one host

Each request that goes out costs one token or what `cost` says, and a redirect goes out too. A request waits at most for
its *pool* timeout, which is httpx's word for how long a request may wait before it begins (5 s if you set none). A
429 or 503 that says when to come back pauses the budget for the whole fleet (`docs/contrib/httpx.md`). The response
reaches the caller as it came, and nothing is sent twice.
"""

from __future__ import annotations

from nexus_redis.contrib import need

need("httpx")

import httpx  # noqa: E402  # `need` must be able to say first what to install

from nexus_redis.contrib import _httpx_transports as base  # noqa: E402

__all__ = ["AsyncTransport", "Transport"]


class Transport(base.SyncTransport[httpx.Request, httpx.Response, httpx.BaseTransport], httpx.BaseTransport):
    """A transport for `httpx.Client`: it acquires tokens, and then `inner` (an `httpx.HTTPTransport()`) sends.

    With 100/s shared by 20 processes, each process sends its part of 100 requests a second, and after one
    `Retry-After: 7` no process sends any for 7 s. `cost` is a number or a function of the request, 0 for requests that
    are free. `producer` claims instead of the process' shared producer: `stripe.producer(weight=3)`. `report=True`
    makes this process a consumer of the budget, so that the rate follows what the server can take
    (`docs/how-to/observed-downstream.md`); a consumer that was made with `observe=True` may be passed instead. Raises
    `httpx.PoolTimeout`, whose `__cause__` is the `AcquireTimeout`, and `nexus_redis.Unavailable` as `acquire` does.
    """

    _library = httpx


class AsyncTransport(
    base.AsyncTransport[httpx.Request, httpx.Response, httpx.AsyncBaseTransport], httpx.AsyncBaseTransport
):
    """The same for `httpx.AsyncClient`, with a budget of `nexus_redis.asyncio`; `inner` is an `AsyncHTTPTransport`."""

    _library = httpx

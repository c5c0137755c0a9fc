"""requests: an adapter that takes its tokens before each request.

    session = requests.Session()
    session.mount("https://api.stripe.com/", Adapter(nexus.budget("stripe", rate="100/s")))

Each request that goes out costs one token (redirects go out too), or what `cost` says. It waits at most the request's
*connect* timeout, then it raises `requests.ConnectTimeout`, which requests documents as safe to try again: nothing was
sent and nothing was taken. A 429 or 503 that says when to come back pauses the budget for the whole fleet
(`docs/contrib/requests.md`); the response is yours as it came, and nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from nexus_redis import client
from nexus_redis.contrib import need
from nexus_redis.contrib._gates import Gate, Report
from nexus_redis.errors import AcquireTimeout

need("requests")

import requests  # noqa: E402  # what it is called when it is missing must be said first
from requests.adapters import HTTPAdapter  # noqa: E402

__all__ = ["Adapter"]

Cost = float | Callable[[requests.PreparedRequest], float]


class Adapter(HTTPAdapter):
    """Tokens first, then `requests.adapters.HTTPAdapter` sends the request.

    With 100/s shared by 20 processes, each sends its part of 100 requests a second, and after one `Retry-After: 7`
    none sends any for 7 s. `cost` is a number or a function of the prepared request, 0 for those that are free.
    `producer` claims instead of the process' shared one. `report=True` makes this process a consumer of the budget, so
    that the rate follows what the server can take (`docs/how-to/observed-downstream.md`). The pool's size is
    HTTPAdapter's; its `max_retries` is not offered, since a retry inside the adapter would go out without a token.
    Raises `requests.ConnectTimeout` (its `__cause__` is the `AcquireTimeout`), and `nexus_redis.Unavailable` as
    `acquire` does.
    """

    def __init__(
        self,
        budget: client.Budget,
        *,
        cost: Cost = 1,
        producer: client.Producer | None = None,
        pool_connections: int = 10,
        pool_maxsize: int = 10,
        pool_block: bool = False,
        report: Report = False,
    ) -> None:
        super().__init__(pool_connections=pool_connections, pool_maxsize=pool_maxsize, pool_block=pool_block)
        self._gate = Gate(budget, cost, producer, report)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Called by the session, once per request that goes out."""
        try:
            attempt = self._gate.enter(request, _patience(timeout))
        except AcquireTimeout as error:
            raise requests.ConnectTimeout(str(error), request=request) from error
        with attempt:
            response = super().send(request, stream, timeout, verify, cert, dict(proxies or {}))
            attempt.answered(response.status_code)
        self._gate.hear(response.status_code, response.headers, urlsplit(request.url or "").hostname or "")
        return response


def _patience(timeout: Any) -> float | None:
    """Of a number, a (connect, read) pair or a urllib3.Timeout."""
    if isinstance(timeout, tuple):
        timeout = timeout[0]
    connect = getattr(timeout, "connect_timeout", timeout)
    return float(connect) if isinstance(connect, int | float) else None

"""requests: an adapter that acquires tokens before each request.

    session = requests.Session()
    session.mount("https://api.stripe.com/", Adapter(nexus.budget("stripe", rate="100/s")))

Each request that goes out costs one token or what `cost` says, and a redirect goes out too. A request waits at most for
its *connect* timeout. Then it raises `requests.ConnectTimeout`, which requests documents as safe to try again: nothing
was sent, and no token was taken. A 429 or 503 that says when to come back pauses the budget for the whole fleet
(`docs/contrib/requests.md`). The response reaches the caller as it came, and nothing is sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from nexus_redis import client
from nexus_redis.contrib import need
from nexus_redis.contrib._http import Limiter, Report
from nexus_redis.errors import AcquireTimeout

need("requests")

import requests  # noqa: E402  # `need` must be able to say first what to install
from requests.adapters import HTTPAdapter  # noqa: E402

__all__ = ["Adapter"]

Cost = float | Callable[[requests.PreparedRequest], float]


class Adapter(HTTPAdapter):
    """An adapter for `requests.Session`: it acquires tokens, and then `requests.adapters.HTTPAdapter` sends.

    With 100/s shared by 20 processes, each process sends its part of 100 requests a second, and after one
    `Retry-After: 7` no process sends any for 7 s. `cost` is a number or a function of the prepared request, 0 for
    requests that are free. `producer` claims instead of the process' shared producer. `report=True` makes this process
    a consumer of the budget, so that the rate follows what the server can take
    (`docs/how-to/observed-downstream.md`). The `pool_` parameters are those of HTTPAdapter. Its `max_retries` is not
    offered, because a retry inside the adapter would go out without a token. Raises `requests.ConnectTimeout`, whose
    `__cause__` is the `AcquireTimeout`, and `nexus_redis.Unavailable` as `acquire` does.
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
        self._limiter = Limiter(budget, cost, producer, report)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Acquire the tokens and send the request. The session calls this once for each request that goes out."""
        try:
            attempt = self._limiter.acquire(request, _connect_timeout(timeout))
        except AcquireTimeout as error:
            raise requests.ConnectTimeout(str(error), request=request) from error
        with attempt:
            response = super().send(request, stream, timeout, verify, cert, dict(proxies or {}))
            attempt.answered(response.status_code)
        self._limiter.pause_if_asked(response.status_code, response.headers, urlsplit(request.url or "").hostname or "")
        return response


def _connect_timeout(timeout: Any) -> float | None:
    """Return the connect timeout of a number, a (connect, read) pair or a `urllib3.Timeout`."""
    if isinstance(timeout, tuple):
        timeout = timeout[0]
    connect = getattr(timeout, "connect_timeout", timeout)
    return float(connect) if isinstance(connect, int | float) else None

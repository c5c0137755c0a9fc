"""FastAPI: a dependency that admits a request, or answers it with 429 or 503.

    search = limit(nexus.budget("search", rate="100/s"))

    @app.get("/search", dependencies=[Depends(search)])
    async def find(q: str): ...

The middleware `nexus_redis.contrib.asgi.Limit` limits a whole application. A dependency limits one route or router. It
runs after the dependencies listed before it, and its refusal goes through the application's exception handlers. The
websockets of a router pass through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nexus_redis.asyncio import Budget, Producer
from nexus_redis.contrib import _texts, need
from nexus_redis.contrib._admission import Refusal
from nexus_redis.contrib.asgi import Admission

need("fastapi")

# Each by its name, because FastAPI looks up the dependency's annotations among the names of this module.
from fastapi import HTTPException, Request, Response  # noqa: E402  # `need` must be able to say first what to install
from fastapi.requests import HTTPConnection  # noqa: E402

__all__ = ["limit"]

Cost = float | Callable[[Request], float]
Chooser = Callable[[Request], Budget | Awaitable[Budget | None] | None]


def limit(
    budget: Budget | Chooser,
    *,
    hold: float | str = 0,
    status: int | None = None,
    cost: Cost = 1,
    producer: Producer | None = None,
    headers: bool = True,
) -> Callable[[HTTPConnection, Response], Awaitable[None]]:
    """Return a dependency that acquires the tokens of a request, and refuses a request over budget.

    A request over budget waits up to `hold` seconds and is then refused by an `HTTPException`. The status is 429 where
    callers want more than the rate. It is 503 where the budget itself is short: its consumers are full or gone, it is
    paused, or Redis is away and the mode is closed. `status` fixes one of the two. A refusal has `Retry-After` in whole
    seconds. With 100/s and hold=0, of 150 requests a second 100 are answered and 50 get `429 Retry-After: 1`. All
    answers have the fields `RateLimit-Policy` and `RateLimit` (`docs/contrib/asgi.md`), unless `headers=False`. FastAPI
    drops the fields of a dependency where the endpoint returns its own `Response`.

    `budget` may be a function of the request, also an async one. The function returns the budget of that request, or
    None for a request that is not limited: `lambda request: nexus.budget("api", key=request.headers["x-api-key"])`.
    `cost` is a number or a function of the request; a request of cost 0 is admitted without a token. A request for
    which one of these functions fails is admitted, and the error is logged once a minute. `producer` claims instead of
    the process' shared producer.
    """
    admission = Admission(budget, hold=hold, status=status, cost=cost, producer=producer, headers=headers)

    async def limited(request: HTTPConnection, response: Response) -> None:
        if request.scope["type"] != "http":
            return
        outcome = await admission.admit(request)
        if isinstance(outcome, Refusal):
            raise HTTPException(outcome.status, _texts.OVER_BUDGET.strip(), dict(outcome.headers))
        for name, value in outcome:
            response.headers.append(name, value)

    return limited

"""FastAPI: a dependency that lets a request in, or answers it with 429 or 503.

    search = limit(nexus.budget("search", rate="100/s"))

    @app.get("/search", dependencies=[Depends(search)])
    async def find(q: str): ...

The middleware `nexus_redis.contrib.asgi.Limit` stands before the whole application. A dependency stands before one
route or router, runs after those that it depends on, and its refusal goes through the application's exception handlers.
The websockets of a router pass through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nexus_redis.asyncio import Budget, Producer
from nexus_redis.contrib import need
from nexus_redis.contrib._door import TEXT, Refusal
from nexus_redis.contrib.asgi import Door

need("fastapi")

# By name, since FastAPI looks for what the dependency's annotations name among this module's names.
from fastapi import HTTPException, Request, Response  # noqa: E402  # `need` must be able to speak first
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
    """Return a dependency that takes the request's tokens; those over budget wait `hold` seconds, then are refused.

    Refused means an `HTTPException` with status 429 where callers want more than the rate, 503 where the budget itself
    is short (its consumers are full or gone, it is paused, Redis is away and the mode is closed), or `status` always;
    with `Retry-After` in whole seconds. With 100/s and hold=0, of 150 requests a second 100 are answered and 50 get
    `429 Retry-After: 1`. Answers have the fields `RateLimit-Policy` and `RateLimit` (`_door.py`), unless
    `headers=False`. FastAPI drops a dependency's fields where the endpoint returns a `Response` of its own.

    `budget` may be a function of the request, also an async one, that returns the budget of that request, or None where
    there is no limit: `limit(lambda request: nexus.budget("api", key=request.headers["x-api-key"]))`. `cost` is a
    number or a function of the request; 0 lets a request in without a token. A request for which one of these functions
    fails is let in, and the error is logged once a minute. `producer` claims instead of the process' shared one.
    """
    door = Door(budget, hold=hold, status=status, cost=cost, producer=producer, headers=headers)

    async def limited(request: HTTPConnection, response: Response) -> None:
        if request.scope["type"] != "http":
            return
        entered = await door.enter(request)
        if isinstance(entered, Refusal):
            raise HTTPException(entered.status, TEXT.strip(), dict(entered.headers))
        for name, value in entered:
            response.headers.append(name, value)

    return limited

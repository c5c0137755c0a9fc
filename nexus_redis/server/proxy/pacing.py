"""The tokens of requests, and what the laws are told of how the requests end.

    take(5)  --> reserved: 5 tokens --> the request is sent --> attempt: in flight
                      '-> the client has gone: the tokens go back        '-> done, an error, or cancelled

The time that is reported is the upstream's own. It begins when the upstream has the whole request, so neither a slow
client nor the wait for further tokens looks like a slow upstream. It ends with the headers of the response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from nexus_redis.asyncio import Budget, Consumer, Reservation
from nexus_redis.contrib._attempt import is_overload
from nexus_redis.contrib._http import AsyncLimiter
from nexus_redis.contrib._rate_limit_fields import rate_limit_fields
from nexus_redis.errors import AcquireTimeout, Closed, InvalidSetting, NexusError, Unavailable
from nexus_redis.extending import Work, known_rate
from nexus_redis.server.problems import AWAY_RETRY, LONGEST_RETRY, Headers, Problem, over_budget
from nexus_redis.server.proxy import texts

AT_ONCE_S: Final = 1.0  # a budget that was idle may have the tokens of this time at once


class Attempt:
    """One request on its way. Without an observer nothing is reported."""

    def __init__(self, observer: Consumer | None, tokens: float) -> None:
        self._observer, self._tokens = observer, tokens
        self._work: Work | None = None
        self._has_ended = False

    def begin(self) -> None:
        """Begin the upstream's time: it has the whole request. Only the first call counts."""
        if self._observer is not None and self._work is None and not self._has_ended:
            self._work = self._observer.work(self._tokens)
            self._work.__enter__()

    def answered(self, status: int) -> None:
        """Report the response: an error where the upstream says that this is too much."""
        self._end(NexusError() if is_overload(status) else None)

    def failed(self) -> None:
        """Report that no response came."""
        self._end(NexusError())

    def cancelled(self) -> None:
        """Report that nobody wants the response any more, which says nothing about the upstream."""
        self._end(asyncio.CancelledError())

    def _end(self, error: BaseException | None) -> None:
        self.begin()
        self._has_ended = True
        work, self._work = self._work, None
        if work is not None:
            work.__exit__(None if error is None else type(error), error, None)


class Pacer:
    """The one budget of a proxy. `observer` is None where something else makes the rate."""

    def __init__(self, budget: Budget, observer: Consumer | None, wait: float) -> None:
        self.budget, self._observer, self._wait = budget, observer, wait
        self._shown = budget.parent or budget.name  # a key may be a secret
        self._limiter = AsyncLimiter(budget, 1, None, report=False)

    def start(self) -> None:
        """Begin to report, because without a report a budget that has no rate gives no token."""
        if self._observer is not None:
            self._observer.start()

    async def take(self, tokens: float) -> Reservation:
        """Wait for the tokens of a request. Raise a problem where they do not come by the deadline."""
        self.start()
        self._check_cost(tokens)
        taken = self.budget.reserve(tokens, self._wait)
        try:
            await taken.__aenter__()
        except (AcquireTimeout, Unavailable, InvalidSetting, Closed) as error:
            raise self._refusal(error) from None
        return taken

    @contextmanager
    def part(self, tokens: float) -> Iterator[None]:
        """Report a part of a body: its tokens are done when the upstream has taken it.

        Its time counts only where it is long, because a part usually waits in a buffer and not at the upstream.
        """
        work = None if self._observer is None else self._observer.work(tokens)
        if work is None:
            yield
            return
        cancelled = asyncio.CancelledError()
        work.__enter__()
        try:
            yield
            work.done(tokens)
        finally:
            work.__exit__(type(cancelled), cancelled, None)

    async def take_part(self, tokens: float) -> None:
        """Wait for the tokens of a part of a body, however long they take: the request has begun, and is not cut."""
        try:
            await self.budget.acquire(tokens, None)
        except (Unavailable, InvalidSetting, Closed) as error:
            raise self._refusal(error) from None

    def attempt(self, tokens: float) -> Attempt:
        """Return the report of a request of so many tokens."""
        return Attempt(self._observer, tokens)

    async def pause_if_asked(self, status: int, headers: Mapping[str, str], host: str) -> None:
        """Pause the budget for the whole fleet if a response says when to come back."""
        await self._limiter.pause_if_asked(status, headers, host)

    def _refusal(self, error: NexusError) -> Problem:
        match error:
            case AcquireTimeout():
                shown = AcquireTimeout(self._shown, error.cost, error.waited, error.reason)
                detail = f"{str(shown).rstrip('.')}. {texts.NOT_PASSED_ON}"
                return self.refused(error.reason, error.retry_after, detail)
            case Unavailable():
                return self.refused("unavailable", AWAY_RETRY, texts.REDIS_AWAY)
            case Closed():
                return self.refused("stopping", AWAY_RETRY, texts.STOPPING)
        return self.refused("rate", LONGEST_RETRY, texts.COST_TOO_LARGE)

    def _check_cost(self, tokens: float) -> None:
        """Refuse a request that the rate cannot pay for while it waits: it would keep all tokens from the others."""
        rate = known_rate(self.budget)
        if rate and tokens > max(1.0, rate * max(self._wait, AT_ONCE_S)):
            raise self.refused("rate", LONGEST_RETRY, texts.too_dear(tokens, rate, self._wait))

    def refused(self, reason: str, wait: float, detail: str) -> Problem:
        """Return the answer to a request that gets no tokens."""
        wait = wait if wait > 0 else AWAY_RETRY
        fields = rate_limit_fields(self._shown, known_rate(self.budget), max(1.0, wait))
        headers: Headers = [(name.lower().encode(), value.encode()) for name, value in fields]
        return over_budget(self._shown, reason, wait, detail, headers)

"""The results of `acquire` and `try_acquire`. A denial is a result, not an error: it says when to try again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to do work: `cost` tokens, given after `waited` seconds.

    If it is `degraded`, Redis was away and the outage mode allowed the work. If the process already holds the tokens,
    the result is the constant `GRANTED`, so that this path allocates nothing; its cost is 1 whatever was asked. When a
    budget of 2/s has just been used up, the next result is `Grant(cost=1, waited=0.5)`.
    """

    cost: float = 1.0
    waited: float = 0.0
    degraded: bool = False

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class Denied:
    """There are no tokens now, and none were taken. Falsy. Try again in `retry_after` seconds; `reason` says why.

    `retry_after` is the time until the cost can be met at the present rate, after the callers that wait already. When a
    budget of 2/s has just been used up, it is 0.5, and for one of 10/min it is 6. If no rate determines it (a pause, no
    consumers), it is one second. Reasons: ok, rate, load, contended, learning, window, paused, no_consumers, unset,
    unavailable.
    """

    retry_after: float
    reason: str

    def __bool__(self) -> Literal[False]:
        return False


GRANTED: Final = Grant()

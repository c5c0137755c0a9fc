"""What an acquire answers. A denial is a result, not an error: it says when to come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to do work: `cost` tokens, after `waited` seconds. `degraded`: Redis was gone and the outage mode said yes.

    The warm path, tokens in hand and no wait, returns the constant `GRANTED` (its cost is 1 whatever was asked), so
    that it allocates nothing. At 2/s just used up, the next one is `Grant(cost=1, waited=0.5)`.
    """

    cost: float = 1.0
    waited: float = 0.0
    degraded: bool = False

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class Denied:
    """No tokens now, and none were taken. Falsy. Try again in `retry_after` seconds; `reason` is the budget's.

    At 2/s just used up, `retry_after` is 0.5, at 10/min 6: when the cost will be there as things stand, behind whoever
    waits before it. Where no rate says so (a pause, no consumers) it is a second: look again then. Reasons: ok, rate,
    load, contended, learning, window, paused, no_consumers, unset, unavailable.
    """

    retry_after: float
    reason: str

    def __bool__(self) -> Literal[False]:
        return False


GRANTED: Final = Grant()

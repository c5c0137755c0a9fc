"""`budget.reserve(...)`: tokens for work whose cost shows only when it is done. A shell gives waiting and lock."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from nexus_redis._core.ledger import Ledger
from nexus_redis._core.producer import Account
from nexus_redis._core.waiter import Waiter
from nexus_redis._values.parse import MICRO
from nexus_redis._values.results import Grant
from nexus_redis._values.settings import parse_number
from nexus_redis.errors import Closed, InvalidSetting, NotPicklable

NOT_YET: Final = "not reserved yet: settle inside `with budget.reserve(...) as reservation`"


class Settling:
    """What both shells' reservations share."""

    cost: float
    grant: Grant | None
    _account: Account
    _ledger: Ledger | None
    _waiter: Waiter

    def settle(self, used: float) -> None:
        """It cost `used` tokens in truth. What was too much goes back; what was too little is owed.

        A debt is paid before this producer's next acquire is served. Never settled, or the block raises: the estimate
        stands. Settled again, the last word counts, so totals may be told as they grow. Makes no call and never waits.

        Reserved 4,000 and settled 1,500, the other 2,500 serve the next in line; settled 4,600, the next in line waits
        until 600 more have come.
        """
        tokens = round(parse_number("used", used) * MICRO)
        if self._ledger is None:
            raise InvalidSetting("used", used, NOT_YET)
        with self._locked():
            self._account.settle(self._ledger, self._waiter, tokens, self._account.hub.clock())

    def __reduce__(self) -> Any:
        raise NotPicklable("reservation", "settle it here, or reserve there")

    def _locked(self) -> AbstractContextManager[object]:
        raise NotImplementedError

    def _begin(self) -> None:
        if self.grant is not None:
            raise Closed("reservation")

    def __repr__(self) -> str:
        state = "not reserved yet" if self.grant is None else f"{self._waiter.cost / MICRO:g} tokens as it stands"
        return f"<{type(self).__name__} of {self._account.keys.name!r}, estimate {self.cost:g}: {state}>"


def grant_of(tries: Sequence[Settling], waited: float) -> Grant:
    """What several tries, each of which was served, are together."""
    is_degraded = any(each.grant is not None and each.grant.degraded for each in tries)
    return Grant(sum(each.cost for each in tries), waited, is_degraded)

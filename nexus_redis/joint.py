"""Several budgets at once: one caller with a part in each of their lines. No I/O.

All parts join their lines in one step, so whoever is before another in one line is so in all that they share, and no
two can wait for each other. A part whose turn it is lets those behind it pass, as long as somebody is before it in
another line or another budget needs longer for it: so it keeps its place and holds nothing. Each budget sets tokens
aside only from when that takes as long as the slowest one still needs, and all are taken in one step. The slowest
never lets anyone pass, so what is missing only shrinks.

    requests 60/min, tokens 10,000/min; one asks for 1 and 4,000. It stands first in both lines. The tokens take 24 s;
    for 23 of them, requests go to whoever comes behind it; then the next one is kept, and both are taken together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from nexus_redis.account import Account
from nexus_redis.ledger import REFRESH, Ledger
from nexus_redis.waiter import Waiter

AT_ONCE: Final = REFRESH  # seconds: what needs no longer than a refresh is begun together
PATIENCE: Final = 2  # rates waver: what was begun is given up only when the slowest needs so many times longer


class Joint:
    """Who wants it all at once: `costs` by account, in micro-tokens. A shell derives from it and overrides `wake`."""

    def __init__(self, costs: Mapping[Account, int], since: float) -> None:
        self.since = since
        self.lines = frozenset(costs)
        self.parts = tuple((account, Part(self, account.ledger, cost, since)) for account, cost in costs.items())
        self.first = self.parts[0][1]  # what becomes of one becomes of all

    def wake(self) -> None:
        """Tell the caller."""

    @property
    def error(self) -> Exception | None:
        """What it must raise."""
        return self.first.error

    @property
    def is_degraded(self) -> bool:
        """Redis was away, and the outage modes of all of them served it."""
        return self.first.is_degraded

    @property
    def is_settled(self) -> bool:
        """Nothing more will happen to it."""
        return self.first.is_settled

    def spend(self, now: float) -> bool:
        """Take all from what is in hand, or nothing."""
        for account, part in self.parts:
            account.check(now)
            account.ledger.attempts += part.cost
            account.ledger.unit = part.cost
        if not all(account.ledger.could_spend(part.cost, now) for account, part in self.parts):
            return False
        for account, part in self.parts:
            account.ledger.hand_over(part, now)
            account.look(now)
        return True

    def wait(self) -> None:
        """Join all lines."""
        for account, part in self.parts:
            account.ledger.wait(part)
        for account, _ in self.parts:
            account.look(self.since)

    def cancel(self, now: float) -> None:
        """Give up, in line or just served."""
        for account, part in self.parts:
            account.ledger.cancel(part, now)
        for account, _ in self.parts:
            account.look(now)
            account.look_around(now)

    def longest(self, known: dict[Any, Any]) -> float | None:
        """Seconds that the slowest of its budgets still needs; None while somebody is before it anywhere."""
        oldest = known.setdefault(self.lines, self)
        if oldest is not self:  # who wants the same budgets and is older is before it in all of them
            return None
        if self not in known:
            known[self] = None
            if not any(_is_before(part, known) for _, part in self.parts):
                known[self] = max(part.seconds_for(part.cost - part.ledger.held) for _, part in self.parts)
        seconds: float | None = known[self]
        return seconds


def _is_before(part: Part, known: dict[Any, Any]) -> bool:
    for other in part.ledger.waiters:
        if other is part:
            return False
        if not other.is_passing(known):
            return True
    return True  # not in line yet


class Part(Waiter):
    """Its place in one line."""

    __slots__ = ("is_collecting", "joint", "ledger")
    is_part = True

    def __init__(self, joint: Joint, ledger: Ledger, cost: int, since: float) -> None:
        super().__init__(cost, since)
        self.joint, self.ledger = joint, ledger
        self.is_collecting = False

    def wake(self) -> None:
        self.joint.wake()

    def seconds_for(self, tokens: int) -> float:
        """How long its budget needs for so many, at the rate that this producer was last told."""
        answer = self.ledger.answer
        if tokens <= 0:
            return 0.0
        if answer is None or not answer.budget_rate:
            return math.inf
        # What is recommended is no more than was asked for; only where there is contention it is what can be had.
        rate = answer.recommended_rate if answer.reason == "contended" else answer.budget_rate
        return tokens / max(rate, 1)

    def is_passing(self, known: dict[Any, Any]) -> bool:
        longest = self.joint.longest(known)
        # By the whole cost, not by what is missing: else what it collects would be a reason to stop collecting.
        mine = self.seconds_for(self.cost)
        self.is_collecting = (
            longest is not None and longest <= (PATIENCE * mine if self.is_collecting else mine) + AT_ONCE
        )
        return not self.is_collecting

    def is_ready(self, now: float) -> bool:
        for _, part in self.joint.parts:
            part.ledger.expire(now)
        return all(part.ledger.held >= part.cost and part.ledger.head is part for _, part in self.joint.parts)

    def take(self, ledger: Ledger, now: float) -> None:  # noqa: ARG002  # all of them
        for _, part in self.joint.parts:
            part.ledger.hand_over(part, now)

    def parts(self, owner: Any) -> Sequence[tuple[Any, Waiter]]:  # noqa: ARG002  # likewise
        return self.joint.parts

"""The tokens that a server holds for its callers, and how evenly they are given out.

Tokens come many at once, as often as the producer claims. If all callers were served from them at once, each would come
back as soon as the others, and the parts would be equal whatever the weights. So while the budget gives less than is
asked for, the tokens are spread over the time until the next ones come:

    come      60 at once                                       60 at once
    given     1 each 0.8 ms . . . . . . . . . . . . . . . .    1 each 0.8 ms . . .
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from nexus_redis._api.producer import micro_cost
from nexus_redis._values.parse import MICRO
from nexus_redis.asyncio import Reservation

SPREAD: Final = 0.05  # seconds over which tokens are given out: while they are short, they come about as often
SHORT_FOR: Final = 1.0  # seconds for which tokens are taken to be short after less has come than was asked for
TICK: Final = 0.001  # seconds: a timer of the event loop is not more exact


class Stock:
    """A reservation of the server's own: the micro-tokens of it that callers have used, and those that are left."""

    __slots__ = ("left", "reservation", "used")

    def __init__(self, reservation: Reservation) -> None:
        self.reservation, self.used, self.left = reservation, 0, micro_cost(reservation.cost)

    def settle(self) -> None:
        """Hand back what is left."""
        self.reservation.settle(self.used / MICRO)
        self.left = 0


class Taken:
    """The tokens of one caller, as parts of stocks. `degraded` ones were admitted while Redis was away."""

    __slots__ = ("degraded", "parts")

    def __init__(self) -> None:
        self.parts: list[tuple[Stock, int]] = []
        self.degraded = False


class Pool:
    """The tokens that nobody has yet, the oldest first. Amounts are in micro-tokens, and times in seconds."""

    def __init__(self) -> None:
        self.tokens = 0
        self._stocks: deque[Stock] = deque()
        self._short_at = -math.inf  # when less came than was asked for
        self._opens = -math.inf  # when all tokens that come together have come
        self._pace = 0.0  # micro-tokens a second
        self._given, self._at = 0.0, 0.0  # what was given out before its time, as of then

    def add(self, reservation: Reservation, now: float, behind: int, *, is_short: bool) -> None:
        """Add tokens, with more `behind` them. `is_short` tells that the budget gives less than was asked for."""
        if is_short:
            self._short_at = now
        if not self.tokens:
            self._given, self._pace, self._opens = 0.0, 0.0, now + TICK
        stock = Stock(reservation)
        self._stocks.append(stock)
        self.tokens += stock.left
        self._pace = max(self._pace, (self.tokens + behind) / SPREAD)

    def wait(self, now: float) -> float:
        """Return how many seconds it is until tokens may be given out. 0 means now."""
        if now - self._short_at > SHORT_FOR:
            self._given, self._at = 0.0, now
            return 0.0
        if now < self._opens:
            return self._opens - now
        self._given, self._at = max(0.0, self._given - self._pace * (now - self._at)), now
        wait = self._given / self._pace
        return wait if wait > TICK else 0.0

    def take(self, tokens: int) -> Taken:
        """Take tokens out for a caller."""
        taken = Taken()
        self.tokens -= tokens
        self._given += tokens
        while tokens:
            stock = self._stocks[0]
            part = min(tokens, stock.left)
            stock.left -= part
            stock.used += part
            tokens -= part
            taken.parts.append((stock, part))
            taken.degraded |= stock.reservation.grant is not None and stock.reservation.grant.degraded
            if not stock.left:
                self._stocks.popleft()
        return taken

    def put_back(self, taken: Taken) -> None:
        """Put back the tokens of a caller that has gone."""
        for stock, part in taken.parts:
            if not stock.left:
                self._stocks.append(stock)
            stock.left += part
            stock.used -= part
            self.tokens += part

    def settle(self) -> None:
        """Hand all tokens back to the producer."""
        while self._stocks:
            self._stocks.popleft().settle()
        self.tokens = 0

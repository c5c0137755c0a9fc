"""The claims of one producer that are on their way, and how far away Redis is. No I/O, no clock.

Near Redis, a claim waits for the answer to the claim before. Where a round trip is a large part of a refresh, claims go
a refresh apart all the same, so that several are on their way. Then each claim asks for the tokens that will be spent
until its answer is there, less those that the claims before it will bring.
"""

from __future__ import annotations

import math
from typing import Final
from zlib import crc32

from nexus_redis._protocol.calls import Claim

FAR: Final = 0.4  # of a refresh: with a longer round trip, claims do not wait for one another
MOST_FLIGHTS: Final = 12
TRIP_MEMORY: Final = 0.25  # weight of the newest round trip in the mean of them
UNLIKE: Final = 0.1  # of the time between two claims: at most so much longer it is, so that producers are not in step
GOLDEN: Final = (math.sqrt(5) - 1) / 2  # the fractions of its multiples lie evenly between 0 and 1
NOTHING_YET: Final = 1_000_000  # micro-tokens: what a first claim is expected to bring


class Flight:
    """A claim on its way, sent at `sent`. `is_lost`: no answer comes, so the claim is sent again."""

    __slots__ = ("claim", "is_lost", "sent")

    def __init__(self, claim: Claim, sent: float) -> None:
        self.claim, self.sent, self.is_lost = claim, sent, False


class Flights(list[Flight]):
    """The claims on their way, oldest first; as a rule none or one. Times in seconds, amounts in micro-tokens."""

    __slots__ = ("most", "newest", "retry", "trip")

    def __init__(self) -> None:
        self.trip = 0.0  # the mean time from a claim to its answer, lately
        self.newest = 0  # the number of the newest claim that was answered
        self.retry = 0.0  # in how many seconds its answer said to ask again
        self.most = NOTHING_YET  # tokens that a claim is expected to bring at most

    def is_far(self, refresh: float) -> bool:
        """Return whether claims do not wait for one another's answers."""
        return self.trip > FAR * refresh

    def horizon(self, refresh: float) -> float:
        """Return for how long the tokens of a claim must last: until the answer to the next claim is there."""
        return refresh + (self.trip if self.is_far(refresh) else 0.0)

    def apart(self, refresh: float, incarnation: str, seq: int) -> float:
        """Return the seconds from one claim to the next that does not wait for its answer.

        That is a refresh, or until there is a token again, and up to a tenth more, different each time. Else producers
        could be in step, and the last of them would find the bucket empty forever.
        """
        unlike = ((crc32(incarnation.encode()) + seq) * GOLDEN) % 1.0
        return max(refresh, min(self.retry, self.trip)) * (1 + UNLIKE * unlike)

    @property
    def expected(self) -> int:
        """Return the tokens that the claims will bring: what they ask for, or as little as the last claim got."""
        return sum([min(each.claim.tokens, self.most) for each in self])

    @property
    def burned(self) -> int:
        """Return the burned tokens that the claims report."""
        return sum([each.claim.burned for each in self])

    @property
    def degraded(self) -> int:
        """Return the tokens admitted without Redis that the claims report."""
        return sum([each.claim.degraded for each in self])

    def of(self, ask: Claim) -> Flight | None:
        """Return the flight of a claim; None where it is not on its way."""
        return next((each for each in self if each.claim is ask), None)

    def has(self, seq: int) -> bool:
        """Return whether the claim of this number is on its way."""
        return any(each.claim.seq == seq for each in self)

    def time(self, seconds: float) -> None:
        """Note a round trip. One of less than half the mean replaces the mean: those before contained a delay."""
        if seconds < self.trip / 2:
            self.trip = seconds
        self.trip += TRIP_MEMORY * (seconds - self.trip)

    def again(self, refresh: float) -> Claim | None:
        """Return the claim to send once more: a lost one, or, where claims wait for one another, the newest."""
        lost = next((each for each in reversed(self) if each.is_lost), None)
        if lost is None and not self.is_far(refresh):
            lost = self[-1]
        if lost is None:
            return None
        lost.is_lost = False
        return lost.claim

    def old(self, before: float, refresh: float) -> list[Flight]:
        """Return the claims sent by then whose answer is not on its way, as far as is known."""
        return [each for each in self if each.sent <= before and (each.is_lost or not self.is_far(refresh))]

    def lose(self, flight: Flight) -> list[Flight]:
        """Mark a claim as lost; return the lost claims to give up: all but the newest.

        The server repeats only its last answer to a producer.
        """
        flight.is_lost = True
        return [each for each in self if each.is_lost][:-1]

"""The claims of one producer that are on their way, and how far away Redis is. No I/O, no clock.

Near Redis one claim waits for the answer to the one before. Where a round trip is a large part of a refresh, they go a
refresh apart all the same, so that several are on their way. Then each must ask for what is spent until its answer is
there, less what those before it will bring.
"""

from __future__ import annotations

import math
from typing import Final
from zlib import crc32

from nexus_redis._protocol.calls import Claim

FAR: Final = 0.4  # of a refresh: with a longer round trip, claims do not wait for one another
MOST_FLIGHTS: Final = 12
TRIP_MEMORY: Final = 0.25  # weight of the newest round trip in the mean of them
UNLIKE: Final = 0.1
GOLDEN: Final = (math.sqrt(5) - 1) / 2  # its multiples, less the whole ones, lie evenly in a unit
NOTHING_YET: Final = 1_000_000  # micro-tokens: what a first claim is expected to bring


class Flight:
    """A claim on its way, since `sent`. `is_lost`: no answer comes, so it is sent again."""

    __slots__ = ("claim", "is_lost", "sent")

    def __init__(self, claim: Claim, sent: float) -> None:
        self.claim, self.sent, self.is_lost = claim, sent, False


class Flights(list[Flight]):
    """Oldest first; as a rule none or one. Times in seconds, amounts in micro-tokens."""

    __slots__ = ("most", "newest", "retry", "trip")

    def __init__(self) -> None:
        self.trip = 0.0  # from a claim to its answer, of late
        self.newest = 0  # the number of the newest claim that was answered
        self.retry = 0.0  # when that one was told to ask again
        self.most = NOTHING_YET  # that one of these is expected to bring

    def is_far(self, refresh: float) -> bool:
        """Whether claims do not wait for one another's answers."""
        return self.trip > FAR * refresh

    def horizon(self, refresh: float) -> float:
        """How long what a claim brings must last: until the answer to the next is there."""
        return refresh + (self.trip if self.is_far(refresh) else 0.0)

    def apart(self, refresh: float, incarnation: str, seq: int) -> float:
        """From one claim to the next that does not wait for its answer: a refresh, or until there is a token again.

        And a little more, never the same: of producers in step, the last would find the bucket empty for ever.
        """
        unlike = ((crc32(incarnation.encode()) + seq) * GOLDEN) % 1.0
        return max(refresh, min(self.retry, self.trip)) * (1 + UNLIKE * unlike)

    @property
    def expected(self) -> int:
        """What they will bring: what they ask for, or as little as the last one got."""
        return sum([min(each.claim.tokens, self.most) for each in self])

    @property
    def burned(self) -> int:
        """What they tell was burned."""
        return sum([each.claim.burned for each in self])

    @property
    def degraded(self) -> int:
        """What they tell was admitted without Redis."""
        return sum([each.claim.degraded for each in self])

    def of(self, ask: Claim) -> Flight | None:
        """The flight of a claim, while it is on its way."""
        return next((each for each in self if each.claim is ask), None)

    def has(self, seq: int) -> bool:
        """Whether the claim of this number is on its way."""
        return any(each.claim.seq == seq for each in self)

    def time(self, seconds: float) -> None:
        """Note a round trip; one that took much less shows that those before had something else in them."""
        if seconds < self.trip / 2:
            self.trip = seconds
        self.trip += TRIP_MEMORY * (seconds - self.trip)

    def again(self, refresh: float) -> Claim | None:
        """The claim to send once more: one that was lost, or, where they wait for one another, whichever is there."""
        lost = next((each for each in reversed(self) if each.is_lost), None)
        if lost is None and not self.is_far(refresh):
            lost = self[-1]
        if lost is None:
            return None
        lost.is_lost = False
        return lost.claim

    def old(self, before: float, refresh: float) -> list[Flight]:
        """Those sent before then that no answer comes to, as far as one knows."""
        return [each for each in self if each.sent <= before and (each.is_lost or not self.is_far(refresh))]

    def lose(self, flight: Flight) -> list[Flight]:
        """No answer comes. A server knows its last answer only, so all that were lost but the newest are given up."""
        flight.is_lost = True
        return [each for each in self if each.is_lost][:-1]

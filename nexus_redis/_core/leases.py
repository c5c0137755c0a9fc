"""Tokens with an expiry: those that a producer has at hand, oldest first. No I/O, no clock.

leases.keep(30, 10.5)      adds 30 tokens that may be spent until 10.5
leases.take(10)            takes the oldest 10, and returns 10.5, when the first of them expires
leases.expire(10.5)        drops the other 20, whose time is over, and returns 20
"""

from __future__ import annotations

from collections.abc import Iterator

from nexus_redis._core.waiter import NEVER


class Lease:
    """Tokens that came with one answer."""

    __slots__ = ("expires", "tokens")

    def __init__(self, tokens: int, expires: float) -> None:
        self.tokens, self.expires = tokens, expires


class Leases:
    """`total` micro-tokens at hand."""

    __slots__ = ("_leases", "total")

    def __init__(self) -> None:
        self._leases: list[Lease] = []  # a few, and an empty deque is 600 bytes
        self.total = 0

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases)

    @property
    def oldest(self) -> float:
        """Return when the first tokens expire."""
        return self._leases[0].expires if self._leases else NEVER

    @property
    def oldest_tokens(self) -> int:
        """Return how many tokens expire then."""
        return self._leases[0].tokens if self._leases else 0

    def keep(self, tokens: int, expires: float) -> None:
        """Add tokens that may be spent until `expires`."""
        self.total += tokens
        leases = self._leases
        at = len(leases)
        while at and leases[at - 1].expires > expires:
            at -= 1
        leases.insert(at, Lease(tokens, expires))

    def take(self, tokens: int) -> float:
        """Take the oldest tokens; return when the first of them expires."""
        self.total -= tokens
        leases = self._leases
        expires = leases[0].expires if tokens else NEVER
        while tokens:
            first = leases[0]
            if first.tokens > tokens:
                first.tokens -= tokens
                break
            tokens -= first.tokens
            del leases[0]
        return expires

    def expire(self, now: float) -> int:
        """Drop the tokens whose time is over; return how many they are."""
        leases, expired = self._leases, 0
        while leases and leases[0].expires <= now:
            expired += leases.pop(0).tokens
        self.total -= expired
        return expired

    def clear(self) -> None:
        """Drop all tokens."""
        self._leases.clear()
        self.total = 0

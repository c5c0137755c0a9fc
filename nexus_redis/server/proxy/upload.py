"""The body of a request on its way to the upstream: paid for as a whole where it is small, else part by part.

    up to `whole_bytes`    read ahead (or measured by Content-Length), paid for, passed on: all of it or nothing
    beyond                 its first `whole_bytes` are paid for within the deadline. Then the request begins, and each
                           further part goes when its tokens are there, so the client is slowed down and never cut

So memory stays flat whatever the size, and a request is refused only while nothing of it has been passed on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from nexus_redis.server.problems import AWAY_RETRY
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.client_body import ClientBody
from nexus_redis.server.proxy.cost import Price
from nexus_redis.server.proxy.headers import Framing
from nexus_redis.server.proxy.pacing import Attempt, Pacer
from nexus_redis.server.proxy.upstream import Passage


class Memory:
    """The bytes of all bodies that one proxy has read ahead, `most` at most."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0


class Upload:
    """The body of one request. `tokens` are to be taken before `parts` may be sent."""

    def __init__(
        self,
        body: ClientBody,
        framing: Framing,
        price: Price | None,
        whole_bytes: int,
        passage: Passage,
        memory: Memory,
    ) -> None:
        self._body, self._length, self._price, self._whole_bytes = body, framing.length, price, whole_bytes
        self.passage, self._memory, self._held = passage, memory, 0
        self._ready: list[bytes] = []
        self._sent = 0
        self._prepaid = 0  # tokens of parts that are still to come
        self._tokens = 1
        self.failure: Exception | None = None  # why the body could not be passed on
        self.is_over = framing.length == 0

    @property
    def tokens(self) -> int:
        """Return the tokens to begin with."""
        return self._tokens

    @property
    def used(self) -> int:
        """Return how many of these tokens are used: none if nothing was sent, and none for parts that never came."""
        return max(1, self._tokens - self._prepaid) if self.passage.is_begun else 0

    def release(self) -> None:
        """Hold nothing any more."""
        self._hold(-self._held)

    def _hold(self, size: int) -> None:
        self._held += size
        self._memory.held += size

    async def measure(self, pacer: Pacer) -> None:
        """Learn the tokens to begin with: those of the whole body, if it is small enough.

        Raise a problem where the bodies of other requests leave no room for it.
        """
        price = self._price
        if price is None or self._length == 0:
            return
        if price is len and self._length is not None:
            self._tokens = self._prepaid = max(1, min(self._length, self._whole_bytes))
            return
        size = tokens = 0
        while size < self._whole_bytes and (part := await self._body.next_part()) is not None:
            size += len(part)
            self._hold(len(part))
            if self._memory.held > self._memory.most:
                raise pacer.refused("waiters", AWAY_RETRY, texts.too_much_held(self._memory.most))
            tokens += price(part)
            self._ready.append(part)
        self._tokens = max(1, tokens)

    def whole(self) -> bytes | None:
        """Return the body if it is short and here already, so that it goes out in one piece."""
        if self._ready and self._body.is_at_end and len(self._ready) == 1:
            part, self._ready = self._ready[0], []
            self.release()
            self.is_over = True
            return part
        return None

    async def parts(self, pacer: Pacer, attempt: Attempt) -> AsyncIterator[bytes]:
        """Yield the parts of the body as they may be sent."""
        try:
            while self._ready:
                ready = self._ready.pop(0)
                self._hold(-len(ready))
                self._count(ready, attempt)
                yield ready
            while (part := await self._body.next_part()) is not None:
                tokens = self._owed(part)
                if tokens:
                    await pacer.take_part(tokens)
                    with pacer.part(tokens):
                        self._count(part, attempt)
                        yield part
                else:
                    self._count(part, attempt)
                    yield part
        except Exception as error:
            self.failure = error
            raise
        self.is_over = self.passage.is_begun = True  # the header of an empty body is sent with its end
        attempt.begin()

    def _owed(self, part: bytes) -> int:
        if self._price is None:
            return 0
        tokens = self._price(part)
        prepaid = min(tokens, self._prepaid)
        self._prepaid -= prepaid
        return tokens - prepaid

    def _count(self, part: bytes, attempt: Attempt) -> None:
        """Begin the upstream's time with the last part, whose end the upstream knows by its length."""
        self._sent += len(part)
        if self._sent == self._length:
            attempt.begin()

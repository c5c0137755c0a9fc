"""How fast the workers of one consumer are while none of them is idle. No I/O, no clock, no lock.

Work done per second is a consumer's capacity only while it always has something to do. Two looks at its queue in a
quarter of a second cannot say that of a queue that holds a tenth of a second. The consumer itself can: it knows when a
piece of work begins and ends, and looks at its queue at both instants.

    all are busy    while items wait, and while as many pieces are at work as when items last waited (the crew)
    `seconds`       of such time, in which work was done that ended well
    `done`          tokens that were done in it; a piece that was at work before counts for its part

so `done` / `seconds` is the capacity, whatever the depth of the queue, the number of workers and how busy they are.

- That items wait shows only afterwards: when the next piece begins because another one has ended. When it begins beside
  all others, there was an idle worker, and the time since is taken back.
- A crew that is nearly complete counts as well, scaled up: of 64 workers of a well-paced consumer 61 are at work.
- A worker that takes all that waits is never seen to leave anything. Its pieces count, too, unless larger ones are
  faster for each token: such a worker is always busy and still not at its limit.
- Work that failed or was cancelled counts for nothing: neither its tokens nor its time.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

NEARLY: Final = 0.75  # of the crew: from here on its work is scaled up to that of all
CREW_MEMORY: Final = 0.1  # weight of the newest crew where it is smaller than the one before
CALLS: Final = 50  # pieces of work over which time and size are compared
FEWEST: Final = 3  # of them
FIXED: Final = 0.3  # of a piece's time does not depend on its size: a larger one would be faster
SPREAD: Final = 0.02  # of their mean size: pieces that are more alike say nothing of that
CROWDED: Final = 0.5  # of the queue's limit waits when a piece ends: no larger piece would help any more


class Piece(NamedTuple):
    """A piece of work that has begun."""

    tokens: float
    began: float
    seconds: float  # of busy time before it, as `Busy` counts it
    share: float  # likewise, divided by who was at work
    gap: float  # seconds before it, in which items waited and nobody worked
    leaves_some: bool  # items still waited when it began


class Busy:
    """See the head of the file. Times are seconds of one monotonic clock; a depth of None means that nobody looked."""

    def __init__(self) -> None:
        self.seconds = self.done = 0.0
        self._now = -math.inf
        self._at_work = 0  # pieces
        self._crew: float | None = None  # how many are at work when items wait, as far as is known
        self._is_waited = False  # for a worker, by items in the queue
        self._reference: int | None = None  # at work when items were last seen to wait, until a piece begins
        self._busy = self._shared = 0.0  # seconds, and seconds divided by who was at work
        self._doubtful = self._doubtful_share = self._doubtful_gap = 0.0  # the part that rests on waiting items alone
        self._peak: float | None = None
        self._sizes = Sizes()

    def begin(self, tokens: float, now: float, depth: float | None) -> Piece:
        """A worker has taken `tokens` from the queue, which holds `depth` now."""
        self._go_on(now)
        self._at_work += 1
        gap = self._settle()
        self._is_waited, self._reference = (True, self._at_work) if depth else (False, None)
        self._see(None if depth is None else depth + tokens)
        return Piece(tokens, now, self._busy, self._shared, gap, bool(depth))

    def end(self, piece: Piece, done: float, now: float, depth: float | None, limit: float | None) -> None:
        """It is over, and `done` of its tokens ended well. The queue holds `depth` before anybody takes more."""
        self._go_on(now)
        if depth is not None:
            self._is_waited = depth > 0
            if depth and self._reference is None:
                self._reference = self._at_work
        self._at_work -= 1
        self._see(depth)
        took = now - piece.began
        is_at_its_best = self._sizes.are_alike(piece.tokens, took)
        is_crowded = limit is not None and depth is not None and depth > CROWDED * limit
        if done > 0 and took > 0 and (is_at_its_best or is_crowded or piece.leaves_some):
            part = done / piece.tokens
            self.done += done * max(0.0, self._busy - piece.seconds) / took
            self.seconds += part * max(0.0, self._shared - piece.share)
            if piece.leaves_some or self._sizes.largest <= 1:  # else it may have waited for more to come
                self.seconds += part * piece.gap

    def sample(self, now: float, depth: float) -> float | None:
        """Bring all up to date for a report. Gives the deepest queue since the last one, None where nobody looked."""
        self._go_on(now)
        if self._peak is None:
            self._is_waited, self._reference = (True, self._at_work) if depth and self._at_work else (False, None)
            return None
        peak, self._peak = max(self._peak, depth), depth
        return peak

    def _see(self, depth: float | None) -> None:
        if depth is not None:
            self._peak = depth if self._peak is None else max(self._peak, depth)

    def _go_on(self, now: float) -> None:
        passed, self._now = max(0.0, now - self._now), max(self._now, now)
        at_work, crew = self._at_work, self._crew
        is_crew_there = crew is not None and at_work >= NEARLY * crew
        if passed == math.inf or not (is_crew_there or self._is_waited):
            return
        share = passed / at_work if at_work else 0.0
        if crew is not None and not self._is_waited:
            share *= min(1.0, at_work / crew)
        self._busy += passed
        self._shared += share
        if not is_crew_there:
            self._doubtful += passed
            self._doubtful_share += share
            self._doubtful_gap += 0.0 if at_work else passed

    def _settle(self) -> float:
        """A piece begins: did items wait for it? Gives for how long they did while nobody at all was at work."""
        gap, there = self._doubtful_gap, self._reference
        if there is not None and self._at_work <= there:
            crew = self._crew
            self._crew = there if crew is None or there > crew else crew + CREW_MEMORY * (there - crew)
        else:  # it began beside all who were at work: there was an idle worker
            self._busy -= self._doubtful
            self._shared -= self._doubtful_share
            gap = 0.0
        self._doubtful = self._doubtful_share = self._doubtful_gap = 0.0
        if self._crew is not None and self._at_work > self._crew + 0.5:  # it is larger than was known
            self._crew = None
        return gap


class Sizes:
    """Whether larger pieces of work take less time for each token, by the last so many of them."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._count = 0
        self._size = self._time = 0.0  # means
        self._of_sizes = self._of_times = self._of_both = 0.0  # variances, covariance
        self._is_fixed = False

    def are_alike(self, tokens: float, took: float) -> bool:
        """Note one more; False where pieces have a cost of their own, as a bulk call has."""
        self.largest = max(self.largest, tokens)
        if self.largest <= 1:
            return True
        self._count = count = min(CALLS, self._count + 1)
        more, longer = tokens - self._size, took - self._time
        self._size += more / count
        self._time += longer / count
        self._of_sizes += (more * (tokens - self._size) - self._of_sizes) / count
        self._of_times += (longer * (took - self._time) - self._of_times) / count
        self._of_both += (more * (took - self._time) - self._of_both) / count
        if count >= FEWEST and self._time > 0 and self._of_sizes > (SPREAD * self._size) ** 2:
            slope = self._of_both / self._of_sizes
            noise = max(0.0, self._of_times - slope * self._of_both) / self._of_sizes / count
            self._is_fixed = slope + 2 * math.sqrt(noise) < (1 - FIXED) * self._time / self._size
        return not self._is_fixed

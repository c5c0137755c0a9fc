"""How long the workers of one consumer were busy with what is done. No I/O, no clock, no lock.

Work done per second is a consumer's capacity only while its workers always have something to do. Two looks at a queue
in a quarter of a second cannot show that for a queue that holds a tenth of a second. The consumer can measure it:

    seconds    the time that its workers took for the work that is done, over their number

so that the work done per second of this time is the capacity, at any depth of the queue and any number of workers. Four
workers with 10 ms for each item take 0.5 s of this time for 200 items, whether the items come within one second or
within five: the capacity is 400/s.

- While items wait, all workers are at work, which gives their number. Until items have waited there may be twice as
  many workers as were ever at work at once.
- Work that failed or was cancelled counts for nothing, with neither its tokens nor its time.
- Where a large piece takes hardly longer than a small one, as a bulk call does, a worker is always busy and still not
  at its limit. Such a consumer has no such measure.
"""

from __future__ import annotations

import math
from typing import Final

UNSEEN: Final = 2.0  # times as many workers may be there as were at work, until items have waited
CREW_MEMORY: Final = 0.25  # weight of the newest count of workers where it is less than the mean of the ones before
CALLS: Final = 50  # pieces of work over which time and size are compared
SPREAD: Final = 0.1  # of their mean size: pieces that are more alike show nothing
FIXED: Final = 0.3  # of a piece's time does not depend on its size: a larger one would be faster for each token


class Busy:
    """See the head of the file. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._at_work = 0  # pieces
        self._crew = 0.0  # the number of workers
        self._has_waited = False  # items, at a look at the queue
        self._sizes = Sizes()

    def begin(self) -> None:
        """A worker has begun a piece of work."""
        self._at_work += 1

    def add(self, tokens: float, took: float) -> None:
        """So many `tokens` of a piece that is at work are done, and took so many seconds of one worker."""
        self._crew = max(self._crew, self._at_work * (1 if self._has_waited else UNSEEN))
        self.seconds += took / self._crew
        self._sizes.add(tokens, took)

    def end(self) -> None:
        """A piece of work is over, however it ended."""
        self._at_work -= 1

    def look(self, depth: float) -> float | None:
        """Count the workers where items wait. Returns the busy seconds so far, None where they would say nothing."""
        if depth and self._at_work:
            weight = CREW_MEMORY if self._has_waited else 1.0
            self._crew += weight * (self._at_work - self._crew)
            self._has_waited = True
        return None if self._sizes.are_fixed else self.seconds


class Sizes:
    """Whether larger pieces of work take less time for each token, by the last so many of them."""

    def __init__(self) -> None:
        self._count = 0
        self._size = self._time = 0.0  # means
        self._of_sizes = self._of_times = self._of_both = 0.0  # variances, covariance
        self.are_fixed = False  # a piece has a cost of its own, as a bulk call has; pieces that are alike show nothing

    def add(self, tokens: float, took: float) -> None:
        """Note one more."""
        self._count = count = min(CALLS, self._count + 1)
        more, longer = tokens - self._size, took - self._time
        self._size += more / count
        self._time += longer / count
        self._of_sizes += (more * (tokens - self._size) - self._of_sizes) / count
        self._of_times += (longer * (took - self._time) - self._of_times) / count
        self._of_both += (more * (took - self._time) - self._of_both) / count
        if self._of_sizes > (SPREAD * self._size) ** 2:
            slope = self._of_both / self._of_sizes
            noise = max(0.0, self._of_times - slope * self._of_both) / self._of_sizes / count
            self.are_fixed = slope + 2 * math.sqrt(noise) < (1 - FIXED) * self._time / self._size

"""How long the workers of one consumer were busy with what is done. No I/O, no clock, no lock.

Work done per second is a consumer's capacity only while its workers always have something to do. Two looks at a queue
in a quarter of a second cannot show that for a queue that holds a tenth of a second. The consumer can measure it:

    seconds    the time that its workers took for the work that is done, over their number

so that the work done per second of this time is the capacity, at any depth of the queue and any number of workers. Of
four workers with 10 ms for each item 200 items take 0.5 s of this time, whether they came within one second or within
five: the capacity is 400/s.

- When items wait, all workers are at work: so many there are. Until items have waited there may be twice as many as
  were ever at work at once.
- A worker whose piece ends while items wait is busy until it begins the next one.
- Work that failed or was cancelled counts for nothing, with neither its tokens nor its time.
- Where a large piece takes hardly longer than a small one, as a bulk call does, a worker is always busy and still not
  at its limit. Then there is no such measure.
"""

from __future__ import annotations

from collections import deque
from typing import Final

CREW_MEMORY: Final = 0.1  # weight of the newest count of workers where it is less than the mean of the ones before
UNSEEN: Final = 2.0  # times as many workers may be there as were at work, until items have waited
CALLS: Final = 50  # pieces of work over which time and size are compared
SPREAD: Final = 0.1  # of their mean size: pieces that are more alike show nothing
FIXED: Final = 0.3  # of a piece's time does not depend on its size: a larger one would be faster for each token


class Busy:
    """See the head of the file. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._at_work = 0  # pieces
        self._crew = 0.0  # the number of workers
        self._has_waited = False  # items, since it began
        self._freed: deque[float] = deque()  # when workers ended their pieces while items waited
        self._peak: float | None = None  # of the depths that were seen since the last report
        self._sizes = Sizes()

    def begin(self, tokens: float, now: float, depth: float | None) -> float:
        """A worker has taken `tokens` from the queue, which holds `depth` now. Returns since when it is busy."""
        self._at_work += 1
        if depth is not None:
            self._peak = max(self._peak or 0.0, depth + tokens)
        return self._freed.popleft() if self._freed else now

    def end(self, since: float, tokens: float, done: float, now: float, depth: float | None) -> None:
        """Its piece of `tokens` is over, and `done` of them ended well. The queue holds `depth` before anybody takes more."""
        if done:
            self._count(self._at_work, depth)
            self.seconds += done / tokens * (now - since) / self._crew
            self._sizes.add(tokens, now - since)
        if depth is not None:
            self._peak = max(self._peak or 0.0, depth)
        self._at_work -= 1
        if not depth:
            self._freed.clear()
        elif done:
            self._freed.append(now)

    def _count(self, at_work: int, depth: float | None) -> None:
        if depth and not self._has_waited:
            self._has_waited, self._crew = True, float(at_work)
        elif not self._has_waited:
            self._crew = max(self._crew, UNSEEN * at_work)
        elif at_work > self._crew:
            self._crew = float(at_work)
        elif depth:
            self._crew += CREW_MEMORY * (at_work - self._crew)

    def sample(self, depth: float) -> dict[str, float]:
        """For a report: the busy time, and the most that has waited since the report before."""
        said: dict[str, float] = {}
        if self._peak is not None:
            said["queue_peak"], self._peak = max(self._peak, depth), depth
        elif self._at_work:
            self._count(self._at_work, depth)
        return said if self._sizes.are_fixed else {**said, "busy_ms": round(self.seconds * 1e3, 3)}


class Sizes:
    """Whether larger pieces of work take less time for each token, by the last so many of them."""

    def __init__(self) -> None:
        self._count = 0
        self._size = self._time = self._of_sizes = self._of_both = 0.0  # means, variance, covariance

    def add(self, tokens: float, took: float) -> None:
        """Note one more."""
        self._count = count = min(CALLS, self._count + 1)
        more, longer = tokens - self._size, took - self._time
        self._size += more / count
        self._time += longer / count
        self._of_sizes += (more * (tokens - self._size) - self._of_sizes) / count
        self._of_both += (more * (took - self._time) - self._of_both) / count

    @property
    def are_fixed(self) -> bool:
        """A piece has a cost of its own, as a bulk call has."""
        if self._of_sizes <= (SPREAD * self._size) ** 2:
            return False
        return self._of_both / self._of_sizes < (1 - FIXED) * self._time / self._size

"""How long the workers of one consumer were busy with the work that is done. No I/O, no clock, no lock.

Work done per second is a consumer's capacity only while its workers always have something to do. Two looks at a queue
in a quarter of a second cannot show that for a queue that holds a tenth of a second. The consumer can measure it:

    seconds    the time that its workers took for the work that is done, divided by their number

The work done per second of this time is the capacity, at any depth of the queue and any number of workers. Four workers
with 10 ms for each item take 0.5 s of this time for 200 items, whether the items come within one second or within five:
the capacity is 400/s.

- While items wait, all workers are at work, which gives their number. Until items have waited, twice as many workers
  are assumed as were ever at work at once.
- Workers that share a lock or a core take longer the more of them are at work. So a straight line through the last
  pieces says how long a piece takes beside a number of others. Each piece counts as long as it would take beside all.
- Work that failed or was cancelled does not count, neither its tokens nor its time.

Two kinds of consumers have no such measure. Where a large piece takes hardly longer than a small one, as with a bulk
call, a worker is always busy and still not at its limit. Where workers wait for their items inside `work()`, all are at
work all the time although the queue is empty.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

UNSEEN: Final = 2.0  # times as many workers are assumed as were at work, until items have waited
CREW_MEMORY: Final = 0.25  # weight of the newest count of workers, where it is less than the mean of those before
CALLS: Final = 50  # pieces of work that are compared
SPREAD: Final = 0.1  # of the mean: sizes, or numbers of workers, that are more alike show no trend
FIXED: Final = 0.3  # of a piece's time not dependent on its size: above this, larger pieces would do more per second
SLOWER: Final = 0.5  # of a piece's time: above this, the extra time beside all workers is not known well enough
FURTHER: Final = 1.75  # times the workers that were at work lately
IDLE: Final = 0.002  # of the workers' time: less than this passes between two pieces of a busy worker
NEVER_IDLE: Final = 8  # looks, and pieces, in a row without an idle moment and without an item that waits


class Moment(NamedTuple):
    """A moment, and the seconds that all workers of the consumer have worked until then."""

    at: float
    labour: float


class Busy:
    """The busy time of one consumer. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._now = self._looked = Moment(-math.inf, 0.0)
        self._at_work = self._most = 0  # pieces of work: now, and the most since the last look
        self._crew = 0.0  # the number of workers
        self._has_waited = False  # a look at the queue has found an item that waits
        self._pieces = self._looks = 0  # so many since a worker was idle or an item waited
        self._by_size, self._by_others = Trend(), Trend()

    def begin(self, now: float) -> Moment:
        """Note that a worker has begun a piece of work; return the moment."""
        moment = self._pass(now)
        self._at_work += 1
        self._most = max(self._most, self._at_work)
        return moment

    def add(self, tokens: float, took: float, since: Moment, now: float) -> Moment:
        """Count `tokens` of a piece as done; they took `took` of the seconds since that moment. Return this moment."""
        moment = self._pass(now)
        self._crew = max(self._crew, self._at_work * (1 if self._has_waited else UNSEEN))
        lasted = now - since.at
        at_work = (moment.labour - since.labour) / lasted if lasted > 0 else self._at_work
        self._by_size.add(tokens, took)
        self._by_others.add(at_work, took / tokens)
        crew = max(at_work, self._known_crew())
        slower = max(0.0, self._by_others.least_slope) * (crew - at_work)
        self.seconds += (took + tokens * slower) / crew
        return moment

    def _known_crew(self) -> float:
        """Return the number of workers; at most FURTHER times those lately at work, where their effect is not known."""
        trend = self._by_others
        slower = trend.most_slope * (self._crew - trend.x)
        return self._crew if slower <= SLOWER * trend.y else min(self._crew, FURTHER * trend.x)

    def end(self, now: float) -> None:
        """Note that a piece of work is over, however it ended."""
        self._pass(now)
        self._at_work -= 1
        self._pieces += 1

    def look(self, depth: float) -> float | None:
        """Count the workers where items wait. Return the busy seconds so far; None where they give no capacity."""
        if depth and self._at_work:
            weight = CREW_MEMORY if self._has_waited else 1.0
            self._crew += weight * (self._at_work - self._crew)
            self._has_waited = True
        self._looks += 1
        if depth or self._was_idle():
            self._pieces = self._looks = 0
        self._looked, self._most = self._now, self._at_work
        is_fixed = self._by_size.most_slope < (1 - FIXED) * self._by_size.ratio
        is_never_idle = min(self._looks, self._pieces) >= NEVER_IDLE
        return None if is_fixed or is_never_idle else self.seconds

    def _was_idle(self) -> bool:
        """Return whether a worker was idle since the last look."""
        lasted, worked = self._now.at - self._looked.at, self._now.labour - self._looked.labour
        return math.isfinite(lasted) and worked < (1 - IDLE) * self._most * lasted

    def _pass(self, now: float) -> Moment:
        """Advance to `now`. Threads that read the clock may come here in another order."""
        lasted = now - self._now.at
        if lasted > 0:
            self._now = Moment(now, self._now.labour + (self._at_work * lasted if self._at_work else 0.0))
        return self._now if lasted >= 0 else Moment(now, self._now.labour)


class Trend:
    """A straight line through the last CALLS points, by least squares: how y follows x."""

    def __init__(self) -> None:
        self._count = 0
        self.x = self.y = 0.0  # their means
        self._xx = self._yy = self._xy = 0.0  # variances, covariance

    def add(self, x: float, y: float) -> None:
        """Add a point."""
        self._count = count = min(CALLS, self._count + 1)
        dx, dy = x - self.x, y - self.y
        self.x += dx / count
        self.y += dy / count
        self._xx += (dx * (x - self.x) - self._xx) / count
        self._yy += (dy * (y - self.y) - self._yy) / count
        self._xy += (dx * (y - self.y) - self._xy) / count

    @property
    def ratio(self) -> float:
        """Return the mean y over the mean x: the slope, if the line went through 0."""
        return self.y / self.x if self.x else 0.0

    @property
    def least_slope(self) -> float:
        """Return the lower bound of the slope, by two standard errors; minus infinity where the x are alike."""
        return self._slope(-2.0)

    @property
    def most_slope(self) -> float:
        """Return the upper bound of the slope, likewise; infinity where the x are alike."""
        return self._slope(2.0)

    def _slope(self, errors: float) -> float:
        if self._xx <= (SPREAD * self.x) ** 2:
            return math.copysign(math.inf, errors)
        slope = self._xy / self._xx
        noise = max(0.0, self._yy - slope * self._xy) / self._xx / self._count
        return slope + errors * math.sqrt(noise)

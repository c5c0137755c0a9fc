"""The figures of a run, and how each follows from the measurements of the processes."""

import math
import resource
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WARM_UP_S = 2.0  # not counted: at the beginning, coordination does not know yet what the workers can take


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The figures of one run. Times are in seconds, memory in bytes, `busy` and `fairness` from 0 to 1; None: unknown.

    `rate` is the number of records indexed per second. `capacity` is the number that the workers could have indexed per
    second in the same time if they had never waited. Both are of one run, because a machine is faster in one minute
    than in another.
    """

    coordinated: bool
    sent: int
    indexed: int
    lost: int
    rate: float
    capacity: float
    queue_peak: int
    queue_limit: int
    memory_peak: int
    latency_p50: float | None
    latency_p99: float | None
    busy: float | None
    fairness: float | None
    redis_calls: int | None
    redis_calls_per_record: float | None
    drained_after: float
    indexed_by_producer: tuple[int, ...]

    @property
    def use(self) -> float | None:
        """Return the part of the capacity that was used."""
        return self.rate / self.capacity if self.capacity else None


@dataclass(frozen=True, slots=True)
class Result:
    """Both runs, and the settings of the demo."""

    source: str
    seconds: float
    producers: int
    consumers: int
    capacity: float
    offered: float
    runs: tuple[RunFigures, ...]

    @property
    def exit_code(self) -> int:
        """Return 1 if coordination lost a record, else 0."""
        return int(any(run.coordinated and run.lost for run in self.runs))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "exit_code": self.exit_code}


def capacity(done: Sequence[float], busy: Sequence[float]) -> float:
    """Return how much the workers can do per second, from the work of each in the seconds in which it had some.

    >>> capacity([300, 100], [10.0, 5.0])
    50.0
    """
    return sum(count / seconds for count, seconds in zip(done, busy, strict=True) if seconds > 0)


def percentile(values: Iterable[float], rank: float) -> float | None:
    """Return a percentile by nearest rank: `percentile([4, 1, 3, 2], 50)` is 2."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else None


def jain(amounts: Sequence[float]) -> float | None:
    """Return Jain's index: 1 if all got the same, 1/n if one got everything."""
    squares = sum(amount * amount for amount in amounts)
    return sum(amounts) ** 2 / (len(amounts) * squares) if squares else None


def overlap(spans: Iterable[tuple[float, float]], start: float, end: float) -> float:
    """Return how much of start..end the spans cover; they do not overlap each other."""
    return sum(max(0.0, min(until, end) - max(since, start)) for since, until in spans)


def peak_memory() -> int:
    """Return the highest resident size of this process so far, in bytes.

    Linux keeps the peak of the parent in `ru_maxrss` across fork and exec, so there we read VmHWM.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

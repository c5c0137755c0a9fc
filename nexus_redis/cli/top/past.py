"""What each budget was like at the last looks: the samples for its curves, and the tokens granted per second."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis.cli.top.states import Seen

KEPT: Final = 120  # samples of a budget
BARS: Final = "▁▂▃▄▅▆▇█"


class Sample(NamedTuple):
    """A budget at one look: rates in tokens per second, the load in percent."""

    rate: float
    granted: float
    load: float
    level: int


class Past:
    """The last samples of each budget."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = {}
        self._totals: dict[str, tuple[float, str, int]] = {}  # when, in which life of the state, how much

    def add(self, found: Iterable[Seen], at: float) -> None:
        """Add a sample of each budget, and forget the budgets that are gone. `at` is in seconds of any one clock."""
        samples: dict[str, deque[Sample]] = {}
        totals: dict[str, tuple[float, str, int]] = {}
        for seen in found:
            if isinstance(seen, BudgetSnapshot):
                ring = samples[seen.name] = self._samples.get(seen.name) or deque(maxlen=KEPT)
                ring.append(Sample(seen.rate, self._granted(seen, at), seen.load, seen.level))
                totals[seen.name] = at, seen.birth, seen.granted_total
        self._samples, self._totals = samples, totals

    def _granted(self, seen: BudgetSnapshot, at: float) -> float:
        before, birth, total = self._totals.get(seen.name, (at, seen.birth, seen.granted_total))
        if before >= at or birth != seen.birth:
            return 0.0
        return max(0.0, (seen.granted_total - total) / (at - before))

    def of(self, name: str) -> Sequence[Sample]:
        """Return the samples of a budget, the oldest first."""
        return self._samples.get(name, ())

    def granted(self, name: str) -> float:
        """Return the tokens per second that were granted between the last two looks."""
        samples = self._samples.get(name)
        return samples[-1].granted if samples else 0.0


def curve(values: Sequence[float], width: int, most: float = 0.0) -> str:
    """Return the last `width` values as bars, scaled from 0 to `most` or to the largest of them.

    >>> curve([0, 50, 100], 3), curve([0, 0], 2), curve([1, 2, 3], 3, most=3)
    ('▁▅█', '▁▁', '▃▆█')
    """
    shown = values[-width:] if width > 0 else []
    most = max([most, *shown], default=0.0)
    return "".join(BARS[round(value / most * (len(BARS) - 1)) if most > 0 else 0] for value in shown)

"""The values of all metrics at one instant, as the exporters take them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from nexus_redis._core.tally import WAIT_BOUNDS
from nexus_redis.metrics.catalogue import ALL_KEYS, Metric


class Histogram(NamedTuple):
    """How many observations are in each bucket, the last of which has no upper bound, and the sum of all."""

    counts: tuple[int, ...]
    total: float

    @property
    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield each upper bound with the number of observations up to it, as Prometheus has them."""
        bounds = [*map(str, WAIT_BOUNDS), "+Inf"]
        return zip(bounds, accumulate(self.counts), strict=True)


class Sample(NamedTuple):
    """One series: the values of the metric's labels, in their order, and its value."""

    labels: tuple[str, ...]
    value: float | Histogram


class Series(NamedTuple):
    """One number of a metric, by its dotted name. A histogram is counters: `.bucket` with `le`, `.count`, `.sum`."""

    name: str
    labels: dict[str, str]
    value: float
    is_counter: bool


class Values:
    """The samples of each metric."""

    def __init__(self) -> None:
        self._samples: dict[Metric, list[Sample]] = {}

    def add(self, metric: Metric, value: float | Histogram, *labels: str) -> None:
        """Add a sample."""
        self._samples.setdefault(metric, []).append(Sample(labels, value))

    def drop_keys(self, metric: Metric) -> None:
        """Drop the samples of a metric that stand for all keys of a budget."""
        self._samples[metric] = [each for each in self.of(metric) if not each.labels[0].endswith(ALL_KEYS)]

    def of(self, metric: Metric) -> list[Sample]:
        """Return the samples of a metric."""
        return self._samples.get(metric, [])

    def series(self, metric: Metric) -> Iterator[Series]:
        """Yield the samples of a metric by their dotted names."""
        for names, value in self.of(metric):
            labels = dict(zip(metric.labels, names, strict=True))
            if isinstance(value, Histogram):
                for bound, count in value.buckets:
                    yield Series(
                        f"{metric.dotted}.bucket",
                        labels | {"le": bound.removeprefix("+").lower()},
                        count,
                        is_counter=True,
                    )
                yield Series(f"{metric.dotted}.count", labels, sum(value.counts), is_counter=True)
                yield Series(f"{metric.dotted}.sum", labels, value.total, is_counter=True)
            else:
                yield Series(metric.dotted, labels, value, metric.kind == "counter")

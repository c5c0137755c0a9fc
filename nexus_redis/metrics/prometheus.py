"""Prometheus: a collector for the registry of prometheus_client, and the whole page of metrics as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from nexus_redis._api.nexus import NexusBase
from nexus_redis.errors import MissingLibrary

try:
    from prometheus_client import Metric as Family
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.exposition import choose_encoder
except ModuleNotFoundError:
    raise MissingLibrary("prometheus_client", "metrics", "metrics") from None

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis.metrics.catalogue import CATALOGUE, GRANTED, Metric
from nexus_redis.metrics.reader import Reader
from nexus_redis.metrics.values import Histogram, Values

__all__ = ["NexusCollector", "exposition"]


class NexusCollector:
    """A collector of prometheus_client: `REGISTRY.register(NexusCollector(nexus))`. For both faces.

    Without more it reads what this process has done, which takes microseconds and asks Redis nothing. With `fleet`,
    each scrape also looks at all budgets in Redis. One process of a fleet is enough for that, and `nexus-redis serve`
    does it anyway. With `keys`, each per-key budget has series of its own. Else `stripe/*` stands for all keys of
    `stripe`, because there may be many and a key may be a secret. `labels` are added to all series, which keeps two
    Nexus in one process apart.

    A process that has served 10,000 acquires, 9,950 of them at once, says so by `nexus_redis_client_acquires_total`
    10000 and `nexus_redis_client_local_acquires_total` 9950.
    """

    def __init__(
        self,
        nexus: NexusBase[Any],
        *,
        fleet: bool = False,
        keys: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._reader, self._is_fleet, self._labels = Reader(nexus, fleet=fleet, keys=keys), fleet, dict(labels or {})

    def describe(self) -> Iterable[Family]:
        """Return the metrics without samples. A registry asks for them when the collector is registered."""
        return [_family(metric, []) for metric in self._metrics]

    def collect(self) -> Iterable[Family]:
        """Return the metrics as they stand. A registry asks for them at each scrape."""
        return families(self._metrics, self._reader.read(), self._labels)

    @property
    def _metrics(self) -> list[Metric]:
        return [metric for metric in CATALOGUE if metric.is_in(fleet=self._is_fleet)]


class _Page:
    """The families of one reading, as an encoder of prometheus_client takes them."""

    def __init__(self, found: list[Family]) -> None:
        self._found = found

    def collect(self) -> Iterable[Family]:
        """Return them."""
        return self._found


_readers: Final[WeakKeyDictionary[NexusBase[Any], Reader]] = WeakKeyDictionary()


async def exposition(
    nexus: nexus_asyncio.Nexus, *, accept: str = "", labels: Mapping[str, str] | None = None, client: bool = True
) -> tuple[bytes, str]:
    """Return the page of metrics and its content type: all budgets in Redis from one look, and what this process did.

    `accept` is the header of the request: Prometheus gets OpenMetrics if it asks for it. If Redis does not answer, the
    page has `nexus_redis_up 0` and the metrics of this process. `labels` are added to all series. Without `client` the
    page has nothing that this process counts: of several workers behind one port, each scrape would reach another one.
    """
    reader = _readers.get(nexus)
    if reader is None:
        reader = _readers[nexus] = Reader(nexus, fleet=True)
    encode, kind = choose_encoder(accept)
    metrics = [metric for metric in CATALOGUE if client or metric.scope != "client"]
    values = await reader.read_async()
    if not client:
        values.drop_keys(GRANTED)  # each process counts it from its own first look
    page = _Page(families(metrics, values, labels or {}))
    return await asyncio.to_thread(encode, page), kind  # it takes a tenth of a second for a thousand budgets


def families(metrics: Iterable[Metric], values: Values, labels: Mapping[str, str]) -> list[Family]:
    """Return the families of prometheus_client for some metrics, each with all its samples."""
    found = []
    for metric in metrics:
        family = _family(metric, labels)
        for names, value in values.of(metric):
            every = [*names, *labels.values()]
            if isinstance(value, Histogram):
                family.add_metric(every, [*value.buckets], value.total)
            else:
                family.add_metric(every, value)
        found.append(family)
    return found


def _family(metric: Metric, labels: Iterable[str]) -> Any:
    kind = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily}[metric.kind]
    return kind(metric.name, metric.help, labels=[*metric.labels, *labels])

"""OpenTelemetry: the metrics as observable instruments of the standard API, for any SDK and exporter.

    observe(nexus)  ->  nexus_redis.client_acquires_total {budget="stripe"} 10000

OpenTelemetry has no histogram that can be observed. So the waits are three counters: `.bucket` with the attribute `le`,
`.count` and `.sum`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from nexus_redis._api.nexus import NexusBase
from nexus_redis.errors import MissingLibrary

try:
    from opentelemetry import metrics as api
except ModuleNotFoundError:
    raise MissingLibrary("opentelemetry", "metrics.otel", "otel") from None

from nexus_redis.metrics.catalogue import CATALOGUE, PARTS, Metric
from nexus_redis.metrics.reader import Reader
from nexus_redis.metrics.values import Values

__all__ = ["observe"]

Callback = Callable[[api.CallbackOptions], Iterable[api.Observation]]


def observe(
    nexus: NexusBase[Any],
    provider: api.MeterProvider | None = None,
    *,
    fleet: bool = False,
    keys: bool = False,
) -> None:
    """Make the instruments of a Nexus of either face, once for each Nexus. `provider`: the global one, or yours.

    Nothing is read before the SDK collects. With `fleet`, each collection also looks at all budgets in Redis, once,
    in the thread that collects; one process of a fleet is enough for that. With `keys`, each per-key budget has series
    of its own; else `stripe/*` stands for all keys of `stripe`.
    """
    meter = (provider or api.get_meter_provider()).get_meter("nexus_redis")
    collection = _Collection(Reader(nexus, fleet=fleet, keys=keys))
    for metric in CATALOGUE:
        if metric.is_in(fleet=fleet):
            _make(meter, metric, collection)


def _make(meter: api.Meter, metric: Metric, collection: _Collection) -> None:
    if metric.kind == "histogram":
        for part in PARTS:
            name, unit = f"{metric.dotted}.{part}", metric.unit if part == "sum" else "1"
            meter.create_observable_counter(name, [collection.callback(metric, name)], unit, metric.help)
        return
    make: Any = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
    make(metric.dotted, [collection.callback(metric, metric.dotted)], metric.unit, metric.help)


class _Collection:
    """The reading that all instruments of one collection share, so that their numbers go together.

    An instrument that asks for the second time belongs to the next collection, which gets a new reading.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._values = Values()
        self._served: set[str] | None = None  # the instruments that have had this reading

    def callback(self, metric: Metric, name: str) -> Callback:
        """Return what the SDK calls to collect an instrument."""

        def observed(options: api.CallbackOptions) -> Iterable[api.Observation]:  # noqa: ARG001  # the API passes them
            series = self._for(name).series(metric)
            return [api.Observation(each.value, each.labels) for each in series if each.name == name]

        return observed

    def _for(self, name: str) -> Values:
        with self._lock:
            if self._served is None or name in self._served:
                self._values, self._served = self._reader.read(), set()
            self._served.add(name)
            return self._values

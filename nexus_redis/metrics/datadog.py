"""Datadog: the metrics as DogStatsD packets to the agent of the host, every ten seconds.

    with Emitter(nexus):  ->  nexus_redis.client_acquires_total:120|c|#budget:stripe     120 acquires since the last one

A gauge is sent as it stands, and a counter as what was added since it was last sent. DogStatsD has no histogram that
was counted elsewhere. So the waits are sent as counters, as Datadog's own check of Prometheus pages does it: `.bucket`
with the tag `le`, `.count` and `.sum`. Datadog's tags have no star, so all keys of `stripe` are `stripe/_` there.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Final, Self

from nexus_redis._api.nexus import NexusBase
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis.errors import MissingLibrary
from nexus_redis.extending import parse_seconds

try:
    from datadog.dogstatsd.base import DogStatsd
except ModuleNotFoundError:
    raise MissingLibrary("datadog", "metrics.datadog", "datadog") from None

from nexus_redis.metrics import texts
from nexus_redis.metrics.catalogue import CATALOGUE, Metric
from nexus_redis.metrics.reader import Reader
from nexus_redis.metrics.values import Series

__all__ = ["Emitter"]

STOP_PATIENCE: Final = 2.0  # seconds that `close` waits for the thread: it may be in the middle of a look at Redis


class Emitter:
    """A thread that sends the metrics of a Nexus of either face, from `start` or `with` until `close`.

    `statsd` is a client that you have. Without it, one is made that goes by `DD_AGENT_HOST`, `DD_DOGSTATSD_PORT` and
    `DD_DOGSTATSD_URL`. `interval` is in seconds or a text like "10s". With `fleet`, each interval also looks at all
    budgets in Redis, for which one process of a fleet is enough. With `keys`, each per-key budget has series of its
    own; else `stripe/*` stands for all keys of `stripe`.
    """

    def __init__(
        self,
        nexus: NexusBase[Any],
        statsd: DogStatsd | None = None,
        *,
        interval: float | str = 10.0,
        fleet: bool = False,
        keys: bool = False,
    ) -> None:
        self._interval = parse_seconds(interval, "interval")
        self._reader = Reader(nexus, fleet=fleet, keys=keys)
        self._metrics = [metric for metric in CATALOGUE if metric.is_in(fleet=fleet)]
        self._statsd = DogStatsd(disable_telemetry=True) if statsd is None else statsd
        self._is_own = statsd is None
        self._sent: dict[tuple[object, ...], float] = {}  # the counters as they were last sent
        self._read: set[Metric] = set()  # the counters that have been read at least once
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self) -> None:
        """Send all metrics now."""
        values = self._reader.read()
        with self._statsd as batch:
            for metric in self._metrics:
                found = list(values.series(metric))
                for series in found:
                    self._put(batch, metric, series)
                self._read |= {metric} if found else set()

    def start(self) -> Self:
        """Begin to send. A second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="nexus-redis-datadog", daemon=True)
            self._thread.start()
        return self

    def close(self) -> None:
        """Send what has not been sent yet, and end the thread."""
        thread, self._thread = self._thread, None
        self._is_over.set()
        if thread is not None:
            thread.join(STOP_PATIENCE)
        if self._is_own:
            self._statsd.close_socket()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._is_over.wait(self._interval)
            try:
                self.send()
            except Exception:
                log.exception(texts.SENDING_BUG, extra=log_fields(event="sending_bug"))

    def _put(self, batch: DogStatsd, metric: Metric, series: Series) -> None:
        tags = [f"{name}:{value}" for name, value in series.labels.items()]
        if not series.is_counter:
            batch.gauge(series.name, series.value, tags=tags)
            return
        key = (series.name, *tags)
        before = self._sent.get(key)
        self._sent[key] = series.value
        if before is None and metric.scope == "fleet" and metric not in self._read:
            return  # what was granted before this process looked for the first time is no news
        before = before or 0.0
        batch.count(series.name, series.value - before if series.value >= before else series.value, tags=tags)

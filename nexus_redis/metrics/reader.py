"""One reading of all metrics: what this process has done, and if told so, one look at all budgets in Redis."""

from __future__ import annotations

import threading
from typing import Any

from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis.errors import NexusError
from nexus_redis.metrics import catalogue as c
from nexus_redis.metrics import texts
from nexus_redis.metrics.client import ClientCounts
from nexus_redis.metrics.fleet import FleetCounts, Look, look
from nexus_redis.metrics.values import Values


class Reader:
    """The reader of one Nexus, of either face. Any thread may use it."""

    def __init__(self, nexus: Any, *, fleet: bool, keys: bool = False) -> None:
        self._nexus, self._client = nexus, ClientCounts(nexus)
        self._fleet = FleetCounts(keys=keys) if fleet else None
        self._lock = threading.Lock()
        self._has_failed = False

    def read(self) -> Values:
        """Read all metrics in this thread."""
        if self._fleet is None:
            return self._values(None, is_up=self._client.is_up)
        try:
            self._nexus._check()
            seen = self._nexus._reports.drive(self._plan())
        except NexusError as error:
            return self._without_redis(error)
        return self._values(seen, is_up=True)

    async def read_async(self) -> Values:
        """Read all metrics in the event loop of an async Nexus."""
        try:
            seen = await self._nexus._drive(self._plan())
        except NexusError as error:
            return self._without_redis(error)
        return self._values(seen, is_up=True)

    def _plan(self) -> Any:
        return look(self._nexus.namespace, self._nexus._scheduler.address)

    def _without_redis(self, error: NexusError) -> Values:
        if not self._has_failed:
            log.warning(texts.LOOK_FAILED, error, extra=log_fields(event="look_failed", cause=str(error)))
        self._has_failed = True
        return self._values(None, is_up=False)

    def _values(self, seen: Look | None, *, is_up: bool) -> Values:
        values = Values()
        with self._lock:
            self._has_failed = self._has_failed and not is_up
            values.add(c.UP, int(is_up))
            self._client.read(values)
            if seen is not None and self._fleet is not None:
                self._fleet.read(seen, values)
        return values

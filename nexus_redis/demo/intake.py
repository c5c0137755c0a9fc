"""The service's one bounded queue. Full, it drops what comes in, as a log shipper's receiver does."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nexus_redis.demo.wire import Record


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch, and how long its worker stood idle for it: the instants between which the queue was empty, or equal."""

    records: list[Record]
    idle_from: float
    idle_until: float


class Intake:
    """At most `limit` records. `is_patient` makes a full queue wait instead of drop: only to calibrate."""

    def __init__(self, limit: int, *, is_patient: bool = False) -> None:
        self.limit = limit
        self.received = self.lost = self.peak = 0
        self.is_patient = is_patient
        self._is_closed = False
        self._records: deque[Record] = deque()
        self._changed = threading.Condition()

    def depth(self) -> int:
        return len(self._records)

    def offer(self, records: Sequence[Record]) -> None:
        """Takes what there is room for, from the front; the rest is lost."""
        with self._changed:
            while self.is_patient and len(self._records) + len(records) > self.limit:
                self._changed.wait()
            room = self.limit - len(self._records)
            self._records.extend(records[:room])
            self.received += len(records)
            self.lost += max(0, len(records) - room)
            self.peak = max(self.peak, len(self._records))
            self._changed.notify_all()

    def take(self, most: int) -> Taken:
        """Up to `most` records, oldest first; waits for one. No records: closed and empty."""
        with self._changed:
            idle_from = idle_until = time.monotonic()
            while not self._records and not self._is_closed:
                self._changed.wait()
                idle_until = time.monotonic()
            batch = [self._records.popleft() for _ in range(min(most, len(self._records)))]
            if self.is_patient:
                self._changed.notify_all()
        return Taken(batch, idle_from, idle_until)

    def close(self) -> None:
        """Nothing more will be offered; what is in the queue can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

"""The one bounded queue of the service. When it is full, it drops new records, as a log shipper's receiver does."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nexus_redis.demo.wire import Record


@dataclass(frozen=True, slots=True)
class TakenBatch:
    """A batch, and the instants between which the queue was empty and its worker idle; they may be equal."""

    records: list[Record]
    idle_from: float
    idle_until: float


class Intake:
    """A queue of at most `limit` records.

    If it `is_patient`, a full queue lets callers wait; calibration needs that.
    """

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
        """Add the first records, as many as there is room for; the rest is lost."""
        with self._changed:
            while self.is_patient and len(self._records) + len(records) > self.limit:
                self._changed.wait()
            room = self.limit - len(self._records)
            self._records.extend(records[:room])
            self.received += len(records)
            self.lost += max(0, len(records) - room)
            self.peak = max(self.peak, len(self._records))
            self._changed.notify_all()

    def take(self, most: int) -> TakenBatch:
        """Wait for a record, and take up to `most`, oldest first. No records: the queue is closed and empty."""
        with self._changed:
            idle_from = idle_until = time.monotonic()
            while not self._records and not self._is_closed:
                self._changed.wait()
                idle_until = time.monotonic()
            batch = [self._records.popleft() for _ in range(min(most, len(self._records)))]
            if self.is_patient:
                self._changed.notify_all()
        return TakenBatch(batch, idle_from, idle_until)

    def close(self) -> None:
        """Take note that no more records will come; those in the queue can still be taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

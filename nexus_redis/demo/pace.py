"""The seam: all that differs between the two runs, and all that a program needs to be coordinated.

A producer asks a `Pacer` before it sends; the service tells a `Reporter` about its work. Without coordination both
do nothing. With it they are one line each: `budget.acquire(n)` and `with consumer.work(n)`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from nexus_redis.client import Nexus
from nexus_redis.errors import AcquireTimeout

BUDGET = "elasticsearch"
CONSUMER = "indexer"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the processes of a coordinated run meet."""

    url: str
    namespace: str

    @classmethod
    def from_settings(cls, settings: dict[str, Any] | None) -> "Meeting | None":
        return None if settings is None else cls(**settings)


class Pacer(Protocol):
    def acquire(self, records: int, *, timeout: float) -> bool:
        """True: send them now. False: not in this time."""


class Reporter(Protocol):
    def work(self, cost: int) -> AbstractContextManager[object]:
        """Held while that many records are in the hands of a worker."""


class Unpaced:
    def acquire(self, records: int, *, timeout: float) -> bool:  # noqa: ARG002 - the seam's signature
        return True


class Silent:
    def work(self, cost: int) -> AbstractContextManager[object]:  # noqa: ARG002 - the seam's signature
        return nullcontext()


class Paced:
    """A token is a record."""

    def __init__(self, nexus: Nexus) -> None:
        self._budget = nexus.budget(BUDGET)

    def acquire(self, records: int, *, timeout: float) -> bool:
        try:
            self._budget.acquire(records, timeout=timeout)
        except AcquireTimeout:
            return False
        return True


@contextmanager
def pacer(meeting: Meeting | None) -> Iterator[Pacer]:
    if meeting is None:
        yield Unpaced()
        return
    nexus = Nexus.from_url(meeting.url, namespace=meeting.namespace)
    try:
        yield Paced(nexus)
    finally:
        nexus.close()


@contextmanager
def reporter(meeting: Meeting | None, *, depth: Callable[[], int], limit: int) -> Iterator[Reporter]:
    if meeting is None:
        yield Silent()
        return
    nexus = Nexus.from_url(meeting.url, namespace=meeting.namespace)
    try:
        with nexus.budget(BUDGET).consumer(CONSUMER) as consumer:
            consumer.watch(depth=depth, limit=limit)
            yield consumer
    finally:
        nexus.close()

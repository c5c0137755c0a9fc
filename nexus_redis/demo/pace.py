"""The only difference between the two runs, and the whole code that a program needs for coordination.

A producer asks a `Pacer` before it sends, and the service tells a `Reporter` about its work. Without coordination, both
do nothing. With coordination, they are one line each: `budget.acquire(n)` and `with consumer.work(n)`.
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
class Coordination:
    """The server and the namespace that the processes of a coordinated run share."""

    url: str
    namespace: str

    @classmethod
    def from_settings(cls, settings: dict[str, Any] | None) -> "Coordination | None":
        return None if settings is None else cls(**settings)


class Pacer(Protocol):
    def acquire(self, records: int, *, timeout: float) -> bool:
        """Return True to send the records now, False if they cannot be sent in this time."""


class Reporter(Protocol):
    def work(self, cost: int) -> AbstractContextManager[object]:
        """Return a context in which a worker has so many records."""


class Unpaced:
    def acquire(self, records: int, *, timeout: float) -> bool:  # noqa: ARG002  # the signature of the protocol
        return True


class Silent:
    def work(self, cost: int) -> AbstractContextManager[object]:  # noqa: ARG002  # the signature of the protocol
        return nullcontext()


class Paced:
    """A pacer with a budget, where a token is a record."""

    def __init__(self, nexus: Nexus) -> None:
        self._budget = nexus.budget(BUDGET)

    def acquire(self, records: int, *, timeout: float) -> bool:
        try:
            self._budget.acquire(records, timeout=timeout)
        except AcquireTimeout:
            return False
        return True


@contextmanager
def pacer(coordination: Coordination | None) -> Iterator[Pacer]:
    if coordination is None:
        yield Unpaced()
        return
    nexus = Nexus.from_url(coordination.url, namespace=coordination.namespace)
    try:
        yield Paced(nexus)
    finally:
        nexus.close()


@contextmanager
def reporter(coordination: Coordination | None, *, depth: Callable[[], int], limit: int) -> Iterator[Reporter]:
    if coordination is None:
        yield Silent()
        return
    nexus = Nexus.from_url(coordination.url, namespace=coordination.namespace)
    try:
        with nexus.budget(BUDGET).consumer(CONSUMER) as consumer:
            consumer.watch(depth=depth, limit=limit)
            yield consumer
    finally:
        nexus.close()

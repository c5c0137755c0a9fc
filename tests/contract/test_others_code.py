"""Code that is not ours may block, and may need what we serve: handlers of the log, functions that tell a depth."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from nexus_redis._runtime import log_thread
from tests.harness.faces import Opener
from tests.harness.servers import Server
from tests.harness.support import eventually

PATIENCE = 60.0


@pytest.fixture
def handled() -> Iterator[Callable[[Callable[[], object]], None]]:
    """`handled(act)`: a handler of our log that does `act` for each record."""
    logger, added = logging.getLogger("nexus_redis"), []

    def add(act: Callable[[], object]) -> None:
        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                act()

        added.append(Handler())
        logger.addHandler(added[-1])

    yield add
    for handler in added:
        logger.removeHandler(handler)


def test_a_waiting_handler_stops_nobody(
    open_nexus: Opener, one_server: Server, handled: Callable[[Callable[[], object]], None]
) -> None:
    """A handler of the log that waits for a token stops no other caller."""
    nexus = open_nexus(one_server)
    api, ours = nexus.budget("api", rate=10_000), nexus.budget("logs", rate=10_000)
    api.acquire()
    ours.pause()
    is_in_it, shipped = threading.Event(), []

    def ship() -> None:
        is_in_it.set()
        shipped.append(ours.acquire())  # as long as it takes

    handled(ship)
    for _ in range(2):  # the second one's id is taken, says the thread or task that talks to Redis
        producer = open_nexus(one_server).budget("api").producer("literal")
        producer.acquire(timeout=PATIENCE)
    assert is_in_it.wait(PATIENCE)
    for _ in range(200):
        api.acquire(timeout=PATIENCE)
    assert not shipped
    ours.resume()
    assert log_thread.flush(PATIENCE)
    assert len(shipped) >= 1


def test_a_waiting_depth_stops_nobody(open_nexus: Opener, one_server: Server) -> None:
    """A depth that waits for a token stops no other caller."""
    nexus = open_nexus(one_server)
    api, pool = nexus.budget("api", rate=10_000), nexus.budget("pool", rate=10_000)
    api.acquire()
    pool.pause()
    asked, answered = threading.Event(), threading.Event()

    def depth() -> float:
        asked.set()
        pool.acquire()
        answered.set()
        return 3

    consumer = api.consumer(capacity=10_000, interval=0.02)
    consumer.watch(depth=depth, limit=10)
    assert asked.wait(PATIENCE)
    for _ in range(200):
        api.acquire(timeout=PATIENCE)
    assert not answered.is_set()
    pool.resume()
    assert eventually(lambda: any("queue_depth" in c.fields for c in api.snapshot().consumers), within_s=PATIENCE)
    assert answered.is_set()


def test_a_hanging_depth_does_not_stop_close(open_nexus: Opener, one_server: Server) -> None:
    """A depth that never comes does not keep a caller from closing."""
    nexus = open_nexus(one_server)
    api = nexus.budget("api", rate=10_000)
    asked, never = threading.Event(), threading.Event()

    def depth() -> float:
        asked.set()
        never.wait(PATIENCE)
        return 0

    consumer = api.consumer(capacity=10_000)
    consumer.watch(depth=depth, limit=10)
    assert asked.wait(PATIENCE)
    api.acquire(timeout=PATIENCE)
    consumer.close()
    nexus.close()
    never.set()

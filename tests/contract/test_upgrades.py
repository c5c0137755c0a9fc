"""A budget whose state a newer release has written: an older client says so once, and goes on by its outage mode."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from nexus_redis import ServerRefused
from nexus_redis._values import error_texts, log_texts
from tests.harness.faces import Opener
from tests.harness.logged import logged
from tests.harness.packing import changed
from tests.harness.servers import Server
from tests.harness.support import eventually

STATE = "nexus:{stripe}:state"

# The oldest server and the newest: each test waits some seconds, and the client decides all of it.
pytestmark = pytest.mark.parametrize("server", ["redis62", "valkey"], indirect=True)


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")


def write_newer(server: Server, schema: int) -> None:
    """Write the number of a schema into the state, where each release has it."""
    client: Any = server.client()
    client.set(STATE, changed("bucket", client.get(STATE), 0, schema), keepttl=True)


def test_an_old_producer_lives_by_its_mode(
    open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A producer goes on by its outage mode while the state is newer, and comes back."""
    producer = open_nexus(server).budget("stripe", rate=500).producer("web")
    for _ in range(20):
        producer.acquire()
    write_newer(server, 4)
    assert eventually(lambda: producer.acquire().degraded)
    for _ in range(20):
        producer.acquire()
    assert caplog.text.count("NEXUS_SCHEMA") == 1
    ((budget, error),) = logged(caplog, log_texts.STATE_SUPERSEDED)
    assert (budget, error.code, error.remedy) == ("stripe", "NEXUS_SCHEMA", error_texts.REFUSED["NEXUS_SCHEMA"])
    write_newer(server, 3)
    assert eventually(lambda: not producer.acquire().degraded)
    assert logged(caplog, log_texts.STATE_READABLE) == [("stripe",)]


def test_a_newcomer_without_a_share_is_refused(open_nexus: Opener, server: Server) -> None:
    """A producer that comes later has no share to live on and is refused."""
    open_nexus(server).budget("stripe", rate=500).acquire()
    write_newer(server, 4)
    late = open_nexus(server).budget("stripe")
    with pytest.raises(ServerRefused) as refused:
        late.acquire(timeout=20)
    assert (refused.value.code, refused.value.remedy) == ("NEXUS_SCHEMA", error_texts.REFUSED["NEXUS_SCHEMA"])
    assert late.producer(on_outage="open").acquire().degraded


def test_a_newer_state_is_never_written(open_nexus: Opener, server: Server) -> None:
    """An older release never writes a newer state."""
    nexus = open_nexus(server)
    budget = nexus.budget("stripe", rate=500)
    consumer = budget.consumer("c", interval=0.05)
    consumer.report(load=50, capacity=100)
    assert eventually(budget.acquire)
    write_newer(server, 4)
    client: Any = server.client()
    before = client.get(STATE)
    for _ in range(5):
        budget.acquire(timeout=20)
    with pytest.raises(ServerRefused) as refused:
        budget.configure(rate=5)
    assert refused.value.code == "NEXUS_SCHEMA"
    nexus.close()
    assert client.get(STATE) == before

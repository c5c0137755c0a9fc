"""A budget whose state a newer release has written: an older client says so once, and goes on by its outage mode."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from nexus_redis import NexusError, ServerRefused
from tests.harness.faces import Opener
from tests.harness.packing import changed
from tests.harness.servers import Server
from tests.harness.support import eventually

STATE = "nexus:{stripe}:state"


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")


def write_newer(server: Server, schema: int) -> None:
    """Write the number of a schema into the state, where each release has it."""
    client: Any = server.client()
    client.set(STATE, changed("bucket", client.get(STATE), 0, schema), keepttl=True)


def test_a_producer_goes_on_by_its_outage_mode_and_comes_back(
    open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    producer = open_nexus(server).budget("stripe", rate=500).producer("web")
    for _ in range(20):
        producer.acquire()
    write_newer(server, 4)
    assert eventually(lambda: producer.acquire().degraded)
    for _ in range(20):
        producer.acquire()
    assert caplog.text.count("NEXUS_SCHEMA") == 1
    assert "budget stripe: NEXUS_SCHEMA: a newer release wrote the state in this Redis: upgrade here" in caplog.text
    write_newer(server, 3)
    assert eventually(lambda: not producer.acquire().degraded)
    assert caplog.text.count("this release can read its state again") == 1


def test_a_newcomer_has_no_share_to_live_on_and_is_refused(open_nexus: Opener, server: Server) -> None:
    open_nexus(server).budget("stripe", rate=500).acquire()
    write_newer(server, 4)
    late = open_nexus(server).budget("stripe")
    with pytest.raises(ServerRefused, match="NEXUS_SCHEMA: a newer release"):
        late.acquire(timeout=20)
    assert late.producer(on_outage="open").acquire().degraded


def test_a_newer_state_is_never_written(open_nexus: Opener, server: Server) -> None:
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
    with pytest.raises(NexusError, match="NEXUS_SCHEMA"):
        budget.configure(rate=5)
    nexus.close()
    assert client.get(STATE) == before

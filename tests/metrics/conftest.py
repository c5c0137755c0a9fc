"""What counts is counted on both shells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nexus_redis.asyncio import Nexus as AsyncNexus
from tests.harness.faces import SHELLS, LoopInAThread, Opener
from tests.harness.servers import Server


@pytest.fixture(params=SHELLS)
def open_nexus(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """`open_nexus(server)` gives a Nexus of the shell under test."""
    opener = Opener(request.param)
    yield opener
    opener.close()


@pytest.fixture
def loop() -> Iterator[LoopInAThread]:
    """An event loop, in a thread."""
    loop = LoopInAThread()
    yield loop
    loop.stop()


@pytest.fixture
def nexus(loop: LoopInAThread, one_server: Server) -> Iterator[AsyncNexus]:
    """An async Nexus in that loop, as a server has it."""
    nexus = AsyncNexus.from_url(one_server.url)
    yield nexus
    loop.run(nexus.close)

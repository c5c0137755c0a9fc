"""Every contract test runs on both shells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nexus_redis._core.ledger import Ledger
from nexus_redis._protocol.calls import Claim
from nexus_redis._redis.embedded import ServerProcess
from nexus_redis.testing import ManualClock, clock
from tests.conftest import serve, serve_fleet
from tests.harness.faces import SHELLS, Opener, Pass
from tests.harness.fleets import FLEETS, Fleet
from tests.harness.servers import KINDS, Server

__all__ = ["clock"]  # the users' own fixture; what is opened after it lives by it


@pytest.fixture(params=[*KINDS, *FLEETS])
def server(
    request: pytest.FixtureRequest, processes: dict[str, ServerProcess], fleets: dict[str, Fleet]
) -> Iterator[Server]:
    """Each kind in turn, empty: single servers, and for tests marked `fleets` (all in `make soak`) several as one."""
    kind = request.param
    yield from serve_fleet(kind, fleets) if kind in FLEETS else serve(kind, processes)


@pytest.fixture(params=SHELLS)
def open_nexus(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """`open_nexus(server)` gives a Nexus of the shell under test."""
    opener = Opener(request.param)
    yield opener
    opener.close()


@pytest.fixture
def let_pass(clock: ManualClock, open_nexus: Opener) -> Pass:
    """Time goes on, in the loop where there is one."""
    return (lambda s: open_nexus.run(lambda: clock.sleep(s))) if open_nexus.is_async else clock.advance


@pytest.fixture
def timed(clock: ManualClock, open_nexus: Opener, server: Server) -> Any:
    """A Nexus that lives by the clock: for whatever would be another outcome after a second's pause of this process."""
    return open_nexus(server)


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The claims that were never answered in the time for which an answer is worth something; see books.agree."""
    found: list[object] = []
    forget = Ledger.forget

    def noted(ledger: Ledger, *, was_executed: bool, now: float, ask: Claim | None = None) -> None:
        if was_executed:
            found.extend(each.claim for each in ledger.flights if ask is None or each.claim is ask)
        forget(ledger, was_executed=was_executed, now=now, ask=ask)

    monkeypatch.setattr(Ledger, "forget", noted)
    return found

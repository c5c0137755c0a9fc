"""Every contract test runs on both shells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.shells import SHELLS, Opener


@pytest.fixture(params=SHELLS)
def open_nexus(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """`open_nexus(server)` gives a Nexus of the shell under test."""
    opener = Opener(request.param)
    yield opener
    opener.close()

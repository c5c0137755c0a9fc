"""Each test of a script is told as one story, on every kind of server."""

from __future__ import annotations

import pytest

from tests.harness.script_driver import Story
from tests.harness.servers import Server


@pytest.fixture
def story(server: Server) -> Story:
    return Story(server.client())


@pytest.fixture
def real_story(real_server: Server) -> Story:
    return Story(real_server.client())

"""Fixtures of the helpers' tests: a local HTTP server, and worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contrib.local_site import LocalSite
from tests.contrib.workers import Workers
from tests.harness.servers import Server


@pytest.fixture
def site() -> Iterator[LocalSite]:
    """A local HTTP server that answers as each address asks."""
    with LocalSite() as site:
        yield site


@pytest.fixture
def workers(one_server: Server) -> Iterator[Workers]:
    """Worker processes of a task queue, on one server."""
    workers = Workers(one_server)
    yield workers
    workers.kill()

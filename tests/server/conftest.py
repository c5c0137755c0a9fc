"""Fixtures of the server's tests: a server on an empty Redis, for everybody on this host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.servers import Server
from tests.server.browsing import browser, page  # fixtures of the page
from tests.server.served import Served

__all__ = ["browser", "page", "served"]


@pytest.fixture
def served(one_server: Server) -> Iterator[Served]:
    """A server that needs no token."""
    with Served(one_server.url) as served:
        yield served

"""The WSGI application that the tests serve in each process model: it takes a token, and says who has paid."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from nexus_redis import Nexus

nexus = Nexus.from_url()  # NEXUS_REDIS_URL
budget = nexus.budget("stripe", rate=1000)
if "TESTS_USED" in os.environ:  # before the server forks: then there are a thread, tokens and sockets of the parent
    budget.acquire()


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Pay, and for `/wait` stand in line for more than a bucket holds."""
    budget.acquire(400 if environ["PATH_INFO"] == "/wait" else 1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {budget.id}".encode()]

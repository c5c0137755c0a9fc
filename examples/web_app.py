"""A web application under gunicorn: all workers on all hosts send at most 20 requests a second to their backend.

    gunicorn --workers 4 --threads 4 --chdir examples web_app:app         # NEXUS_REDIS_URL says where Redis is
    gunicorn --workers 4 --threads 4 --preload --chdir examples web_app:app

Prefork needs no preparation, with or without --preload: no post_fork hook, and no connection is made too early. A Nexus
opens its connections and its thread at the first use, in the worker. A child of a fork starts without the tokens and
sockets of its parent. All workers may use one literal id: the first worker that claims gets it, and the others get ids
like "web.k3x9" (`nexus-redis status backend` shows them).
"""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from nexus_redis import AcquireTimeout, Nexus

nexus = Nexus.from_url()
backend = nexus.budget("backend", rate="20/s").producer("web", timeout=2.0)  # no I/O yet


def app(_environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Call the backend if a token comes within two seconds; else tell the client when to come back."""
    try:
        backend.acquire()
    except AcquireTimeout:
        retry_after_ms = (backend.flow and backend.flow.retry_after_ms) or 1000  # a pause until `resume` gives no time
        start_response("503 Service Unavailable", [("Retry-After", f"{max(1, round(retry_after_ms / 1000))}")])
        return [b"over budget\n"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [
        f"{time.monotonic()} {os.getpid()} {backend.id}\n".encode()
    ]  # when the call went out, and from which worker

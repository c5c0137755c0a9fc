"""What the proxy answers in place of the upstream: RFC 9457 problem documents, by status.

A request without tokens gets `quota-exceeded` or `temporary-reduced-capacity`, as in the API. All other answers of the
proxy have the type `about:blank` and the member `upstream_received`: "no", or "maybe" where the upstream may have
received the request, so that only a client whose request may be repeated sends it again.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Literal

from nexus_redis.server.problems import Headers, Kind, Problem

Received = Literal["no", "maybe"]


class ProxyProblem(Problem):
    """An answer of the proxy about a request that it could not pass on, or that got no response."""

    def __init__(
        self, status: HTTPStatus, detail: str, received: Received = "no", headers: Headers | None = None
    ) -> None:
        Exception.__init__(self, detail)
        self.kind, self.name, self.detail = Kind(status, status.phrase, ""), "about:blank", detail
        self.members = {"upstream_received": received}
        self.headers = list(headers or ())

    def body(self) -> bytes:
        """Return the problem document."""
        known = {"type": self.name, "title": self.kind.title, "status": self.kind.status, "detail": self.detail}
        return json.dumps(known | self.members).encode()

"""Errors as RFC 9457 problem documents: one table of the kinds, and which error of the library is of which kind.

    HTTP/1.1 429 Too Many Requests
    Content-Type: application/problem+json
    Retry-After: 1

    {"type": "https://iana.org/assignments/http-problem-types#quota-exceeded", "title": "Request cannot be satisfied as
     assigned quota has been exceeded", "status": 429, "detail": "...", "budget": "stripe", "reason": "rate",
     "retry_after_ms": 250}

The two kinds about rates are those of draft-ietf-httpapi-ratelimit-headers. The types of the others point into `/docs`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from nexus_redis.errors import AcquireTimeout, Closed, InvalidSetting, NexusError, ServerRefused, Unavailable
from nexus_redis.server import texts

Headers = list[tuple[bytes, bytes]]

CONTENT_TYPE: Final = b"application/problem+json"
IANA: Final = "https://iana.org/assignments/http-problem-types#"
OVER_THE_RATE: Final = ("ok", "rate", "contended", "learning", "")  # callers want more than their part: 429
LONGEST_RETRY: Final = 60.0  # seconds: the end of a pause until `resume` is not known
AWAY_RETRY: Final = 1.0  # seconds until a caller tries again while Redis is away


class Kind(NamedTuple):
    """A kind of problem: its status, its title, and what a caller does about it."""

    status: int
    title: str
    remedy: str
    is_registered: bool = False

    def type(self, name: str) -> str:
        """Return the URI of the kind."""
        return f"{IANA}{name}" if self.is_registered else f"/docs#{name}"


KINDS: Final[dict[str, Kind]] = {
    "quota-exceeded": Kind(429, texts.QUOTA_EXCEEDED, texts.RETRY_AFTER_REMEDY, is_registered=True),
    "temporary-reduced-capacity": Kind(503, texts.REDUCED_CAPACITY, texts.RETRY_AFTER_REMEDY, is_registered=True),
    "invalid-request": Kind(400, texts.INVALID_REQUEST, texts.INVALID_REQUEST_REMEDY),
    "malformed-request": Kind(400, texts.MALFORMED, texts.MALFORMED_REMEDY),
    "not-authenticated": Kind(401, texts.NOT_AUTHENTICATED, texts.NOT_AUTHENTICATED_REMEDY),
    "not-allowed": Kind(403, texts.NOT_ALLOWED, texts.NOT_ALLOWED_REMEDY),
    "cross-site-request": Kind(403, texts.CROSS_SITE, texts.CROSS_SITE_REMEDY),
    "unknown-budget": Kind(404, texts.UNKNOWN_BUDGET, texts.UNKNOWN_BUDGET_REMEDY),
    "unknown-path": Kind(404, texts.UNKNOWN_PATH, texts.UNKNOWN_PATH_REMEDY),
    "wrong-method": Kind(405, texts.WRONG_METHOD, texts.WRONG_METHOD_REMEDY),
    "too-slow": Kind(408, texts.TOO_SLOW, texts.TOO_SLOW_REMEDY),
    "refused": Kind(409, texts.REFUSED, texts.REFUSED_REMEDY),
    "request-in-progress": Kind(409, texts.IN_PROGRESS, texts.IN_PROGRESS_REMEDY),
    "body-too-large": Kind(413, texts.BODY_TOO_LARGE, texts.BODY_TOO_LARGE_REMEDY),
    "wrong-content-type": Kind(415, texts.WRONG_CONTENT_TYPE, texts.WRONG_CONTENT_TYPE_REMEDY),
    "wrong-host": Kind(421, texts.WRONG_HOST, texts.WRONG_HOST_REMEDY),
    "idempotency-key-reused": Kind(422, texts.KEY_REUSED, texts.KEY_REUSED_REMEDY),
    "header-too-large": Kind(431, texts.HEADER_TOO_LARGE, texts.HEADER_TOO_LARGE_REMEDY),
    "internal-error": Kind(500, texts.INTERNAL_ERROR, texts.INTERNAL_ERROR_REMEDY),
    "stopping": Kind(503, texts.STOPPING, texts.RETRY_AFTER_REMEDY),
    "too-many-waiters": Kind(503, texts.TOO_MANY_WAITERS, texts.RETRY_AFTER_REMEDY),
    "too-many-connections": Kind(503, texts.TOO_MANY_CONNECTIONS, texts.RETRY_AFTER_REMEDY),
}


class Problem(Exception):
    """An answer that says why a request was not carried out. `members` are its further fields."""

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        retry_after: float | None = None,
        headers: Headers | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.kind, self.name, self.detail = KINDS[name], name, detail
        self.members: dict[str, Any] = members
        self.headers: Headers = list(headers or ())
        if retry_after is not None:
            self.members["retry_after_ms"] = math.ceil(retry_after * 1e3)
            self.headers.append((b"retry-after", str(max(1, math.ceil(retry_after))).encode()))

    def body(self) -> bytes:
        """Return the problem document."""
        known = {
            "type": self.kind.type(self.name), "title": self.kind.title, "status": self.kind.status,
            "detail": self.detail,
        }  # fmt: skip
        return json.dumps(known | self.members).encode()


def over_budget(
    budget: str, reason: str, retry_after: float, detail: str, headers: Headers, shown: str = ""
) -> Problem:
    """Return the problem of a caller that gets no tokens: 429 where callers want more than their part, else 503."""
    name = "quota-exceeded" if reason in OVER_THE_RATE else "temporary-reduced-capacity"
    policies: Mapping[str, Any] = {"violated-policies": [shown or budget]} if name == "quota-exceeded" else {}
    wait = min(max(0.0, retry_after), LONGEST_RETRY)
    return Problem(name, detail, retry_after=wait, headers=headers, budget=budget, reason=reason, **policies)


def is_of_server(error: ServerRefused) -> bool:
    """Return whether Redis refuses this server (its password, its rights), and not a call in the state of a budget."""
    return not error.code.startswith("NEXUS_") and error.code != "WRONGTYPE"


def problem_of(error: Exception) -> Problem:
    """Return the problem that an error of the library is told as."""
    match error:
        case Problem():
            return error
        case InvalidSetting():
            return Problem("invalid-request", str(error), field=error.field, remedy=error.remedy)
        case AcquireTimeout():
            return over_budget(error.budget, error.reason, error.retry_after, str(error), [])
        case Unavailable():
            return Problem("temporary-reduced-capacity", str(error), retry_after=AWAY_RETRY, reason="unavailable")
        case ServerRefused():
            about: dict[str, Any] = {"code": error.code, "remedy": error.remedy}
            if is_of_server(error):
                about |= {"retry_after": AWAY_RETRY, "reason": "unavailable"}
            return Problem("temporary-reduced-capacity" if is_of_server(error) else "refused", str(error), **about)
        case Closed():
            return Problem("stopping", texts.SERVER_STOPS, retry_after=AWAY_RETRY)
        case NexusError():
            return Problem("refused", str(error))
    return Problem("internal-error", texts.BUG)

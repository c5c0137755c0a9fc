"""What an HTTP client reports of the server that it sends to (`report=True`): how each request ended, and how soon.

    request  --> in flight: its cost in tokens
    response --> done, with the time until its headers came; an error where the server is too busy
    no response --> an error; neither, where the caller has cancelled the request

The process is then an observer, one consumer of the budget, whichever and however many clients it has.
"""

from __future__ import annotations

from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from nexus_redis._core.meter import Work
from nexus_redis.errors import NexusError

# These say nothing about load: a bug, a method and a version of HTTP that the server does not know.
NO_SIGNS: Final = (
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
)  # fmt: skip


def is_too_busy(status: int) -> bool:
    """Return whether a response says that the server, or one behind it, cannot take this much.

    >>> [status for status in (200, 404, 429, 500, 501, 502, 503, 504, 505, 529) if is_too_busy(status)]
    [429, 502, 503, 504, 529]
    """
    return status == HTTPStatus.TOO_MANY_REQUESTS or (status >= 500 and status not in NO_SIGNS)


class Attempt:
    """`with attempt:` around the sending of one request, and `attempt.answered(status)` in it."""

    def __init__(self, work: Work | None) -> None:
        self._work, self._status = work, 0

    def answered(self, status: int) -> None:
        """Note the status of the response."""
        self._status = status

    def __enter__(self) -> Self:
        if self._work is not None:
            self._work.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._work is None:
            return
        if kind is None and is_too_busy(self._status):
            kind, error = NexusError, NexusError()
        self._work.__exit__(kind, error, where)

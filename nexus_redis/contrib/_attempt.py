"""What an HTTP client reports about the server that it sends to (`report=True`): how each request ended, and how soon.

    request  --> in flight: its cost in tokens
    response --> done, with the time until its headers came; an error where the server is overloaded
    no response --> an error; neither of the two where the caller has cancelled the request

The process is one consumer of the budget, its observer, however many clients the process has.
"""

from __future__ import annotations

from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

from nexus_redis.errors import NexusError
from nexus_redis.extending import Work

# These statuses say nothing about load: a bug, and a method or a version of HTTP that the server does not know.
NOT_ABOUT_LOAD: Final = (
    HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
)  # fmt: skip


def is_overload(status: int) -> bool:
    """Return whether a status says that the server, or one behind it, cannot take this much.

    >>> [status for status in (200, 404, 429, 500, 501, 502, 503, 504, 505, 529) if is_overload(status)]
    [429, 502, 503, 504, 529]
    """
    return status == HTTPStatus.TOO_MANY_REQUESTS or (status >= 500 and status not in NOT_ABOUT_LOAD)


class Attempt:
    """The sending of one request: `with attempt:` around it, and `attempt.answered(status)` in it."""

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
        if kind is None and is_overload(self._status):
            kind, error = NexusError, NexusError()
        self._work.__exit__(kind, error, where)

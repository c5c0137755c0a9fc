"""What goes wrong at the upstream: the cause in our own words, and the answer that a client gets.

The words of aiohttp are never shown, because some of them contain the address of the request, and so its query. A query
may contain a password.
"""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import Final

import aiohttp

from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.problems import ProxyProblem

FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError)
UNREACHED: Final = (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError)


class Broken(Exception):
    """A request that got no response."""

    def __init__(self, error: Exception) -> None:
        super().__init__(cause_of(error))
        self._error = error

    @property
    def cause(self) -> str:
        """Return what happened, without a word of the request."""
        return str(self)

    @property
    def is_connected(self) -> bool:
        """Return whether there was a connection. Without one, the fault is not that of a single path."""
        return not isinstance(self._error, UNREACHED)

    def problem(self, upstream: str, silence_s: float, *, is_begun: bool) -> ProxyProblem:
        """Return what the client is told. `is_begun` says that something of the request was sent."""
        is_late = isinstance(self._error, TimeoutError)
        status = HTTPStatus.GATEWAY_TIMEOUT if is_late else HTTPStatus.BAD_GATEWAY
        if not self.is_connected:
            return ProxyProblem(status, texts.unreachable(upstream, self.cause))
        detail = texts.silent(upstream, silence_s) if is_late else texts.broken(upstream, self.cause)
        return ProxyProblem(status, texts.with_received(detail, is_begun=is_begun), "maybe" if is_begun else "no")


CAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (  # the first that fits is the cause
    (aiohttp.ConnectionTimeoutError, texts.CONNECT_TIMEOUT),
    (aiohttp.ClientConnectorDNSError, texts.UNKNOWN_NAME),
    (aiohttp.ClientConnectorCertificateError, texts.BAD_CERTIFICATE),
    (aiohttp.ClientSSLError, texts.NO_TLS),
    (TimeoutError, texts.SILENT),
    (aiohttp.ServerDisconnectedError, texts.CLOSED),
    (aiohttp.ClientPayloadError, texts.BODY_CUT),
    (aiohttp.ClientResponseError, texts.NOT_HTTP),
)


def cause_of(error: Exception) -> str:
    """Return what happened, in a few words that name neither the path nor the query of a request."""
    for kind, cause in CAUSES:
        if isinstance(error, kind):
            return cause
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None else texts.LOST

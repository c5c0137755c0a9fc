"""The checks before anything else of a request is read: which host it names, and which web page it comes from.

A page on the web can make a browser send requests to this machine. A `Host` header that is not on the list shows a name
that an attacker has pointed at this address (DNS rebinding). A literal address is no such name, because a browser sends
it only to that address, so any is allowed. `Sec-Fetch-Site` and `Origin` show a page of another site
(cross-site request forgery). Programs that are not browsers send neither.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

from nexus_redis.server import texts
from nexus_redis.server.options import LOOPBACK, ServerOptions
from nexus_redis.server.problems import Headers, Problem

SAFE: Final = ("GET", "HEAD", "OPTIONS")
SAME: Final = (b"same-origin", b"none")
ANY: Final = "*"
_HOST: Final = re.compile(rb"(?:\[([0-9a-f:.]+)\]|([^\[\]:]+))(?::\d*)?")  # an address of IPv6, or a name; and a port


class Gate:
    """The names that a `Host` header may have, and the origins whose pages may call."""

    def __init__(self, options: ServerOptions) -> None:
        names = {*options.hosts, *LOOPBACK, options.host}
        if not options.is_local:
            names |= {socket.gethostname(), socket.getfqdn()}
        # On a unix socket no name leads here, so a client may send any.
        self._any_host = ANY in options.hosts or options.socket is not None
        self._hosts = {name.lower().encode() for name in names}
        self._origins = {origin.rstrip("/").lower().encode() for origin in options.origins}

    def check(self, scope: Any, headers: dict[bytes, bytes]) -> None:
        """Raise a problem for a request of another host's name, or of a page of another site."""
        host = self.check_host(headers)
        site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin", b"").lower()
        if site is None and not origin:
            return
        is_foreign = site not in SAME if site is not None else _without_scheme(origin) != host
        if is_foreign and scope["method"] not in SAFE and origin not in self._origins:
            raise Problem("cross-site-request", texts.cross_site(origin.decode("latin-1")))

    def check_host(self, headers: dict[bytes, bytes]) -> bytes:
        """Return the host that a request names. Raise a problem for a name of another host."""
        host = headers.get(b"host", b"").lower()
        if not (self._any_host or self._is_ours(host)):
            raise Problem("wrong-host", texts.wrong_host(host.decode("latin-1")))
        return host

    def _is_ours(self, host: bytes) -> bool:
        match = _HOST.fullmatch(host)
        name = b"" if match is None else match[1] or match[2]
        return name in self._hosts or _is_address(name)

    def cors(self, headers: dict[bytes, bytes]) -> Headers:
        """Return the headers that let a page of an allowed origin read the answer. None is allowed by default."""
        origin = headers.get(b"origin", b"")
        if not self._origins or origin.lower() not in self._origins:
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]

    def preflight(self, headers: dict[bytes, bytes]) -> Headers:
        """Return the headers that answer a browser's question before a request."""
        allowed = self.cors(headers)
        if allowed:
            allowed += [
                (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
                (b"access-control-allow-headers", b"authorization, content-type, idempotency-key"),
                (b"access-control-max-age", b"600"),
            ]
        return allowed


def _is_address(name: bytes) -> bool:
    try:
        ip_address(name.decode("latin-1"))
    except ValueError:
        return False
    return True


def _without_scheme(origin: bytes) -> bytes:
    return origin.partition(b"://")[2]


def header_map(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers of a request by name. Of several with one name, the last counts."""
    return dict(headers)

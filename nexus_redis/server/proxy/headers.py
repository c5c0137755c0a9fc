"""What of a request and of a response is passed on: the target byte by byte, and the headers in their order.

    hop-by-hop    Connection and what it names, TE, Trailer, Upgrade...: removed both ways (RFC 9110, 7.6.1)
    framing       one Content-Length, or chunked; both, or any other coding, is refused (RFC 9112, 6.1)
    route         Via, X-Forwarded-For, -Host and -Proto, Forwarded: extended by the client of this proxy

Cookies, credentials and conditions are the upstream's business and go through as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from multidict import CIMultiDict
from yarl import URL

from nexus_redis.server.problems import Headers
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.problems import ProxyProblem

HOP_BY_HOP: Final = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
})  # fmt: skip
# `Expect` is answered by this proxy as soon as it wants the body. The others are extended below.
REWRITTEN: Final = frozenset({b"expect", b"host", b"via", b"x-forwarded-for", b"forwarded", b"content-length"})
BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # what no server may put into a header
PSEUDONYM: Final = "nexus-redis"
Raw = Iterable[tuple[bytes, bytes]]


class Framing(NamedTuple):
    """How the body of a request is delimited: its `length` in bytes, None where it is chunked, 0 without a body."""

    length: int | None
    is_expected: bool  # the client waits for "100 Continue" before it sends the body

    @property
    def has_body(self) -> bool:
        """Return whether a body follows."""
        return self.length != 0


def framing_of(method: str, headers: Headers) -> Framing:
    """Return how the body is delimited. Raise a problem where two recipients could read it in two ways."""
    if method == "CONNECT":
        raise ProxyProblem(HTTPStatus.NOT_IMPLEMENTED, texts.NO_TUNNEL)
    if b"websocket" in _options(headers, b"upgrade") and b"upgrade" in _options(headers, b"connection"):
        raise ProxyProblem(HTTPStatus.NOT_IMPLEMENTED, texts.NO_WEBSOCKET, headers=[(b"connection", b"close")])
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) > 1 or (lengths and codings):
        raise ProxyProblem(HTTPStatus.BAD_REQUEST, texts.TWO_LENGTHS, headers=[(b"connection", b"close")])
    if codings and [value.strip().lower() for value in codings] != [b"chunked"]:
        raise ProxyProblem(HTTPStatus.NOT_IMPLEMENTED, texts.UNKNOWN_CODING, headers=[(b"connection", b"close")])
    is_expected = any(name == b"expect" and value.lower() == b"100-continue" for name, value in headers)
    if codings:
        return Framing(None, is_expected)
    if lengths and not lengths[0].isdigit():
        raise ProxyProblem(HTTPStatus.BAD_REQUEST, texts.TWO_LENGTHS, headers=[(b"connection", b"close")])
    return Framing(int(lengths[0]) if lengths else 0, is_expected)


def target_of(scope: Any, upstream: URL) -> URL:
    """Return the address of a request at the upstream, with the path and the query as the client wrote them."""
    try:
        path, query = scope["raw_path"].decode(), scope["query_string"].decode()
    except UnicodeDecodeError:
        raise ProxyProblem(HTTPStatus.BAD_REQUEST, texts.NOT_UTF_8) from None
    if not path.startswith("/"):
        raise ProxyProblem(HTTPStatus.NOT_IMPLEMENTED, texts.NO_PATH)
    return URL.build(
        scheme=upstream.scheme, authority=upstream.raw_authority, path=upstream.raw_path.rstrip("/") + path,
        query_string=query, encoded=True,
    )  # fmt: skip


def request_headers(scope: Any, framing: Framing, *, keep_host: bool) -> CIMultiDict[str]:
    """Return the headers of a request for the upstream."""
    headers: Headers = scope["headers"]
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and scope["http_version"] == "1.1"):
        raise ProxyProblem(HTTPStatus.BAD_REQUEST, texts.ONE_HOST, headers=[(b"connection", b"close")])
    left_out = REWRITTEN | _hop_by_hop(headers)
    passed: CIMultiDict[str] = CIMultiDict()
    try:
        host = hosts[0].decode() if hosts else ""
        for name, value in headers:
            if name not in left_out:
                passed.add(name.decode(), value.decode())
        if keep_host and host:
            passed["Host"] = host
        if framing.length is not None and any(name == b"content-length" for name, _ in headers):
            passed["Content-Length"] = str(framing.length)
        _add_route(passed, scope, host)
    except UnicodeDecodeError:
        raise ProxyProblem(HTTPStatus.BAD_REQUEST, texts.NOT_UTF_8) from None
    return passed


def _hop_by_hop(headers: Raw) -> frozenset[bytes]:
    return HOP_BY_HOP.union(_options(headers, b"connection"))


def _options(headers: Raw, name: bytes) -> frozenset[bytes]:
    """Return the parts of a header that is a list, in small letters."""
    return frozenset(part.strip().lower() for key, value in headers if key == name for part in value.split(b","))


def _add_route(passed: CIMultiDict[str], scope: Any, host: str) -> None:
    """Say by whom the request came. What earlier proxies said stays in front, and is not checked."""
    address = scope["client"][0] if scope.get("client") else ""
    node = f'"[{address}]"' if ":" in address else address or "unknown"
    quoted = host.replace("\\", "\\\\").replace('"', '\\"')
    said = f"for={node};proto={scope['scheme']}" + (f';host="{quoted}"' if host else "")
    _append(passed, scope, "Via", f"{scope['http_version']} {PSEUDONYM}")
    _append(passed, scope, "X-Forwarded-For", address or "unknown")
    _append(passed, scope, "Forwarded", said)
    passed.setdefault("X-Forwarded-Proto", scope["scheme"])
    if host:
        passed.setdefault("X-Forwarded-Host", host)


def _append(passed: CIMultiDict[str], scope: Any, name: str, value: str) -> None:
    raw = name.lower().encode()
    before = [given.decode() for key, given in scope["headers"] if key == raw]
    passed.add(name, ", ".join((*before, value)))


def response_headers(status: int, raw: Raw) -> Headers | None:
    """Return the headers of a response for the client, or None where they are malformed."""
    headers = [(name.lower(), value) for name, value in raw]
    left_out = _hop_by_hop(headers)
    if status in BODILESS or any(name == b"transfer-encoding" for name, _ in headers):
        left_out |= {b"content-length"}  # the server that writes to the client takes it for the length of a body
    if any(CONTROL.search(value) for _, value in headers):
        return None
    return [(name, value) for name, value in headers if name not in left_out]

"""One request of the API as its handler sees it, and what the handler returns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote

from nexus_redis._values.parse import budget_name
from nexus_redis.errors import InvalidSetting
from nexus_redis.server import texts
from nexus_redis.server.access import Caller
from nexus_redis.server.codec import decode
from nexus_redis.server.options import Limits
from nexus_redis.server.problems import Problem

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

DISCONNECT: Final = "http.disconnect"


class Reply(NamedTuple):
    """The answer of a handler: a value that the codec encodes, a status, and further headers."""

    value: Any
    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()


class CallerGone(Exception):
    """The caller has closed the connection, so nobody reads an answer."""


class Reading(Protocol):
    """What a server says of the bodies that it reads: their limits, and that it stops (`Problem`)."""

    limits: Limits

    def until_stop(self) -> AbstractContextManager[object]:
        """Return the block that ends when the server stops."""


class Call:
    """One request: who calls, the fields of its body, the budget in its path, and its headers by name."""

    __slots__ = ("_reading", "caller", "headers", "receive", "scope")

    def __init__(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], caller: Caller, reading: Reading
    ) -> None:
        self.scope, self.receive, self.headers, self.caller, self._reading = scope, receive, headers, caller, reading

    def header(self, name: bytes) -> str:
        """Return a header, "" if there is none."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def query(self) -> Mapping[str, str]:
        """Return the parameters after the `?`."""
        return dict(parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True))

    def check_query(self, known: Sequence[str]) -> None:
        """Raise `InvalidSetting` for a parameter that is not known, or that is given twice."""
        found: set[str] = set()
        for name, value in parse_qsl(self.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            if name not in known:
                raise InvalidSetting(name, value, texts.unknown_parameter(known))
            if name in found:
                raise InvalidSetting(name, value, texts.GIVEN_TWICE)
            found.add(name)

    @property
    def budget(self) -> str:
        """Return the full name of the budget in the path: `stripe`, `stripe%2Fcust-42`, or `stripe?key=cust-42`."""
        name, key = unquote(self.scope["path_params"]["name"]), self.query.get("key")
        return budget_name(name, key)

    async def fields(self) -> dict[str, Any]:
        """Read the body, within the limits, and return its fields."""
        return decode(await self._body(), self.headers.get(b"content-type", b""))

    async def _body(self) -> bytes:
        limits = self._reading.limits
        limit = limits.body_bytes
        if int(self.headers.get(b"content-length", b"0") or 0) > limit:
            raise Problem("body-too-large", texts.body_too_large(limit))
        try:
            with self._reading.until_stop():
                async with asyncio.timeout(limits.receive_s):
                    return await self._parts(limit)
        except TimeoutError:
            raise Problem("too-slow", texts.too_slow(limits.receive_s)) from None

    async def _parts(self, limit: int) -> bytes:
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == DISCONNECT:
                raise CallerGone
            body += message.get("body", b"")
            if len(body) > limit:
                raise Problem("body-too-large", texts.body_too_large(limit))
            if not message.get("more_body", False):
                return bytes(body)

"""What the parts of a body cost, as they pass: a token for each byte, for each action of a bulk, or for each line.

    {"index": {}}      <- an action: 1 token, counted with its first byte
    {"text": "..."}    <- its source
    {"delete": {...}}  <- an action without a source
    {"create": {}}     <- an action, 3 in all

`_msearch` has the same form, a header and a body for each search. Any other NDJSON body costs a token for each line
that is not blank, because nobody knows which lines belong together. A body with `Content-Encoding: gzip` or `deflate`
is decompressed beside its way, for the count only: the upstream gets it as the client sent it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

from nexus_redis.server.problems import Headers
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.problems import ProxyProblem

BEGINNING: Final = 64  # bytes of a line that say whether it is a `delete`
DELETE: Final = re.compile(rb'\{\s*"delete"\s*:')
ANY_WINDOW: Final = zlib.MAX_WBITS | 32  # gzip or zlib, as the first bytes say
INFLATED: Final = 65_536  # bytes that are decompressed at once
BULKS: Final = (b"/_bulk", b"/_msearch", b"/_msearch/template", b"/_fleet_msearch")
Price = Callable[[bytes], int]


def price_of_parts(cost: str, path: bytes, headers: Headers) -> Price | None:
    """Return the function that says what the next part of a body costs; None where a request costs one token."""
    if cost == "bytes":
        return len
    counter = _counter_of(path, headers) if cost == "lines" else None
    if counter is not None:
        codings = [value.strip().lower() for name, value in headers if name == b"content-encoding"]
        coding = b", ".join(codings)
        if coding in (b"", b"identity"):
            return counter.count
        if coding in (b"gzip", b"x-gzip", b"deflate"):
            return InflatedCounter(counter).count
        raise ProxyProblem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, texts.UNCOUNTABLE)
    return None


def _counter_of(path: bytes, headers: Headers) -> ActionCounter | LineCounter | None:
    if unquote_to_bytes(path).rstrip(b"/").endswith(BULKS):  # the upstream reads the path so, too
        return ActionCounter()
    is_ndjson = any(name == b"content-type" and b"ndjson" in value.lower() for name, value in headers)
    return LineCounter() if is_ndjson else None


class LineCounter:
    """The lines of an NDJSON body that are not blank, counted part by part, each with its first byte.

    >>> counter = LineCounter()
    >>> [counter.count(part) for part in (b'{"a":', b' 1}', b'\\n\\n{"a": 2}\\n{}')]
    [1, 0, 2]
    """

    def __init__(self) -> None:
        self._is_counted = False  # this line

    def count(self, part: bytes) -> int:
        """Return how many lines begin in the next part of the body."""
        first, *others = part.split(b"\n")
        lines = int(not self._is_counted and bool(first.strip()))
        self._is_counted = self._is_counted or bool(lines)
        if others:
            lines += sum(bool(line.strip()) for line in others)
            self._is_counted = bool(others[-1].strip())
        return lines


class ActionCounter:
    """The actions of an NDJSON body, counted part by part, wherever a part begins or ends.

    >>> counter = ActionCounter()
    >>> [counter.count(part) for part in (b'{"index":', b'{}}\\n{"a": 1}', b'\\n{"delete": {}}\\n{"index": {}}\\n')]
    [1, 0, 2]
    """

    def __init__(self) -> None:
        self._is_source = False  # this line, or the next one, is the source of the action before it
        self._line = b""  # the beginning of this line, as far as it is known

    def count(self, part: bytes) -> int:
        """Return how many actions begin in the next part of the body."""
        actions, at, end = 0, 0, len(part)
        while at < end:
            newline = part.find(b"\n", at)
            stop = end if newline < 0 else newline
            if not self._is_source and len(self._line) < BEGINNING:
                actions += self._read(part[at:stop])
            if newline < 0:
                break
            self._is_source = not self._is_source and bool(self._line) and DELETE.match(self._line) is None
            self._line = b""
            at = newline + 1
        return actions

    def _read(self, piece: bytes) -> bool:
        """Read on in the line of an action, and return whether the action begins here."""
        is_first = not self._line
        self._line = (self._line + (piece.lstrip() if is_first else piece))[:BEGINNING]
        return is_first and bool(self._line)


class InflatedCounter:
    """What `counter` finds in a compressed body. A small piece is in memory at a time, however far it expands."""

    def __init__(self, counter: ActionCounter | LineCounter) -> None:
        self._counter, self._inflate = counter, zlib.decompressobj(ANY_WINDOW)

    def count(self, part: bytes) -> int:
        """Return what the counter finds in the next part. Raise a problem where it cannot be decompressed."""
        try:
            return sum(self._counter.count(piece) for piece in self._inflated(part))
        except zlib.error:
            raise ProxyProblem(HTTPStatus.BAD_REQUEST, texts.BROKEN_BODY) from None

    def _inflated(self, part: bytes) -> Iterator[bytes]:
        while part:
            yield self._inflate.decompress(part, INFLATED)
            part = self._inflate.unconsumed_tail
            if self._inflate.eof:  # a gzip file may have several members
                part, self._inflate = self._inflate.unused_data, zlib.decompressobj(ANY_WINDOW)

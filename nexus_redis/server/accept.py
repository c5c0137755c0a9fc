"""What a caller wants to read, by the qualities of its `Accept` header (RFC 9110, section 12.5.1).

application/msgpack                     msgpack
application/msgpack, */*                msgpack, which is named, while JSON is only not excluded
application/msgpack, application/json   JSON: both are named, and JSON is the form that this server prefers
application/msgpack;q=0                 JSON
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple


class Wish(NamedTuple):
    """How much a caller wants a media type. Of two equal qualities, that of the type that is named counts for more."""

    quality: float
    precision: int


NOT_WANTED: Final = Wish(0.0, -1)


@lru_cache(256)
def prefers(accept: bytes, names: Sequence[bytes], default: bytes) -> bool:
    """Return whether a caller wants a type that has these names rather than the default one."""
    ranges = [_range(each) for each in accept.lower().split(b",")]
    return max(_wish(ranges, name) for name in names) > _wish(ranges, default)


def _wish(ranges: list[tuple[bytes, float]], name: bytes) -> Wish:
    """Return the wish of the most precise range that a type is in."""
    patterns = [b"*/*", name.partition(b"/")[0] + b"/*", name]
    found = [Wish(quality, patterns.index(each)) for each, quality in ranges if each in patterns]
    wish = max(found, key=lambda wish: wish.precision, default=NOT_WANTED)
    return wish if wish.quality else NOT_WANTED


def _range(text: bytes) -> tuple[bytes, float]:
    name, *parameters = (part.strip() for part in text.split(b";"))
    for each in parameters:
        key, _, value = each.partition(b"=")
        if key.strip() == b"q":
            return name, _quality(value)
    return name, 1.0


def _quality(value: bytes) -> float:
    try:
        return min(1.0, max(0.0, float(value)))
    except ValueError:  # what is not a number excludes nothing
        return 1.0

"""Redis' own protocol, as far as a command line needs it: a command out, an answer in RESP2 back."""

from collections.abc import Sequence
from typing import IO, Any


class Status(str):
    """A short answer like OK, which is not quoted."""

    __slots__ = ()


class Failure(str):
    """An error that Redis answered."""

    __slots__ = ()


def written(words: Sequence[bytes]) -> bytes:
    """A command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def read(stream: IO[bytes]) -> Any:
    """One answer in RESP2: int, bytes, None, list, Status or Failure."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the connection was closed before the answer came")
    kind, rest = line[:1], line[1:-2]
    match kind:
        case b"+":
            return Status(rest.decode("utf-8", "replace"))
        case b"-":
            return Failure(rest.decode("utf-8", "replace"))
        case b":":
            return int(rest)
        case b"$" if int(rest) >= 0:
            text = stream.read(int(rest) + 2)
            if len(text) < int(rest) + 2:
                raise ConnectionError("the connection was closed in the middle of an answer")
            return text[:-2]
        case b"*" if int(rest) >= 0:
            return [read(stream) for _ in range(int(rest))]
        case b"$" | b"*":
            return None
    raise ConnectionError(f"an answer that is not Redis's: {line[:40]!r}")

"""RESP2, the protocol of Redis, as far as the command line needs it: encode a command, read an answer."""

from typing import IO, Any

from nexus_redis.cli import texts


class Status(str):
    """A short answer like OK, which redis-cli prints without quotes."""

    __slots__ = ()


class Failure(str):
    """An error as Redis answers it."""

    __slots__ = ()


def encode(*words: str | float | bytes) -> bytes:
    """Return a command as it is sent.

    >>> encode("GET", "a")
    b'*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n'
    """
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def read(stream: IO[bytes]) -> Any:
    """Read one answer: int, bytes, None, list, Status or Failure."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError(texts.CONNECTION_CLOSED)
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
                raise ConnectionError(texts.CONNECTION_CLOSED)
            return text[:-2]
        case b"*" if int(rest) >= 0:
            return [read(stream) for _ in range(int(rest))]
        case b"$" | b"*":
            return None
    raise ConnectionError(texts.not_redis(repr(line[:40])))

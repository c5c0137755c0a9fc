"""The bodies of requests and answers: strict JSON, or msgpack, each as its `Content-Type` and `Accept` say."""

from __future__ import annotations

import json
from typing import Any, Final

import msgpack

from nexus_redis._values.error_texts import NOT_A_MESSAGE
from nexus_redis._values.formatting import whole
from nexus_redis.errors import InvalidSetting
from nexus_redis.messages import read_json, read_msgpack
from nexus_redis.server import texts
from nexus_redis.server.accept import prefers
from nexus_redis.server.problems import Problem

JSON: Final = b"application/json"
MSGPACK: Final = b"application/msgpack"
_MSGPACK_NAMES: Final = (MSGPACK, b"application/x-msgpack", b"application/vnd.msgpack")


_to_json: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def media_type(header: bytes) -> bytes:
    """Return the media type of a header without its parameters, in lower case."""
    return header.partition(b";")[0].strip().lower()


def decode(body: bytes, content_type: bytes) -> dict[str, Any]:
    """Return the fields of a body. An empty body has none. Raise `InvalidSetting`, or a `Problem` for another type."""
    kind = media_type(content_type)
    if not (body or kind):
        return {}
    reader = read_msgpack if kind in _MSGPACK_NAMES else read_json if kind == JSON else None
    if reader is None:
        raise Problem("wrong-content-type", texts.wrong_content_type(content_type.decode("latin-1")))
    try:
        return reader(body) if body else {}
    except InvalidSetting as error:
        if error.remedy == NOT_A_MESSAGE:  # that of the protocol
            raise InvalidSetting("body", remedy=texts.NOT_AN_OBJECT) from None
        raise


def encode(value: Any, accept: bytes) -> tuple[bytes, bytes]:
    """Return the body of an answer and its media type: msgpack only if the caller wants it rather than JSON."""
    if accept and prefers(accept, _MSGPACK_NAMES, JSON):
        packed: bytes = msgpack.packb(whole(value))
        return packed, MSGPACK
    return _to_json(whole(value)).encode(), JSON

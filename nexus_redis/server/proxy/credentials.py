"""The credentials with which the proxy reads statistics. They are sent for nothing else, and never logged."""

from __future__ import annotations

import base64
from pathlib import Path

from nexus_redis.errors import InvalidSetting
from nexus_redis.server.proxy import texts


def authorization_of(path: Path) -> str:
    """Return the value of `Authorization` that a file stands for. Raise `InvalidSetting` for another content.

    The file has one line: `user:password`, or `ApiKey` and the encoded key as Elasticsearch gives it.
    """
    try:
        line = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else None
        raise InvalidSetting("stats_credentials", str(path), texts.credentials_unreadable(cause)) from None
    scheme, _, key = line.partition(" ")
    if scheme.lower() == "apikey" and key.isascii() and key.isprintable() and key.strip():
        return f"ApiKey {key.strip()}"
    if ":" in line and line.isprintable():
        return f"Basic {base64.b64encode(line.encode()).decode()}"
    raise InvalidSetting("stats_credentials", str(path), texts.CREDENTIALS)

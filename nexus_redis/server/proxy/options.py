"""The options of the proxy, checked where they are made. They are plain values, so that workers inherit them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from yarl import URL

from nexus_redis.errors import InvalidSetting
from nexus_redis.extending import parse_seconds
from nexus_redis.server.options import Limits
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.credentials import authorization_of

COSTS: Final = ("requests", "bytes", "lines")
STATS: Final = ("elasticsearch",)
WHOLE_BYTES: Final = 1 << 20
HELD_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """What is paced, by which budget, and how.

    `upstream` is an `http` or `https` address. A path in it is put before the path of each request. `rate` makes the
    budget a plain limit; without one, the laws find the rate from what the upstream answers. `cost` says what a request
    costs: one token (`requests`), one for each byte of its body (`bytes`), or one for each action of a bulk and each
    line of another NDJSON body (`lines`). A request waits at most `wait_s` for its tokens. A body of up to
    `whole_bytes` is paid for as a whole before any of it is passed on; a larger one is paid for part by part.
    `connect_s` bounds a connection to the upstream, and `silence_s` the time in which neither side sends anything.
    `stop_s` is for requests in progress when the proxy stops. `keep_host` passes on the client's `Host`. `stats` names
    the kind of upstream whose queue is read. `stats_credentials` is a file with the credentials for that, and for
    nothing else. All bodies that are read ahead have `held_bytes` at most; a request beyond that is refused.

    With `upstream="http://es:9200/logs"`, a request for `/_bulk` goes to `http://es:9200/logs/_bulk`.
    """

    upstream: str
    budget: str
    key: str | None = None
    rate: float | str | None = None
    cost: str = "requests"
    wait_s: float = 30.0
    whole_bytes: int = WHOLE_BYTES
    held_bytes: int = HELD_BYTES
    connect_s: float = 5.0
    silence_s: float = 60.0
    stop_s: float = 3.0
    keep_host: bool = False
    stats: str | None = None
    stats_credentials: Path | None = None
    limits: Limits = field(default_factory=lambda: Limits(header_bytes=65_536))

    def __post_init__(self) -> None:
        """Raise `InvalidSetting` for an address or a word that cannot be used."""
        checked_url(self.upstream)
        if self.cost not in COSTS:
            raise InvalidSetting("cost", self.cost, texts.one_of(COSTS))
        if self.stats is not None and self.stats not in STATS:
            raise InvalidSetting("stats", self.stats, texts.one_of(STATS))
        if self.stats_credentials is not None:
            if self.stats is None:
                raise InvalidSetting("stats_credentials", str(self.stats_credentials), texts.ONLY_WITH_STATS)
            authorization_of(self.stats_credentials)
        if self.whole_bytes < 1:
            raise InvalidSetting("whole_bytes", self.whole_bytes, texts.AT_LEAST_A_BYTE)
        for name in ("wait_s", "connect_s", "silence_s", "stop_s"):
            parse_seconds(getattr(self, name), name)

    @property
    def url(self) -> URL:
        """Return the address of the upstream, without a slash at its end."""
        url = checked_url(self.upstream)
        return URL.build(scheme=url.scheme, authority=url.raw_authority, path=url.raw_path.rstrip("/"), encoded=True)


def checked_url(upstream: str) -> URL:
    """Return an address, or raise `InvalidSetting` for one that cannot be an upstream."""
    try:
        url = URL(upstream)
        url.port  # noqa: B018  # raises ValueError for a port out of range
    except ValueError:
        raise InvalidSetting("upstream", upstream, texts.NO_ADDRESS) from None
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise InvalidSetting("upstream", upstream, texts.NO_ADDRESS)
    if url.user is not None or url.password is not None:
        raise InvalidSetting("upstream", upstream, texts.PASSWORD_IN_ADDRESS)
    if url.raw_query_string or url.raw_fragment:
        raise InvalidSetting("upstream", upstream, texts.QUERY_IN_ADDRESS)
    return url

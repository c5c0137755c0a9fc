"""A test kit for users' own code: a real server, a Nexus on it, and a check of what was sent.

    pytest_plugins = ["nexus_redis.testing"]  # in conftest.py

    def test_we_keep_stripes_limit(nexus: Nexus) -> None:
        log = [(time.monotonic(), 1.0) for _ in nexus.budget("stripe", rate="50/s").pace(range(100))]
        assert_never_exceeded(log, "50/s")

`nexus_server` is a real server from a wheel (the extra `embedded`), started once in a test session and empty for each
test. NEXUS_REDIS_URL has its address, so code that calls `Nexus.from_url()` finds it. `nexus` is a Nexus on that
server, closed after the test. With `clock`, the test controls the time: hours of a budget's life take moments. The
fixtures are for pytest. `ManualClock`, `NexusServer` and `assert_never_exceeded` work with any test runner, also
without pytest. `docs/testing.md` shows each in use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

import redis

from nexus_redis._protocol.calls import DEFAULT_BURST, LEASE
from nexus_redis._redis import embedded
from nexus_redis._values import error_texts
from nexus_redis._values.settings import parse_rate
from nexus_redis.client import Nexus
from nexus_redis.errors import InvalidSetting
from nexus_redis.testing.clock import ManualClock

try:
    import pytest
except ModuleNotFoundError:  # another runner
    HAS_PYTEST = False
else:
    HAS_PYTEST = True

__all__ = ["ManualClock", "NexusServer", "assert_never_exceeded"]

ROUNDING: Final = 1e-6  # a micro-token, the smallest amount there is


class NexusServer:
    """A server for tests, at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def flush(self) -> None:
        """Delete all data, as a restart without persistence does: budgets start again and learn for a lease."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def __repr__(self) -> str:
        return f"<NexusServer {self.url}>"


if HAS_PYTEST:
    __all__ += ["clock", "nexus", "nexus_server"]

    @pytest.fixture(scope="session")
    def _nexus_embedded() -> Iterator[embedded.EmbeddedServer]:
        server = embedded.acquire("embedded://").start()
        yield server
        server.stop()

    @pytest.fixture
    def nexus_server(_nexus_embedded: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> NexusServer:
        """Yield an empty real server; NEXUS_REDIS_URL has its address during the test."""
        server = NexusServer(_nexus_embedded.url)
        server.flush()
        monkeypatch.setenv("NEXUS_REDIS_URL", server.url)
        return server

    @pytest.fixture
    def clock() -> Iterator[ManualClock]:
        """Yield the clock of each Nexus of the test. It goes on while a caller waits, and by `clock.advance(3600)`."""
        with ManualClock() as clock:
            yield clock

    @pytest.fixture
    def nexus(nexus_server: NexusServer, request: pytest.FixtureRequest) -> Iterator[Nexus]:
        """Yield a Nexus on `nexus_server`; its tokens go back and its thread ends with the test."""
        if "clock" in request.fixturenames:  # the clock must be set first, whatever the order of the test's arguments
            request.getfixturevalue("clock")
        with Nexus.from_url(nexus_server.url) as nexus:
            yield nexus


def _checked(log: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    for at, tokens in log:
        if not (math.isfinite(at) and math.isfinite(tokens) and tokens >= 0):
            raise InvalidSetting("log", (at, tokens), error_texts.MALFORMED_LOG)
        yield at, tokens


def assert_never_exceeded(
    log: Iterable[tuple[float, float]],
    rate: float | str,
    *,
    burst: float = DEFAULT_BURST,
    lease: float = LEASE,
    largest: float = 0.0,
) -> float:
    """Check a log of (time in seconds, tokens): no window of any length held more than the budget allows. O(n log n).

    For any two entries, the tokens between them, both included, are at most

        1 + burst x rate + rate x (seconds between them + lease) + largest

    which is guarantee G2. `burst` is that of the budget (seconds of its rate). `lease` is the time after a grant in
    which its tokens may be spent (0 checks the grants themselves). `largest` is the sum of the producers' largest
    single costs, if these are above 1. At 100/s, a window of one second may hold 1 + 25 + 150 = 176 tokens, and one of
    an hour 360,076. Give the times at which the work was sent, all by one clock. Put the logs of several processes into
    one.

    Returns the number of tokens by which the fullest window was below the bound. Raises `AssertionError`, which names
    that window, and `InvalidSetting` for a value that is not a rate.
    """
    per_s = parse_rate(rate, "rate")
    for field, value in (("burst", burst), ("lease", lease), ("largest", largest)):
        if not (math.isfinite(value) and value >= 0):
            raise InvalidSetting(field, value, error_texts.TOO_LOW)
    depth = 1 + (burst + lease) * per_s + largest
    # The fullest window that ends here began at the lowest point so far of (tokens before - tokens earned).
    total, lowest, since, before = 0.0, math.inf, 0.0, 0.0
    spare, worst = depth, (0.0, 0.0, 0.0)
    for at, tokens in sorted(_checked(log)):
        if total - per_s * at < lowest:
            lowest, since, before = total - per_s * at, at, total
        total += tokens
        left = depth - (total - per_s * at - lowest)
        if left < spare:
            spare, worst = left, (since, at, total - before)
    if spare < -ROUNDING:
        first, last, held = worst
        allowed = depth + per_s * (last - first)
        raise AssertionError(error_texts.budget_exceeded(held, first, last, allowed, per_s, burst, lease))
    return spare

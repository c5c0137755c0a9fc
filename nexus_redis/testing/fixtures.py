"""What users test their own code with: a real server, a Nexus on it, and a judge of what went out.

    pytest_plugins = ["nexus_redis.testing"]  # in conftest.py

    def test_we_keep_stripes_limit(nexus: Nexus) -> None:
        log = [(time.monotonic(), 1.0) for _ in nexus.budget("stripe", rate="50/s").pace(range(100))]
        assert_never_exceeded(log, "50/s")

`nexus_server` is a real server out of a wheel (the extra `embedded`), started once in a test session and empty for each
test; NEXUS_REDIS_URL points at it, so code that calls `Nexus.from_url()` finds it. `nexus` is a Nexus on it, closed
after the test. With `clock`, time is the test's: hours of a budget's life take moments. The fixtures are for pytest.
`ManualClock`, `NexusServer` and `assert_never_exceeded` work with any test runner, and where pytest is not installed.
`docs/testing.md` shows each in use.
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
    """A server of one's own, at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def flush(self) -> None:
        """Forget everything, as a server does that was restarted: budgets start anew and learn for a lease."""
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
        """A real server, empty; NEXUS_REDIS_URL has its address for the length of the test."""
        server = NexusServer(_nexus_embedded.url)
        server.flush()
        monkeypatch.setenv("NEXUS_REDIS_URL", server.url)
        return server

    @pytest.fixture
    def clock() -> Iterator[ManualClock]:
        """Time that goes on while somebody waits, and by `clock.advance(3600)`: for each Nexus that the test makes."""
        with ManualClock() as clock:
            yield clock

    @pytest.fixture
    def nexus(nexus_server: NexusServer, request: pytest.FixtureRequest) -> Iterator[Nexus]:
        """A Nexus on `nexus_server`; its tokens go back and its thread ends with the test."""
        if "clock" in request.fixturenames:  # wherever it stands among the test's arguments, it comes first
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
    """Judge a log of (time in seconds, tokens): no window of any length held more than the budget allows. O(n log n).

    Like a bucket seen from below: whatever two entries one picks, the tokens between them, both included, are at most

        1 + burst x rate + rate x (seconds between them + lease) + largest

    which is guarantee G2: `burst` as the budget has it (seconds of its rate), `lease` since tokens may be spent that
    long after they were granted (0 judges the grants themselves), `largest` the sum of the producers' largest single
    costs where these are above 1. At 100/s a window of one second may hold 1 + 25 + 150 = 176 tokens, one of an hour
    360,076. Give the time at which the work went out, by one clock; of logs of several processes, all in one.

    Returns how many tokens the fullest window was below the bound. Raises `AssertionError` that names that window, and
    `InvalidSetting` for a rate that is none.
    """
    per_s = parse_rate(rate, "rate")
    for field, value in (("burst", burst), ("lease", lease), ("largest", largest)):
        if not (math.isfinite(value) and value >= 0):
            raise InvalidSetting(field, value, error_texts.TOO_LOW)
    depth = 1 + (burst + lease) * per_s + largest
    # The lowest point so far of (tokens before - what was earned) is where the fullest window that ends here began.
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
        raise AssertionError(
            f"{held:g} tokens within {last - first:.3g} s (from {first:.3f} to {last:.3f}): {allowed:.6g} are allowed, "
            f"at {per_s:g}/s with a burst of {burst:g} s and a lease of {lease:g} s"
        )
    return spare

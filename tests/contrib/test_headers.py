"""What a response says about its server's limit."""

from __future__ import annotations

import pytest

from nexus_redis.contrib._headers import Told, told_to_wait

DATE = "Mon, 23 Nov 2026 19:00:00 GMT"  # the server's clock; 1795460400 s since 1970


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"Retry-After": "7"}, 7),
        (503, {"retry-after": " 7.5 "}, 7.5),
        (429, {"Retry-After": "Mon, 23 Nov 2026 19:00:30 GMT", "Date": DATE}, 30),
        (503, {"Retry-After": "Mon, 23 Nov 2026 19:00:30 -0000", "Date": DATE}, 30),
        (429, {"Retry-After": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}, 7),
        (429, {"x-ratelimit-reset": "60"}, 60),
        (429, {"RateLimit-Reset": "60"}, 60),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "12"}, 12),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795460412", "date": DATE}, 12),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795460412000", "date": DATE}, 12),
        (200, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        (200, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        (200, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        (
            429,
            {
                "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6s",
            },
            6,
        ),
        (429, {"Retry-After": "31536000"}, 86_400),
    ],
)  # fmt: skip
def test_what_is_said_is_read(status: int, headers: dict[str, str], seconds: float) -> None:
    told = told_to_wait(status, headers)
    assert told is not None
    assert told.seconds == pytest.approx(seconds)
    assert told.why.startswith(str(status))


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {}),
        (200, {"Retry-After": "7"}),
        (301, {"Retry-After": "7"}),
        (429, {"Retry-After": "0"}),
        (429, {"Retry-After": "-7"}),
        (429, {"Retry-After": "soon"}),
        (429, {"Retry-After": "nan"}),
        (429, {"Retry-After": "1e400"}),
        (429, {"Retry-After": "9" * 5000}),
        (429, {"Retry-After": "\u0667"}),
        (429, {"Retry-After": "Mon, 99 Nov 2026 99:00:30 GMT"}),
        (429, {"Retry-After": "Mon, 23 Nov 2026 18:59:00 GMT", "Date": DATE}),
        (200, {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "60"}),
        (200, {"x-ratelimit-remaining": "0"}),
        (200, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-requests": "6s"}),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "6 parsecs"}),
        (403, {"x-ratelimit-reset": "60"}),
    ],
)
def test_what_is_not_said_is_not_guessed(status: int, headers: dict[str, str]) -> None:
    assert told_to_wait(status, headers) is None


def test_the_reason_names_the_header() -> None:
    assert told_to_wait(429, {"Retry-After": "7"}) == Told(7, "429 Retry-After: 7")

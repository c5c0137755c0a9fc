"""What a response says about its server's limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from nexus_redis.contrib._retry_after import RequestedWait, requested_wait

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
        # as Azure and the OpenAI clients have it: the most exact one counts
        (429, {"retry-after-ms": "120", "retry-after": "1"}, 0.12),
        (503, {"Retry-After-MS": "1500.5"}, 1.5005),
        (429, {"x-ms-retry-after-ms": "40"}, 0.04),
        (429, {"retry-after-ms": "soon", "retry-after": "2"}, 2),
        (429, {"retry-after": "soon", "x-ratelimit-reset": "3"}, 3),
        # Discord: the one that needs no clock counts
        (429, {"X-RateLimit-Reset-After": "0.334", "X-RateLimit-Reset": "1795460999.1", "Date": DATE}, 0.334),
        (200, {"x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "1.5", "x-ratelimit-reset": "60"}, 1.5),
        (200, {"x-ratelimit-remaining-day": "0", "x-ratelimit-reset-after-day": "7"}, 7),
        # Anthropic: RFC 3339, the subject in the middle
        (
            200,
            {
                "anthropic-ratelimit-requests-remaining": "4",
                "anthropic-ratelimit-requests-reset": "2026-11-23T20:00:00Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-23T19:00:08Z", "date": DATE,
            },
            8,
        ),
        (
            429,
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-11-23T21:00:08.5+02:00", "date": DATE,
            },
            8.5,
        ),
        # other names of the same kind
        (429, {"x-rate-limit-remaining": "0", "x-rate-limit-reset": "1795460430", "date": DATE}, 30),
        (200, {"x-acme-ratelimit-burst-remaining": "0", "x-acme-ratelimit-burst-reset": "4"}, 4),
        # draft-ietf-httpapi-ratelimit-headers, from version 08 on
        (200, {"RateLimit": '"default";r=0;t=30'}, 30),
        (429, {"RateLimit": '"a b, c;r=1";pk=:cHsdsRa894==:;r=0;t=6 , "day";r=0;t=3600,"hour";r=3;t=9999'}, 3600),
        (429, {"RateLimit": '"day";t=5;r=0;acme-note="r=1, \\"so\\""'}, 5),
        (429, {"RateLimit": '"default";r=0;t=30', "Retry-After": "31"}, 31),
        # and before
        (200, {"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        (200, {"Age": "0", "RateLimit": "daily;r=0;t=7"}, 7),
        (429, {"Age": "12", "Retry-After": "7"}, 7),  # a refusal counts whatever its age
    ],
)  # fmt: skip
def test_wait(status: int, headers: dict[str, str], seconds: float) -> None:
    """These responses ask for a wait of so many seconds."""
    wait = requested_wait(status, headers)
    assert wait is not None
    assert wait.seconds == pytest.approx(seconds)
    assert wait.header.startswith(str(status))


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
        (200, {"retry-after-ms": "120"}),
        (429, {"retry-after-ms": "0"}),
        (429, {"retry-after-ms": "-5"}),
        (429, {"Retry-After": "0", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}),
        (200, {"x-ratelimit-reset-after": "3"}),
        (
            200,
            {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-11-99T19:00:08Z"},
        ),
        (200, {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-requests-reset": "9"}),
        (200, {"remaining": "0", "reset": "9"}),
        (200, {"x-storage-remaining": "0", "x-storage-reset": "9"}),
        (200, {"RateLimit": '"default";r=1;t=30'}),
        (200, {"RateLimit": '"default";r=0'}),
        (200, {"RateLimit": '"default";r=0;t=30,'}),
        (200, {"RateLimit": '"default;r=0;t=30'}),
        (200, {"RateLimit": '"default" r=0;t=30'}),
        (200, {"RateLimit": '"default";r=0;t=30, @'}),
        (200, {"RateLimit": '"default";R=0;t=30'}),
        (200, {"RateLimit": '"default";note="r=0;t=30"'}),
        (200, {"RateLimit": "limit=100, remaining=2, reset=50"}),
        (200, {"RateLimit-Policy": '"default";q=0;w=30'}),
        (200, {"Age": "12", "RateLimit": '"default";r=0;t=30'}),  # out of a cache
    ],
)
def test_no_wait(status: int, headers: dict[str, str]) -> None:
    """These responses ask for no wait: a limit is not guessed."""
    assert requested_wait(status, headers) is None


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, RequestedWait(7, "429 Retry-After: 7")),
        ({"retry-after-ms": "120"}, RequestedWait(0.12, "429 retry-after-ms: 120")),
        ({"ratelimit": '"day";r=0;t=5'}, RequestedWait(5, '429 RateLimit: "day";r=0;t=5')),
        ({"x-ratelimit-reset-after": "5"}, RequestedWait(5, "429 x-ratelimit-reset-after: 5")),
    ],
)
def test_header(headers: dict[str, str], wait: RequestedWait) -> None:
    """The wait names the header that asks for it."""
    assert requested_wait(429, headers) == wait


def test_split_list() -> None:
    """A list that is split over several fields is read as one."""
    split: Any = CIMultiDict([("RateLimit", '"hour";r=4;t=900'), ("ratelimit", '"second";r=0;t=1')])
    assert requested_wait(200, split) == RequestedWait(1, '200 RateLimit: "hour";r=4;t=900, "second";r=0;t=1'[:60])


@given(st.text(alphabet='";=, rt0123456789:abc\\?*-._', max_size=60))
def test_any_text(text: str) -> None:
    """Every text that a server may send is read or ignored."""
    for name in ("RateLimit", "Retry-After", "retry-after-ms", "x-ratelimit-reset"):
        wait = requested_wait(429, {name: text, "x-ratelimit-remaining": "0"})
        assert wait is None or 0 < wait.seconds <= 86_400


def test_hostile_fields() -> None:
    """A field that is made to take long does not take long."""
    for text in ('"' * 20_000, ";r=0" * 20_000, '"a";r' * 20_000, '"a"' + ";r=0" * 20_000 + "!", "a," * 20_000):
        requested_wait(200, {"RateLimit": text, "ratelimit-" * 2_000 + "remaining": "0", "a-" * 20_000: "0"})

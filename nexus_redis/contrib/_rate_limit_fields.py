"""The fields `RateLimit-Policy` and `RateLimit`, by which an application tells its clients what the budget is.

They have the form of draft-ietf-httpapi-ratelimit-headers-11. With 100/s, and with 6/min of which one is used:

    RateLimit-Policy: "visitors";q=100;w=1      RateLimit: "visitors";r=100;t=1      100 requests in each second
    RateLimit-Policy: "visitors";q=6;w=60       RateLimit: "visitors";r=0;t=10       none in the next ten seconds

The policy is the budget's rate, in whole requests in whole seconds. The other field says what this process knows
without asking Redis: `r` requests can be served in the next `t` seconds. `r` is 0 only where the next request would
wait for a second or longer, because a client may stop sending at 0. Both fields count requests of one token each, and
a request that costs more uses up more of them. The name is that of the budget, and for a per-key budget that of its
parent, because a key may be a secret.
"""

from __future__ import annotations

import math
from typing import Final

WINDOWS: Final = (1, 60, 3_600, 86_400)  # seconds
EXACT: Final = 0.01  # of the rate: the error that a policy in whole requests may have before a longer window is better
MICRO: Final = 1_000_000
NOISE_DIGITS: Final = 3  # decimals of a millionth that a rate like 0.1 + 0.2 keeps: what follows is float noise

Fields = list[tuple[str, str]]


def rate_limit_fields(name: str, rate: float, wait: float) -> Fields:
    """Return the fields for a budget of `rate` tokens per second where the next request waits for `wait` seconds.

    >>> rate_limit_fields("visitors", 6 / 60, 10)
    [('RateLimit-Policy', '"visitors";q=6;w=60'), ('RateLimit', '"visitors";r=0;t=10')]
    """
    if rate <= 0:
        return [("RateLimit", f'"{name}";r=0;t={math.ceil(wait)}')]
    quota, window = policy(rate)
    left, seconds = 0, math.ceil(wait)
    if wait < 1:  # a client that waits for less than a second is not told to wait for a whole one
        left, seconds = min(quota, 1 + math.floor(rate * (window - wait))), window
    return [  # no character of a name needs quoting
        ("RateLimit-Policy", f'"{name}";q={quota};w={window}'),
        ("RateLimit", f'"{name}";r={left};t={seconds}'),
    ]


def policy(rate: float) -> tuple[int, int]:
    """Return whole requests in whole seconds, never more than the rate, in the shortest usual window that fits.

    >>> policy(100), policy(1.5), policy(1 / 6), policy(5 / 86_400)
    ((100, 1), (90, 60), (10, 60), (5, 86400))
    """
    millionths = math.ceil(round(rate * MICRO, NOISE_DIGITS))  # a budget keeps its rate so: 20/60 is 333,334 of them
    for window in WINDOWS:
        quota, rest = divmod(millionths * window, MICRO)
        if quota >= 1 and rest <= EXACT * quota * MICRO:
            return quota, window
    return (quota, window) if quota else (1, math.ceil(MICRO / millionths))

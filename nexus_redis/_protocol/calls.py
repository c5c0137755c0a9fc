"""One function for each script: the keys and arguments of its call, and how to read the reply. No I/O, no redis-py.

`_redis/execute.py` runs a `Call` (EVALSHA, or EVAL if the server does not know the script) and passes the reply to
`decode`. Amounts are whole micro-tokens from here on, so that sums are exact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nexus_redis import errors
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Argument, Call
from nexus_redis._protocol.scripts import script
from nexus_redis._values import error_texts
from nexus_redis._values.parse import micro_rate
from nexus_redis.errors import InvalidSetting

if TYPE_CHECKING:
    from nexus_redis._values.settings import BudgetSettings

REFRESH: Final = 0.1  # seconds between two claims of a producer, until an answer gives another time
LEASE: Final = 0.5  # seconds between a grant and the last use of its tokens, also until an answer gives another time
LONGEST_TRIP: Final = 1.0  # seconds, at most, by which a lease is longer if Redis is far away
DEFAULT_BURST: Final = 0.25  # seconds of its rate that a budget lets go at once, unless it is told otherwise
FALL: Final = 0.9  # a rate of at most this part of the rate before is a drop, and listeners are told at once
UNTIL_RESUMED: Final = -1.0
LONGEST_NOTE: Final = errors.LONGEST_NOTE  # by their names here until `cli` takes them from there
LONGEST_WHO: Final = errors.LONGEST_WHO
MOST_MICRO: Final = 10**16  # of a rate or an amount, in any argument and message


class Damage(NamedTuple):
    """State that cannot be read: a field of a key, or, if the field is empty, the whole key."""

    key: str
    field: str


class Claim(NamedTuple):
    """The arguments of a claim, in micro-tokens (per second); lua/claim.lua explains each."""

    need: int = 0
    tokens: int = 0
    requested_rate: int = 0
    whole: bool = False
    held: int = 0
    unused: int = 0
    burned: int = 0
    weight: int = 1_000_000
    priority: str = "normal"
    incarnation: str = ""
    seq: int = 0
    birth: str = ""
    granted_total: int = 0
    trip: int = 0  # microseconds of a round trip, if Redis is far away, else 0
    fallback_rate: int = 0  # the rest of the rate that the last answer named
    degraded: int = 0  # tokens admitted while Redis was away, and not reported yet


class Answer(NamedTuple):
    """The answer to a claim, in micro-tokens (per second) and seconds."""

    granted: int
    retry_after: float
    lease: float
    refresh: float
    recommended_rate: int
    fallback_rate: int
    budget_rate: int
    level: int
    load: float
    granted_total: int
    birth: str
    reason: str
    is_lossless: bool
    burst: int
    wait: float  # until the need will be met at the present rate, which may be seconds after `retry_after`

    @property
    def speed(self) -> int:
        """Return the rate of tokens here: the budget's, or this producer's part of it if there is contention."""
        return (self.reason == "contended" and self.recommended_rate) or self.budget_rate


class Drop(NamedTuple):
    """The message that is published when a budget's rate falls, or rises from 0; in micro-tokens per second."""

    birth: str
    granted_total: int  # at that moment: an answer with a larger count is newer
    budget_rate: int
    level: int
    reason: str


def dropped(message: bytes | str) -> Drop:
    """Read a message of a budget's channel; raise ValueError or LookupError if it is not one."""
    words = text(message).split()
    drop = Drop(words[0], int(words[1]), int(words[2]), int(words[3]), words[4])
    if not (0 <= drop.budget_rate <= MOST_MICRO and 0 <= drop.level <= 3):
        raise ValueError(message)
    return drop


def flow_fields(name: str, answer: Answer) -> dict[str, Any]:
    """Return a claim's answer as the fields of a FlowControl."""
    return {
        "consumer_id": name,
        "recommended_rate": answer.recommended_rate / 1e6,
        "backpressure_level": answer.level,
        "current_load": answer.load,
        "granted": answer.granted / 1e6,
        "lease_ms": answer.lease * 1e3,
        "refresh_ms": answer.refresh * 1e3,
        "retry_after_ms": answer.retry_after * 1e3,
        "budget_rate": answer.budget_rate / 1e6,
        "fallback_rate": answer.fallback_rate / 1e6,
        "birth": answer.birth,
        "granted_total": answer.granted_total,
        "reason": answer.reason,
    }


class Standing(NamedTuple):
    """The answer to a report; rates are in tokens per second, and the capacity is None while it is unknown."""

    rate: float
    capacity: float | None
    budget_rate: float
    level: int
    load: float
    birth: str
    law: str
    reason: str


class Configured(NamedTuple):
    """A budget after `configure`; `overruled` names the code's settings that an operator's values hide."""

    rate: float
    level: int
    reason: str
    birth: str
    changed: tuple[str, ...]
    overruled: tuple[str, ...]


class Inspection(NamedTuple):
    """A budget at one instant; members have the score of their sorted set (seconds of the server's clock)."""

    now: float
    fields: dict[str, str]
    consumers: dict[str, float]
    producers: dict[str, float]
    consumer_count: int
    producer_count: int
    live: frozenset[str]


def text(value: bytes | str) -> str:
    """Return a reply as text, whether the client decodes or not, and whatever bytes others have written."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def claim(
    keys: BudgetKeys, producer_id: str, ask: Claim, at_us: int = 0, *, with_all_keys: bool = False
) -> Call[Answer]:
    """Ask for tokens, with the few keys that nearly all claims need, or, after NEXUS_NEEDS_KEYS, with all keys."""
    shared = keys.shared if with_all_keys else (keys.budget, keys.state, keys.producers)
    named = (*shared, keys.producer(producer_id), keys.producer_state(producer_id))
    said = json.dumps([int(word) if isinstance(word, bool) else word for word in ask], separators=(",", ":"))
    return Call(script("claim"), named, (at_us, said), _answer, ask)


def _answer(reply: bytes | str) -> Answer:
    r = text(reply).split()
    return Answer(
        int(r[0]), int(r[1]) / 1e6, int(r[2]) / 1e6, int(r[3]) / 1e6, int(r[4]), int(r[5]), int(r[6]), int(r[7]),
        int(r[8]) / 1e3, int(r[9]), r[10], r[11], r[12] == "1", int(r[13]),
        int(r[14] if len(r) > 14 else r[1]) / 1e6,
    )  # fmt: skip


REPORTED: Final = (
    "uptime_ms", "load", "capacity", "queue_depth", "queue_limit", "done", "errors", "in_flight", "slots", "latency_ms",
    "interval_ms", "pause_ms", "latency_p25_ms", "latency_p10_ms", "cancelled", "busy_ms",
)  # fmt: skip


def report(
    keys: BudgetKeys,
    consumer_id: str,
    said: Mapping[str, float | None],
    incarnation: str = "",
    seq: int = 0,
    labels: str = "",
    at_us: int = 0,
) -> Call[Standing]:
    """Report the state of a consumer; `said` has the fields of a LoadReport by name."""
    values = tuple(_decimal(said.get(name)) for name in REPORTED)
    args: tuple[Argument, ...] = (at_us, incarnation, seq, *values, labels)
    named = (*keys.shared, keys.consumer(consumer_id), keys.consumer_state(consumer_id))
    return Call(script("report"), named, args, _standing)


def _decimal(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.9f}".rstrip("0").rstrip(".")


def _standing(reply: Sequence[Any]) -> Standing:
    r = [text(word) for word in reply]
    return Standing(
        int(r[0]) / 1e6, int(r[1]) / 1e6 or None, int(r[2]) / 1e6, int(r[3]), int(r[4]) / 1e3, r[5], r[6], r[7]
    )


def leave_producer(
    keys: BudgetKeys, producer_id: str, incarnation: str, unused: int = 0, burned: int = 0, at_us: int = 0
) -> Call[int]:
    """Return all tokens of a producer and remove it; the answer is the amount that was credited, in micro-tokens."""
    members = (*keys.shared, keys.producer(producer_id), keys.producer_state(producer_id))
    return Call(script("leave"), members, (at_us, incarnation, unused, burned), lambda reply: int(text(reply[1])))


def leave_consumer(
    keys: BudgetKeys, consumer_id: str, incarnation: str, at_us: int = 0, who: str = "", note: str = ""
) -> Call[bool]:
    """Withdraw a consumer; the answer says whether there was one. Incarnation "*" forgets any consumer of this id.

    `who` and `note` go into the history if a consumer is forgotten; longer texts are cut.
    """
    members = (*keys.shared, keys.consumer(consumer_id), keys.consumer_state(consumer_id))
    act = (_cut(who, LONGEST_WHO), _cut(note, LONGEST_NOTE)) if incarnation == "*" else ()
    return Call(script("leave"), members, (at_us, incarnation, 0, 0, *act), lambda reply: text(reply[0]) == "1")


def configure(
    keys: BudgetKeys,
    settings: BudgetSettings | None = None,
    *,
    source: str = "code",
    unset: Sequence[str] = (),
    pause: float | None = None,
    note: str = "",
    who: str = "",
    at_us: int = 0,
) -> Call[Configured]:
    """Set and unset settings, and pause for some seconds, UNTIL_RESUMED, or not any more (0).

    `who` and `note` (why) are for the history and for `explain`; longer texts are cut.
    """
    pause_ms = "" if pause is None else "-1" if pause == UNTIL_RESUMED else _decimal(pause * 1000)
    pairs = [*_pairs(settings), *((name, "") for name in unset)]
    if not isinstance(note, str):
        raise InvalidSetting("reason", note, error_texts.NOTE_IS_NOT_TEXT)
    said = (_cut(note, LONGEST_NOTE), _cut(who, LONGEST_WHO))
    args: tuple[Argument, ...] = (at_us, source, pause_ms, *said, *(part for pair in pairs for part in pair))
    return Call(script("configure"), keys.shared, args, _configured)


def _cut(said: str, longest: int) -> str:
    """Return the beginning of a text, at most `longest` bytes."""
    return said.encode("utf-8", "replace")[:longest].decode("utf-8", "ignore")


def _pairs(settings: BudgetSettings | None) -> list[tuple[str, str]]:
    given = settings.given() if settings else {}
    pairs = []
    for name, value in given.items():
        if isinstance(value, bool):
            pairs.append((name, str(int(value))))
        elif isinstance(value, str):
            pairs.append((name, value))
        elif name in ("rate", "min_rate"):
            millionths = micro_rate(value)
            pairs.append((name, f"{millionths // 1_000_000}.{millionths % 1_000_000:06d}".rstrip("0").rstrip(".")))
        else:
            pairs.append((name, _decimal(value)))
    return pairs


def _configured(reply: Sequence[Any]) -> Configured:
    r = [text(word) for word in reply]
    return Configured(int(r[0]) / 1e6, int(r[1]), r[2], r[3], tuple(r[4].split()), tuple(r[5].split()))


def inspect(keys: BudgetKeys, offset: int = 0, count: int = 100, at_us: int = 0) -> Call[Inspection]:
    """Read a budget and a page of its members."""
    return Call(script("inspect"), keys.shared, (at_us, offset, count), _inspection)


def _inspection(reply: Sequence[Any]) -> Inspection:
    def pairs(flat: Sequence[Any]) -> dict[str, str]:
        words = [text(word) for word in flat]
        return dict(zip(words[::2], words[1::2], strict=True))

    def seconds(flat: Sequence[Any]) -> dict[str, float]:
        return {name: float(score) / 1e6 for name, score in pairs(flat).items()}

    return Inspection(
        int(text(reply[0])) / 1e6,
        pairs(reply[1]),
        seconds(reply[2]),
        seconds(reply[3]),
        int(text(reply[4])),
        int(text(reply[5])),
        frozenset(text(word) for word in reply[6]),
    )


def repair(keys: BudgetKeys, member: str | None = None) -> Call[list[Damage]]:
    """Remove state that was damaged by hand; the answer lists it. `member` is the key of a producer or consumer."""

    def decode(reply: Any) -> list[Damage]:
        words = [text(word) for word in reply]
        return [Damage(*pair) for pair in zip(words[::2], words[1::2], strict=True)]

    return Call(script("repair"), keys.shared if member is None else (*keys.shared, member), (), decode)

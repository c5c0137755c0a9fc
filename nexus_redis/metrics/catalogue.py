"""The table of all metrics: the one place where a metric has its name, kind, unit, labels and meaning.

The exporters make their metrics of this table, and a test compares docs/metrics.md with it.

    Prometheus               nexus_redis_client_used_tokens_total
    Datadog, OpenTelemetry   nexus_redis.client_used_tokens_total     (a dot after the prefix, as is usual there)
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

PREFIX: Final = "nexus_redis_"
DOTTED_PREFIX: Final = "nexus_redis."
ALL_KEYS: Final = "/*"  # after a budget's name: all its per-key budgets together. No name of a budget has a star

PARTS: Final = ("bucket", "count", "sum")  # of a histogram, where a system has none that can be read: counters

Kind = Literal["gauge", "counter", "histogram"]
Scope = Literal["both", "fleet", "client"]


class Metric(NamedTuple):
    """One metric. `scope` says where it is read: in Redis for the whole fleet, or in this process."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    scope: Scope
    help: str

    @property
    def dotted(self) -> str:
        """The name in Datadog and in OpenTelemetry."""
        return DOTTED_PREFIX + self.name.removeprefix(PREFIX)

    def is_in(self, *, fleet: bool) -> bool:
        """Return whether an exporter has it: one without the fleet's metrics reads nothing in Redis."""
        return fleet or self.scope != "fleet"


_BUDGET: Final = ("budget",)

UP: Final = Metric(
    f"{PREFIX}up", "gauge", "1", (), "both",
    "1 if Redis answers, and 0 if it does not or refuses to be read.",
)  # fmt: skip

BUDGETS: Final = Metric(
    f"{PREFIX}budgets", "gauge", "{budget}", (), "fleet",
    "How many budgets Redis knows, with those of all keys.",
)  # fmt: skip
DAMAGED: Final = Metric(
    f"{PREFIX}damaged_budgets", "gauge", "{budget}", (), "fleet",
    "How many budgets cannot be read because somebody has damaged them. `nexus-redis list` names them.",
)  # fmt: skip
KEYS: Final = Metric(
    f"{PREFIX}keys", "gauge", "{budget}", _BUDGET, "fleet",
    "How many per-key budgets the series of `NAME/*` add up.",
)  # fmt: skip
RATE: Final = Metric(
    f"{PREFIX}rate_tokens_per_second", "gauge", "{token}/s", _BUDGET, "fleet",
    "The rate that all producers share. For `NAME/*`, the sum of all keys.",
)  # fmt: skip
GRANTED: Final = Metric(
    f"{PREFIX}granted_tokens_total", "counter", "{token}", _BUDGET, "fleet",
    "Tokens that Redis has granted to all producers. For `NAME/*`, those granted since this process first looked.",
)  # fmt: skip
TOKENS: Final = Metric(
    f"{PREFIX}bucket_tokens", "gauge", "{token}", _BUDGET, "fleet",
    "Tokens in the bucket; negative if some are owed. For `NAME/*`, the sum of all keys.",
)  # fmt: skip
LOAD: Final = Metric(
    f"{PREFIX}load_ratio", "gauge", "1", _BUDGET, "fleet",
    "Load of the consumers, where 1 is full. For `NAME/*`, the highest of all keys.",
)  # fmt: skip
LEVEL: Final = Metric(
    f"{PREFIX}level", "gauge", "1", _BUDGET, "fleet",
    "Backpressure: 0 free, 1 from 70 % load, 2 from 90 %, 3 at 100 %, when paused or without consumers. For `NAME/*`, the highest of all keys.",
)  # fmt: skip
PAUSED: Final = Metric(
    f"{PREFIX}paused", "gauge", "{budget}", _BUDGET, "fleet",
    "1 if the budget is paused. For `NAME/*`, how many keys are.",
)  # fmt: skip
REASON: Final = Metric(
    f"{PREFIX}reason", "gauge", "{budget}", ("budget", "reason"), "fleet",
    "1 for the reason of the budget's rate, and no series for other reasons. For `NAME/*`, how many keys have it.",
)  # fmt: skip
CONSUMERS: Final = Metric(
    f"{PREFIX}consumers", "gauge", "{consumer}", ("budget", "state"), "fleet",
    "Consumers that report (`live`), and those whose last report is too old to count (`stale`).",
)  # fmt: skip
PRODUCERS: Final = Metric(
    f"{PREFIX}producers", "gauge", "{producer}", _BUDGET, "fleet",
    "Producers that claim, or have claimed within the last minutes without saying goodbye.",
)  # fmt: skip

CLIENT_GRANTED: Final = Metric(
    f"{PREFIX}client_granted_tokens_total", "counter", "{token}", _BUDGET, "client",
    "Tokens that Redis has granted to this process.",
)  # fmt: skip
CLIENT_USED: Final = Metric(
    f"{PREFIX}client_used_tokens_total", "counter", "{token}", _BUDGET, "client",
    "Tokens that callers of this process have taken.",
)  # fmt: skip
CLIENT_RETURNED: Final = Metric(
    f"{PREFIX}client_returned_tokens_total", "counter", "{token}", _BUDGET, "client",
    "Granted tokens that this process has handed back unused.",
)  # fmt: skip
CLIENT_BURNED: Final = Metric(
    f"{PREFIX}client_burned_tokens_total", "counter", "{token}", _BUDGET, "client",
    "Granted tokens that expired unused in this process.",
)  # fmt: skip
CLIENT_HELD: Final = Metric(
    f"{PREFIX}client_held_tokens", "gauge", "{token}", _BUDGET, "client",
    "Tokens at hand in this process.",
)  # fmt: skip
CLIENT_WAITING: Final = Metric(
    f"{PREFIX}client_waiting", "gauge", "{caller}", _BUDGET, "client",
    "Callers of this process that wait for tokens now.",
)  # fmt: skip
CLIENT_WAIT: Final = Metric(
    f"{PREFIX}client_wait_seconds", "histogram", "s", _BUDGET, "client",
    "How long callers waited that were not served at once.",
)  # fmt: skip
CLIENT_ACQUIRES: Final = Metric(
    f"{PREFIX}client_acquires_total", "counter", "{acquire}", _BUDGET, "client",
    "Acquires that were served.",
)  # fmt: skip
CLIENT_LOCAL: Final = Metric(
    f"{PREFIX}client_local_acquires_total", "counter", "{acquire}", _BUDGET, "client",
    "Acquires that were served at once from tokens at hand, without a call to Redis.",
)  # fmt: skip
CLIENT_DENIED: Final = Metric(
    f"{PREFIX}client_denied_total", "counter", "{acquire}", ("budget", "reason"), "client",
    "Acquires that got no tokens: denied tries, deadlines that passed, and those that failed without Redis.",
)  # fmt: skip
CLIENT_DEGRADED: Final = Metric(
    f"{PREFIX}client_degraded_grants_total", "counter", "{acquire}", _BUDGET, "client",
    "Acquires that the outage mode served while Redis was away.",
)  # fmt: skip
CLIENT_PUSHES: Final = Metric(
    f"{PREFIX}client_push_messages_total", "counter", "{message}", (), "client",
    "Messages about a changed rate that this process has heard.",
)  # fmt: skip
CLIENT_PUSH_LAG: Final = Metric(
    f"{PREFIX}client_push_lag_seconds", "gauge", "s", (), "client",
    "How late this process hears a message, at most: the last measured round trip of the connection that listens.",
)  # fmt: skip

CATALOGUE: Final[tuple[Metric, ...]] = (
    UP, BUDGETS, DAMAGED, KEYS, RATE, GRANTED, TOKENS, LOAD, LEVEL, PAUSED, REASON, CONSUMERS, PRODUCERS,
    CLIENT_GRANTED, CLIENT_USED, CLIENT_RETURNED, CLIENT_BURNED, CLIENT_HELD, CLIENT_WAITING, CLIENT_WAIT,
    CLIENT_ACQUIRES, CLIENT_LOCAL, CLIENT_DENIED, CLIENT_DEGRADED, CLIENT_PUSHES, CLIENT_PUSH_LAG,
)  # fmt: skip

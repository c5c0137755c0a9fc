"""The fields of log records: `Fields` lists them, and each record has those that fit its event.

    log.warning(log_texts.REDIS_BACK)                                   nexus_event
    log.warning(text, name, taken, extra=log_fields(budget=name))       nexus_event, nexus_budget

In a record each name begins with `nexus_`, so that no other library has it. docs/operations.md has the table.
"""

from __future__ import annotations

from typing import Final, TypedDict, Unpack

PREFIX: Final = "nexus_"


class Fields(TypedDict, total=False):
    """All fields, without the prefix. Rates are in tokens per second, and durations in seconds."""

    event: str  # what happened: the name of the text in lower case; set by the logger for the texts of `log_texts`
    budget: str
    producer: str
    consumer: str
    level: int
    load: float
    rate: float
    reason: str
    setting: str
    value: object
    cost: float
    wait_s: float
    round_trip_s: float
    lease_s: float
    cause: str
    stream: str
    group: str
    task: str
    task_id: str
    upstream: str
    method: str
    path: str
    channel: str
    port: int
    count: int


def log_fields(**given: Unpack[Fields]) -> dict[str, object]:
    """Return fields as the `extra` of a log record.

    >>> log_fields(budget="stripe", level=2)
    {'nexus_budget': 'stripe', 'nexus_level': 2}
    """
    return {f"{PREFIX}{name}": value for name, value in given.items()}

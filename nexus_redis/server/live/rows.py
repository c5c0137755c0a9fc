"""The rows that subscribers see, and what has changed between two looks.

A number has as many digits as people see, and an age moves in steps. So a row changes only if a person would see it,
and a budget that nobody calls is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.json_forms import summary_of
from nexus_redis._protocol.snapshot import BudgetSnapshot, ConsumerSnapshot, ProducerSnapshot
from nexus_redis._protocol.states import state_of

Row = dict[str, Any]
Rows = dict[str, Row]

# What a consumer's hash has beside its rate: as in its last report.
REPORTED: Final = ("queue_depth", "queue_limit", "done", "errors", "cancelled", "in_flight", "latency_ms")
_JITTER: Final = 1.5  # seconds: an end that moves by less has not moved, it was only computed from another look


def budget_row(found: BudgetSnapshot | DamagedBudget, granted_per_s: float | None, at: float, last: Row | None) -> Row:
    """Return a budget as subscribers see it. `last` is its row in the look before; `at` is now, in seconds since 1970.

    Beside the fields of a summary, it has its state, `granted_per_s`, and `paused_until`, an instant in the place of a
    countdown.
    """
    state = state_of(found)
    row: Row = {**summary_of(found), "state": state, "place": state.place, "is_trouble": state.is_trouble}
    if isinstance(found, DamagedBudget):
        return row
    row["rate"], row["tokens"] = rounded(found.rate, 6), rounded(found.tokens, 6)
    row["load"] = rounded(found.load, 6) if has_load(found) else None
    row["granted_per_s"] = None if granted_per_s is None else rounded(granted_per_s, 4)
    row["age"] = stepped(row["age"])
    row["settings"] = {
        field: {**value, "age": stepped(value["age"], 2)} if "age" in value else value
        for field, value in row["settings"].items()
    }
    del row["paused_for"]
    row["paused_until"] = _end(found.paused_for, at, last)
    return row


def has_load(seen: BudgetSnapshot) -> bool:
    """Tell whether a load is known: without a consumer that reports, the load in Redis is 0."""
    return seen.load > 0 or (seen.consumer_count > 0 and seen.reason in ("load", "rate", "paused"))


def _end(paused_for: float | None, at: float, last: Row | None) -> float | None:
    if paused_for is None or paused_for == float("inf"):
        return None
    end = at + paused_for
    before: float | None = None if last is None else last.get("paused_until")
    return before if before is not None and abs(before - end) < _JITTER else round(end, 1)


def consumer_row(each: ConsumerSnapshot) -> Row:
    """Return a consumer: what it reports, and what the law made of it."""
    row: Row = {
        "id": each.id, "rate": rounded(each.rate), "load": rounded(each.load), "law": each.law,
        "capacity": None if each.capacity is None else rounded(each.capacity), "is_live": each.is_live,
        "age": stepped(float(each.fields["age_s"]), 2),
    }  # fmt: skip
    row["reported"] = {name: rounded(float(each.fields[name])) for name in REPORTED if each.fields.get(name)}
    if each.fields.get("paused_until"):
        row["paused_until"] = each.fields["paused_until"]
    if each.fields.get("labels"):
        row["labels"] = each.fields["labels"]
    return row


def producer_row(each: ProducerSnapshot, waiting: int | None) -> Row:
    """Return a producer. `waiting` callers wait for it in this process; None if it is the producer of another one."""
    row: Row = {
        "id": each.id, "share": rounded(each.share), "demand": rounded(each.demand), "held": rounded(each.held),
        "weight": each.weight, "priority": each.priority, "age": stepped(each.age),
    }  # fmt: skip
    if waiting is not None:
        row["waiting"] = waiting
    return row


def with_stepped_ages(seen: BudgetSnapshot) -> BudgetSnapshot:
    """Return a snapshot from which sentences are made: with the ages that rows have, so that both say the same."""
    consumers = tuple(
        replace(each, fields={**each.fields, "age_s": str(stepped(float(each.fields["age_s"]), 2))})
        for each in seen.consumers
    )
    set_by = {field: by._replace(age=stepped(by.age, 2)) for field, by in seen.set_by.items()}
    return replace(seen, consumers=consumers, set_by=set_by)


def rounded(x: float, digits: int = 4) -> float:
    """Return a number with so many digits, as an integer if it is whole.

    >>> rounded(1234.5678), rounded(0.1234567), rounded(100.0)
    (1235, 0.1235, 100)
    """
    short = float(f"{x:.{digits}g}")
    return int(short) if short.is_integer() else short


def stepped(age: float, least: int = 10) -> int:
    """Return an age in steps that grow with it, of `least` seconds at first.

    >>> stepped(7.3), stepped(34.2), stepped(200), stepped(9000), stepped(7.3, 2)
    (0, 30, 180, 7200, 6)
    """
    step = least if age < 10 else 10 if age < 120 else 60 if age < 7200 else 3600
    return int(age // step) * step


def changes(old: Mapping[str, Row], new: Mapping[str, Row], key: str) -> tuple[Rows, list[str]]:
    """Return the changed fields of each row, with its `key`, and the names that are gone.

    A field that a row no longer has is sent as null. A new row is sent whole.
    """
    changed: Rows = {}
    for name, row in new.items():
        before = old.get(name)
        if before is None:
            changed[name] = row
        elif before != row:
            fields = {field: value for field, value in row.items() if field == key or before.get(field, _NO) != value}
            fields.update(dict.fromkeys(before.keys() - row.keys()))
            changed[name] = fields
    return changed, [name for name in old if name not in new]


_NO: Final = object()  # unlike any value

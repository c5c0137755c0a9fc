"""The rows that subscribers see, and what has changed between two looks.

A number has as many digits as people see, and an age moves in steps. So a row changes only if a person would see it,
and a budget that nobody calls is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nexus_redis._protocol.all_budgets import DamagedBudget
from nexus_redis._protocol.json_forms import summary_of
from nexus_redis._protocol.snapshot import BudgetSnapshot, ConsumerSnapshot, ProducerSnapshot

Row = dict[str, Any]
Rows = dict[str, Row]

# What a consumer's hash has beside its rate: as in its last report.
REPORTED: Final = ("queue_depth", "queue_limit", "done", "errors", "cancelled", "in_flight", "latency_ms")
_JITTER: Final = 1.5  # seconds: an end that moves by less has not moved, it was only computed from another look


def budget_row(found: BudgetSnapshot | DamagedBudget, granted_per_s: float | None, at: float, last: Row | None) -> Row:
    """Return a budget as subscribers see it. `last` is its row in the look before; `at` is now, in seconds since 1970.

    Beside the fields of a summary, it has `granted_per_s` and `paused_until`, an instant in the place of a countdown.
    """
    row: Row = {**summary_of(found)}
    if isinstance(found, DamagedBudget):
        return row
    for field in ("rate", "load", "tokens"):
        row[field] = rounded(row[field], 6)
    row["granted_per_s"] = None if granted_per_s is None else rounded(granted_per_s, 4)
    row["age"] = stepped(row["age"])
    row["settings"] = {
        field: {**value, "age": stepped(value["age"])} if "age" in value else value
        for field, value in row["settings"].items()
    }
    del row["paused_for"]
    row["paused_until"] = _end(found.paused_for, at, last)
    return row


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
        "age": stepped(float(each.fields["age_s"])),
    }  # fmt: skip
    row["reported"] = {name: rounded(float(each.fields[name])) for name in REPORTED if each.fields.get(name)}
    if each.fields.get("paused_until"):
        row["paused_until"] = each.fields["paused_until"]
    if each.fields.get("labels"):
        row["labels"] = each.fields["labels"]
    return row


def producer_row(each: ProducerSnapshot, waiting: int | None) -> Row:
    """Return a producer. `waiting` callers of it wait in this process; None if it is not one of this process."""
    row: Row = {
        "id": each.id, "share": rounded(each.share), "demand": rounded(each.demand), "held": rounded(each.held),
        "weight": each.weight, "priority": each.priority, "age": stepped(each.age),
    }  # fmt: skip
    if waiting is not None:
        row["waiting"] = waiting
    return row


def rounded(x: float, digits: int = 4) -> float:
    """Return a number with so many digits, as an integer if it is whole.

    >>> rounded(1234.5678), rounded(0.1234567), rounded(100.0)
    (1235, 0.1235, 100)
    """
    short = float(f"{x:.{digits}g}")
    return int(short) if short.is_integer() else short


def stepped(age: float) -> int:
    """Return an age in steps that grow with it: less than ten seconds is "now".

    >>> stepped(7.3), stepped(34.2), stepped(200), stepped(9000)
    (0, 30, 180, 7200)
    """
    step = 10 if age < 120 else 60 if age < 7200 else 3600
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

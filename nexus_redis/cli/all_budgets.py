"""The plans that read all budgets, in brief or their settings: few round trips, whatever takes part in them."""

from typing import Any

from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Plan, ask
from nexus_redis._protocol.snapshot import SETTINGS, assembled, budget_names, due_of

BATCH = 100  # budgets a round trip: each answer is a hash of some kilobytes


def overview(namespace: str, server: str) -> Plan[Any]:
    """The plan; its result is a list of `BudgetSnapshot` without members."""
    names: list[str] = yield from budget_names(namespace, server)
    found = []
    for at in range(0, len(names), BATCH):
        keys = [BudgetKeys(namespace, name) for name in names[at : at + BATCH]]
        inspections = yield from ask([calls.inspect(each, count=1) for each in keys], server)
        due = [i for i, seen in enumerate(inspections) if 0 < due_of(seen.fields) <= seen.now]
        if due:
            # A deadline has passed and nobody has called since: let the script look, as `snapshot` does.
            yield from ask([calls.configure(keys[i]) for i in due], server)
            for i, seen in zip(
                due, (yield from ask([calls.inspect(keys[i], count=1) for i in due], server)), strict=True
            ):
                inspections[i] = seen
        found += [assembled(each.name, seen, [], [], []) for each, seen in zip(keys, inspections, strict=True)]
    return [budget for budget in found if budget.exists]


def all_settings(namespace: str, server: str) -> Plan[Any]:
    """The plan; its result is a list of (name, {"operator": {field: value}, "code": {field: value}}), by name."""
    names: list[str] = yield from budget_names(namespace, server)
    found = []
    for at in range(0, len(names), BATCH):
        some = names[at : at + BATCH]
        inspections = yield from ask([calls.inspect(BudgetKeys(namespace, name), count=1) for name in some], server)
        for name, seen in zip(some, inspections, strict=True):
            by = {
                source: {
                    field: typed(field, seen.fields[f"{field}_by_{source}"])
                    for field in SETTINGS
                    if f"{field}_by_{source}" in seen.fields
                }
                for source in ("operator", "code")
            }
            found.append((name, by))
    return found


def typed(field: str, value: str) -> float | str | bool:
    """A setting's value as it is in JSON."""
    if field == "lossless":
        return value == "1"
    return value if field in ("law", "combine") else float(value)

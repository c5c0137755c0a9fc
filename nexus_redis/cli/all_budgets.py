"""The plan that inspects every budget of a namespace, for `status` and `list`: a few round trips, however many."""

from collections.abc import Callable
from typing import TypeVar

from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import Inspection
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Plan, ask
from nexus_redis._protocol.snapshot import budget_names, due_of

T = TypeVar("T")
BATCH = 100  # budgets a round trip: each answer is a hash of some kilobytes


def inspect_all(
    namespace: str, server: str, made: Callable[[str, Inspection], T], *, is_current: bool = False
) -> Plan[list[T]]:
    """Return the plan whose result is `made(name, inspection)` for each budget, by name.

    With `is_current`, a budget whose deadline has passed without a call since is brought up to date first, as by
    `snapshot`. That writes to Redis.
    """
    names: list[str] = yield from budget_names(namespace, server)
    found: list[T] = []
    for at in range(0, len(names), BATCH):
        keys = [BudgetKeys(namespace, name) for name in names[at : at + BATCH]]
        inspections = yield from _inspected(keys, server)
        due = [i for i, seen in enumerate(inspections) if 0 < due_of(seen.fields) <= seen.now] if is_current else []
        if due:
            late = [keys[i] for i in due]
            yield from ask([calls.configure(each) for each in late], server)
            for i, seen in zip(due, (yield from _inspected(late, server)), strict=True):
                inspections[i] = seen
        found += [made(each.name, seen) for each, seen in zip(keys, inspections, strict=True)]
    return found


def _inspected(keys: list[BudgetKeys], server: str) -> Plan[list[Inspection]]:
    return (yield from ask([calls.inspect(each, count=1) for each in keys], server))

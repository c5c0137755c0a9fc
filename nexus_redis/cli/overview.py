"""The plan that reads all budgets in brief: few round trips, whatever takes part in them."""

from nexus_redis import calls
from nexus_redis.hub import ask
from nexus_redis.keys import BudgetKeys
from nexus_redis.snapshot import Plan, _assembled, _due, budget_names

BATCH = 100  # budgets a round trip: each answer is a hash of some kilobytes


def overview(namespace: str, server: str) -> Plan:
    """The plan; its result is a list of `BudgetSnapshot` without members."""
    names: list[str] = yield from budget_names(namespace, server)
    found = []
    for at in range(0, len(names), BATCH):
        keys = [BudgetKeys(namespace, name) for name in names[at : at + BATCH]]
        inspections = yield from ask([calls.inspect(each, count=1) for each in keys], server)
        due = [i for i, seen in enumerate(inspections) if 0 < _due(seen.fields) <= seen.now]
        if due:
            # A deadline has passed and nobody has called since: let the script look, as `snapshot` does.
            yield from ask([calls.configure(keys[i]) for i in due], server)
            for i, seen in zip(
                due, (yield from ask([calls.inspect(keys[i], count=1) for i in due], server)), strict=True
            ):
                inspections[i] = seen
        found += [_assembled(each.name, seen, [], [], []) for each, seen in zip(keys, inspections, strict=True)]
    return [budget for budget in found if budget.exists]

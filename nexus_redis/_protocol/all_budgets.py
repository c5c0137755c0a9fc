"""The plans that read every budget of a namespace, for `status` and `list`: a few round trips, however many.

A budget that a person has damaged does not hide the others. Its place in the result says what cannot be read.
"""

from typing import Any, NamedTuple

from nexus_redis._protocol import calls
from nexus_redis._protocol.damage import DAMAGED, damaged, is_damage
from nexus_redis._protocol.fields import BUDGET, Fields
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Failed, Outcome, Plan, ask
from nexus_redis._protocol.snapshot import BudgetSnapshot, assembled, is_overdue, read_hash, types_of_budgets
from nexus_redis.errors import ServerRefused

BATCH = 100  # budgets a round trip: each answer is a hash of some kilobytes


class DamagedBudget(NamedTuple):
    """A budget that cannot be read, and the error that says why."""

    name: str
    error: Exception


def snapshots(namespace: str, server: str) -> Plan[tuple[list[BudgetSnapshot | DamagedBudget], list[DamagedBudget]]]:
    """Return the plan whose result is each budget without its members, by name, and the keys of another type.

    A budget whose deadline has passed without a call since is brought up to date first, as by `snapshot`. That writes
    to Redis.
    """
    hashes, others = yield from _budgets(namespace, server)
    found: list[BudgetSnapshot | DamagedBudget] = []
    for at in range(0, len(hashes), BATCH):
        keys = hashes[at : at + BATCH]
        outcomes: list[Outcome] = yield from _inspected(keys, server)
        late = [i for i, (each, seen) in enumerate(zip(keys, outcomes, strict=True)) if _is_overdue(each, seen)]
        if late:
            changed = yield from ask([calls.configure(keys[i]) for i in late], server, keep=DAMAGED)
            again = yield from _inspected([keys[i] for i in late], server)
            for i, change, seen in zip(late, changed, again, strict=True):
                outcomes[i] = change if isinstance(change, Failed) else seen
        found += [_shown(each, seen) for each, seen in zip(keys, outcomes, strict=True)]
    return [each for each in found if isinstance(each, DamagedBudget) or each.exists], others


def settings_of_all(namespace: str, server: str) -> Plan[tuple[list[Fields], list[DamagedBudget]]]:
    """Return the plan whose result is the hash of each budget, by name, and the keys of another type."""
    hashes, others = yield from _budgets(namespace, server)
    found: list[Fields] = []
    for at in range(0, len(hashes), BATCH):
        batch = hashes[at : at + BATCH]
        texts: list[Any] = yield from ask([read_hash(each.budget) for each in batch], server)
        found += [Fields(each, each.budget, BUDGET, text) for each, text in zip(batch, texts, strict=True)]
    return found, others


def _budgets(namespace: str, server: str) -> Plan[tuple[list[BudgetKeys], list[DamagedBudget]]]:
    """Find the listed budgets, and the keys of another type in the place of a listed one."""
    types: dict[str, str] = yield from types_of_budgets(namespace, server)
    keys = {name: BudgetKeys(namespace, name) for name in types}
    others = [DamagedBudget(name, damaged(keys[name], keys[name].budget)) for name in types if types[name] != "hash"]
    return [keys[name] for name in types if types[name] == "hash"], others


def _inspected(keys: list[BudgetKeys], server: str) -> Plan[list[Outcome]]:
    return (yield from ask([calls.inspect(each, count=1) for each in keys], server, keep=DAMAGED))


def _is_overdue(keys: BudgetKeys, seen: Outcome) -> bool:
    if isinstance(seen, Failed):
        return False
    try:
        return is_overdue(keys, seen)
    except ServerRefused:  # somebody has written this field into a budget without a state
        return False


def _shown(keys: BudgetKeys, seen: Outcome) -> BudgetSnapshot | DamagedBudget:
    if isinstance(seen, Failed):
        return DamagedBudget(keys.name, seen.error)
    try:
        return assembled(keys, seen, [], [], [])
    except ServerRefused as error:
        if not is_damage(error):
            raise
        return DamagedBudget(keys.name, error)

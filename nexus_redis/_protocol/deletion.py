"""Delete a budget, or the damaged state in it: `budget.delete()`, `nexus-redis delete NAME` and `repair NAME`.

The hashes of members outlive their entries in the sorted sets, so these plans search for them by name. A process that
still uses the budget opens it again with its next call. Then the settings of its code come back, and those of an
operator are gone.
"""

from __future__ import annotations

from typing import Any, Final

from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command, Plan, ask

SCANNED: Final = 1000  # keys in a call: a few milliseconds of a server that has other work to do
DELETED: Final = 500


def delete(keys: BudgetKeys, server: str) -> Plan[Any]:
    """Return the plan that deletes a budget; its result is the number of keys, 0 if there was no such budget."""
    members: list[str] = yield from _members(keys, server)
    # The budget's own keys go in one command, so that no script finds only half of them.
    gone = sorted(set(members) - set(keys.shared))
    batches = [list(keys.shared), *(gone[at : at + DELETED] for at in range(0, len(gone), DELETED))]
    counts = yield from ask([Command(("DEL", *batch), int) for batch in batches], server)
    yield from ask([Command(("ZREM", budgets_key(keys.namespace), keys.name), int)], server)
    return sum(counts)


def repair(keys: BudgetKeys, server: str) -> Plan[Any]:
    """Return the plan that removes state that was damaged by hand; its result is a list of `calls.Damage`."""
    damages: list[calls.Damage] = (yield from ask([calls.repair(keys)], server))[0]
    members: list[str] = yield from _members(keys, server)
    own = sorted(key for key in set(members) if key.startswith((keys.producer(""), keys.consumer(""))))
    for at in range(0, len(own), DELETED):
        for found in (yield from ask([calls.repair(keys, key) for key in own[at : at + DELETED]], server)):
            damages += found
    if any(damage.key in (keys.budget, keys.state) for damage in damages):
        yield from ask([calls.configure(keys)], server)  # settings are in force again
    return damages


def _members(keys: BudgetKeys, server: str) -> Plan[Any]:
    members: list[str] = []
    cursor = "0"
    while True:
        scan = Command(("SCAN", cursor, "MATCH", keys.members, "COUNT", SCANNED), _page)
        cursor, found = (yield from ask([scan], server))[0]
        members += found
        if cursor == "0":
            return members


def _page(reply: Any) -> tuple[str, list[str]]:
    cursor, names = reply
    return str(cursor) if isinstance(cursor, int) else calls.text(cursor), [calls.text(name) for name in names]

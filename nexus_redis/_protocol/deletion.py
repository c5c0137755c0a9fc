"""Delete a budget, or the damaged state in it: `budget.delete()`, `nexus-redis delete NAME` and `repair NAME`.

The hashes of members outlive their entries in the sorted sets, so these plans search for them by name. A process that
still uses the budget opens it again with its next call. Then the settings of its code come back, and those of an
operator are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nexus_redis._protocol import calls
from nexus_redis._protocol.damage import read_keys
from nexus_redis._protocol.fields import CONSUMER, INSPECTED, PRODUCER, Fields, Parser
from nexus_redis._protocol.history import entry_of
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command, Plan, ask
from nexus_redis._protocol.snapshot import read_hash
from nexus_redis._values.parse import is_budget

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
    """Return the plan that removes what was damaged by hand; its result is a list of `calls.Damage`.

    The script removes what the scripts cannot read. Fields that only people read are looked at here. The next claim or
    report writes such a field again, and `configure` does so at once for those of the budget.
    """
    damages: list[calls.Damage] = (yield from ask([calls.repair(keys)], server))[0]
    members: list[str] = yield from _members(keys, server)
    own = sorted(key for key in set(members) if key.startswith((keys.producer(""), keys.consumer(""))))
    for at in range(0, len(own), DELETED):
        for found in (yield from ask([calls.repair(keys, key) for key in own[at : at + DELETED]], server)):
            damages += found
    shown: list[calls.Damage] = yield from _damaged_fields(keys, [keys.budget], server)
    if any(damage.key in (keys.budget, keys.state) for damage in damages + shown):
        yield from ask([calls.configure(keys)], server)  # settings are in force again
    damages += shown
    if shown:
        yield from _remove((yield from _damaged_fields(keys, [keys.budget], server)), server)
    hashes = [key for key in own if is_budget(key.removeprefix(keys.consumer("")).removeprefix(keys.producer("")))]
    for at in range(0, len(hashes), DELETED):
        of_members: list[calls.Damage] = yield from _damaged_fields(keys, hashes[at : at + DELETED], server)
        yield from _remove(of_members, server)
        damages += of_members
    return damages + (yield from _repaired_history(keys, server))


def _damaged_fields(keys: BudgetKeys, hashes: list[str], server: str) -> Plan[Any]:
    """Find the fields of these hashes that cannot be read, as a list of `calls.Damage`."""
    texts = yield from read_keys(keys, [read_hash(key) for key in hashes], server)
    found = [Fields(keys, key, _parsers(keys, key), fields) for key, fields in zip(hashes, texts, strict=True)]
    return [calls.Damage(each.key, field) for each in found for field in each.damages()]


def _parsers(keys: BudgetKeys, key: str) -> Mapping[str, Parser]:
    if key == keys.budget:
        return INSPECTED
    return CONSUMER if key.startswith(keys.consumer("")) else PRODUCER


def _remove(damages: list[calls.Damage], server: str) -> Plan[None]:
    if damages:
        yield from ask([Command(("HDEL", damage.key, damage.field), int) for damage in damages], server)


def _repaired_history(keys: BudgetKeys, server: str) -> Plan[Any]:
    """Remove the entries of the history that cannot be read; the field of each `calls.Damage` is the entry's id."""
    (replies,) = yield from read_keys(keys, [Command(("XREVRANGE", keys.history, "+", "-"), list)], server)
    entries = [entry_of(keys, reply) for reply in replies]
    bad = [entry_id for entry_id, fields in entries if any(fields.damages())]
    if bad:
        yield from ask([Command(("XDEL", keys.history, *bad), int)], server)
    return [calls.Damage(keys.history, entry_id) for entry_id in bad]


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

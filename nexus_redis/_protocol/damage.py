"""The error for what a person has damaged by hand: it names the key, the field, the value, and the repair.

Only the scripts write the keys of a budget. So a value that no script can have written is damage, whoever meets it: a
script (lua/lib/damage.lua, with the code NEXUS_DAMAGED), or a reader of the hashes for people (`fields.py`).
"""

from __future__ import annotations

from typing import Any, Final

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command, Plan, ask
from nexus_redis._values import error_texts
from nexus_redis.errors import ServerRefused, shown

DAMAGED: Final = "NEXUS_DAMAGED"
WRONG_TYPE: Final = "WRONGTYPE"  # what Redis says of a key of another type
_TYPES: Final = {"HGETALL": "hash", "HMGET": "hash", "XREVRANGE": "stream"}  # of the keys that these commands read


def damaged(keys: BudgetKeys, key: str, field: str = "", value: str | None = None) -> ServerRefused:
    """Return the error for a field of a key, or for the whole key if `field` is empty.

    >>> damaged(BudgetKeys("nexus", "es"), "nexus:{es}", "level", "high").code
    'NEXUS_DAMAGED'
    """
    option = "" if keys.namespace == "nexus" else f" --namespace {keys.namespace}"
    repair = f"nexus-redis repair {keys.name}{option}"
    return ServerRefused(DAMAGED, error_texts.damaged(key, field, repair, "" if value is None else shown(value)))


def is_damage(error: BaseException) -> bool:
    """Return whether an error says that the state in Redis was damaged by hand."""
    return isinstance(error, ServerRefused) and error.code == DAMAGED


def read_keys(keys: BudgetKeys, commands: list[Command[Any]], server: str) -> Plan[list[Any]]:
    """Send commands in one round trip. If one reads a key of another type, raise the error that names the key."""
    try:
        return (yield from ask([*commands], server))
    except ServerRefused as error:
        if error.code != WRONG_TYPE:
            raise
        reads = [each for each in commands if each.args[0] in _TYPES]
        types = yield from ask([Command(("TYPE", each.args[1]), text) for each in reads], server)
        for each, kind in zip(reads, types, strict=True):
            if kind not in ("none", _TYPES[each.args[0]]):
                raise damaged(keys, each.args[1]) from error
        raise

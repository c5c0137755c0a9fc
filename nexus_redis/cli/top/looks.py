"""What `top` reads and changes, each as one call that waits for Redis: the application makes them in threads."""

import time
from dataclasses import dataclass
from typing import Final

from nexus_redis._protocol.all_budgets import snapshots
from nexus_redis._protocol.damage import read_keys
from nexus_redis._protocol.explain import Explanation, explained
from nexus_redis._protocol.history import event_of, events
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command, Plan
from nexus_redis._protocol.snapshot import snapshot
from nexus_redis.cli.context import Context
from nexus_redis.cli.top.states import Seen
from nexus_redis.errors import ServerRefused

MOST_MEMBERS: Final = 5000


@dataclass(frozen=True)
class Look:
    """All budgets at one instant, and the one that is open with its members; None if it is gone or cannot be read.

    `problems` has a sentence for each thing that cannot be read, besides the budgets that are damaged.
    """

    at: float
    budgets: list[Seen]
    problems: list[str]
    opened_name: str | None = None
    opened: Explanation | None = None


def look(context: Context, opened: str | None) -> Look:
    """Read all budgets without their members, and the one that is `opened` with its members."""
    budgets, others = context.run(snapshots(context.namespace, context.server))
    at = time.monotonic()
    problems = [str(each.error) for each in others]
    why = None
    if opened is not None:
        try:
            why = context.run(_explained(context.keys(opened), context.server))
        except ServerRefused as error:  # somebody has damaged it, which must not hide the others
            problems.append(str(error))
    return Look(at, list(budgets), problems, opened, why if why is not None and why.budget.exists else None)


def _explained(keys: BudgetKeys, server: str) -> Plan[Explanation]:
    """Explain a budget with all its members, where `explain` itself reads the first of them."""
    seen = yield from snapshot(keys, server, MOST_MEMBERS)
    clock = Command(("TIME",), lambda reply: int(reply[0]) + int(reply[1]) / 1e6)
    now, found = yield from read_keys(keys, [clock, events(keys)], server)
    return explained(seen, tuple(event_of(keys, entry, now) for entry in found), now)

"""What `status` sees at one instant: all budgets, or one budget with its members, as tables or as JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rich.console import Console, RenderableType
from rich.text import Text

from nexus_redis._protocol.all_budgets import DamagedBudget, snapshots
from nexus_redis._protocol.json_forms import summary_of, with_members
from nexus_redis._protocol.snapshot import snapshot
from nexus_redis.cli import tables
from nexus_redis.cli.common_options import Target
from nexus_redis.cli.context import Context
from nexus_redis.cli.output import as_json
from nexus_redis.cli.unknown_budgets import unknown


@dataclass(frozen=True)
class Look:
    """What was seen: one line of JSON, tables that fit a console, and a sentence for each thing that is damaged.

    `timed_json` gives each budget the time of the look beside its fields: `at`, in seconds since 1970.
    """

    json: Callable[[], str]
    timed_json: Callable[[float], str]
    tables: Callable[[Console], RenderableType]
    damage: tuple[str, ...] = ()


def look_at_all(context: Context) -> Look:
    """Read all budgets of the namespace, without their members."""
    budgets, others = context.run(snapshots(context.namespace, context.server))
    unread = [each for each in budgets if isinstance(each, DamagedBudget)]
    nothing = Text(f"no budgets {context.where}")
    return Look(
        json=lambda: as_json([summary_of(each) for each in budgets]),
        timed_json=lambda at: as_json([{"at": at, **summary_of(each)} for each in budgets]),
        tables=lambda console: tables.budgets(console, budgets) if budgets else nothing,
        damage=tuple(str(each.error) for each in unread + others),
    )


def look_at(context: Context, target: Target) -> Look:
    """Read one budget with its members. Raise `Finding` if it does not exist."""
    budget = context.run(snapshot(context.keys(target.name), context.server))
    if not budget.exists:
        raise unknown(context, *target)
    return Look(
        json=lambda: as_json(with_members(budget)),
        timed_json=lambda at: as_json({"at": at, **with_members(budget)}),
        tables=partial(tables.budget, seen=budget),
    )

"""status: all budgets or one budget, as tables (`cli/tables.py`) or as JSON.

`--json` prints a `BudgetJson`, or a list of `BudgetSummaryJson` without a NAME (`_protocol/json_forms.py`).
"""

from typing import Annotated

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Json, Key, Namespace, Url, target_of
from nexus_redis.cli.exit_codes import Misuse, end_with_damage
from nexus_redis.cli.output import as_json


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show this budget with its settings, consumers and producers.",
            show_default="all budgets",
        ),
    ] = None,
    *,
    key: Key = None,
    json: Json = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show all budgets, or one budget with all its members.

    If a budget cannot be read because somebody has edited its keys, the verb shows the others, names the damage on
    stderr, and ends with exit code 1.

    \b
    Examples:
      nexus-redis status
      nexus-redis status elasticsearch --json
    """
    from nexus_redis._protocol.json_forms import summary_of, with_members
    from nexus_redis._protocol.snapshot import snapshot
    from nexus_redis.cli import tables
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.unknown_budgets import unknown

    if name is None and key is not None:
        raise Misuse(texts.key_without_name("status NAME --key KEY"))
    target = target_of(name, key) if name is not None else None
    with open_context(url, namespace) as context:
        if target is None:
            from nexus_redis._protocol.all_budgets import DamagedBudget, snapshots

            budgets, others = context.run(snapshots(context.namespace, context.server))
            if json:
                print(as_json([summary_of(each) for each in budgets]))
            elif budgets:
                tables.budgets(budgets)
            else:
                print(f"no budgets {context.where}")
            unread = [each for each in budgets if isinstance(each, DamagedBudget)]
            end_with_damage([str(each.error) for each in unread + others])
            return
        budget = context.run(snapshot(context.keys(target.name), context.server))
        if not budget.exists:
            raise unknown(context, *target)
    if json:
        print(as_json(with_members(budget)))
    else:
        tables.budget(budget)

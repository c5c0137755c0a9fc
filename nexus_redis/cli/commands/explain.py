"""explain: why the rate of a budget is what it is, with its history. `--json` prints an `ExplanationJson`."""

from typing import TYPE_CHECKING, Annotated

import typer

from nexus_redis._values.formatting import printable
from nexus_redis.cli.common_options import Json, Key, Name, Namespace, Url, target_of
from nexus_redis.cli.output import as_json

if TYPE_CHECKING:
    from nexus_redis._protocol.explain import Explanation

SHOWN = 20


def explain(
    name: Name,
    *,
    history: Annotated[int, typer.Option(metavar="N", min=0, help="Show N entries of the history.")] = SHOWN,
    key: Key = None,
    json: Json = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Explain why a budget's rate is what it is.

    The answer names the report, ceiling, pause or silence that made the rate, how long it has held, and what would
    raise it. The history follows.

    \b
    Example:
      nexus-redis explain elasticsearch
    """
    from time import monotonic

    from nexus_redis._protocol.explain import explain as plan
    from nexus_redis._protocol.json_forms import explanation_of
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.unknown_budgets import unknown

    target = target_of(name, key)
    with open_context(url, namespace) as context:
        why: Explanation = context.run(plan(context.keys(target.name), context.server, monotonic))
        if not why.budget.exists:
            raise unknown(context, *target)
    if json:
        print(as_json(explanation_of(why, history)))
        return
    for line in str(why).splitlines():
        print(printable(line))
    if why.history[:history]:
        from nexus_redis.cli import tables

        print()
        tables.show(lambda _: tables.history(why.history[:history]))

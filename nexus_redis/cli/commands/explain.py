"""explain: why the rate is what it is."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus_redis._values.parse import budget_name
from nexus_redis.cli.unknown_budgets import unknown
from nexus_redis.cli.common_options import Json, Key, Name, Namespace, Url
from nexus_redis.cli.output import as_json, printable

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

    The answer names the report, ceiling, pause or silence that made the rate, since when it holds, and what would raise
    it. The history follows.

    \b
    Example:
      nexus-redis explain elasticsearch
    """
    from time import monotonic

    from nexus_redis._protocol.explain import explain as plan
    from nexus_redis.cli.context import place

    full = budget_name(name, key)
    with place(url, namespace) as here:
        why: Explanation = here.run(plan(here.keys(full), here.server, monotonic))
        if not why.budget.exists:
            raise unknown(here, full, name if key is not None else None)
    if json:
        print(as_json(_fields(why, history)))
        return
    for line in str(why).splitlines():
        print(printable(line))
    if why.history[:history]:
        from nexus_redis.cli import tables

        print()
        tables.history(why.history[:history])


def _fields(why: "Explanation", history: int) -> dict[str, Any]:
    seen, ruler = why.budget, why.consumer
    return {
        "name": seen.name,
        "rate": seen.rate,
        "level": seen.level,
        "load": seen.load,
        "reason": seen.reason,
        "since_s": why.since,
        "because": list(why.because),
        "remedies": list(why.remedies),
        "consumer": None
        if ruler is None
        else {
            "id": ruler.id,
            "law": ruler.law,
            "rate": ruler.rate,
            "capacity": ruler.capacity,
            "load": ruler.load,
            "age": float(ruler.fields["age_s"]),
        },
        "settings": {field: source for field, (_, source) in seen.settings.items()},
        "history": [
            {
                "at": each.at,
                "age": each.age,
                "rate": each.rate,
                "level": each.level,
                "load": each.load,
                "reason": each.reason,
                "by": each.by,
                "who": each.who,
                "what": each.what,
                "why": each.why,
            }
            for each in why.history[:history]
        ],
    }

"""explain: why the rate of a budget is what it is, with its history. `--json` prints an `ExplanationJson`, below."""

from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from nexus_redis._values.formatting import printable
from nexus_redis.cli.common_options import Json, Key, Name, Namespace, Url, target_of
from nexus_redis.cli.output import as_json

if TYPE_CHECKING:
    from nexus_redis._protocol.explain import Explanation

SHOWN = 20


class RulingConsumerJson(TypedDict):
    """The consumer that limits the rate."""

    id: str
    law: str
    rate: float
    capacity: float | None
    load: float
    age: float


class EventJson(TypedDict):
    """One entry of the history: `at` in seconds since 1970, `who` did `what`, and `why`."""

    at: float
    age: float
    rate: float
    level: int
    load: float
    reason: str
    by: str
    who: str
    what: str
    why: str


class ExplanationJson(TypedDict):
    """Why the rate is what it is: `because` and `remedies` are sentences, `settings` maps a field to its source."""

    name: str
    rate: float
    level: int
    load: float
    reason: str
    since_s: float | None  # None if the history does not reach back to the beginning of the reason
    because: list[str]
    remedies: list[str]
    consumer: RulingConsumerJson | None
    settings: dict[str, str]
    history: list[EventJson]  # the newest first


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
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.unknown_budgets import unknown

    target = target_of(name, key)
    with open_context(url, namespace) as context:
        why: Explanation = context.run(plan(context.keys(target.name), context.server, monotonic))
        if not why.budget.exists:
            raise unknown(context, *target)
    if json:
        print(as_json(_fields(why, history)))
        return
    for line in str(why).splitlines():
        print(printable(line))
    if why.history[:history]:
        from nexus_redis.cli import tables

        print()
        tables.history(why.history[:history])


def _fields(why: "Explanation", history: int) -> ExplanationJson:
    seen, ruler = why.budget, why.consumer
    consumer: RulingConsumerJson | None = None
    if ruler is not None:
        consumer = {
            "id": ruler.id, "law": ruler.law, "rate": ruler.rate, "capacity": ruler.capacity, "load": ruler.load,
            "age": float(ruler.fields["age_s"]),
        }  # fmt: skip
    return {
        "name": seen.name, "rate": seen.rate, "level": seen.level, "load": seen.load, "reason": seen.reason,
        "since_s": why.since, "because": list(why.because), "remedies": list(why.remedies), "consumer": consumer,
        "settings": {field: source for field, (_, source) in seen.settings.items()},
        "history": [
            {"at": each.at, "age": each.age, "rate": each.rate, "level": each.level, "load": each.load,
             "reason": each.reason, "by": each.by, "who": each.who, "what": each.what, "why": each.why}
            for each in why.history[:history]
        ],
    }  # fmt: skip

"""status, scripts: what there is."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus_redis._values.parse import budget_name
from nexus_redis.cli.exit_codes import Misuse
from nexus_redis.cli.unknown_budgets import unknown
from nexus_redis.cli.common_options import Json, Key, Namespace, Url
from nexus_redis.cli.output import as_json

if TYPE_CHECKING:
    from nexus_redis._protocol.snapshot import BudgetSnapshot, SetBy


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

    \b
    Examples:
      nexus-redis status
      nexus-redis status elasticsearch --json
    """
    from nexus_redis._protocol.snapshot import snapshot
    from nexus_redis.cli import tables
    from nexus_redis.cli.all_budgets import overview
    from nexus_redis.cli.context import place

    if name is None and key is not None:
        raise Misuse("--key of which budget? status NAME --key KEY")
    full = budget_name(name, key) if name is not None else ""
    with place(url, namespace) as here:
        if name is None:
            budgets = here.run(overview(here.namespace, here.server))
            if json:
                print(as_json([_brief(budget) for budget in budgets]))
            elif budgets:
                tables.budgets(budgets)
            else:
                print(f"no budgets in namespace {here.namespace} at {here.server}")
            return
        budget = here.run(snapshot(here.keys(full), here.server))
        if not budget.exists:
            raise unknown(here, full, name if key is not None else None)
    if json:
        print(as_json(_full(budget)))
    else:
        tables.budget(budget)


def scripts(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this script.", show_default="a list")
    ] = None,
    *,
    bundle: Annotated[bool, typer.Option("--bundle", help="Print the text that the server runs.")] = False,
    url: Url = None,  # noqa: ARG001  # every verb takes it, so that one alias fits all
    namespace: Namespace = None,  # noqa: ARG001
) -> None:
    """List the Lua scripts, or print the source of one.

    The source comes with all that it includes. The server runs a shorter text that does the same; `--bundle` prints it.

    \b
    Examples:
      nexus-redis scripts
      nexus-redis scripts claim | less
      nexus-redis scripts claim --bundle > claim.lua && redis-cli --ldb --eval claim.lua
    """
    from nexus_redis._protocol.scripts import NAMES, script, source

    if name is None and bundle:
        raise Misuse("--bundle prints one script: give its NAME")
    if name is None:
        for each in map(script, NAMES):
            print(f"{each.name:<{max(map(len, NAMES))}}  {each.sha}  {len(each.text.encode()):>6,} bytes")
    elif name in NAMES:
        sys.stdout.write(script(name).text if bundle else source(name))
    else:
        raise Misuse(f"no script {name!r}: there are {', '.join(NAMES)}")


def _brief(budget: "BudgetSnapshot") -> dict[str, Any]:
    return {
        "name": budget.name,
        "rate": budget.rate,
        "level": budget.level,
        "load": budget.load,
        "reason": budget.reason,
        "tokens": budget.tokens,
        "burst": budget.burst,
        "granted_total": budget.granted_total,
        "birth": budget.birth,
        "settings": {
            field: {"value": _typed(value), "source": source, **_whose(budget.set_by.get(field))}
            for field, (value, source) in budget.settings.items()
        },
        "is_paused": budget.paused_for is not None,
        "paused_for": None if budget.paused_for == float("inf") else budget.paused_for,
        "pause_reason": budget.pause_reason,
        "pause_by": budget.pause_by,
        "pause_who": budget.pause_who,
        "last_consumer_end": budget.last_consumer_end,
        "consumer_count": budget.consumer_count,
        "producer_count": budget.producer_count,
        "age": budget.age,
        "refresh": budget.refresh,
    }


def _full(budget: "BudgetSnapshot") -> dict[str, Any]:
    consumers = [
        {
            "id": each.id,
            "rate": each.rate,
            "capacity": each.capacity,
            "load": each.load,
            "law": each.law,
            "age": float(each.fields["age_s"]),
            "is_live": each.is_live,
        }
        for each in budget.consumers
    ]
    producers = [
        {
            "id": each.id,
            "share": each.share,
            "demand": each.demand,
            "held": each.held,
            "weight": each.weight,
            "priority": each.priority,
            "age": each.age,
        }
        for each in budget.producers
    ]
    return {**_brief(budget), "consumers": consumers, "producers": producers}


def _whose(by: "SetBy | None") -> dict[str, str | float]:
    return {} if by is None else {"who": by.who, "why": by.why, "age": by.age}


def _typed(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value

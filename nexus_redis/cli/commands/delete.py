"""forget, delete, repair: what an operator takes out of Redis."""

import sys
from typing import Annotated, Final

import typer

from nexus_redis._values.parse import budget_name
from nexus_redis.cli.exit_codes import Finding, Misuse
from nexus_redis.cli.unknown_budgets import ALIKE, SHOWN, either, require, unknown
from nexus_redis.cli.common_options import By, Key, Name, Namespace, Reason, Url, act_of
from nexus_redis.cli.output import standing

MOST_CONSUMERS: Final = 1000  # that are compared with the name that was typed


def forget(
    name: Name,
    consumer: Annotated[str, typer.Argument(metavar="CONSUMER", help="The id of the consumer.", show_default=False)],
    *,
    reason: Reason = "",
    by: By = None,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Forget a consumer: the budget no longer waits for its reports.

    A consumer that still lives comes back with its next report.

    \b
    Example:
      nexus-redis forget elasticsearch es-1
    """
    from difflib import get_close_matches

    from nexus_redis._protocol import calls
    from nexus_redis._values.parse import parse_name
    from nexus_redis.cli.context import place

    full = budget_name(name, key)
    parse_name(consumer, "consumer")
    act = act_of(by, reason)
    with place(url, namespace) as here:
        keys = here.keys(full)
        require(here, full, name if key is not None else None)
        if not here.ask(calls.leave_consumer(keys, consumer, "*", **act))[0]:
            known = list(here.ask(calls.inspect(keys, count=MOST_CONSUMERS))[0].consumers)
            near = either(get_close_matches(consumer, known, SHOWN, ALIKE))
            meant = f" Did you mean {near}?" if near else ""
            raise Finding(
                f"no consumer {consumer} is known to {full} in namespace {here.namespace} at {here.server}: it never "
                f"reported, left, or has been silent for more than ten minutes.{meant}"
            )
        now = here.ask(calls.inspect(keys, count=1))[0].fields
    told = standing(float(now.get("rate_per_s", 0)), int(now.get("level", 3)), now.get("reason", "unset"))
    print(f"{full}: forgot {consumer}; {told}")


def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Delete a budget and all that belongs to it.

    Settings, consumers, producers and history go. A process that still uses the budget opens it again, with the
    settings in code. On a terminal, the verb asks first.

    \b
    Example:
      nexus-redis delete stripe --yes
    """
    from nexus_redis._protocol.deletion import delete as plan
    from nexus_redis.cli.context import place

    full = budget_name(name, key)
    if not yes and not sys.stdin.isatty():
        raise Misuse(f"this deletes {full} and there is no terminal to ask on: give --yes")
    with place(url, namespace) as here:
        if not yes:
            where = f"in namespace {here.namespace} at {here.server}"
            print(f"delete the budget {full} {where}? [y/N] ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise Finding("nothing was deleted")
        count = here.run(plan(here.keys(full), here.server))
        if not count:
            raise unknown(here, full, name if key is not None else None)
    print(f"{full}: deleted, {count} key{'' if count == 1 else 's'}")


def repair(name: Name, *, key: Key = None, url: Url = None, namespace: Namespace = None) -> None:
    """Repair a budget whose state was damaged by hand.

    The verb removes what no script could have written, and names it. Settings that can be read, pauses and the history
    stay. If the state of the budget was damaged, its consumers count again with their next reports.

    \b
    Example:
      nexus-redis repair stripe
    """
    from nexus_redis._protocol.deletion import repair as plan
    from nexus_redis.cli.context import place

    full = budget_name(name, key)
    with place(url, namespace) as here:
        damages = here.run(plan(here.keys(full), here.server))
        if not damages:
            require(here, full, name if key is not None else None)
    for damage in damages:
        what = f"the field {damage.field} of {damage.key}" if damage.field else damage.key
        print(f"{full}: took away {what}")
    if not damages:
        print(f"{full}: nothing is damaged")

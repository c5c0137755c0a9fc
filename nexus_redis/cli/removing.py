"""forget, delete: what an operator takes out of Redis."""

import sys
from typing import Annotated

import typer

from nexus_redis.cli.exits import Finding, Misuse
from nexus_redis.cli.options import Key, Name, Namespace, Url
from nexus_redis.cli.text import standing
from nexus_redis.values import budget_name


def forget(
    name: Name,
    consumer: Annotated[str, typer.Argument(metavar="CONSUMER", help="Its id.", show_default=False)],
    *,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Forget a consumer: the budget no longer waits for its reports.

    One that still lives comes back with its next report.

    \b
    Example:
      nexus-redis forget elasticsearch es-1
    """
    from nexus_redis import calls
    from nexus_redis.cli.place import place
    from nexus_redis.values import parse_name

    name = budget_name(name, key)
    parse_name(consumer, "consumer")
    with place(url, namespace) as here:
        was_there = here.ask(calls.leave_consumer(here.keys(name), consumer, "*"))[0]
        if not was_there:
            raise Finding(
                f"no consumer {consumer} is known to {name} in namespace {here.namespace} at {here.server}: "
                "it never reported, left, or has been silent for more than ten minutes"
            )
        now = here.ask(calls.inspect(here.keys(name), count=1))[0].fields
    told = standing(float(now.get("rate_per_s", 0)), int(now.get("level", 3)), now.get("reason", "unset"))
    print(f"{name}: forgot {consumer}; {told}")


def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Delete a budget and all that belongs to it.

    Settings, consumers, producers, history. Whoever still uses it opens it again, with the settings in code.
    Asks first, on a terminal.

    \b
    Example:
      nexus-redis delete stripe --yes
    """
    from nexus_redis.cli.place import place
    from nexus_redis.removal import delete as plan

    name = budget_name(name, key)
    if not yes and not sys.stdin.isatty():
        raise Misuse(f"this deletes {name} and there is no terminal to ask on: give --yes")
    with place(url, namespace) as here:
        where = f"in namespace {here.namespace} at {here.server}"
        if not yes:
            print(f"delete the budget {name} {where}? [y/N] ", end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise Finding("nothing was deleted")
        count = here.run(plan(here.keys(name), here.server))
        if not count:
            raise Finding(f"no budget {name} {where}")
    print(f"{name}: deleted, {count} key{'' if count == 1 else 's'}")

"""delete: remove a budget and all its keys, after a confirmation."""

import sys
from typing import Annotated

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Key, Name, Namespace, Url, target_of
from nexus_redis.cli.exit_codes import Finding, Misuse


def delete(
    name: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Delete a budget and all that belongs to it.

    Settings, consumers, producers and history are deleted. A process that still uses the budget opens it again, with
    the settings in code. On a terminal, the verb asks first.

    \b
    Example:
      nexus-redis delete stripe --yes
    """
    from nexus_redis._protocol.deletion import delete as plan
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.unknown_budgets import unknown

    target = target_of(name, key)
    if not yes and not sys.stdin.isatty():
        raise Misuse(texts.delete_needs_yes(target.name))
    with open_context(url, namespace) as context:
        if not yes:
            print(texts.confirm_delete(target.name, context.where), end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise Finding(texts.NOTHING_DELETED)
        count = context.run(plan(context.keys(target.name), context.server))
        if not count:
            raise unknown(context, *target)
    print(f"{target.name}: deleted, {count} key{'' if count == 1 else 's'}")

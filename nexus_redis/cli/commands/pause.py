"""pause: stop a whole budget, for a time or until it is resumed."""

from typing import Annotated

import typer

from nexus_redis.cli.common_options import By, Create, Key, Name, Namespace, Reason, Url, attribution, target_of


def pause(
    name: Name,
    duration: Annotated[
        str | None,
        typer.Argument(
            metavar="TIME", help="The length of the pause: 90, 90s, 5m, 2h, 1d.", show_default="until it is resumed"
        ),
    ] = None,
    *,
    reason: Reason = "",
    by: By = None,
    create: Create = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Stop a whole budget on all hosts.

    \b
    Examples:
      nexus-redis pause stripe 30 --reason "429 Retry-After"
      nexus-redis pause stripe
    """
    from nexus_redis.cli.operator_change import change, pause_length, paused

    length, act = pause_length(duration), attribution(by, reason)
    done = paused(duration, act["note"])
    change(target_of(name, key), url, namespace, creates=create, done=done, pause=length, **act)

"""run: take tokens, then run a command. `cli/fast_acquire.py` does both; `cli/fast_parser.py` parses without typer."""

from typing import Annotated

import typer

from nexus_redis._values.parse import typed_seconds
from nexus_redis.cli.common_options import Create, Key, Name, Namespace, OnOutage, Priority, Url, Weight


def run(
    name: Name,
    command: Annotated[
        list[str],
        typer.Argument(metavar="CMD...", help="The command and its arguments, after `--`.", show_default=False),
    ],
    *,
    cost: Annotated[float, typer.Option(metavar="TOKENS", help="Take this many tokens.")] = 1.0,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Give up after TIME with exit code 75: 30, 90s, 5m.", show_default="wait"),
    ] = None,
    weight: Weight = 1.0,
    priority: Priority = "normal",
    on_outage: OnOutage = None,
    create: Create = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Wait for a token, then run a command.

    The verb forwards signals to the command and ends with the exit code of the command: 126 and 127 as in the shell,
    128+n after a signal.

    \b
    Examples:
      nexus-redis run stripe -- curl -sf https://api.stripe.com/v1/charges
      cat urls | xargs -P8 -n1 nexus-redis run stripe -- curl -sfO
    """
    from nexus_redis.cli import fast_acquire

    options = fast_acquire.RunOptions(
        name, key, cost, timeout=typed_seconds(timeout, "timeout") if timeout is not None else None, weight=weight,
        priority=priority, on_outage=on_outage or "share", creates=create, url=url, namespace=namespace,
    )  # fmt: skip
    raise typer.Exit(fast_acquire.run(options, command))

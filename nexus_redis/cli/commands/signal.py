"""signal: ask as a producer, once, at which rate to send. `cli/fast_signal.py` sends it and makes its `--json`."""

from typing import Annotated

import typer

from nexus_redis.cli.common_options import Create, Json, Key, Name, Namespace, Url, target_of


def signal(
    name: Name,
    *,
    rate: Annotated[
        str,
        typer.Option(metavar="RATE", help='State the rate that you would send: 10000, "100/s".', show_default=False),
    ],
    id: Annotated[
        str | None, typer.Option(metavar="ID", help="Ask as the producer ID.", show_default="this host")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(metavar="N", help="Set the weight of the producer's share.", show_default="1")
    ] = None,
    priority: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Set the priority: high, normal or low.", show_default="normal")
    ] = None,
    create: Create = False,
    key: Key = None,
    json: Json = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Ask, as a producer, at which rate to send.

    The verb sends a CapacitySignal and prints the FlowControl. The signal counts in the running epoch, takes no token
    and leaves no producer behind.

    \b
    Example:
      nexus-redis signal elasticsearch --rate 10000 --id filebeat-1
    """
    from nexus_redis._protocol import calls
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.fast_signal import SignalOptions, commands, formatted, send
    from nexus_redis.cli.unknown_budgets import require

    target = target_of(name, key)
    options = SignalOptions(target.name, rate, id, weight, priority, create, url, namespace)
    flow = send(options)
    if flow is None:
        claim, _ = commands(options)
        with open_context(url, namespace) as context:
            if not create:
                require(context, target, can_create=True)
            flow = calls.flow_fields(target.name, context.ask(claim)[0])
            context.list_budget(target.name)
    print(formatted(flow, rate, json=json))

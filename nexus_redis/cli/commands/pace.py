"""pace: copy stdin to stdout at the rate of a budget. `cli/paced_copy.py` copies, `cli/progress.py` reports."""

import os
from typing import Annotated, Final

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Create, Key, Name, Namespace, OnOutage, Priority, Url, Weight
from nexus_redis.cli.exit_codes import BROKEN_PIPE, SIGNALLED, Misuse
from nexus_redis.cli.output import choice
from nexus_redis.errors import InvalidSetting

UNITS: Final = ("lines", "bytes")


def pace(
    name: Name,
    *,
    cost: Annotated[str, typer.Option(metavar="UNIT", help="Count one token for each UNIT: lines or bytes.")] = "lines",
    weight: Weight = 1.0,
    priority: Priority = "normal",
    on_outage: OnOutage = None,
    create: Create = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on the terminal.")] = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Copy stdin to stdout at the budget's rate.

    On a terminal, stderr shows the rate. At SIGINT and SIGTERM the verb writes what it has read before it ends.

    \b
    Examples:
      cat access.log | nexus-redis pace elasticsearch > ship.pipe
      nexus-redis pace uplink --cost bytes < backup.tar | ssh vault 'cat > backup.tar'
    """
    from nexus_redis._protocol.keys import BudgetKeys
    from nexus_redis._values.parse import split_name
    from nexus_redis.cli.fast_connection import Connection
    from nexus_redis.cli.os_signals import receive_signals
    from nexus_redis.cli.paced_copy import PacedCopy
    from nexus_redis.cli.progress import shown_progress
    from nexus_redis.cli.unknown_budgets import require_one
    from nexus_redis.client import Nexus

    if cost not in UNITS:
        raise InvalidSetting("cost", cost, texts.one_of_remedy(choice(UNITS)))
    name, key = split_name(name, key)
    with Nexus.from_url(url, namespace=namespace) as nexus:
        budget = nexus.budget(name, key=key)
        producer = budget.producer(weight=weight, priority=priority, on_outage=on_outage)
        _require_streams()
        if not create:
            parent = BudgetKeys(nexus.namespace, name) if key is not None else None
            with Connection(nexus.url) as connection:
                require_one(connection, BudgetKeys(nexus.namespace, budget.name), parent, key, url, namespace)
        received = receive_signals()
        signals = 0

        def end(number: int, _is_key: bool) -> None:
            # The first signal wakes the main thread, which waits for tokens. The second one ends a write that hangs.
            nonlocal signals
            signals += 1
            if signals > 1:
                os._exit(SIGNALLED + number)
            nexus.close()

        if not received.listen(end):
            with shown_progress(budget.name, cost, producer, quiet=quiet) as progress:
                try:
                    is_open = on_outage == "open"
                    PacedCopy(producer, received, progress, by_lines=cost == "lines", is_open=is_open).run()
                except BrokenPipeError:
                    raise typer.Exit(BROKEN_PIPE) from None
    if received.first:
        raise typer.Exit(received.exit_code())


def _require_streams() -> None:
    for number, stream in enumerate(("stdin", "stdout")):
        try:
            os.fstat(number)
        except OSError as error:
            raise Misuse(texts.stream_closed(stream, error.strerror or "")) from error

"""top: all budgets live in a terminal (`cli/top/`)."""

import sys
from typing import Annotated

import typer

from nexus_redis.cli import extras, texts
from nexus_redis.cli.common_options import DEFAULT_EVERY, EVERY, Namespace, Url
from nexus_redis.cli.exit_codes import Misuse


def top(
    *,
    every: Annotated[
        str, typer.Option(metavar="TIME", help="Look at Redis again every TIME: 0.5s, 2, 1m.")
    ] = DEFAULT_EVERY,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show all budgets live, and pause and resume them.

    Those in trouble come first. The key `?` shows all keys. The verb needs the extra `top`: pip install '.[top]'

    \b
    Example:
      nexus-redis top --every 2s
    """
    from nexus_redis._values.parse import typed_seconds

    seconds = typed_seconds(every, "every", EVERY)
    extras.require("top")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Misuse(texts.TOP_NEEDS_TERMINAL)
    import logging

    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.top.application import Top

    logging.getLogger("nexus_redis").setLevel(logging.ERROR)  # a line of the application says what is wrong
    with open_context(url, namespace) as context:
        application = Top(context, seconds)
        application.run()
    if application.return_code:
        raise typer.Exit(application.return_code)

"""demo: a budget's effect on real input, with and without it. `demo --json` prints `nexus_redis/demo/measure.py`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nexus_redis.cli.common_options import Json
from nexus_redis.cli.exit_codes import Finding, Misuse
from nexus_redis.errors import InvalidSetting

SECONDS, PRODUCERS, CONSUMERS = "10", 8, 2


def demo(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Work on the lines of FILE, as with --input.", show_default=False),
    ] = None,
    *,
    input: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE...", help="Work on the lines of these files.", show_default="stdin, else Python's own source"
        ),
    ] = None,
    seconds: Annotated[str, typer.Option(metavar="TIME", help="Let each of the two runs take TIME: 20, 2m.")] = SECONDS,
    producers: Annotated[int, typer.Option(metavar="N", help="Start N processes that send.")] = PRODUCERS,
    consumers: Annotated[int, typer.Option(metavar="N", help="Start N processes that do the work.")] = CONSUMERS,
    json: Json = False,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Use your own Redis. Prefer NEXUS_REDIS_URL: `ps` shows a password here.",
            show_default="a private server",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Begin all keys with PREFIX.",
            show_default="nexus-demo on your own Redis, else nexus",
        ),
    ] = None,
) -> None:
    """Show the effect of a budget on real input.

    The demo does the same work twice, first without a budget and then with one.

    \b
    Examples:
      nexus-redis demo
      nexus-redis demo --input /var/log/*.log --seconds 20
    """
    from nexus_redis._redis.connect import address
    from nexus_redis._values.parse import typed_seconds
    from nexus_redis._values.settings import parse_name
    from nexus_redis.demo import DemoFailed, Options, run
    from nexus_redis.demo.options import SECONDS as SPAN

    found = url or os.environ.get("NEXUS_REDIS_URL")
    # NEXUS_REDIS_NAMESPACE does not count here: the demo deletes its budget, and real work may have one of that name.
    try:
        options = Options(
            input=(*(input or ()), *(files or ())), seconds=typed_seconds(seconds, "seconds", SPAN),
            producers=producers, consumers=consumers, url=address(found) if found else None,
            namespace=parse_name(namespace, "namespace") if namespace is not None else None, json=json,
        )  # fmt: skip
        code = run(options).exit_code
    except DemoFailed as error:
        raise Finding(str(error)) from error
    except InvalidSetting:
        raise
    except ValueError as error:  # an input that cannot be used
        raise Misuse(str(error)) from error
    raise typer.Exit(code)

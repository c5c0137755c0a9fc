"""bench: what this machine and this Redis achieve. `cli/benchmark.py` measures; `--json` prints its `BenchJson`."""

from typing import Annotated, Final

import typer

from nexus_redis._values.parse import typed_seconds
from nexus_redis.cli.common_options import Json, Url
from nexus_redis.errors import Range

LENGTH: Final = Range(0.1, 600, "seconds")
NAMESPACE: Final = "nexus-bench"


def bench(
    *,
    seconds: Annotated[str, typer.Option(metavar="TIME", help="Measure for about TIME: 0.1 s to 10 min.")] = "5",
    json: Json = False,
    url: Url = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX", help="Begin all keys with PREFIX. They are deleted afterwards.", show_default=NAMESPACE
        ),
    ] = None,
) -> None:
    """Measure round trips, claims and acquires on your Redis.

    The verb drives the server to its limit for a second or two, over fifty connections. Other users of that server
    will notice.

    \b
    Examples:
      nexus-redis bench
      nexus-redis bench --seconds 1 --json
    """
    from nexus_redis.cli.benchmark import in_words, measure
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.os_signals import Interruption
    from nexus_redis.cli.output import as_json

    length = typed_seconds(seconds, "seconds", LENGTH)
    # NEXUS_REDIS_NAMESPACE does not count here, because the budgets of real work are in that namespace.
    with open_context(url, namespace or NAMESPACE) as context, Interruption() as interruption:
        found = measure(context, length, interruption)
    if json:
        print(as_json(found))
        return
    for line in in_words(found):
        print(line)

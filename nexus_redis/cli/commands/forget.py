"""forget: remove a consumer, so that the budget no longer waits for its reports."""

from typing import Annotated, Final

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import By, Key, Name, Namespace, Reason, Url, attribution, target_of
from nexus_redis.cli.exit_codes import Finding
from nexus_redis.cli.output import standing

MOST_CONSUMERS: Final = 1000  # whose ids are compared with the one that was typed


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
    from nexus_redis._protocol import calls
    from nexus_redis._protocol.fields import INSPECTED, Fields
    from nexus_redis._values.parse import parse_name
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.unknown_budgets import require, similar, suggestion

    target = target_of(name, key)
    parse_name(consumer, "consumer")
    act = attribution(by, reason)
    with open_context(url, namespace) as context:
        keys = context.keys(target.name)
        require(context, target)
        if not context.ask(calls.leave_consumer(keys, consumer, "*", **act))[0]:
            known = context.ask(calls.inspect(keys, count=MOST_CONSUMERS))[0].consumers
            near = suggestion(similar(consumer, known))
            raise Finding(texts.unknown_consumer(consumer, target.name, context.where, near))
        now = Fields(keys, keys.budget, INSPECTED, context.ask(calls.inspect(keys, count=1))[0].fields)
        state = standing(now.get("rate_per_s", 0.0), now.get("level", 3), now.text("reason", "unset"))
    print(f"{target.name}: forgot {consumer}; {state}")

"""pause: stop a whole budget, for a time or until it is resumed."""

from typing import Annotated, Final

import typer

from nexus_redis._values.formatting import printable, seconds
from nexus_redis.cli import texts
from nexus_redis.cli.common_options import By, Create, Key, Name, Namespace, Reason, Url, attribution, target_of
from nexus_redis.errors import SECONDS, InvalidSetting

PAUSE: Final = SECONDS._replace(low=0.001)  # the script counts milliseconds, and 0 means "resume" to it


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
    from nexus_redis._protocol.calls import UNTIL_RESUMED
    from nexus_redis._values.parse import typed_seconds
    from nexus_redis.cli.operator_change import change

    length = UNTIL_RESUMED
    if duration is not None:
        try:
            length = typed_seconds(duration, "pause", PAUSE)
        except InvalidSetting as error:
            raise InvalidSetting("pause", duration, texts.pause_remedy(error.remedy)) from None
    act = attribution(by, reason)
    how_long = "until it is resumed" if duration is None else f"for {seconds(length)}"
    why = f" ({printable(act['note'])})" if reason else ""
    done = f"paused {how_long}{why}; "
    change(target_of(name, key), url, namespace, creates=create, done=done, pause=length, **act)

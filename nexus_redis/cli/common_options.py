"""The options and arguments that many verbs share, and what they mean: `Target`, `Attribution`."""

from typing import Annotated, Final, NamedTuple, TypedDict

import typer

from nexus_redis._values.parse import budget_name
from nexus_redis.errors import SECONDS

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Connect to this Redis or Valkey. Prefer NEXUS_REDIS_URL: `ps` shows a password here.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        metavar="PREFIX", help="Begin all keys with PREFIX. NEXUS_REDIS_NAMESPACE sets it, too.", show_default="nexus"
    ),
]
Weight = Annotated[float, typer.Option(metavar="N", help="Set the weight of the producer's share.")]
Priority = Annotated[str, typer.Option(metavar="CLASS", help="Set the priority: high, normal or low.")]
OnOutage = Annotated[
    str | None,
    typer.Option(
        metavar="MODE", help="Set what happens while Redis is away: share, closed or open.", show_default="share"
    ),
]
Reason = Annotated[
    str, typer.Option(metavar="TEXT", help="State the reason, for the history and `explain`.", show_default=False)
]
By = Annotated[
    str | None,
    typer.Option(
        metavar="WHO", help="State who makes the change, for the history and `explain`.", show_default="user@host"
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY", help="Select the per-key budget KEY of NAME, which lists show as NAME/KEY.", show_default=False
    ),
]
Create = Annotated[bool, typer.Option("--create", help="Create the budget if it does not exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
DEFAULT_EVERY: Final = "1s"
EVERY: Final = SECONDS._replace(low=0.1)  # between two looks of `top` and `status --watch`
Name = Annotated[str, typer.Argument(metavar="NAME", help="The budget.", show_default=False)]


class Target(NamedTuple):
    """The budget that NAME and --key select: its full name, and NAME as `parent` if it is the budget of a key."""

    name: str
    parent: str | None = None
    key: str | None = None


def target_of(name: str, key: str | None) -> Target:
    """Return the budget that NAME and --key select.

    >>> target_of("stripe", "cust-42")
    Target(name='stripe/cust-42', parent='stripe', key='cust-42')
    """
    return Target(budget_name(name, key), name if key is not None else None, key)


class Attribution(TypedDict):
    """Who changes a budget, and why, as `calls` takes both."""

    who: str
    note: str


def attribution(by: str | None, reason: str) -> Attribution:
    """Check --by and --reason. A text that is too long is refused here, because a person has typed it."""
    from nexus_redis._protocol.calls import LONGEST_NOTE, LONGEST_WHO
    from nexus_redis._values.identity import whoami
    from nexus_redis.cli import texts
    from nexus_redis.errors import InvalidSetting

    if by is not None and (not by.strip() or ":" in by or len(by.encode("utf-8", "replace")) > LONGEST_WHO):
        raise InvalidSetting("by", by, texts.by_remedy(LONGEST_WHO))
    if len(reason.encode("utf-8", "replace")) > LONGEST_NOTE:
        raise InvalidSetting("reason", reason, texts.reason_remedy(LONGEST_NOTE))
    return {"who": by or whoami(), "note": reason.encode("utf-8", "replace").decode()}

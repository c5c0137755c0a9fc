"""What many verbs take."""

from typing import Annotated, TypedDict

import typer

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
        metavar="PREFIX", help="Begin all keys with PREFIX; also NEXUS_REDIS_NAMESPACE.", show_default="nexus"
    ),
]
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
    typer.Option(metavar="WHO", help="State who does it, for the history and `explain`.", show_default="user@host"),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY", help="Select the per-key budget KEY of NAME, which lists show as NAME/KEY.", show_default=False
    ),
]
Create = Annotated[bool, typer.Option("--create", help="Create the budget if it does not exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The budget.", show_default=False)]


class Act(TypedDict):
    """Who does something, and why, as `calls` takes it."""

    who: str
    note: str


def act_of(by: str | None, reason: str) -> Act:
    """Check `--by` and `--reason`. A text that is too long is refused here, since a person has typed it."""
    from nexus_redis._protocol.calls import LONGEST_NOTE, LONGEST_WHO
    from nexus_redis._values.identity import whoami
    from nexus_redis.errors import InvalidSetting

    if by is not None and (not by.strip() or ":" in by or len(by.encode("utf-8", "replace")) > LONGEST_WHO):
        raise InvalidSetting("by", by, f"use 1 to {LONGEST_WHO} bytes without a colon")
    if len(reason.encode("utf-8", "replace")) > LONGEST_NOTE:
        raise InvalidSetting("reason", reason, f"use at most {LONGEST_NOTE} bytes")
    return {"who": by or whoami(), "note": reason.encode("utf-8", "replace").decode()}

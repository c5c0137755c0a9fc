"""What many verbs take."""

from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Redis or Valkey; better in NEXUS_REDIS_URL, since `ps` shows a password here.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(metavar="PREFIX", help="Of all keys; or in NEXUS_REDIS_NAMESPACE.", show_default="nexus"),
]
OnOutage = Annotated[
    str | None,
    typer.Option(metavar="MODE", help="While Redis is away: share, closed or open.", show_default="share"),
]
Key = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="Of NAME's budgets that of nexus.budget(NAME, key=KEY).", show_default=False),
]
Create = Annotated[bool, typer.Option("--create", help="Open a budget of that name if there is none.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The budget.", show_default=False)]

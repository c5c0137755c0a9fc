"""token: make a bearer token for the server, and add its hash to the file that `serve --tokens` reads."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from nexus_redis.cli import extras, texts
from nexus_redis.cli.output import choice
from nexus_redis.errors import InvalidSetting

NEWLINE: Final = "\n"  # a format field may hold no backslash before Python 3.12


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who gets the token.", show_default=False)],
    *,
    file: Annotated[Path, typer.Option(metavar="FILE", help="Add the token's hash to FILE.", show_default=False)],
    role: Annotated[
        list[str],
        typer.Option(
            metavar="ROLE",
            help="Give the role observer, producer, consumer or operator. Repeatable.",
            show_default=False,
        ),
    ],
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Allow only budgets like PATTERN: es, 'stripe/*'. Repeatable."),
    ] = None,
) -> None:
    """Make a token for the HTTP server.

    The verb prints the token once, and adds a line with its hash to FILE. To end a token, remove its line: a server
    that runs notices within a second.

    \b
    Example:
      nexus-redis token grafana --role observer --file tokens
    """  # fmt: skip
    extras.require("server")
    from nexus_redis._values.parse import parse_name
    from nexus_redis.server.access import ROLES, new_token, parsed

    parse_name(name, "name")
    for each in role:
        if each not in ROLES:
            raise InvalidSetting("role", each, texts.one_of_remedy(choice(ROLES)))
    patterns = budget or ["*"]
    for pattern in patterns:
        if not pattern or any(character in pattern for character in ", \t\n"):
            raise InvalidSetting("budget", pattern, texts.PATTERN_REMEDY)
    made, line = new_token(name, role, patterns)
    try:
        # Opened for reading, too: what is not a file, or may not be read, is found before anything is written.
        with os.fdopen(os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "r+", encoding="utf-8") as both:
            both.seek(0)
            before = both.read()
            if name in {caller.name for caller in parsed(before, file).values()}:
                raise InvalidSetting("name", name, texts.token_exists(str(file)))
            both.write(f"{'' if not before or before.endswith(NEWLINE) else NEWLINE}{line}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(
            "file", str(file), texts.tokens_file(getattr(error, "strerror", "") or str(error))
        ) from None
    print(made)

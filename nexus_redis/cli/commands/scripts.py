"""scripts: the Lua that decides in Redis, as its authors wrote it or as the server runs it."""

import sys
from typing import Annotated

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Namespace, Url
from nexus_redis.cli.exit_codes import Misuse
from nexus_redis.cli.output import choice


def scripts(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this script.", show_default="a list")
    ] = None,
    *,
    bundle: Annotated[bool, typer.Option("--bundle", help="Print the text that the server runs.")] = False,
    url: Url = None,  # noqa: ARG001  # every verb takes it, so that one alias fits all
    namespace: Namespace = None,  # noqa: ARG001
) -> None:
    """List the Lua scripts, or print the source of one.

    The source comes with all that it includes. The server runs a shorter text that does the same; `--bundle` prints it.

    \b
    Examples:
      nexus-redis scripts
      nexus-redis scripts claim | less
      nexus-redis scripts claim --bundle > claim.lua && redis-cli --ldb --eval claim.lua
    """
    from nexus_redis._protocol.scripts import NAMES, script, source

    if name is None and bundle:
        raise Misuse(texts.BUNDLE_WITHOUT_NAME)
    if name is None:
        for each in map(script, NAMES):
            print(f"{each.name:<{max(map(len, NAMES))}}  {each.sha}  {len(each.text.encode()):>6,} bytes")
    elif name in NAMES:
        sys.stdout.write(script(name).text if bundle else source(name))
    else:
        raise Misuse(texts.unknown_script(name, choice(NAMES)))

"""The verbs by name."""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from nexus_redis.cli import backup as keeping
from nexus_redis.cli import benchmark as benching
from nexus_redis.cli import paced_copy as pacing
from nexus_redis.cli.commands import delete as removing
from nexus_redis.cli.commands import demo as playing
from nexus_redis.cli.commands import explain as explaining
from nexus_redis.cli.commands import redis as plain
from nexus_redis.cli.commands import report as protocol
from nexus_redis.cli.commands import run as running
from nexus_redis.cli.commands import set as acting
from nexus_redis.cli.commands import status as reading
from nexus_redis.cli.exit_codes import Misuse, exit_code

PROGRAM = "nexus-redis"
VERBS: Final[dict[str, Callable[..., None]]] = {
    "demo": playing.demo,
    "list": keeping.list_budgets,
    "status": reading.status,
    "explain": explaining.explain,
    "set": acting.set_budget,
    "pause": acting.pause,
    "resume": acting.resume,
    "forget": removing.forget,
    "delete": removing.delete,
    "repair": removing.repair,
    "pace": pacing.pace,
    "run": running.run,
    "signal": protocol.signal,
    "report": protocol.report,
    "bench": benching.bench,
    "scripts": reading.scripts,
}


class Verbs(TyperGroup):
    """The group of all verbs: errors end as one line and an exit code, help comes in the order of `VERBS`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002
        complete_var: str | None = None,  # noqa: ARG002
        standalone_mode: bool = True,  # noqa: ARG002
        windows_expand_args: bool = True,  # noqa: ARG002
        **extra: Any,
    ) -> Any:
        # Not the base's own: it frames errors over five lines, and ends a broken pipe with 1.
        words = list(sys.argv[1:] if args is None else args)

        def invoke() -> None:
            with self.make_context(PROGRAM, list(words), **extra) as ctx:
                self.invoke(ctx)

        sys.exit(exit_code(invoke, words))


# Plain help: the rich one would import rich, and take longer than all the rest of `--help`.
app = typer.Typer(
    cls=Verbs,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "NEXUS_REDIS_URL names the Redis, by default redis://localhost:6379/0. --url names it as well, but `ps` shows a"
        " password in it. Exit codes: 0, 1 finding or loss, 2 usage, 69 Redis unreachable, 75 timeout, 128+n signal."
    ),
)
for name, verb in VERBS.items():
    app.command(name)(verb)
# What follows the command's name is Redis's, even where it looks like an option of ours.
app.command("redis", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(plain.redis)


@app.callback()
def about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    completion: Annotated[
        str | None, typer.Option(metavar="SHELL", help="Print the completion script for bash, zsh or fish, and exit.")
    ] = None,
) -> None:
    """One shared rate for one downstream, computed in Redis from what it reports, claimed by every producer.

    \b
    Completion, for bash, zsh and fish:
      eval "$(nexus-redis --completion bash)"
    """
    if version:
        from importlib.metadata import version as version_of

        print(PROGRAM, version_of("nexus-backpressure"))
        raise typer.Exit
    if completion is not None:
        from nexus_redis.cli.completion import SHELLS, script

        if completion not in SHELLS:
            raise Misuse(f"no completion for {completion!r}: there are {', '.join(SHELLS)}")
        print(script(completion, context.command), end="")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def run() -> int:
    """Run what was typed; the answer is the exit code."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0

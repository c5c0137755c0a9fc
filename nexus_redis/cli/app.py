"""All verbs by name, and what stands before a verb: --help, --version, --completion."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from nexus_redis.cli import texts
from nexus_redis.cli.commands.bench import bench
from nexus_redis.cli.commands.delete import delete
from nexus_redis.cli.commands.demo import demo
from nexus_redis.cli.commands.explain import explain
from nexus_redis.cli.commands.forget import forget
from nexus_redis.cli.commands.list import list_budgets
from nexus_redis.cli.commands.pace import pace
from nexus_redis.cli.commands.pause import pause
from nexus_redis.cli.commands.redis import redis
from nexus_redis.cli.commands.repair import repair
from nexus_redis.cli.commands.report import report
from nexus_redis.cli.commands.resume import resume
from nexus_redis.cli.commands.run import run
from nexus_redis.cli.commands.scripts import scripts
from nexus_redis.cli.commands.serve import serve
from nexus_redis.cli.commands.set import set_budget
from nexus_redis.cli.commands.signal import signal
from nexus_redis.cli.commands.status import WithOptionalTime, status
from nexus_redis.cli.commands.token import token
from nexus_redis.cli.commands.top import top
from nexus_redis.cli.exit_codes import USAGE, Misuse, exit_code
from nexus_redis.cli.output import LOG_FORMAT, LOG_FORMATS, PROGRAM, choice
from nexus_redis.errors import InvalidSetting

VERBS: Final[dict[str, Callable[..., None]]] = {
    "demo": demo,
    "list": list_budgets,
    "status": status,
    "top": top,
    "explain": explain,
    "set": set_budget,
    "pause": pause,
    "resume": resume,
    "forget": forget,
    "delete": delete,
    "repair": repair,
    "pace": pace,
    "run": run,
    "signal": signal,
    "report": report,
    "serve": serve,
    "token": token,
    "bench": bench,
    "scripts": scripts,
}


class Verbs(TyperGroup):
    """The group of all verbs: errors end as one line and an exit code, and help lists them in the order of `VERBS`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,  # noqa: ARG002
        complete_var: str | None = None,  # noqa: ARG002
        standalone_mode: bool = True,  # noqa: ARG002
        windows_expand_args: bool = True,  # noqa: ARG002
        **extra: Any,
    ) -> Any:
        # Not the base's own, which prints an error in a frame of five lines, and ends a broken pipe with 1.
        words = list(sys.argv[1:] if args is None else args)

        def invoke() -> None:
            with self.make_context(PROGRAM, list(words), **extra) as context:
                self.invoke(context)

        sys.exit(exit_code(invoke, words))


# Plain help: rich help would import rich, and take longer than all the rest of `--help`.
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
app.command("status", cls=WithOptionalTime)(status)
# All words after the name of a Redis command belong to Redis, also those that look like options of this verb.
app.command("redis", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(redis)


def _set_log_format(value: str | None) -> None:
    """Set the format for this process and for those that it starts."""
    if value is None:
        return
    if value not in LOG_FORMATS:
        raise InvalidSetting("log_format", value, texts.one_of_remedy(choice(LOG_FORMATS)))
    os.environ[LOG_FORMAT] = value


@app.callback()
def about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    log_format: Annotated[  # noqa: ARG001  # its callback has taken it
        str | None,
        typer.Option(
            metavar="FORMAT",
            envvar=LOG_FORMAT,
            show_envvar=False,
            help="Write errors and warnings as text or json. NEXUS_REDIS_LOG_FORMAT sets it, too.",
            callback=_set_log_format,
            is_eager=True,  # so that the errors about the words after it have the format
        ),
    ] = None,
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
            raise Misuse(texts.unknown_shell(completion, choice(SHELLS)))
        print(script(completion, context.command), end="")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(USAGE)


def main() -> int:
    """Run the verb that was typed, and return the exit code."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0

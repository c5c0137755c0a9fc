"""status: all budgets or one budget, as tables (`cli/tables.py`) or as JSON, once or again and again (`cli/watch.py`).

`--json` prints a `BudgetJson`, or a list of `BudgetSummaryJson` without a NAME (`_protocol/json_forms.py`).
"""

from functools import partial
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import DEFAULT_EVERY, EVERY, Json, Key, Namespace, Url, target_of
from nexus_redis.cli.exit_codes import Finding, Misuse, end_with_damage

NAMED: Final = "nexus-redis.named-after-watch"  # in the context: a word after --watch was not taken for a time


class WithOptionalTime(TyperCommand):
    """The verb, whose `--watch` may have a time after it: `--watch`, `--watch 2s`, `--watch NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give `--watch` the time of one second, unless a time is the next word."""
        words = [*args]
        for at in [i for i, word in enumerate(args) if word == "--watch"]:
            if not (at + 1 < len(args) and args[at + 1][:1].isdigit()):
                words[at] = f"--watch={DEFAULT_EVERY}"
                ctx.meta[NAMED] = at + 1 < len(args)
        return super().parse_args(ctx, words)


def status(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Show this budget with its settings, consumers and producers.",
            show_default="all budgets",
        ),
    ] = None,
    *,
    watch: Annotated[
        str | None,
        typer.Option(
            metavar="[TIME]",
            help="Look again every TIME (1s if it is left out), until Ctrl-C. On a terminal, the table stays in place.",
            show_default=False,
        ),
    ] = None,
    key: Key = None,
    json: Json = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Show all budgets, or one budget with its members.

    Of all budgets, the most urgent stand first. Of one budget, the verb lists up to 500 consumers and 500 producers,
    and says how many there are. The SHARE of a producer is what the producer may use if it asks for it.

    If a budget cannot be read because somebody has edited its keys, the verb shows the others, names the damage on
    stderr, and ends with exit code 1.

    \b
    Examples:
      nexus-redis status
      nexus-redis status elasticsearch --json
      nexus-redis status elasticsearch --watch 2s
    """
    from nexus_redis._values.parse import typed_seconds
    from nexus_redis.cli import tables
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.status_looks import look_at, look_at_all

    if name is None and key is not None:
        raise Misuse(texts.key_without_name("status NAME --key KEY"))
    target = target_of(name, key) if name is not None else None
    every = typed_seconds(watch, "watch", EVERY) if watch is not None else None
    with open_context(url, namespace) as context:
        look = partial(look_at_all, context) if target is None else partial(look_at, context, target)
        if every is not None:
            from nexus_redis.cli.watch import watch_with

            try:
                watch_with(look, every, json=json)
            except Finding as error:  # of the first look
                if ctx.meta.get(NAMED):
                    raise Finding(f"{str(error).rstrip('.')}. {texts.NAME_AFTER_WATCH}") from None
                raise
        seen = look()
        if json:
            print(seen.json())
        else:
            tables.show(seen.tables)
        end_with_damage(seen.damage)

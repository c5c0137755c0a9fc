"""set: the settings of a budget as an operator decides them; code does not overrule them."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from nexus_redis.cli import texts
from nexus_redis.cli.common_options import By, Create, Key, Namespace, Reason, Url, attribution, target_of
from nexus_redis.cli.exit_codes import Misuse
from nexus_redis.cli.output import choice
from nexus_redis.errors import InvalidSetting

FIELDS: Final = ("rate", "min-rate", "burst", "law", "combine", "latency-target-ms", "lossless", "transit", "grace")
LONGEST_REASON: Final = 40  # characters of the reason that a restore states


def set_budget(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The budget.", show_default="with --from: all in the file")
    ] = None,
    *,
    rate: Annotated[str | None, typer.Option(metavar="RATE", help='Set the ceiling: 5000, "100/s", "10/min".')] = None,
    min_rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Set the floor under the rate that consumers allow.")
    ] = None,
    burst: Annotated[
        str | None, typer.Option(metavar="TIME", help="Set the burst size, in seconds of the rate: 0.25, 60s, 5m.")
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(metavar="LAW", help="Set the law: range, drain or aimd. By default, the reports decide."),
    ] = None,
    combine: Annotated[
        str | None, typer.Option(metavar="HOW", help="Set how the rates of consumers combine: sum, spread or min.")
    ] = None,
    latency_target_ms: Annotated[
        str | None, typer.Option(metavar="MS", help="Set the latency above which aimd sees overload: 250, 1.5s.")
    ] = None,
    lossless: Annotated[
        bool | None,
        typer.Option("--lossless/--no-lossless", help="Grant only as many tokens as the consumers can hold."),
    ] = None,
    transit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Set the time from a spent token until Redis shows its work.")
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Set how long the rate stays after the last consumer has left. By default, 10 s."
        ),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Remove the operator's value of FIELD. Repeatable.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Restore what `list --json` wrote; - reads stdin.")
    ] = None,
    reason: Reason = "",
    by: By = None,
    create: Create = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Change the settings of a budget as an operator.

    An operator's value wins over the value in code until it is unset. `--from` restores the operator's values of a
    backup.

    \b
    Examples:
      nexus-redis set stripe --rate 100/s --burst 60
      nexus-redis set stripe --unset rate
      nexus-redis set --from budgets.json
    """
    gone = [_field(word) for word in unset or ()]
    chosen = _chosen(
        rate=rate, min_rate=min_rate, burst=burst, law=law, combine=combine, latency_target_ms=latency_target_ms,
        lossless=lossless, transit=transit, grace=grace,
    )  # fmt: skip
    if source is not None:
        if chosen or gone:
            raise Misuse(texts.SET_FROM_WITH_SETTINGS)
        if name is None and key is not None:
            raise Misuse(texts.key_without_name("set NAME --key KEY --from FILE"))
        from nexus_redis.cli.backup import restore

        act = attribution(by, reason or f"restored from {source.name}"[:LONGEST_REASON])
        restore(source, target_of(name, key).name if name is not None else None, url, namespace, act)
        return
    if name is None:
        raise Misuse(texts.key_without_name("set NAME --key KEY") if key is not None else texts.SET_WITHOUT_NAME)
    if not chosen and not gone:
        raise Misuse(texts.nothing_to_set(", ".join(f"--{field}" for field in FIELDS)))
    both = [field for field in gone if field in chosen]
    if both:
        raise Misuse(texts.set_and_unset(both[0]))
    from nexus_redis._values.settings import BudgetSettings
    from nexus_redis.cli.operator_change import change

    settings, act = BudgetSettings.of(**chosen), attribution(by, reason)
    # A value defines a budget. To unset a value of a budget that does not exist is a mistake.
    change(
        target_of(name, key), url, namespace, creates=create or bool(chosen), settings=settings, unset=gone, **act
    )  # fmt: skip


def _chosen(
    *, burst: str | None, transit: str | None, grace: str | None, latency_target_ms: str | None, **others: Any
) -> dict[str, Any]:
    """Return the settings that were given, with times as numbers."""
    from nexus_redis._values.parse import typed_milliseconds, typed_seconds

    times = {
        field: typed_seconds(text, field)
        for field, text in (("burst", burst), ("transit", transit), ("grace", grace))
        if text is not None
    }
    if latency_target_ms is not None:
        times["latency_target_ms"] = typed_milliseconds(latency_target_ms, "latency_target_ms")
    return {field: value for field, value in others.items() if value is not None} | times


def _field(word: str) -> str:
    if word.replace("_", "-") not in FIELDS:
        raise InvalidSetting("unset", word, texts.one_of_remedy(choice(FIELDS)))
    return word.replace("-", "_")

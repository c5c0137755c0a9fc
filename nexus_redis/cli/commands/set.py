"""set, pause, resume: what an operator decides, and code does not overrule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nexus_redis._values.parse import budget_name
from nexus_redis.cli.exit_codes import Misuse
from nexus_redis.cli.backup import restore
from nexus_redis.cli.unknown_budgets import VERY_ALIKE, alike, is_there, unknown
from nexus_redis.cli.common_options import By, Create, Key, Name, Namespace, Reason, Url, act_of
from nexus_redis.cli.output import printable, seconds, standing
from nexus_redis.errors import SECONDS, InvalidSetting

if TYPE_CHECKING:
    from nexus_redis._protocol.calls import Configured
    from nexus_redis.cli.context import Place

FIELDS: Final = ("rate", "min-rate", "burst", "law", "combine", "latency-target-ms", "lossless", "transit", "grace")
MOST_OF_A_NAME: Final = 40  # characters
PAUSE: Final = SECONDS._replace(low=0.001)  # the script counts milliseconds, and takes 0 for "resume"

# Why Redis refuses what is fine by itself: the rest of the budget stands against it.
_TOGETHER: Final = {
    "min_rate": "a floor: use at most the rate that is set",
    "burst": "with the rate that is set this is too much for one burst: use fewer seconds",
    "lossless": "its consumers must report queue_depth, queue_limit, done, errors and in_flight first",
}


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
        str | None, typer.Option(metavar="HOW", help="Set how consumers combine: sum, spread or min.")
    ] = None,
    latency_target_ms: Annotated[
        str | None, typer.Option(metavar="MS", help="Set the latency above which aimd sees overload: 250, 1.5s.")
    ] = None,
    lossless: Annotated[
        bool | None, typer.Option("--lossless/--no-lossless", help="Admit only what consumers can hold.")
    ] = None,
    transit: Annotated[
        str | None, typer.Option(metavar="TIME", help="Set the time from a spent token to its work seen in Redis.")
    ] = None,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Set how long the last consumer's rate stays after it has left. By default, 10 s."
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
    """Set the settings of a budget, as an operator.

    An operator's value wins over the value in code until it is unset. `--from` restores the operator's values of a
    backup.

    \b
    Examples:
      nexus-redis set stripe --rate 100/s --burst 60
      nexus-redis set stripe --unset rate
      nexus-redis set --from budgets.json
    """
    from nexus_redis._values.parse import typed_milliseconds, typed_seconds
    from nexus_redis._values.settings import BudgetSettings

    def as_seconds(text: str | None, field: str) -> float | None:
        return None if text is None else typed_seconds(text, field)

    target = None if latency_target_ms is None else typed_milliseconds(latency_target_ms, "latency_target_ms")
    given = {
        "rate": rate, "min_rate": min_rate, "burst": as_seconds(burst, "burst"), "law": law, "combine": combine,
        "latency_target_ms": target, "lossless": lossless, "transit": as_seconds(transit, "transit"),
        "grace": as_seconds(grace, "grace"),
    }  # fmt: skip
    chosen = {field: value for field, value in given.items() if value is not None}
    gone = [_field(word) for word in unset or ()]
    if source is not None:
        if chosen or gone:
            raise Misuse("--from restores settings as they were: leave the others out")
        if name is None and key is not None:
            raise Misuse("--key of which budget? set NAME --key KEY --from FILE")
        act = act_of(by, reason or f"restored from {source.name}"[:MOST_OF_A_NAME])
        restore(source, budget_name(name, key) if name is not None else None, url, namespace, act)
        return
    if name is None:
        raise Misuse("which budget? set NAME ..., or set --from FILE for all of a backup. See nexus-redis set --help")
    if not chosen and not gone:
        options = ", ".join(f"--{field}" for field in FIELDS)
        raise Misuse(f"nothing to set: give {options} or --unset FIELD")
    both = [field for field in gone if field in chosen]
    if both:
        raise Misuse(f"{both[0]} is both given and unset: leave one out")
    settings, act = BudgetSettings.of(**chosen), act_of(by, reason)
    # A value defines a budget. To unset a value of a budget that does not exist is a mistake.
    _act(name, key, url, namespace, creates=create or bool(chosen), settings=settings, unset=gone, **act)


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

    lasts = UNTIL_RESUMED
    if duration is not None:
        try:
            lasts = typed_seconds(duration, "pause", PAUSE)
        except InvalidSetting as error:
            remedy = f"{error.remedy}. To pause until you resume it, leave the time out"
            raise InvalidSetting("pause", duration, remedy) from None
    act = act_of(by, reason)
    how_long = "until it is resumed" if duration is None else f"for {seconds(lasts)}"
    why = f" ({printable(act['note'])})" if reason else ""
    said = f"paused {how_long}{why}; "
    _act(name, key, url, namespace, creates=create, said=said, pause=lasts, **act)


def resume(
    name: Name,
    *,
    reason: Reason = "",
    by: By = None,
    create: Create = False,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """End a pause.

    \b
    Example:
      nexus-redis resume stripe
    """
    _act(name, key, url, namespace, creates=create, pause=0.0, **act_of(by, reason))


def _field(word: str) -> str:
    if word.replace("_", "-") not in FIELDS:
        raise InvalidSetting("unset", word, f"use {', '.join(FIELDS[:-1])} or {FIELDS[-1]}")
    return word.replace("-", "_")


def _act(
    name: str, key: str | None, url: str | None, namespace: str | None, *, creates: bool, said: str = "", **change: Any
) -> None:
    """Change the budget of `name` and `key`, and print how it stands then.

    Raises `Finding` where it does not exist, unless `creates`.
    """
    from nexus_redis.cli.context import place

    full = budget_name(name, key)
    with place(url, namespace) as here:
        new = ""
        if not here.ask(is_there(here.keys(full)))[0]:
            if not creates:
                raise unknown(here, full, name if key is not None else None, can_create=True)
            meant = alike(here, full, VERY_ALIKE)[:1] if key is None else []
            slip = f"; did you mean {printable(meant[0])}?" if meant else ""
            new = f" (new: nobody has opened it{slip})"
        now = _configure(here, full, **change)
    print(f"{full}{new}: {said}{standing(now.rate, now.level, now.reason)}")


def _configure(here: "Place", name: str, *, settings: Any = None, **change: Any) -> "Configured":
    from nexus_redis._protocol import calls

    try:
        now: Configured = here.ask(calls.configure(here.keys(name), settings, source="operator", **change))[0]
    except InvalidSetting as error:
        if error.field == "min_rate" and settings.min_rate is None:
            remedy = "below the min-rate that is set: --min-rate a lower one as well, or --unset min-rate"
            raise InvalidSetting("rate", settings.rate, remedy) from None
        if error.field in _TOGETHER:
            value = getattr(settings, error.field, None)
            raise InvalidSetting(error.field, value, _TOGETHER[error.field]) from None
        raise
    here.list_budget(name, is_kept=True)
    return now

"""set, pause, resume: what an operator decides, and code does not overrule."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nexus_redis.cli.exits import Finding, Misuse
from nexus_redis.cli.keeping import restore
from nexus_redis.cli.options import Key, Name, Namespace, Url
from nexus_redis.cli.text import printable, seconds, standing
from nexus_redis.errors import SECONDS, InvalidSetting
from nexus_redis.values import budget_name

if TYPE_CHECKING:
    from nexus_redis.calls import Configured
    from nexus_redis.cli.place import Place

FIELDS: Final = ("rate", "min-rate", "burst", "law", "combine", "latency-target-ms", "lossless", "transit")
ALIKE: Final = 0.8  # of difflib's ratio: a letter of four
SHORTEST_PAUSE: Final = 0.001  # the script counts milliseconds, and takes 0 for "resume"

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
    rate: Annotated[str | None, typer.Option(metavar="RATE", help='The ceiling: 5000, "100/s", "10/min".')] = None,
    min_rate: Annotated[str | None, typer.Option(metavar="RATE", help="The floor under what consumers report.")] = None,
    burst: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="What may go at once, in time of rate.")
    ] = None,
    law: Annotated[str | None, typer.Option(metavar="LAW", help="range, drain or aimd; else by the reports.")] = None,
    combine: Annotated[str | None, typer.Option(metavar="HOW", help="Across consumers: sum, spread or min.")] = None,
    latency_target_ms: Annotated[float | None, typer.Option(metavar="MS", help="Above it, aimd sees overload.")] = None,
    lossless: Annotated[
        bool | None, typer.Option("--lossless/--no-lossless", help="Admit only what consumers can hold.")
    ] = None,
    transit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="From a token spent to its work seen in Redis.")
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Take an operator's value away; may be repeated.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="What `list --json` wrote, or - for stdin.")
    ] = None,
    key: Key = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Set what a budget goes by, as an operator.

    What is set here wins over what code sets, until it is unset. From a backup, what an operator had set is as it was.

    \b
    Examples:
      nexus-redis set stripe --rate 100/s --burst 60
      nexus-redis set stripe --unset rate
      nexus-redis set --from budgets.json
    """
    from nexus_redis.config import BudgetSettings

    given = {
        "rate": rate, "min_rate": min_rate, "burst": burst, "law": law, "combine": combine,
        "latency_target_ms": latency_target_ms, "lossless": lossless, "transit": transit,
    }  # fmt: skip
    chosen = {field: value for field, value in given.items() if value is not None}
    gone = [_field(word) for word in unset or ()]
    if source is not None:
        if chosen or gone:
            raise Misuse("--from restores settings as they were: leave the others out")
        if name is None and key is not None:
            raise Misuse("--key of which budget? set NAME --key KEY --from FILE")
        restore(source, budget_name(name, key) if name is not None else None, url, namespace)
        return
    if name is None:
        raise Misuse("which budget? set NAME ..., or set --from FILE for all of a backup. See nexus-redis set --help")
    if not chosen and not gone:
        options = ", ".join(f"--{field}" for field in FIELDS)
        raise Misuse(f"nothing to set: give {options} or --unset FIELD")
    both = [field for field in gone if field in chosen]
    if both:
        raise Misuse(f"{both[0]} is both given and unset: leave one out")
    settings = BudgetSettings.of(**chosen)
    _act(budget_name(name, key), key, url, namespace, settings=settings, unset=gone)


def pause(
    name: Name,
    duration: Annotated[
        str | None,
        typer.Argument(metavar="SECONDS", help="How long: 90, 90s, 5min, 2h.", show_default="until it is resumed"),
    ] = None,
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for whoever looks.", show_default=False)] = "",
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
    from nexus_redis.calls import LONGEST_NOTE, UNTIL_RESUMED
    from nexus_redis.values import parse_seconds

    lasts = parse_seconds(duration, "pause") if duration is not None else UNTIL_RESUMED
    if duration is not None and lasts < SHORTEST_PAUSE:
        raise InvalidSetting("pause", duration, f"use {SHORTEST_PAUSE:g} to {SECONDS.high:,} seconds, or resume")
    if len(reason.encode("utf-8", "replace")) > LONGEST_NOTE:
        raise InvalidSetting("reason", reason, f"use at most {LONGEST_NOTE} bytes")
    note = reason.encode("utf-8", "replace").decode()
    how_long = "until it is resumed" if duration is None else f"for {seconds(lasts)}"
    why = f" ({printable(note)})" if note else ""
    _act(
        budget_name(name, key), key, url, namespace, pause=lasts, note=note,
        said=f"paused {how_long}{why}; ",
    )  # fmt: skip


def resume(name: Name, *, key: Key = None, url: Url = None, namespace: Namespace = None) -> None:
    """End a pause.

    \b
    Example:
      nexus-redis resume stripe
    """
    _act(budget_name(name, key), key, url, namespace, must_exist=True, pause=0.0)


def _field(word: str) -> str:
    if word.replace("_", "-") not in FIELDS:
        raise InvalidSetting("unset", word, f"use {', '.join(FIELDS[:-1])} or {FIELDS[-1]}")
    return word.replace("-", "_")


def _act(
    name: str,
    key: str | None,
    url: str | None,
    namespace: str | None,
    *,
    said: str = "",
    must_exist: bool = False,
    **change: Any,
) -> None:
    from nexus_redis.cli.place import place

    with place(url, namespace) as here:
        is_known = _exists(here, name)
        if must_exist and not is_known:
            raise Finding(f"no budget {name} in namespace {here.namespace} at {here.server}")
        new = "" if is_known else f" (new: nobody has opened it{'' if key else _alike(here, name)})"
        now = _configure(here, name, **change)
    print(f"{name}{new}: {said}{standing(now.rate, now.level, now.reason)}")


def _exists(here: "Place", name: str) -> bool:
    from nexus_redis.calls import Command

    return bool(here.ask(Command(("EXISTS", here.keys(name).budget), int))[0])


def _alike(here: "Place", name: str) -> str:
    """A name that differs from one that is known by little may have a slip of the pen."""
    from difflib import get_close_matches

    from nexus_redis.snapshot import budget_names

    alike = get_close_matches(name, here.run(budget_names(here.namespace, here.server)), 1, cutoff=ALIKE)
    return f"; did you mean {printable(alike[0])}?" if alike else ""


def _configure(here: "Place", name: str, *, settings: Any = None, **change: Any) -> "Configured":
    from nexus_redis import calls

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
    here.list_budget(name)
    return now

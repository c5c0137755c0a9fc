"""list, and `set --from`: the settings of all budgets, as a backup and back.

A backup holds both what code and what an operator has set. Restored, an operator's values are again exactly those of
the backup; what code had set comes back only where code has set nothing since, since the code that runs knows better.
"""

import json as json_of
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nexus_redis.cli.exit_codes import Misuse
from nexus_redis.cli.unknown_budgets import ALIKE, SHOWN, either
from nexus_redis.cli.common_options import Act, Json, Namespace, Url
from nexus_redis.cli.output import as_json, setting

if TYPE_CHECKING:
    from nexus_redis.cli.context import Place

SOURCES: Final = ("operator", "code")


def list_budgets(*, json: Json = False, url: Url = None, namespace: Namespace = None) -> None:
    """List all budgets with their settings.

    `--json` writes a backup, which `set --from` restores.

    \b
    Examples:
      nexus-redis list
      nexus-redis list --json > budgets.json
    """
    from nexus_redis.cli.all_budgets import all_settings
    from nexus_redis.cli.context import place

    with place(url, namespace) as here:
        found = here.run(all_settings(here.namespace, here.server))
        where = f"in namespace {here.namespace} at {here.server}"
    if json:
        print(as_json([{"name": name, **settings} for name, settings in found]))
        return
    if not found:
        print(f"no budgets {where}")
    width = max((len(name) for name, _ in found), default=0)
    for name, settings in found:
        winners = {**{f: (v, "code") for f, v in settings["code"].items()},
                   **{f: (v, "operator") for f, v in settings["operator"].items()}}  # fmt: skip
        told = ", ".join(f"{setting(field, value)} ({source})" for field, (value, source) in winners.items())
        print(f"{name:<{width}}  {told or 'nothing set'}")


def restore(source: Path, only: str | None, url: str | None, namespace: str | None, act: Act) -> None:
    """Put back what `list --json` wrote, of all its budgets or of one. `act`: who restores it, and why."""
    from difflib import get_close_matches

    from nexus_redis.cli.context import place

    found = _read(source)
    kept = [each for each in found if only in (None, each[0])]
    if not kept:
        near = either(get_close_matches(only, [name for name, _ in found], SHOWN, ALIKE)) if only else ""
        meant = f". Did you mean {near}?" if near else ""
        raise Misuse(f"{source}: no budget {only} in it{meant}" if only else f"{source}: no budget in it")
    with place(url, namespace) as here:
        for done, (name, by) in enumerate(kept):
            try:
                _put_back(here, name, by, act)
            except Exception as error:
                error.args = (f"{name}: {error}; {done} of {len(kept)} were restored before it",)
                raise
    print(f"restored {len(kept)} budget{'' if len(kept) == 1 else 's'}: {', '.join(name for name, _ in kept)}")


def _put_back(here: "Place", name: str, by: dict[str, dict[str, Any]], act: Act) -> None:
    from nexus_redis._protocol import calls
    from nexus_redis._protocol.snapshot import SETTINGS
    from nexus_redis._values.settings import BudgetSettings

    keys = here.keys(name)
    known = here.ask(calls.inspect(keys, count=1))[0].fields
    missing = {field: value for field, value in by["code"].items() if f"{field}_by_code" not in known}
    if missing:
        here.ask(calls.configure(keys, BudgetSettings.of(**missing), **act))
    gone = [field for field in SETTINGS if f"{field}_by_operator" in known and field not in by["operator"]]
    if by["operator"] or gone:
        here.ask(calls.configure(keys, BudgetSettings.of(**by["operator"]), source="operator", unset=gone, **act))
    if missing or by["operator"] or gone:
        here.list_budget(name, is_kept=bool(by["operator"] or gone))


def _read(source: Path) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """All of it is checked before anything is written."""
    from nexus_redis._values.parse import budget_name
    from nexus_redis._values.settings import BudgetSettings

    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
        text = text.removeprefix("\ufeff")  # some editors begin a text with it
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"cannot read {source}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    try:
        entries = json_of.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misuse(f"{source} is no JSON: use what `nexus-redis list --json` printed") from error
    kept = []
    for entry in entries if isinstance(entries, list) else [None]:
        if not isinstance(entry, dict) or set(entry) != {"name", *SOURCES}:
            raise Misuse(f"{source} is no backup: use what `nexus-redis list --json` printed")
        by = {each: entry[each] for each in SOURCES}
        if not all(isinstance(given, dict) for given in by.values()):
            raise Misuse(f"{source} is no backup: use what `nexus-redis list --json` printed")
        for given in by.values():
            BudgetSettings.of(**given)
        kept.append((budget_name(entry["name"]), by))
    return kept

"""Restore a backup, for `set --from`. A backup is what `list --json` writes: see `commands/list.py`.

A backup holds the settings from code and those of an operator. A restore gives the operator's values exactly as in the
backup. A value from code comes back only if code has set nothing since, because the code that runs now knows better.

If a setting of a budget could not be read when the backup was written, the budget's entry has `damaged`. Then a restore
sets the values that the entry has, removes none, says so on stderr, and ends with exit code 1.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import Misuse, end_with_damage
from nexus_redis.cli.unknown_budgets import similar, suggestion

if TYPE_CHECKING:
    from nexus_redis.cli.commands.list import ListedJson
    from nexus_redis.cli.common_options import Attribution
    from nexus_redis.cli.context import Context

FIELDS = {"name", "operator", "code"}


def restore(source: Path, only: str | None, url: str | None, namespace: str | None, act: "Attribution") -> None:
    """Restore all budgets of a backup, or the one named `only`. `act` is who restores them, and why."""
    from nexus_redis.cli.context import open_context

    found = _read(source)
    wanted = [each for each in found if only in (None, each["name"])]
    if not wanted:
        if only is None:
            raise Misuse(texts.empty_backup(str(source)))
        near = suggestion(similar(only, (each["name"] for each in found)))
        raise Misuse(texts.not_in_backup(str(source), only, near))
    with open_context(url, namespace) as context:
        for done, each in enumerate(wanted):
            try:
                _restore(context, each, act)
            except Exception as error:
                error.args = (texts.restore_stopped(each["name"], str(error), done, len(wanted)),)
                raise
    names = ", ".join(each["name"] for each in wanted)
    print(f"restored {len(wanted)} budget{'' if len(wanted) == 1 else 's'}: {names}")
    end_with_damage([texts.incomplete_backup(each["name"]) for each in wanted if each.get("damaged")])


def _restore(context: "Context", given: "ListedJson", act: "Attribution") -> None:
    from nexus_redis._protocol import calls
    from nexus_redis._protocol.snapshot import SETTINGS
    from nexus_redis._values.settings import BudgetSettings

    keys, operator = context.keys(given["name"]), given["operator"]
    now = context.ask(calls.inspect(keys, count=1))[0].fields
    missing: dict[str, Any] = {field: value for field, value in given["code"].items() if f"{field}_by_code" not in now}
    if missing:
        context.ask(calls.configure(keys, BudgetSettings.of(**missing), **act))
    gone = [field for field in SETTINGS if f"{field}_by_operator" in now and field not in operator]
    if given.get("damaged"):
        gone = []
    if operator or gone:
        settings = BudgetSettings.of(**operator)
        context.ask(calls.configure(keys, settings, source="operator", unset=gone, **act))
    if missing or operator or gone:
        context.list_budget(given["name"], is_kept=bool(operator or gone))


def _read(source: Path) -> "list[ListedJson]":
    """Read a backup, and check all of it before anything is written."""
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or texts.NOT_TEXT
        raise Misuse(texts.file_failed(str(source), cause)) from error
    try:
        entries = json.loads(text.removeprefix("\ufeff"))  # a mark that some editors begin a file with
    except (ValueError, RecursionError) as error:
        raise Misuse(texts.not_json(str(source))) from error
    found = [_checked(entry) for entry in entries] if isinstance(entries, list) else [None]
    kept = [entry for entry in found if entry is not None]
    if len(kept) < len(found):
        raise Misuse(texts.not_a_backup(str(source)))
    return kept


def _checked(entry: Any) -> "ListedJson | None":
    """Return an entry whose name and settings are valid, or None if it has another shape."""
    from nexus_redis._values.parse import budget_name
    from nexus_redis._values.settings import BudgetSettings

    if not isinstance(entry, dict) or set(entry) not in (FIELDS, FIELDS | {"damaged"}):
        return None
    for given in (entry["operator"], entry["code"]):
        if not isinstance(given, dict):
            return None
        BudgetSettings.of(**given)
    checked: ListedJson = {"name": budget_name(entry["name"]), "operator": entry["operator"], "code": entry["code"]}
    if entry.get("damaged"):
        checked["damaged"] = entry["damaged"]
    return checked

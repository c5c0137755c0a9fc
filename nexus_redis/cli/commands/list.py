"""list: all budgets with their settings. `--json` prints a list of `SettingsJson`, which is also a backup.

`cli/backup.py` restores what `list --json` has written.
"""

from typing import TYPE_CHECKING, TypedDict

from nexus_redis.cli.common_options import Json, Namespace, Url
from nexus_redis.cli.output import as_json, setting

if TYPE_CHECKING:
    from nexus_redis._protocol.calls import Inspection

Value = float | str | bool


class SettingsJson(TypedDict):
    """The settings of one budget: field -> value, from each source. If both sources gave one, the operator's counts."""

    name: str
    operator: dict[str, Value]
    code: dict[str, Value]


def list_budgets(*, json: Json = False, url: Url = None, namespace: Namespace = None) -> None:
    """List all budgets with their settings.

    `--json` writes a backup, which `set --from` restores.

    \b
    Examples:
      nexus-redis list
      nexus-redis list --json > budgets.json
    """
    from nexus_redis.cli.all_budgets import inspect_all
    from nexus_redis.cli.context import open_context

    with open_context(url, namespace) as context:
        found = context.run(inspect_all(context.namespace, context.server, _settings))
        where = context.where
    if json:
        print(as_json(found))
        return
    if not found:
        print(f"no budgets {where}")
    width = max((len(each["name"]) for each in found), default=0)
    for each in found:
        winners = {**{field: (value, "code") for field, value in each["code"].items()},
                   **{field: (value, "operator") for field, value in each["operator"].items()}}  # fmt: skip
        shown = ", ".join(f"{setting(field, value)} ({source})" for field, (value, source) in winners.items())
        print(f"{each['name']:<{width}}  {shown or 'nothing set'}")


def _settings(name: str, seen: "Inspection") -> SettingsJson:
    from nexus_redis._protocol.snapshot import SETTINGS

    def of(source: str) -> dict[str, Value]:
        given = {field: f"{field}_by_{source}" for field in SETTINGS if f"{field}_by_{source}" in seen.fields}
        return {field: _value(field, seen.fields[stored]) for field, stored in given.items()}

    return {"name": name, "operator": of("operator"), "code": of("code")}


def _value(field: str, text: str) -> Value:
    if field == "lossless":
        return text == "1"
    return text if field in ("law", "combine") else float(text)

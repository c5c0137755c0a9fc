"""list: all budgets with their settings. `--json` prints a list of `SettingsJson`, which is also a backup.

`cli/backup.py` restores what `list --json` has written.
"""

from typing import TYPE_CHECKING, TypedDict

from nexus_redis.cli.common_options import Json, Namespace, Url
from nexus_redis.cli.exit_codes import end_with_damage
from nexus_redis.cli.output import as_json, setting
from nexus_redis.errors import SETTINGS, ServerRefused

if TYPE_CHECKING:
    from nexus_redis._protocol.fields import Fields

Value = float | str | bool


class SettingsJson(TypedDict):
    """The settings of one budget: field -> value, from each source. If both sources gave one, the operator's counts."""

    name: str
    operator: dict[str, Value]
    code: dict[str, Value]


class ListedJson(SettingsJson, total=False):
    """The settings of one budget; `damaged`, with a sentence for each that cannot be read, only if there is one."""

    damaged: list[str]


def list_budgets(*, json: Json = False, url: Url = None, namespace: Namespace = None) -> None:
    """List all budgets with their settings.

    `--json` writes a backup, which `set --from` restores. If a setting cannot be read because somebody has edited the
    budget's key, the verb lists everything else, names the damage on stderr, and ends with exit code 1.

    \b
    Examples:
      nexus-redis list
      nexus-redis list --json > budgets.json
    """
    from nexus_redis._protocol.all_budgets import settings_of_all
    from nexus_redis.cli.context import open_context

    with open_context(url, namespace) as context:
        hashes, unreadable = context.run(settings_of_all(context.namespace, context.server))
        where = context.where
    found = [entry_of(each) for each in hashes]
    problems = [sentence for each in found for sentence in each.get("damaged", ())]
    problems += [str(each.error) for each in unreadable]
    if json:
        print(as_json(found))
    else:
        _print(found, where)
    end_with_damage(problems)


def _print(found: list[ListedJson], where: str) -> None:
    if not found:
        print(f"no budgets {where}")
    width = max((len(each["name"]) for each in found), default=0)
    for each in found:
        winners = {**{field: (value, "code") for field, value in each["code"].items()},
                   **{field: (value, "operator") for field, value in each["operator"].items()}}  # fmt: skip
        shown = [f"{setting(field, value)} ({source})" for field, (value, source) in winners.items()]
        shown += ["damaged"] if "damaged" in each else []
        print(f"{each['name']:<{width}}  {', '.join(shown) or 'nothing set'}")


def entry_of(stored: "Fields") -> ListedJson:
    """Return the settings of a budget's hash, with a sentence for each that cannot be read."""
    from nexus_redis._protocol.fields import SOURCES

    given: dict[str, dict[str, Value]] = {source: {} for source in SOURCES}
    problems: list[str] = []
    for field in SETTINGS:
        for source in SOURCES:
            try:
                value = stored.get(f"{field}_by_{source}")
            except ServerRefused as error:
                problems.append(str(error))
            else:
                if value is not None:
                    given[source][field] = value
    found: ListedJson = {"name": stored.keys.name, "operator": given["operator"], "code": given["code"]}
    if problems:
        found["damaged"] = problems
    return found

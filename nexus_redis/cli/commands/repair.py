"""repair: remove state that somebody damaged by editing keys."""

from typing import TYPE_CHECKING

from nexus_redis.cli.common_options import Key, Name, Namespace, Url, target_of
from nexus_redis.errors import SETTINGS

if TYPE_CHECKING:
    from nexus_redis._protocol.calls import Damage
    from nexus_redis._protocol.keys import BudgetKeys


def repair(name: Name, *, key: Key = None, url: Url = None, namespace: Namespace = None) -> None:
    """Repair a budget whose state was damaged by hand.

    The verb removes what no script could have written, and names it. Settings that can be read, pauses and the history
    stay. A setting that was damaged is no longer set. If the state of the budget was damaged, its consumers count again
    with their next reports.

    \b
    Example:
      nexus-redis repair stripe
    """
    from nexus_redis._protocol.deletion import repair as plan
    from nexus_redis.cli.context import open_context
    from nexus_redis.cli.unknown_budgets import require

    target = target_of(name, key)
    with open_context(url, namespace) as context:
        damages = context.run(plan(context.keys(target.name), context.server))
        if not damages:
            require(context, target)
    for damage in damages:
        print(f"{target.name}: took away {_what(damage, context.keys(target.name))}")
    if not damages:
        print(f"{target.name}: nothing is damaged")


def _what(damage: "Damage", keys: "BudgetKeys") -> str:
    if not damage.field:
        return damage.key
    if damage.key == keys.history:
        return f"the entry {damage.field} of {damage.key}"
    field = f"the field {damage.field} of {damage.key}"
    setting, _, source = damage.field.rpartition("_by_")
    if setting not in SETTINGS:
        return field
    whose = "the operator's" if source == "operator" else "code's"
    return f"{field}, so {whose} value of {setting} is gone"

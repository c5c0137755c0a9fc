"""Change a budget as an operator, for `set`, `pause` and `resume`, and print its state after the change."""

from typing import TYPE_CHECKING, Any, Final

from nexus_redis._values.formatting import printable
from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Target
from nexus_redis.cli.output import standing
from nexus_redis.cli.unknown_budgets import VERY_SIMILAR, exists, similar_budgets, unknown
from nexus_redis.errors import InvalidSetting

if TYPE_CHECKING:
    from nexus_redis._protocol.calls import Configured
    from nexus_redis.cli.context import Context

# What Redis refuses because of the rest of the budget, although the value by itself is in its range.
_REMEDIES: Final = {
    "min_rate": texts.MIN_RATE_REMEDY, "burst": texts.BURST_REMEDY, "lossless": texts.LOSSLESS_REMEDY,
}  # fmt: skip


def change(
    target: Target, url: str | None, namespace: str | None, *, creates: bool, done: str = "", **changes: Any
) -> None:
    """Send `changes` to the budget, and print `done` and the budget's state.

    Raises `Finding` if the budget does not exist, unless `creates`.
    """
    from nexus_redis.cli.context import open_context

    with open_context(url, namespace) as context:
        new = ""
        if not context.ask(exists(context.keys(target.name)))[0]:
            if not creates:
                raise unknown(context, *target, can_create=True)
            new = _new(context, target)
        now = _configured(context, target.name, **changes)
    print(f"{target.name}{new}: {done}{standing(now.rate, now.level, now.reason)}")


def _new(context: "Context", target: Target) -> str:
    near = similar_budgets(context, target.name, VERY_SIMILAR)[:1] if target.parent is None else []
    slip = f"; did you mean {printable(near[0])}?" if near else ""
    return f" (new: nobody has opened it{slip})"


def _configured(context: "Context", name: str, *, settings: Any = None, **changes: Any) -> "Configured":
    from nexus_redis._protocol import calls

    try:
        now: Configured = context.ask(calls.configure(context.keys(name), settings, source="operator", **changes))[0]
    except InvalidSetting as error:
        if error.field == "min_rate" and settings.min_rate is None:
            raise InvalidSetting("rate", settings.rate, texts.RATE_REMEDY) from None
        if error.field in _REMEDIES:
            raise InvalidSetting(error.field, getattr(settings, error.field, None), _REMEDIES[error.field]) from None
        raise
    context.list_budget(name, is_kept=True)
    return now

"""Change a budget as an operator, for `set`, `pause`, `resume` and `top`."""

from typing import TYPE_CHECKING, Any, Final

from nexus_redis._values.formatting import printable, seconds
from nexus_redis._values.parse import typed_seconds
from nexus_redis.cli import texts
from nexus_redis.cli.common_options import Target
from nexus_redis.cli.output import standing
from nexus_redis.cli.unknown_budgets import VERY_SIMILAR, exists, similar_budgets, unknown
from nexus_redis.errors import SECONDS, InvalidSetting

if TYPE_CHECKING:
    from nexus_redis._protocol.calls import Configured
    from nexus_redis.cli.context import Context

PAUSE: Final = SECONDS._replace(low=0.001)  # the script counts milliseconds, and 0 means "resume" to it
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
        print(changed(context, target, creates=creates, done=done, **changes))


def changed(context: "Context", target: Target, *, creates: bool, done: str = "", **changes: Any) -> str:
    """Send `changes` to the budget, and return its name, `done` and its state. Raises `Finding` as `change` does."""
    new = ""
    if not context.ask(exists(context.keys(target.name)))[0]:
        if not creates:
            raise unknown(context, *target, can_create=True)
        new = _new(context, target)
    now = _configured(context, target.name, **changes)
    return f"{target.name}{new}: {done}{standing(now.rate, now.level, now.reason)}"


def pause_length(duration: str | None) -> float:
    """Return the seconds of a pause that a person has typed, without end for None."""
    from nexus_redis._protocol.calls import UNTIL_RESUMED

    if duration is None:
        return UNTIL_RESUMED
    try:
        return typed_seconds(duration, "pause", PAUSE)
    except InvalidSetting as error:
        raise InvalidSetting("pause", duration, texts.pause_remedy(error.remedy)) from None


def paused(duration: str | None, reason: str) -> str:
    """Return what a pause has done, for `change`: `paused for 30 s (maintenance); `."""
    how_long = "until it is resumed" if duration is None else f"for {seconds(pause_length(duration))}"
    why = f" ({printable(reason)})" if reason else ""
    return f"paused {how_long}{why}; "


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

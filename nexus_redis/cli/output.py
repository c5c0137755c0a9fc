"""Numbers and words for people, JSON for programs."""

import json
from typing import Any

from nexus_redis._values.formatting import number, percent, printable, rate, seconds, setting_value

__all__ = ["as_json", "as_message", "number", "percent", "printable", "rate", "seconds", "setting", "standing"]


def standing(rate_per_s: float, level: int, reason: str, load: float | None = None) -> str:
    """A budget in one line, after its name."""
    how_full = f", load {percent(load)}" if load is not None else ""
    return f"{rate(rate_per_s)}, level {level}{how_full}, reason {printable(reason)}"


def setting(field: str, value: str | float | bool) -> str:
    """As the option of `set` spells it, so that it can be typed again."""
    return f"{field.replace('_', '-')} {setting_value(field, value)}"


def as_json(value: Any) -> str:
    """One line of JSON, whole floats as integers, as the messages have them."""
    return json.dumps(_whole(value), allow_nan=False)


def as_message(fields: dict[str, Any]) -> str:
    """The JSON text of a message of the protocol: the same bytes as its `to_json` gives."""
    return json.dumps(_whole(fields), separators=(",", ":"), ensure_ascii=False)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

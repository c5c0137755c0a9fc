"""Format numbers as people write them (`5,000/s`, `10/min`, `1.5 h`, `95 %`), and make foreign text safe to print."""

from __future__ import annotations

from typing import Any, Final

PER: Final = ((1, "s"), (60, "min"), (3600, "h"), (86_400, "d"))


def printable(text: str) -> str:
    """Return `text` without characters that could move a terminal's cursor.

    Names and notes come from anyone who can write to the Redis.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def number(x: float) -> str:
    """Return a number with about four digits, and commas between thousands.

    >>> number(12345.6), number(2500.5), number(0.25), number(0.0000205)
    ('12,346', '2,500.5', '0.25', '0.0000205')
    """
    if x >= 10_000:
        return f"{x:,.0f}"
    return f"{x:,.1f}".removesuffix(".0") if x >= 1000 else _digits(x, 4)


def _digits(x: float, count: int) -> str:
    """Return a number with so many digits, and without an exponent."""
    text = f"{x:.{count}g}"
    return f"{float(text):.12f}".rstrip("0").rstrip(".") if "e" in text else text


def counted(x: float, what: str) -> str:
    """Return a number with its noun, in the plural if it is not 1.

    >>> counted(1, "token"), counted(4, "token")
    ('1 token', '4 tokens')
    """
    return f"{number(x)} {what}{'' if x == 1 else 's'}"


def rate(per_second: float) -> str:
    """Return a rate in the shortest unit of time in which it is at least 1.

    >>> rate(5000), rate(1 / 6), rate(0)
    ('5,000/s', '10/min', '0/s')
    """
    for seconds, unit in PER:
        if per_second * seconds >= 0.9999:  # 1/min is kept in whole millionths per second
            return f"{number(per_second * seconds)}/{unit}"
    return f"{number(per_second * 86_400)}/d" if per_second else "0/s"


def seconds(x: float) -> str:
    """Return a duration in seconds, minutes or hours.

    >>> seconds(0.25), seconds(90), seconds(7200)
    ('0.25 s', '90 s', '2 h')
    """
    if x < 120:
        return f"{x:.0f} s" if x >= 10 else f"{_digits(x, 2)} s"
    return f"{number(round(x / 60, 1))} min" if x < 7200 else f"{number(round(x / 3600, 1))} h"


def percent(x: float) -> str:
    """Return a percentage, rounded to a tenth."""
    return f"{number(round(x, 1))} %"


def setting_value(field: str, value: str | float | bool) -> str:
    """Return the value of a setting with its unit.

    >>> setting_value("rate", "0.1"), setting_value("burst", 60.0), setting_value("lossless", "1")
    ('6/min', '60 s', 'yes')
    """
    match field:
        case "rate" | "min_rate":
            return rate(float(value))
        case "burst" | "transit" | "grace":
            return f"{float(value):g} s"
        case "latency_target_ms":
            return f"{float(value):g}"
        case "lossless":
            return "yes" if value in ("1", True) else "no"
    return printable(value if isinstance(value, str) else f"{value:g}")


def whole(value: Any) -> Any:
    """Return a value in which whole floats are integers, as in the messages of the protocol.

    >>> whole({"rate": 100.0, "loads": [0.5, 95.0]})
    {'rate': 100, 'loads': [0.5, 95]}
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: whole(part) for key, part in value.items()}
    return [whole(part) for part in value] if isinstance(value, (list, tuple)) else value

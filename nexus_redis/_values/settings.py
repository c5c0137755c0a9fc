"""Settings, validated once at the edge, so that all code behind it can trust every number.

A refusal is always an `InvalidSetting`, which names the field and the value, and says what to write instead. The checks
are strict on purpose: True is not 1 and "5" is not 5, because a shell variable in the wrong place should be noticed
here and not in production. Only rates and durations may be text, since "10/min" and "90s" say what a person means. The
ranges are in one table, `errors.RANGES`.

These are dataclasses with a parser for each field, while the messages are pydantic models. `nexus-redis run` makes
settings, and pydantic takes longer to import than everything else that `run` needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Self

from nexus_redis._values import error_texts
from nexus_redis._values.parse import (
    NAME_PATTERN,
    from_micro,
    micro,
    micro_rate,
    parse_cost,
    parse_limit,
    parse_milliseconds,
    parse_name,
    parse_number,
    parse_rate,
    parse_seconds,
)
from nexus_redis.errors import TOKENS, WORDS, InvalidSetting

__all__ = [
    "NAME_PATTERN", "BudgetSettings", "Combine", "ConsumerSettings", "Law", "OnOutage", "Priority", "ProducerSettings",
    "Settings", "from_micro", "micro", "micro_rate", "parse_cost", "parse_limit", "parse_name", "parse_number",
    "parse_rate", "parse_seconds",
]  # fmt: skip

Law = Literal["range", "drain", "aimd"]
Combine = Literal["sum", "spread", "min"]
Priority = Literal["high", "normal", "low"]
OnOutage = Literal["share", "closed", "open"]
_Parser = Mapping[str, Callable[[object, str], Any]]  # the metadata of a field

# --- one field -------------------------------------------------------------------------------------------------------


def _number(value: object, name: str) -> float:
    return parse_number(name, value)


def _word(value: object, name: str) -> str:
    if not isinstance(value, str) or value not in WORDS[name]:
        raise InvalidSetting(name, value)
    return value


def _switch(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidSetting(name, value)
    return value


_RATE: Final[_Parser] = {"parse": parse_rate}
_SECONDS: Final[_Parser] = {"parse": parse_seconds}
_MILLISECONDS: Final[_Parser] = {"parse": parse_milliseconds}
_NUMBER: Final[_Parser] = {"parse": _number}
_WORD: Final[_Parser] = {"parse": _word}
_SWITCH: Final[_Parser] = {"parse": _switch}

# --- settings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings that are checked when they are made, and frozen. If the default is None, None means "not given"."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                object.__setattr__(self, each.name, each.metadata["parse"](value, each.name))

    @classmethod
    def of(cls, **given: Any) -> Self:
        """Return settings from values whose types a checker does not know: rates as text, the content of a file."""
        known = cls.names()
        for name in given:
            if name not in known:
                raise InvalidSetting(name, remedy=error_texts.unknown_field(known))
        return cls(**given)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all fields."""
        return tuple(each.name for each in fields(cls))

    def given(self) -> dict[str, Any]:
        """Return the fields that are not None, by name."""
        return {name: value for name in self.names() if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings(Settings):
    """The settings of one budget. None means "not given": the budget keeps the value that it has.

    `rate` and `min_rate` are in tokens per second, `burst` in seconds of the rate, `transit` and `grace` in seconds.
    """

    rate: float | None = field(default=None, metadata=_RATE)
    min_rate: float | None = field(default=None, metadata=_RATE)
    burst: float | None = field(default=None, metadata=_SECONDS)
    law: Law | None = field(default=None, metadata=_WORD)
    combine: Combine | None = field(default=None, metadata=_WORD)
    latency_target_ms: float | None = field(default=None, metadata=_MILLISECONDS)
    lossless: bool | None = field(default=None, metadata=_SWITCH)
    transit: float | None = field(default=None, metadata=_SECONDS)
    grace: float | None = field(default=None, metadata=_SECONDS)

    def __post_init__(self) -> None:
        Settings.__post_init__(self)  # super() would mean the class without slots, which the decorator replaces
        if self.rate is None:
            return
        if self.min_rate is not None and self.min_rate > self.rate:
            raise InvalidSetting("min_rate", self.min_rate, error_texts.floor_above_rate(self.rate))
        if self.burst is not None and self.burst * self.rate > TOKENS.high:
            remedy = error_texts.burst_too_large(self.rate, TOKENS.high / self.rate)
            raise InvalidSetting("burst", self.burst, remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerSettings(Settings):
    """How one producer claims: `timeout` in seconds (None: wait forever), `smooth` spaces the tokens of a lease."""

    weight: float = field(default=1.0, metadata=_NUMBER)
    priority: Priority = field(default="normal", metadata=_WORD)
    timeout: float | None = field(default=None, metadata=_SECONDS)
    on_outage: OnOutage = field(default="share", metadata=_WORD)
    smooth: bool = field(default=False, metadata=_SWITCH)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings(Settings):
    """How one consumer reports: `capacity` in tokens per second (None: learn it), `interval` in seconds.

    With `observe`, it is one of many clients of the downstream, and sees only its own part of the work that is done.
    """

    capacity: float | None = field(default=None, metadata=_RATE)
    interval: float = field(default=0.25, metadata=_SECONDS)
    observe: bool = field(default=False, metadata=_SWITCH)

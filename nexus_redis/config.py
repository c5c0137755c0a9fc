"""Settings, validated once at the edge; behind it the code may trust every number.

A refusal is always an `InvalidSetting`: which field, what was given, what to write instead. Strict on purpose: True is
not 1 and "5" is not 5, because a shell variable in the wrong place should be noticed here and not in production. Rates
alone may be text, since "10/min" says what a person means. The ranges stand in one table, `errors.RANGES`.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from nexus_redis.errors import NAME_REMEDY, RANGES, TOKENS, InvalidSetting, remedy_for

Law = Literal["range", "drain", "aimd"]
Combine = Literal["sum", "spread", "min"]
Priority = Literal["high", "normal", "low"]
OnOutage = Literal["share", "closed", "open"]

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

_MICRO: Final = 1_000_000
_FLOAT_NOISE: Final = 4  # units in the last place: what a few operations on a decimal like 0.1 leave behind

_NAME: Final = re.compile(NAME_PATTERN)
_RATE: Final = re.compile(r"(?ai)\s*(\d{1,20}(?:\.\d{0,20})?(?:e[+-]?\d{1,3})?)\s*(?:/\s*(s|min|h|d)\s*)?")
_SECONDS_PER: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_RATE_REMEDY: Final = RANGES["rate"].remedy + ', as a number or like "100/s", "6000/min", "10/h", "5/d"'


# --- exact units -----------------------------------------------------------------------------------------------------


def micro(x: float) -> int:
    """`x` in whole millionths, to the nearest (half to even): 0.1 -> 100000."""
    return round(x * _MICRO)


def micro_rate(per_second: float) -> int:
    """A rate in millionths per second, rounded up, so that "20/min" has its token back after 3 s and not 1 us later.

    >>> micro_rate(20 / 60), micro_rate(0.1), micro_rate(0.1 + 0.2)
    (333334, 100000, 300000)
    """
    scaled = per_second * _MICRO
    nearest = round(scaled)
    return nearest if abs(scaled - nearest) <= _FLOAT_NOISE * math.ulp(scaled) else math.ceil(scaled)


def from_micro(millionths: int) -> float:
    """The other way: 333334 -> 0.333334."""
    return millionths / _MICRO


# --- single values ---------------------------------------------------------------------------------------------------


def parse_number(field: str, value: object) -> float:
    """`value` as a float within the range that `field` has in `RANGES`: no bool, no text, no NaN, no infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not RANGES[field].holds(value):
        raise InvalidSetting(field, value)
    return float(value)


def parse_rate(value: object, field: str = "rate") -> float:
    """A rate in tokens per second, from a number (per second) or text: "100/s", "6000/min", "10/h", "5/d", "100".

    >>> parse_rate("6000/min")
    100.0
    """
    number = value
    if isinstance(value, str):
        match = _RATE.fullmatch(value)
        if match is None:
            raise InvalidSetting(field, value, _RATE_REMEDY)
        number = float(match[1]) / _SECONDS_PER[(match[2] or "s").lower()]
    try:
        return parse_number(field, number)
    except InvalidSetting:
        raise InvalidSetting(field, value, _RATE_REMEDY) from None


def parse_cost(value: object, field: str = "cost") -> float:
    """The tokens of one unit of work: 1e-6 to 1e9."""
    return parse_number(field, value)


def parse_name(value: object, field: str = "name") -> str:
    """The name of a budget, namespace, producer or consumer; it goes into keys, hence no braces, spaces or colons."""
    # fullmatch, since `$` would let a line feed through at the end.
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidSetting(field, value, NAME_REMEDY)
    return value


# --- settings --------------------------------------------------------------------------------------------------------


class Checked(BaseModel):
    """A frozen, strict model whose every refusal is an `InvalidSetting`; the messages are made of it too."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            # `from None`: pydantic's own text repeats the value, which may be a secret.
            raise _refusal(error, type(self)) from None

    @classmethod
    def of(cls, **given: object) -> Self:
        """The same as calling the class, for values that a type checker knows nothing of: rates as text, a file."""
        return cls(**given)


def _refusal(error: ValidationError, model: type[Checked]) -> InvalidSetting:
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if not first["loc"] and isinstance(cause, InvalidSetting):  # a check across fields: it has named one itself
        return cause
    field = str(first["loc"][0]) if first["loc"] else model.__name__
    match first["type"]:
        case "missing":
            return InvalidSetting(field, remedy=f"missing: {remedy_for(field)}")
        case "extra_forbidden":
            return InvalidSetting(field, remedy=f"no such field: there are {', '.join(model.model_fields)}")
        case "literal_error":
            return InvalidSetting(field, first["input"], f"use {first['ctx']['expected']}")
    return InvalidSetting(field, first["input"], cause.remedy if isinstance(cause, InvalidSetting) else "")


# A lambda, since some releases of pydantic take a second parameter for one of theirs.
_Rate = Annotated[float, BeforeValidator(lambda value: parse_rate(value))]  # noqa: PLW0108


class BudgetSettings(Checked):
    """What one budget is told; None = not given, so what the budget has stays.

    `rate` and `min_rate` in tokens per second, `burst` in seconds of the rate, `transit` in seconds.
    """

    rate: _Rate | None = None
    min_rate: _Rate | None = None
    burst: Annotated[float, BeforeValidator(partial(parse_number, "burst"))] | None = None
    law: Law | None = None
    combine: Combine | None = None
    latency_target_ms: Annotated[float, BeforeValidator(partial(parse_number, "latency_target_ms"))] | None = None
    lossless: bool | None = None
    transit: Annotated[float, BeforeValidator(partial(parse_number, "transit"))] | None = None

    @model_validator(mode="after")
    def _possible_together(self) -> Self:
        if self.rate is None:
            return self
        if self.min_rate is not None and self.min_rate > self.rate:
            raise InvalidSetting("min_rate", self.min_rate, f"a floor: use at most rate={self.rate:g}")
        if self.burst is not None and self.burst * self.rate > TOKENS.high:
            longest = TOKENS.high / self.rate
            raise InvalidSetting("burst", self.burst, f"with rate={self.rate:g} use at most {longest:g} seconds")
        return self


class ProducerSettings(Checked):
    """How one producer claims: `timeout` in seconds (None waits), `smooth` spaces the tokens of a lease."""

    weight: Annotated[float, BeforeValidator(partial(parse_number, "weight"))] = 1.0
    priority: Priority = "normal"
    timeout: Annotated[float, BeforeValidator(partial(parse_number, "timeout"))] | None = None
    on_outage: OnOutage = "share"
    smooth: bool = False


class ConsumerSettings(Checked):
    """How one consumer reports: `capacity` in tokens per second (None: learn it), `interval` in seconds."""

    capacity: _Rate | None = None
    interval: Annotated[float, BeforeValidator(partial(parse_number, "interval"))] = 0.25

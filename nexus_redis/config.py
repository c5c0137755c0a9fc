"""Settings, validated once at the edge; behind it the code may trust every number.

A refusal is always an `InvalidSetting`: which field, what was given, what to write instead. Strict on purpose: True is
not 1 and "5" is not 5, because a shell variable in the wrong place should be noticed here and not in production. Rates
alone may be text, since "10/min" says what a person means. The ranges stand in one table, `errors.RANGES`.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from nexus_redis.errors import TOKENS, InvalidSetting, remedy_for
from nexus_redis.values import (
    NAME_PATTERN,
    from_micro,
    micro,
    micro_rate,
    parse_cost,
    parse_limit,
    parse_name,
    parse_number,
    parse_rate,
)

__all__ = [
    "NAME_PATTERN", "BudgetSettings", "Checked", "Combine", "ConsumerSettings", "Law", "OnOutage", "Priority",
    "ProducerSettings", "from_micro", "micro", "micro_rate", "parse_cost", "parse_limit", "parse_name",
    "parse_number", "parse_rate",
]  # fmt: skip

Law = Literal["range", "drain", "aimd"]
Combine = Literal["sum", "spread", "min"]
Priority = Literal["high", "normal", "low"]
OnOutage = Literal["share", "closed", "open"]

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
_Capacity = Annotated[float, BeforeValidator(lambda value: parse_rate(value, "capacity"))]


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

    capacity: _Capacity | None = None
    interval: Annotated[float, BeforeValidator(partial(parse_number, "interval"))] = 0.25

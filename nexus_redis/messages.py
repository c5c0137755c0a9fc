"""The three messages, as any language may send them, in JSON or msgpack. `action` tells them apart.

    producer --CapacitySignal--> budget --FlowControl--> producer          consumer --LoadReport--> budget

One object has exactly one text: its fields are in the order below, without spaces, None is left out, and whole floats
are integers (so that 10000 and 10000.0 are one number for a language that has only one kind). A request with an unknown
field is refused, because a misspelled one would be silently ignored. An unknown field of an answer is ignored, because
a newer budget may say more. Whatever is wrong with a text, the error is an `InvalidSetting` that names the field.
Golden vectors for checking another implementation byte by byte are in `tests/vectors/messages.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Self

import msgpack
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nexus_redis._values import error_texts
from nexus_redis._values.parse import BUDGET_PATTERN, LONGEST_NAME
from nexus_redis._values.settings import NAME_PATTERN, Priority
from nexus_redis.errors import (
    CAPACITY,
    COUNT,
    LEVEL,
    LONGEST_LABEL,
    MILLISECONDS,
    MOST_LABELS,
    PERCENT,
    RATE,
    TOKENS,
    WEIGHT,
    InvalidSetting,
    Range,
    remedy_for,
)

LONGEST_MESSAGE: Final = 65_536  # bytes, several times what the fields below can fill

Reason = Literal["ok", "rate", "load", "contended", "learning", "window", "paused", "no_consumers", "unset", "shadow"]


def _at_least_low_or_zero(span: Range) -> Callable[[float], float]:
    def check(value: float) -> float:
        if not span.holds(value):
            raise ValueError
        return value

    return check


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
BudgetName = Annotated[str, Field(pattern=BUDGET_PATTERN, max_length=LONGEST_NAME)]
Rate = Annotated[float, Field(ge=0, le=RATE.high), AfterValidator(_at_least_low_or_zero(RATE))]
Capacity = Annotated[float, Field(ge=CAPACITY.low, le=CAPACITY.high)]
Tokens = Annotated[float, Field(ge=TOKENS.low, le=TOKENS.high)]
Milliseconds = Annotated[float, Field(ge=MILLISECONDS.low, le=MILLISECONDS.high)]
Quantity = Annotated[float, Field(ge=COUNT.low, le=COUNT.high)]  # a backlog or a counter; one of bytes grows large
Count = Annotated[int, Field(ge=COUNT.low, le=COUNT.high)]
Percent = Annotated[float, Field(ge=PERCENT.low, le=PERCENT.high)]
Weight = Annotated[float, Field(ge=WEIGHT.low, le=WEIGHT.high)]
Level = Annotated[int, Field(ge=LEVEL.low, le=LEVEL.high)]
Labels = Annotated[
    dict[Name, Annotated[str, Field(max_length=LONGEST_LABEL)]],
    Field(max_length=MOST_LABELS),
]


class Message(BaseModel):
    """The base of the three messages, with their encodings.

    Frozen. A field out of its range raises `InvalidSetting`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            # `from None`, because pydantic's own text repeats the value, which may be a secret.
            raise _refusal(error, type(self)) from None

    @classmethod
    def of(cls, **given: object) -> Self:
        """Return a message from values whose types a checker does not know."""
        return cls(**given)

    def to_json(self) -> str:
        """Return the one JSON text of this message."""
        return json.dumps(self._fields(), separators=(",", ":"), ensure_ascii=False)

    def to_msgpack(self) -> bytes:
        """Return the same fields, in the same order, as a msgpack map."""
        packed: bytes = msgpack.packb(self._fields())
        return packed

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the message in `text`; raise `InvalidSetting` for anything else."""
        return cls(**read_json(text))

    @classmethod
    def from_msgpack(cls, packed: bytes) -> Self:
        """Return the message in `packed`; raise `InvalidSetting` for anything else."""
        return cls(**read_msgpack(packed))

    def _fields(self) -> dict[str, object]:
        return {name: _whole(value) for name, value in self if value is not None}


def _refusal(error: ValidationError, model: type[Message]) -> InvalidSetting:
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else model.__name__
    match first["type"]:
        case "missing":
            return InvalidSetting(field, remedy=error_texts.missing_field(remedy_for(field)))
        case "extra_forbidden":
            return InvalidSetting(field, remedy=error_texts.unknown_field(model.model_fields))
        case "literal_error":
            return InvalidSetting(field, first["input"], error_texts.wrong_literal(first["ctx"]["expected"]))
    return InvalidSetting(field, first["input"])


class CapacitySignal(Message):
    """A producer says how fast it would like to send, and asks for tokens.

    `requested_rate` is in tokens per second. `tokens` are wanted now (0 only asks); `need` of them are for the caller
    at the head of the line, all or nothing with `whole`. `held`, `unused` (handed back) and `burned` (expired) account
    for earlier grants. `fallback_rate` and `degraded` account for an outage: the producer's share, and the tokens that
    it admitted by this share. `consumer_id` is the budget's name. The bare protocol needs three fields: filebeat-1
    would like to send 10,000/s to elasticsearch.
    """

    action: Literal["CapacitySignal"] = "CapacitySignal"
    producer_id: Name
    consumer_id: BudgetName
    requested_rate: Rate
    tokens: Tokens | None = None
    need: Tokens | None = None
    whole: bool | None = None
    held: Tokens | None = None
    unused: Tokens | None = None
    burned: Tokens | None = None
    weight: Weight | None = None
    priority: Priority | None = None
    incarnation: Name | None = None
    seq: Count | None = None
    birth: Name | None = None
    granted_total: Count | None = None
    fallback_rate: Rate | None = None
    degraded: Tokens | None = None


class FlowControl(Message):
    """The budget's answer: the rate at which to go on, and the tokens that were granted.

    Rates are in tokens per second, `current_load` in percent, `backpressure_level` is 0 (free) to 3 (stop). The
    `granted` tokens last `lease_ms`. Ask again after `refresh_ms`, or after `retry_after_ms` if they did not suffice.
    If the only consumer can do 400/s and is 95 % full, the answer is 100/s, level 2, load 95.
    """

    model_config = ConfigDict(extra="ignore")

    action: Literal["FlowControl"] = "FlowControl"
    consumer_id: BudgetName
    recommended_rate: Rate
    backpressure_level: Level
    current_load: Percent
    granted: Tokens | None = None
    lease_ms: Milliseconds | None = None
    refresh_ms: Milliseconds | None = None
    retry_after_ms: Milliseconds | None = None
    budget_rate: Rate | None = None
    fallback_rate: Rate | None = None
    birth: Name | None = None
    granted_total: Count | None = None
    reason: Reason | None = None


class LoadReport(Message):
    """A consumer says how full it is, by any of these numbers.

    `load` is in percent, `capacity` in tokens per second, queues and work in tokens. `done`, `errors`, `cancelled` and
    `busy_ms` only grow; `busy_ms` is the time that the workers took for the work that is done, divided by their number.
    With `load=95, capacity=400`, the consumer can take 100/s. `load` alone says how full it is, not how fast, and is
    refused if the budget has no rate.
    """

    action: Literal["LoadReport"] = "LoadReport"
    consumer_id: BudgetName
    instance_id: Name
    incarnation: Name | None = None
    seq: Count | None = None
    uptime_ms: Quantity | None = None
    load: Percent | None = None
    capacity: Capacity | None = None
    queue_depth: Quantity | None = None
    queue_limit: Quantity | None = None
    done: Quantity | None = None
    errors: Quantity | None = None
    in_flight: Quantity | None = None
    slots: Quantity | None = None
    latency_ms: Milliseconds | None = None
    interval_ms: Milliseconds | None = None
    pause_ms: Milliseconds | None = None
    latency_p25_ms: Milliseconds | None = None
    latency_p10_ms: Milliseconds | None = None
    cancelled: Quantity | None = None
    busy_ms: Quantity | None = None
    labels: Labels | None = None


AnyMessage = CapacitySignal | FlowControl | LoadReport
_MODELS: Final[dict[str, type[AnyMessage]]] = {
    "CapacitySignal": CapacitySignal,
    "FlowControl": FlowControl,
    "LoadReport": LoadReport,
}


def decode(raw: str | bytes) -> AnyMessage:
    """Return the message in `raw`, whichever of the three it is, in JSON or in msgpack."""
    fields = read_msgpack(raw) if isinstance(raw, bytes) and _is_msgpack_map(raw) else read_json(raw)
    action = fields.get("action")
    model = _MODELS.get(action) if isinstance(action, str) else None
    if model is None:
        raise InvalidSetting("action", action, error_texts.unknown_action(_MODELS))
    return model(**fields)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of all three messages; `action` decides which one applies."""
    either: TypeAdapter[AnyMessage] = TypeAdapter(Annotated[AnyMessage, Field(discriminator="action")])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **either.json_schema()}


# --- reading text that others wrote ----------------------------------------------------------------------------------


def read_json(text: str | bytes) -> dict[str, Any]:
    _refuse_long(text)
    try:
        # Decoded from UTF-8 here, because json.loads would guess UTF-16 and skip a byte order mark.
        return _map(_JSON.decode(text if isinstance(text, str) else text.decode()))
    except InvalidSetting:
        raise
    except (ValueError, RecursionError):  # not JSON, not UTF-8, an int of 5000 digits, nested a thousand deep
        raise InvalidSetting("message", text) from None


def read_msgpack(packed: bytes) -> dict[str, Any]:
    _refuse_long(packed)
    try:
        return _map(msgpack.unpackb(packed, object_pairs_hook=_fields_once))
    except InvalidSetting:
        raise
    except ValueError:  # garbage, not UTF-8, nested too deep, a timestamp beyond any year
        raise InvalidSetting("message", packed) from None


def _is_msgpack_map(raw: bytes) -> bool:
    return raw[:1] in {b"\xde", b"\xdf"} or b"\x80" <= raw[:1] <= b"\x8f"


def _refuse_long(raw: str | bytes) -> None:
    if len(raw) > LONGEST_MESSAGE:
        raise InvalidSetting("message", raw, error_texts.text_too_long(LONGEST_MESSAGE))


def _map(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSetting("message", value)
    return value


def _fields_once(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Return one object, after checks that pydantic cannot do.

    Of two fields with one name pydantic sees only one, and of an ignored field it sees nothing.
    """
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if not isinstance(name, str):
            raise InvalidSetting("message", name, error_texts.FIELD_NAME_IS_NOT_TEXT)
        if name in fields:
            raise InvalidSetting(name, value, error_texts.FIELD_GIVEN_TWICE)
        if isinstance(value, bytes | msgpack.ExtType | msgpack.Timestamp) or _is_not_finite(value):
            raise InvalidSetting(name, value, remedy_for(name))
        fields[name] = value
    return fields


_JSON: Final = json.JSONDecoder(object_pairs_hook=_fields_once)


def _is_not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value

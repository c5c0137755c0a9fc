from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nexus_redis import messages
from nexus_redis._values import error_texts
from nexus_redis.errors import LONGEST_LABEL, MOST_LABELS, RANGES, RATE, InvalidSetting, remedy_for, shown
from nexus_redis.messages import AnyMessage, CapacitySignal, FlowControl, LoadReport, decode, json_schema

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "messages.json").read_text())
MODELS: dict[str, type[AnyMessage]] = {model.__name__: model for model in (CapacitySignal, FlowControl, LoadReport)}

SIGNAL = '{"action":"CapacitySignal","producer_id":"a","consumer_id":"b","requested_rate":1%s}'
FLOW = '{"action":"FlowControl","consumer_id":"b","recommended_rate":1,"backpressure_level":0,"current_load":5%s}'
REPORT = '{"action":"LoadReport","consumer_id":"b","instance_id":"c"%s}'


# --- any valid message, drawn from the models' own annotations -------------------------------------------------------

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
BY_KIND: dict[Any, st.SearchStrategy[Any]] = {
    messages.Name: names,
    messages.BudgetName: names | st.just("stripe/cust-42"),
    messages.Rate: st.just(0) | st.floats(1e-6, 1e9) | st.integers(1, 10**9),
    messages.Capacity: st.floats(1e-6, 1e9) | st.integers(1, 10**9),
    messages.Tokens: st.floats(0, 9e9) | st.integers(0, 9 * 10**9),
    messages.Milliseconds: st.floats(0, 86.4e6),
    messages.Quantity: st.floats(0, 2**53) | st.integers(0, 2**53),
    messages.Count: st.integers(0, 2**53),
    messages.Percent: st.floats(0, 100),
    messages.Weight: st.floats(0.01, 1000),
    messages.Level: st.integers(0, 3),
    messages.Labels: st.dictionaries(names, st.text(max_size=LONGEST_LABEL), max_size=MOST_LABELS),
    bool: st.booleans(),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) in {Union, UnionType}:
        return st.one_of(*(values(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    return st.none() if hint is type(None) else BY_KIND[hint]


def any_of(model: type[AnyMessage]) -> st.SearchStrategy[AnyMessage]:
    hints = get_type_hints(model, include_extras=True)
    return st.builds(model, **{name: values(hints[name]) for name in model.model_fields})


any_message = st.one_of(*(any_of(model) for model in MODELS.values()))


# --- golden vectors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["note"])
def test_a_message_matches_its_vector(vector: dict[str, Any]) -> None:
    """A message has exactly the text and the bytes of its vector."""
    message = MODELS[vector["fields"]["action"]](**vector["fields"])
    assert message.to_json() == vector["json"]
    assert message.to_msgpack().hex() == vector["msgpack"]
    assert decode(vector["json"]) == decode(vector["json"].encode()) == message
    assert decode(bytes.fromhex(vector["msgpack"])) == message
    assert json.loads(vector["json"]) == vector["fields"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["note"])
def test_a_refused_vector_names_its_field(vector: dict[str, str]) -> None:
    """A refused vector names its field."""
    raw = vector["json"] if "json" in vector else bytes.fromhex(vector["msgpack"])
    with pytest.raises(InvalidSetting) as refused:
        decode(raw)
    assert refused.value.field == vector["field"]


def test_the_vectors_hold_the_example() -> None:
    """The vectors hold the example of the protocol."""
    signal, flow = (decode(vector["json"]) for vector in VECTORS["messages"][:2])
    assert signal == CapacitySignal(producer_id="filebeat-1", consumer_id="elasticsearch", requested_rate=10_000)
    assert isinstance(flow, FlowControl)
    assert (flow.recommended_rate, flow.backpressure_level, flow.current_load) == (100, 2, 95)


def test_every_field_stands_in_a_vector() -> None:
    """Every field stands in a vector."""
    seen = {(vector["fields"]["action"], field) for vector in VECTORS["messages"] for field in vector["fields"]}
    assert seen == {(name, field) for name, model in MODELS.items() for field in model.model_fields}


# --- encodings -------------------------------------------------------------------------------------------------------


@given(any_message)
def test_both_encodings_round_trip(message: AnyMessage) -> None:
    """A message comes back equal from both encodings."""
    assert decode(message.to_json()) == message
    assert decode(message.to_json().encode()) == message
    assert decode(message.to_msgpack()) == message
    assert type(message).from_json(message.to_json()) == message
    assert type(message).from_msgpack(message.to_msgpack()) == message


@given(any_message)
def test_both_encodings_hold_the_same(message: AnyMessage) -> None:
    """Both encodings hold the same fields in the same order, without None and without whole floats."""
    fields = json.loads(message.to_json())
    assert list(msgpack.unpackb(message.to_msgpack()).items()) == list(fields.items())
    assert list(fields) == [name for name, value in message if value is not None]
    assert not any(isinstance(value, float) and value.is_integer() for value in fields.values())


def test_one_number_has_one_text() -> None:
    """One number has one text."""
    as_float = FlowControl(consumer_id="b", recommended_rate=1e9, backpressure_level=0, current_load=-0.0)
    as_int = FlowControl(consumer_id="b", recommended_rate=10**9, backpressure_level=0, current_load=0)
    assert as_float.to_json() == as_int.to_json()
    assert '"recommended_rate":1000000000,' in as_float.to_json()


def test_the_longest_message_is_still_read() -> None:
    """The longest message is still read."""
    widest = {f"{n:064}": "\x01" * LONGEST_LABEL for n in range(MOST_LABELS)}
    report = LoadReport(consumer_id="c" * 64, instance_id="i" * 64, labels=widest)
    assert decode(report.to_json()) == report


# --- refusals --------------------------------------------------------------------------------------------------------


def numeric_fields() -> Iterator[tuple[str, str]]:
    templates = {"CapacitySignal": SIGNAL, "FlowControl": FLOW, "LoadReport": REPORT}
    for name, model in MODELS.items():
        for field in model.model_fields:
            if field in RANGES:
                yield templates[name], field


@pytest.mark.parametrize(("template", "field"), list(numeric_fields()), ids=shown)
@pytest.mark.parametrize(
    "literal",
    ["true", '"5"', "NaN", "Infinity", "-Infinity", "1e400", "-1", "1" + "0" * 400, "[]", "{}", "1e16"],
    ids=shown,
)
def test_a_number_out_of_range_is_refused(template: str, field: str, literal: str) -> None:
    """A number out of its range is refused with the range."""
    text = template % f',"{field}":{literal}'
    if f'"{field}"' in template:  # required, so it stands in the template: replace it there
        fields = json.loads(template % "") | {field: json.loads(literal)}
        text = json.dumps(fields)
    with pytest.raises(InvalidSetting) as refused:
        decode(text)
    assert (refused.value.field, refused.value.remedy) == (field, RANGES[field].remedy)


@pytest.mark.parametrize("name", MODELS)
def test_the_schema_has_the_one_ranges(name: str) -> None:
    """The schema has the ranges of the one table."""
    properties = json_schema()["$defs"][name]["properties"]
    numeric = {field: either for field in properties if (either := _number_in(properties[field]))}
    assert set(numeric) == set(properties) & set(RANGES)
    for field, bounds in numeric.items():
        span = RANGES[field]
        assert (bounds["minimum"], bounds["maximum"]) == (0 if span.or_zero else span.low, span.high)


def _number_in(schema: dict[str, Any]) -> dict[str, Any] | None:
    either = [schema, *schema.get("anyOf", [])]
    return next((part for part in either if part.get("type") in {"number", "integer"}), None)


def test_the_schema_knows_the_action() -> None:
    """The schema tells the three messages apart by `action`."""
    schema = json_schema()
    assert schema["discriminator"]["propertyName"] == "action"
    assert set(schema["$defs"]) == set(MODELS)
    assert [schema["$defs"][name].get("additionalProperties", True) for name in MODELS] == [False, True, False]


def test_a_tiny_rate_is_refused() -> None:
    """A rate between zero and a millionth is refused."""
    with pytest.raises(InvalidSetting) as refused:
        CapacitySignal(producer_id="a", consumer_id="b", requested_rate=1e-7)
    assert refused.value.remedy == RATE.remedy


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (SIGNAL % ',"seq":1.0', "seq"),
        (SIGNAL % ',"whole":1', "whole"),
        (SIGNAL % ',"priority":"urgent"', "priority"),
        (SIGNAL % ',"incarnation":"a b"', "incarnation"),
        (SIGNAL % ',"birth":"a\\n"', "birth"),
        (SIGNAL % ',"tokens":1,"tokens":1', "tokens"),
        (SIGNAL % ',"recommended_rate":1', "recommended_rate"),
        (SIGNAL.replace('"producer_id":"a",', "") % "", "producer_id"),
        (SIGNAL.replace("CapacitySignal", "capacitysignal") % "", "action"),
        (SIGNAL.replace('"action":"CapacitySignal",', "") % "", "action"),
        (SIGNAL.replace('"CapacitySignal"', "[]") % "", "action"),
        (FLOW % ',"reason":"whim"', "reason"),
        (FLOW % ',"new":NaN', "new"),
        (REPORT % ',"labels":{"a b":"c"}', "labels"),
        (REPORT % ',"labels":{"a":1}', "labels"),
        (REPORT % ',"labels":{"a":"\\ud800"}', "labels"),
        (REPORT % f',"labels":{{"a":"{"x" * 65}"}}', "labels"),
        (REPORT % f',"labels":{json.dumps({f"l{n}": "" for n in range(17)})}', "labels"),
        ("", "message"),
        ("[]", "message"),
        ("5", "message"),
        ('"CapacitySignal"', "message"),
        (SIGNAL % "" + "{}", "message"),
        (SIGNAL % f',"tokens":{"1" * 5000}', "message"),
        ("[" * 50_000, "message"),
        ('{"a":' * 10_000, "message"),
        ("\ufeff" + SIGNAL % "", "message"),
        (SIGNAL % (" " * 2_000_000), "message"),
    ],
    ids=shown,
)
def test_a_wrong_text_is_refused(text: str, field: str) -> None:
    """A wrong text is refused, and the error names what is wrong."""
    for raw in (text, text.encode()):
        with pytest.raises(InvalidSetting) as refused:
            decode(raw)
        assert refused.value.field == field
        assert refused.value.remedy
        assert len(str(refused.value)) < 400


def test_unknown_fields_are_accepted() -> None:
    """An answer may have more fields than this release knows."""
    assert decode(FLOW % ',"colour":"green"') == decode(FLOW % "")


def test_a_model_refuses_the_text_of_another() -> None:
    """A model refuses the text of another model."""
    with pytest.raises(InvalidSetting) as refused:
        LoadReport.from_json(REPORT.replace("LoadReport", "CapacitySignal") % "")
    error = refused.value
    expected = ("action", "'CapacitySignal'", error_texts.wrong_literal("'LoadReport'"))
    assert (error.field, error.value, error.remedy) == expected


def test_a_message_is_frozen() -> None:
    """A message is frozen."""
    message = LoadReport(consumer_id="b", instance_id="c")
    with pytest.raises(ValidationError, match="frozen"):
        message.load = 5


@pytest.mark.parametrize(
    "packed",
    [
        b"", b"\xc1", b"\x81", b"\xc0", b"\x05", b"\x90", b"\x81\x01\x02", b"\x81\xc4\x01a\x02",
        b"\x82\xa1a\x01\xa1a\x02", b"\x81\xa1\xff\x01", b"\x81\xa1a" * 5000 + b"\x01",
        b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12,
        msgpack.packb({"new": msgpack.ExtType(5, b"x")}), msgpack.packb({"new": msgpack.Timestamp(1)}),
        msgpack.packb({"new": b"bytes"}), msgpack.packb({"new": math.nan}), b"\x80" + b"x", bytes(2_000_000),
    ],
    ids=shown,
)  # fmt: skip
def test_wrong_msgpack_is_refused_by_every_model(packed: bytes) -> None:
    """Wrong msgpack is refused by every model."""
    for model in MODELS.values():
        with pytest.raises(InvalidSetting):
            model.from_msgpack(packed)
    with pytest.raises(InvalidSetting):
        decode(packed)


@given(st.binary() | st.binary().map(lambda tail: b"\x81" + tail) | st.text() | st.text().map(lambda tail: "{" + tail))
def test_garbage_is_an_invalid_setting(raw: str | bytes) -> None:
    """Whatever the bytes are, the only error is `InvalidSetting`."""
    with pytest.raises(InvalidSetting):
        decode(raw)


@given(any_message, st.data())
def test_damage_is_an_invalid_setting(message: AnyMessage, data: st.DataObject) -> None:
    """Whatever is damaged in a message, the only error is `InvalidSetting`."""
    packed = bytearray(message.to_msgpack())
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(packed))
    except InvalidSetting as refused:
        assert refused.remedy == refused.remedy.strip() != ""


def test_every_text_field_has_a_remedy_of_its_own() -> None:
    """Every text field has a remedy of its own."""
    for field in ("producer_id", "consumer_id", "instance_id", "incarnation", "birth", "labels", "message"):
        assert remedy_for(field) not in (error_texts.NO_RANGE_KNOWN, error_texts.NOT_OUR_CALL)

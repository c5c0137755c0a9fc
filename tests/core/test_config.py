from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nexus_redis.config import (
    BudgetSettings,
    Checked,
    Combine,
    ConsumerSettings,
    Law,
    OnOutage,
    Priority,
    ProducerSettings,
    from_micro,
    micro,
    micro_rate,
    parse_cost,
    parse_name,
    parse_number,
    parse_rate,
)
from nexus_redis.errors import RANGES, WORDS, InvalidSetting, shown

NO_NUMBER = [True, False, "5", "", b"5", None, [1], {}, 1j, float("nan"), float("inf"), float("-inf"), -1, 10**400]

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers()),
    st.just(10**5000),
)


# --- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "per_second"),
    [
        ("100/s", 100.0),
        ("6000/min", 100.0),
        ("36/h", 0.01),
        ("86400/d", 1.0),
        (" 2.5 / S ", 2.5),
        ("1e3/s", 1000.0),
        ("5000", 5000.0),
        (5000, 5000.0),
        (0.5, 0.5),
        (0, 0.0),
        ("0/d", 0.0),
        (1e-6, 1e-6),
        (1_000_000_000, 1e9),
    ],
)
def test_a_rate_is_a_number_per_second_or_says_its_unit(written: object, per_second: float) -> None:
    assert parse_rate(written) == per_second


@pytest.mark.parametrize(
    "written",
    [
        *(value for value in NO_NUMBER if value != "5"), 1e-7, 1.1e9, "1e-7/s", "2e9/s", "1e400/s", "1e9999999/s",
        "-5/s", "+5/s", "nan/s", "inf", "5/y", "5/", "/s", "5 5/s", "0x10/s", "1_000/s", "5/s\n5", "٣/s",
        "9" * 2_000_000, " " * 100_000,
    ],
    ids=shown,
)  # fmt: skip
def test_what_is_no_rate_is_refused_with_examples_of_one(written: object) -> None:
    with pytest.raises(InvalidSetting) as refused:
        parse_rate(written, "min_rate")
    assert refused.value.field == "min_rate"
    assert '"6000/min"' in refused.value.remedy
    assert len(str(refused.value)) < 250


@given(anything)
def test_parse_rate_answers_a_rate_in_range_or_refuses(value: object) -> None:
    try:
        rate = parse_rate(value)
    except InvalidSetting:
        return
    assert type(rate) is float
    assert rate == 0 or 1e-6 <= rate <= 1e9


# --- exact units -----------------------------------------------------------------------------------------------------


def test_millionths_round_to_the_nearest_and_ties_to_even() -> None:
    assert [micro(x) for x in (0.1, 0.5e-6, 1.5e-6, 2.5e-6, 9e9)] == [100_000, 0, 2, 2, 9 * 10**15]
    assert from_micro(micro(0.3)) == 0.3


@given(st.integers(1, 100_000), st.sampled_from([("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)]))
def test_n_per_unit_has_all_its_n_tokens_after_one_unit(n: int, unit: tuple[str, int]) -> None:
    name, seconds = unit
    earned_micro = micro_rate(parse_rate(f"{n}/{name}")) * seconds
    assert n * 10**6 <= earned_micro < n * 10**6 + seconds


def test_twenty_a_minute_tried_every_three_seconds_always_has_its_token() -> None:
    assert micro_rate(parse_rate("20/min")) * 3 >= 10**6


@given(st.integers(0, 10**15))
def test_a_rate_of_at_most_six_decimals_is_kept_exactly(millionths: int) -> None:
    assert micro_rate(float(Decimal(millionths) / 10**6)) == millionths


def test_float_noise_is_not_rounded_up() -> None:
    assert [micro_rate(x) for x in (0.1, 1.1, 0.1 + 0.2, 2.2 * 3)] == [100_000, 1_100_000, 300_000, 6_600_000]
    assert micro_rate(1e-6 * 1.01) == 2


# --- names and costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "0", "es-1", "stripe.cus_9", "A" * 64])
def test_a_name_is_kept_as_it_is(name: str) -> None:
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".a", "-a", "_a", "a" * 65, "a b", "a{b}", "a:b", "a\n", "é", "１", "a\0", 5, None, b"a"]
)
def test_a_name_that_does_not_fit_a_key_is_refused(name: object) -> None:
    with pytest.raises(InvalidSetting, match="the first a letter or a digit") as refused:
        parse_name(name, "namespace")
    assert refused.value.field == "namespace"


@given(anything)
def test_parse_name_answers_the_same_text_or_refuses(value: object) -> None:
    try:
        assert parse_name(value) is value
    except InvalidSetting:
        return
    assert isinstance(value, str)
    assert value.isascii()
    assert 1 <= len(value) <= 64


@pytest.mark.parametrize("cost", [*NO_NUMBER, 0, 1e-7, 1.1e9], ids=shown)
def test_what_is_no_cost_is_refused(cost: object) -> None:
    with pytest.raises(InvalidSetting, match=r"use 1e-6 to 1e9 tokens"):
        parse_cost(cost)


@pytest.mark.parametrize("field", RANGES)
def test_every_range_takes_its_ends_and_nothing_beyond(field: str) -> None:
    span = RANGES[field]
    assert parse_number(field, span.low) == span.low
    assert parse_number(field, span.high) == span.high
    for value in [*NO_NUMBER, span.high * 1.01, span.low - 1e-9]:
        with pytest.raises(InvalidSetting) as refused:
            parse_number(field, value)
        assert (refused.value.field, refused.value.remedy) == (field, span.remedy)


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_setting_that_is_not_given_is_none_and_the_rest_has_the_promised_defaults() -> None:
    assert set(BudgetSettings().model_dump().values()) == {None}
    assert ProducerSettings().model_dump() == {
        "weight": 1.0, "priority": "normal", "timeout": None, "on_outage": "share", "smooth": False,
    }  # fmt: skip
    assert ConsumerSettings().model_dump() == {"capacity": None, "interval": 0.25}


def test_settings_take_rates_as_text_and_keep_them_per_second() -> None:
    assert BudgetSettings.of(rate="6000/min", min_rate="10/s").model_dump(exclude_none=True) == {
        "rate": 100.0,
        "min_rate": 10.0,
    }
    assert ConsumerSettings.of(capacity="400/s").capacity == 400.0


def test_settings_are_frozen() -> None:
    settings = BudgetSettings(rate=5)
    with pytest.raises(ValidationError, match="frozen"):
        settings.rate = 6


NUMBERS: list[tuple[type[Checked], str]] = [
    (BudgetSettings, "burst"),
    (BudgetSettings, "latency_target_ms"),
    (BudgetSettings, "transit"),
    (ProducerSettings, "weight"),
    (ProducerSettings, "timeout"),
    (ConsumerSettings, "interval"),
]


@pytest.mark.parametrize(("model", "field"), NUMBERS)
@pytest.mark.parametrize("value", [value for value in NO_NUMBER if value is not None], ids=shown)
def test_a_number_out_of_range_is_refused_naming_field_and_remedy(
    model: type[Checked], field: str, value: object
) -> None:
    with pytest.raises(InvalidSetting) as refused:
        model.of(**{field: value})
    assert (refused.value.field, refused.value.remedy) == (field, RANGES[field].remedy)
    assert refused.value.value


@pytest.mark.parametrize(
    ("model", "field", "words"),
    [
        (BudgetSettings, "law", Law),
        (BudgetSettings, "combine", Combine),
        (ProducerSettings, "priority", Priority),
        (ProducerSettings, "on_outage", OnOutage),
    ],
)
def test_a_word_that_is_none_of_the_known_is_refused_with_all_of_them(
    model: type[Checked], field: str, words: Any
) -> None:
    assert get_args(words) == WORDS[field]
    for word in get_args(words):
        assert getattr(model.of(**{field: word}), field) == word
    with pytest.raises(InvalidSetting) as refused:
        model.of(**{field: get_args(words)[0].upper()})
    assert refused.value.field == field
    assert all(word in refused.value.remedy for word in get_args(words))


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_switch_is_true_or_false_and_nothing_like_it(value: object) -> None:
    with pytest.raises(InvalidSetting, match="use true or false"):
        ProducerSettings.of(smooth=value)


def test_a_misspelled_setting_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidSetting, match="ratee: no such field: there are rate, min_rate, burst"):
        BudgetSettings.of(ratee=5)


def test_settings_that_cannot_hold_together_are_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"min_rate=11\.0: a floor: use at most rate=10"):
        BudgetSettings(rate=10, min_rate=11)
    with pytest.raises(InvalidSetting, match=r"burst=10\.0: with rate=1e\+09 use at most 9 seconds"):
        BudgetSettings(rate=1e9, burst=10)
    assert BudgetSettings(rate=10, min_rate=10).min_rate == 10
    assert BudgetSettings(rate=1e9, burst=9).burst == 9
    assert BudgetSettings(min_rate=11, burst=86_400).rate is None


MODELS: list[type[Checked]] = [BudgetSettings, ProducerSettings, ConsumerSettings]


@given(st.sampled_from(MODELS), st.data())
def test_whatever_is_given_the_only_error_is_invalid_setting(model: type[Checked], data: st.DataObject) -> None:
    given_values = data.draw(st.dictionaries(st.sampled_from([*model.model_fields, "other"]), anything))
    try:
        model.of(**given_values)
    except InvalidSetting as refused:
        assert refused.field in {*given_values, "min_rate", "burst"}
        assert refused.remedy

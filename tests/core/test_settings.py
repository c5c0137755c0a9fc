from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_redis._values import error_texts
from nexus_redis._values.parse import parse_milliseconds, typed_milliseconds, typed_seconds
from nexus_redis._values.settings import (
    BudgetSettings,
    Combine,
    ConsumerSettings,
    Law,
    OnOutage,
    Priority,
    ProducerSettings,
    Settings,
    from_micro,
    micro,
    micro_rate,
    parse_cost,
    parse_name,
    parse_number,
    parse_rate,
    parse_seconds,
)
from nexus_redis.errors import COST, RANGES, WORDS, InvalidSetting, shown

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
        ("120/minute", 2.0),
        ("120/Minutes", 2.0),
        ("7/sec", 7.0),
        ("7 per second", 7.0),
        ("7/m", 7 / 60),
        ("3/hr", 3 / 3600),
        ("24/day", 24 / 86_400),
        ("3k/s", 3000.0),
        ("2.5K", 2500.0),
        ("6 M per hour", 6e6 / 3600),
        ("1G/s", 1e9),
        ("50/10s", 5.0),
        ("90 per 5 minutes", 0.3),
        ("5/100ms", 50.0),
        ("12,500/s", 12_500.0),
        (".5/s", 0.5),
        (1e-6, 1e-6),
        (1_000_000_000, 1e9),
    ],
)
def test_a_rate_may_have_a_unit(written: object, per_second: float) -> None:
    """A rate is a number per second, or names its unit."""
    assert parse_rate(written) == per_second


@pytest.mark.parametrize(
    "written",
    [
        *(value for value in NO_NUMBER if value != "5"), 1e-7, 1.1e9, "1e-7/s", "2e9/s", "1e400/s", "1e9999999/s",
        "5/1e400s",
        "-5/s", "+5/s", "nan/s", "inf", "5/y", "5/week", "5/", "/s", "5 5/s", "0x10/s", "1_000/s", "5/s\n5", "٣/s",
        "1,50/s", "5 m/s", "5g/s", "5kk/s", "5/0s", "5 per", "5s", "100/day;5/s", "5/1h30m",
        "9" * 2_000_000, " " * 100_000,
    ],
    ids=shown,
)  # fmt: skip
def test_a_bad_rate_is_refused(written: object) -> None:
    """What is not a rate is refused with examples of one."""
    with pytest.raises(InvalidSetting) as refused:
        parse_rate(written, "min_rate")
    assert refused.value.field == "min_rate"
    assert '"6000/min"' in refused.value.remedy
    assert len(str(refused.value)) < 250


@given(anything)
def test_a_parsed_rate_is_in_range(value: object) -> None:
    """`parse_rate` answers a rate in range or refuses."""
    try:
        rate = parse_rate(value)
    except InvalidSetting:
        return
    assert type(rate) is float
    assert rate == 0 or 1e-6 <= rate <= 1e9


# --- durations -------------------------------------------------------------------------------------------------------

DURATIONS = [
    ("90s", 90.0), ("5m", 300.0), ("5min", 300.0), ("2h", 7200.0), ("1d", 86_400.0), ("1 day", 86_400.0),
    ("0.5 h", 1800.0),
    ("1h30m", 5400.0), ("1h 30 minutes", 5400.0), ("2m0.5s", 120.5), ("1,200 s", 1200.0), ("40ms", 0.04),
    ("1e2s", 100.0),
    (" 3 SECS ", 3.0),
]  # fmt: skip
NO_DURATION = [
    "", "s", "-5s", "+5s", "5x", "5w", "soon", "1h30", "30 1h", "1:30", "nan", "inf", "1d1d", "1e400s", "5s5", "5 s s",
    "٣s", "9" * 2_000_000 + "s", "1s" * 50_000, "1s" + " " * 100_000,
]  # fmt: skip


@pytest.mark.parametrize(("written", "seconds"), DURATIONS)
def test_a_duration_may_have_a_unit(written: str, seconds: float) -> None:
    """A duration in code is a number or names its unit, and a person may leave out the seconds."""
    assert parse_seconds(written, "pause") == typed_seconds(written, "pause") == pytest.approx(seconds)
    assert parse_seconds(seconds, "pause") == typed_seconds(str(seconds), "pause") == seconds
    with pytest.raises(InvalidSetting) as refused:
        parse_seconds(str(seconds), "pause")
    assert refused.value.remedy == RANGES["pause"].remedy + error_texts.DURATION_SPELLINGS


@pytest.mark.parametrize("written", NO_DURATION, ids=shown)
def test_a_bad_duration_is_refused(written: str) -> None:
    """What is not a duration is refused with examples of one."""
    for parse in (parse_seconds, typed_seconds, parse_milliseconds, typed_milliseconds):
        with pytest.raises(InvalidSetting) as refused:
            parse(written, "timeout" if parse.__name__.endswith("_seconds") else "latency_ms")
        assert refused.value.remedy.endswith(
            error_texts.DURATION_SPELLINGS if parse.__name__.endswith("_seconds") else error_texts.MILLISECOND_SPELLINGS
        )
        assert len(str(refused.value)) < 250


def test_milliseconds_may_have_a_unit() -> None:
    """Where milliseconds are meant, a number is in milliseconds, and a unit counts as what it is."""
    assert [typed_milliseconds(text, "latency_ms") for text in ("7.5", "7.5ms", "2s", "1m")] == [7.5, 7.5, 2e3, 6e4]
    assert (parse_milliseconds(7.5, "latency_ms"), parse_milliseconds("2s", "latency_ms")) == (7.5, 2e3)
    assert BudgetSettings.of(latency_target_ms="0.25s").latency_target_ms == 250


@given(anything)
def test_parsed_seconds_are_in_range(value: object) -> None:
    """`parse_seconds` answers seconds in range or refuses."""
    try:
        seconds = parse_seconds(value, "timeout")
    except InvalidSetting:
        return
    assert type(seconds) is float
    assert 0 <= seconds <= 86_400


# --- exact units -----------------------------------------------------------------------------------------------------


def test_millionths_round_to_even() -> None:
    """Millionths round to the nearest, and ties to even."""
    assert [micro(x) for x in (0.1, 0.5e-6, 1.5e-6, 2.5e-6, 9e9)] == [100_000, 0, 2, 2, 9 * 10**15]
    assert from_micro(micro(0.3)) == 0.3


@given(st.integers(1, 100_000), st.sampled_from([("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)]))
def test_n_per_unit_is_whole(n: int, unit: tuple[str, int]) -> None:
    """n per unit has all its n tokens after one unit."""
    name, seconds = unit
    earned_micro = micro_rate(parse_rate(f"{n}/{name}")) * seconds
    assert n * 10**6 <= earned_micro < n * 10**6 + seconds


def test_twenty_a_minute_is_one_each_three_s() -> None:
    """Twenty a minute, tried every three seconds, always has its token."""
    assert micro_rate(parse_rate("20/min")) * 3 >= 10**6


@given(st.integers(0, 10**15))
def test_six_decimals_are_exact(millionths: int) -> None:
    """A rate of at most six decimals is kept exactly."""
    assert micro_rate(float(Decimal(millionths) / 10**6)) == millionths


def test_float_noise_is_not_rounded_up() -> None:
    """Float noise is not rounded up."""
    assert [micro_rate(x) for x in (0.1, 1.1, 0.1 + 0.2, 2.2 * 3)] == [100_000, 1_100_000, 300_000, 6_600_000]
    assert micro_rate(1e-6 * 1.01) == 2


# --- names and costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "0", "es-1", "stripe.cus_9", "A" * 64])
def test_a_name_is_kept_as_it_is(name: str) -> None:
    """A name is kept as it is."""
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".a", "-a", "_a", "a" * 65, "a b", "a{b}", "a:b", "a\n", "é", "１", "a\0", 5, None, b"a"]
)
def test_a_name_for_a_key_must_fit(name: object) -> None:
    """A name that does not fit a key is refused."""
    with pytest.raises(InvalidSetting) as refused:
        parse_name(name, "namespace")
    assert (refused.value.field, refused.value.remedy) == ("namespace", error_texts.INVALID_NAME)


@given(anything)
def test_a_parsed_name_is_unchanged(value: object) -> None:
    """`parse_name` answers the same text or refuses."""
    try:
        assert parse_name(value) is value
    except InvalidSetting:
        return
    assert isinstance(value, str)
    assert value.isascii()
    assert 1 <= len(value) <= 64


@pytest.mark.parametrize("cost", [*NO_NUMBER, 0, 1e-7, 1.1e9], ids=shown)
def test_a_bad_cost_is_refused(cost: object) -> None:
    """A value that is not a cost is refused."""
    with pytest.raises(InvalidSetting) as refused:
        parse_cost(cost)
    assert (refused.value.field, refused.value.remedy) == ("cost", COST.remedy)


@pytest.mark.parametrize("field", RANGES)
def test_every_range_takes_its_ends(field: str) -> None:
    """Every range takes its ends, and nothing beyond."""
    span = RANGES[field]
    assert parse_number(field, span.low) == span.low
    assert parse_number(field, span.high) == span.high
    for value in [*NO_NUMBER, span.high * 1.01, span.low - 1e-9]:
        with pytest.raises(InvalidSetting) as refused:
            parse_number(field, value)
        assert (refused.value.field, refused.value.remedy) == (field, span.remedy)


# --- settings --------------------------------------------------------------------------------------------------------


def test_defaults_are_as_promised() -> None:
    """A setting that is not given is None, and the others have the promised defaults."""
    assert set(asdict(BudgetSettings()).values()) == {None}
    assert BudgetSettings().given() == {}
    assert asdict(ProducerSettings()) == {
        "weight": 1.0, "priority": "normal", "timeout": None, "on_outage": "share", "smooth": False,
    }  # fmt: skip
    assert asdict(ConsumerSettings()) == {"capacity": None, "interval": 0.25, "observe": False}


def test_text_is_kept_in_base_units() -> None:
    """Settings take rates and durations as text, and keep them per second and in seconds."""
    assert BudgetSettings.of(rate="6000/min", min_rate="10/s", burst="1m", transit="2s").given() == {
        "rate": 100.0,
        "min_rate": 10.0,
        "burst": 60.0,
        "transit": 2.0,
    }
    assert ProducerSettings.of(timeout="1h").timeout == 3600
    assert ConsumerSettings.of(capacity="400/s", interval="500ms") == ConsumerSettings(capacity=400, interval=0.5)


def test_settings_are_frozen() -> None:
    """Settings are frozen."""
    settings = BudgetSettings(rate=5)
    with pytest.raises(FrozenInstanceError, match="rate"):
        settings.rate = 6  # type: ignore[misc]  # that it is frozen is the point


NUMBERS: list[tuple[type[Settings], str]] = [
    (BudgetSettings, "burst"),
    (BudgetSettings, "latency_target_ms"),
    (BudgetSettings, "transit"),
    (ProducerSettings, "weight"),
    (ProducerSettings, "timeout"),
    (ConsumerSettings, "interval"),
]


@pytest.mark.parametrize(("model", "field"), NUMBERS)
@pytest.mark.parametrize("value", [value for value in NO_NUMBER if value is not None], ids=shown)
def test_a_number_out_of_range_is_refused(model: type[Settings], field: str, value: object) -> None:
    """A number out of range is refused, and the error names the field and the remedy."""
    with pytest.raises(InvalidSetting) as refused:
        model.of(**{field: value})
    assert refused.value.field == field
    assert refused.value.remedy.startswith(RANGES[field].remedy)
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
def test_an_unknown_word_is_refused(model: type[Settings], field: str, words: Any) -> None:
    """A word that is not known is refused with all the known words."""
    assert get_args(words) == WORDS[field]
    for word in get_args(words):
        assert getattr(model.of(**{field: word}), field) == word
    with pytest.raises(InvalidSetting) as refused:
        model.of(**{field: get_args(words)[0].upper()})
    assert refused.value.field == field
    assert all(word in refused.value.remedy for word in get_args(words))


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_a_switch_is_true_or_false(value: object) -> None:
    """A switch is true or false, and nothing like it."""
    with pytest.raises(InvalidSetting) as refused:
        ProducerSettings.of(smooth=value)
    assert refused.value.remedy == error_texts.not_one_of(("true", "false"))


def test_a_misspelled_setting_is_refused() -> None:
    """A misspelled setting is refused with the names that there are."""
    with pytest.raises(InvalidSetting) as refused:
        BudgetSettings.of(ratee=5)
    assert (refused.value.field, refused.value.remedy) == ("ratee", error_texts.unknown_field(BudgetSettings.names()))


def test_contradictions_are_refused() -> None:
    """Settings that cannot hold together are refused."""
    with pytest.raises(InvalidSetting) as refused:
        BudgetSettings(rate=10, min_rate=11)
    floor = refused.value
    assert (floor.field, floor.value, floor.remedy) == ("min_rate", "11.0", error_texts.floor_above_rate(10))
    with pytest.raises(InvalidSetting) as refused:
        BudgetSettings(rate=1e9, burst=10)
    burst = refused.value
    assert (burst.field, burst.value, burst.remedy) == ("burst", "10.0", error_texts.burst_too_large(1e9, 9))
    assert BudgetSettings(rate=10, min_rate=10).min_rate == 10
    assert BudgetSettings(rate=1e9, burst=9).burst == 9
    assert BudgetSettings(min_rate=11, burst=86_400).rate is None


MODELS: list[type[Settings]] = [BudgetSettings, ProducerSettings, ConsumerSettings]


@given(st.sampled_from(MODELS), st.data())
def test_any_value_is_set_or_refused(model: type[Settings], data: st.DataObject) -> None:
    """Whatever is given, the only error is `InvalidSetting`."""
    given_values = data.draw(st.dictionaries(st.sampled_from([*model.names(), "other"]), anything))
    try:
        model.of(**given_values)
    except InvalidSetting as refused:
        assert refused.field in {*given_values, "min_rate", "burst"}
        assert refused.remedy

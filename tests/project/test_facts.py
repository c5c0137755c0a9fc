"""Facts that Lua, Python and the docs share are the same everywhere: each list and number has one source in Python.

The Lua sources have to write them again, since a server knows no Python. These tests read the sources and compare.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Final, get_args

import pytest

from nexus_redis import asyncio as nexus_asyncio
from nexus_redis import client, errors
from nexus_redis._core import meter, registration
from nexus_redis._protocol import budget_list, calls, explain, snapshot
from nexus_redis._protocol import fields as fields_
from nexus_redis._protocol.keys import SHARED
from nexus_redis._values import error_texts, parse, results
from nexus_redis._values.settings import BudgetSettings, ConsumerSettings
from nexus_redis.messages import FlowControl, LoadReport, Reason

ROOT: Final = Path(__file__).parents[2]
LUA: Final = ROOT / "lua"
PACKAGE: Final = ROOT / "nexus_redis"


def source(name: str) -> str:
    """The text of a script (`claim`) or of a part of the library (`lib/rate`)."""
    return (LUA / f"{name}.lua").read_text()


def numbers(name: str) -> dict[str, float]:
    """The numbers that a Lua source names at its top: `local LEASE = 500000`, `local EASY, FULL = 80, 100`."""
    found: dict[str, float] = {}
    for left, right in re.findall(r"^local ([A-Z][A-Z_, ]*) = ([\de., ]+?) *(?:--.*)?$", source(name), re.MULTILINE):
        found |= zip(left.split(", "), map(float, right.split(", ")), strict=True)
    return found


def words(text: str) -> tuple[str, ...]:
    """The words in quotes, in their order."""
    return tuple(re.findall(r"'(\w+)'", text))


def between(name: str, begin: str, end: str) -> str:
    """What stands between two texts of a Lua source."""
    text = source(name)
    assert begin in text, begin
    return text.partition(begin)[2].partition(end)[0]


def table(name: str, begin: str) -> dict[str, float]:
    """A Lua table of numbers: `{load = 100, done = COUNT}`."""
    known = numbers("lib/number") | numbers("lib/times")
    pairs = re.findall(r"(\w+) = ([\w.]+)", between(name, begin, "}"))
    return {field: known[value] if value in known else float(value) for field, value in pairs}


# --- lists -----------------------------------------------------------------------------------------------------------


def test_the_settings_of_a_budget_are_one_list() -> None:
    """`errors.SETTINGS` in Lua, in the dataclass, on the command line and in the faces."""
    assert words(between("lib/settings", "local SETTINGS = {", "}")) == errors.SETTINGS
    assert BudgetSettings.names() == errors.SETTINGS == snapshot.SETTINGS == registration.FIELDS
    command = [sys.executable, "-m", "nexus_redis", "set", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    options = {f"--{name.replace('_', '-')}" for name in errors.SETTINGS}
    assert options <= set(re.findall(r"--[a-z-]+[a-z]", shown))
    for face in (client, nexus_asyncio):
        assert tuple(inspect.signature(face.Nexus.budget).parameters)[3:] == errors.SETTINGS
    page = (ROOT / "docs" / "protocol.md").read_text()
    assert all(f"`{name}`" in page for name in errors.SETTINGS)


@pytest.mark.parametrize("setting", ["law", "combine"])
def test_the_words_of_a_setting_are_one_list(setting: str) -> None:
    """The words of a setting are one list."""
    assert words(between("lib/settings", f"{setting} = one_of(", ")")) == errors.WORDS[setting]


def test_the_classes_of_producers_are_one_list() -> None:
    """The classes of producers are one list."""
    in_lua = re.findall(r"local CLASSES = \{(.*?)\}", "".join(path.read_text() for path in LUA.rglob("lib/*.lua")))
    assert {frozenset(words(each)) for each in in_lua} == {frozenset(errors.WORDS["priority"])}
    for name in ("lib/fault", "lib/producer"):
        assert set(re.findall(r"\b(?:text|priority) == '(\w+)'", source(name))) == set(errors.WORDS["priority"])


def test_the_fields_of_a_report_are_one_list() -> None:
    """`calls.REPORTED` in Lua, in the message and in what `consumer.report` takes."""
    said = words(between("lib/consumer", "local SAID = {", "}"))
    assert said == calls.REPORTED
    ours = {"action", "consumer_id", "instance_id", "incarnation", "seq", "labels"}
    assert set(LoadReport.model_fields) - ours == set(said)
    assert set(meter.REPORTABLE) <= set(said)
    assert set(words(between("lib/consumer", "local SHOWN = {", "}"))) <= set(said)


def test_the_fields_of_a_claim_are_one_list() -> None:
    """The fields of a claim are one list."""
    assert words(between("lib/fault", "local asked = {", "}")) == calls.Claim._fields


def test_lossless_measures_are_one_list() -> None:
    """The measures of a lossless budget are one list."""
    missing = re.search(r"function missing_for_lossless.*?\{(.*?)\}", source("lib/consumer"), re.DOTALL)
    assert missing
    assert set(words(missing[1])) == set(re.findall(r"[a-z_]{4,}", error_texts.MEASURES))


def test_the_reasons_are_one_list() -> None:
    """`messages.Reason` in Lua, in `Denied` and in `explain`; "shadow" is not there yet."""
    reasons = set(get_args(Reason)) - {"shadow"}
    assert set(words(between("lib/succession", "for _, word in ipairs({", "}"))) == reasons
    decided = re.findall(r"return [^\n]*, '(\w+)'", between("lib/rate", "local function decide(", "\nend"))
    told = re.findall(r"return '(\w+)'", between("lib/answer", "local function reason_of(", "\nend"))
    first = "unset"  # of a budget before anything was decided
    assert {*decided, *told, first} == reasons | {"unset"}
    listed = (results.Denied.__doc__ or "").partition("Reasons: ")[2].split(".")[0]
    assert set(re.findall(r"\w+", listed)) == reasons | {"unavailable"}
    assert set(explain._REASONS) <= reasons


def test_the_ends_of_a_consumer_are_one_list() -> None:
    """Lua writes the ends that `explain` has words for and that `fields` reads."""
    sources = "".join(path.read_text() for path in (*LUA.glob("*.lua"), *LUA.glob("lib/*.lua")))
    set_to = re.findall(r"last_consumer_end = ([^\n]*)", sources)
    assert {word for value in set_to for word in words(value)} == set(fields_.ENDS) == set(explain._END)


def test_the_keys_of_a_budget_are_one_list() -> None:
    """The keys of a budget are one list."""
    assert words(between("lib/keys", "local PLACES = {", "}")) == SHARED


def test_an_answer_fills_its_message() -> None:
    """An answer fills the message that people get."""
    answer = calls.Answer(*range(15))  # any values do: only the names count
    assert set(calls.flow_fields("es", answer)) == set(FlowControl.model_fields) - {"action"}


def test_the_layout_of_an_answer_is_one_list() -> None:
    """Fourteen words always, and a fifteenth where the need is met later: as in the header of claim.lua."""
    reply = re.search(r"^Reply(.*?)^Errors", source("claim"), re.MULTILINE | re.DOTALL)
    assert reply
    assert max(map(int, re.findall(r"(?<!\S)(\d+) [a-z]", reply[1]))) == len(calls.Answer._fields) - 1
    header = re.search(r"^Reply(.*?)all as text", source("report"), re.MULTILINE | re.DOTALL)
    assert header
    assert max(map(int, re.findall(r"(?<!\S)(\d+) [a-z]", header[1]))) == 8


# --- ranges ----------------------------------------------------------------------------------------------------------

MICRO: Final = parse.MICRO


def test_the_fields_of_a_report_have_one_range() -> None:
    """The fields of a report have one range."""
    most = table("lib/consumer", "local SAID_MOST = {")
    assert most == {field: errors.RANGES[field].high for field in calls.REPORTED}
    assert f"report.capacity < {errors.CAPACITY.low:g}".replace("e-06", "e-6") in source("lib/consumer")
    assert {errors.RANGES[field].low for field in calls.REPORTED if field != "capacity"} == {0}


def test_the_fields_of_a_claim_have_one_range() -> None:
    """A script takes at least what a message may say; amounts there are in millionths."""
    most = table("lib/fault", "local most = {")
    assert most["weight"] == errors.WEIGHT.high * MICRO
    assert most["trip"] == errors.RANGES["trip"].high
    assert most["seq"] == most["granted_total"] == errors.COUNT.high
    assert most["need"] == errors.COST.high * MICRO
    assert f"name == 'weight' and {errors.WEIGHT.low * MICRO:.0f} or 0, most[name] or 1e16" in source("lib/fault")
    assert calls.MOST_MICRO == 1e16 >= errors.TOKENS.high * MICRO
    assert errors.RATE.high * MICRO <= calls.MOST_MICRO
    written = re.findall(r"(\w+) <= ([\w.]+)", between("lib/producer", "if need >= 0", " then"))
    known = numbers("lib/number") | numbers("lib/times")
    for field, high in written:
        name = {"want": "tokens", "demand": "requested_rate"}.get(field, field)
        if name in calls.Claim._fields and name != "birth":  # that one is a length
            assert (known[high] if high in known else float(high)) == most.get(name, calls.MOST_MICRO), field


def test_the_settings_have_one_range() -> None:
    """The settings have one range."""
    text = source("lib/settings")
    rate, seconds, ms = errors.RATE, errors.SECONDS, errors.MILLISECONDS
    assert f"decimal(text, 0, {rate.high:g})".replace("e+09", "e9") in text
    assert f"x < {rate.low:g}".replace("e-06", "e-6") in text
    assert f"decimal(text, 0, {seconds.high})" in text
    assert f"decimal(text, 0, {ms.high})" in text
    assert f"decimal(pause, 0, {seconds.high * 1000})" in source("configure")
    assert all(errors.RANGES[name] == seconds for name in ("burst", "transit", "grace", "pause"))


def test_the_page_of_an_inspection_has_one_range() -> None:
    """The page of an inspection has one range."""
    count, offset = errors.RANGES["count"], errors.RANGES["offset"]
    assert f"whole_number(ARGV[3], {count.low}, {count.high})" in source("inspect")
    assert f"whole_number(ARGV[2], 0, {offset.high:g})".replace("e+09", "e9") in source("inspect")
    assert count.high >= snapshot._PAGE


def test_a_name_has_one_length() -> None:
    """A name has one length."""
    assert f"#text <= {parse.LONGEST_NAME} and" in source("lib/keys")
    assert str(parse.LONGEST_NAME) in error_texts.INVALID_NAME
    assert f"{{0,{parse.LONGEST_NAME - 1}}}" in parse.NAME_PATTERN


def test_a_note_has_one_length() -> None:
    """A note has one length."""
    assert numbers("lib/act") == {"LONGEST_WHO": errors.LONGEST_WHO, "LONGEST_NOTE": errors.LONGEST_NOTE}


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_units_are_one_number() -> None:
    """Units are one number."""
    assert numbers("lib/number") == {"MICRO": MICRO, "COUNT": errors.LARGEST_COUNT}


def test_times_are_one_number() -> None:
    """Times are one number."""
    times = numbers("lib/times")
    assert times["LEASE"] / MICRO == calls.LEASE
    assert times["REFRESH"] / MICRO == calls.REFRESH
    assert pytest.approx(calls.REFRESH * times["REFRESHES"]) == calls.LEASE
    assert times["LONGEST_TRIP"] / MICRO == calls.LONGEST_TRIP
    assert times["DEFAULT_BURST"] / MICRO == calls.DEFAULT_BURST
    assert times["GRACE"] / MICRO == explain.GRACE
    interval = next(each.default for each in fields(ConsumerSettings) if each.name == "interval")
    assert interval == times["INTERVAL"] / MICRO
    assert times["KEEP_BUDGET_MS"] + budget_list.LIST_EACH * 1000 == budget_list.KEEP_MS


def test_the_page_knows_the_defaults() -> None:
    """The live page shows the defaults of the settings that the scripts have."""
    page = (Path(errors.__file__).parent / "server/page/settings.js").read_text()
    shown = dict(re.findall(r"^  (\w+): \{(?:(?!^  \}).)*?^    usual: ([^,]+),$", page, re.MULTILINE | re.DOTALL))
    default = re.search(r"^local DEFAULT = \{(.*)\}$", source("lib/settings"), re.MULTILINE)
    assert default is not None
    times = {name: f"{value / MICRO:g}" for name, value in numbers("lib/times").items()}
    held = {name: times.get(value, value.strip("'")) for name, value in re.findall(r"(\w+) = ([^,]+)", default[1])}
    assert {name: value.strip('"') for name, value in shown.items()} == {**held, "transit": times["TRANSIT"]}


def test_a_drop_is_one_number() -> None:
    """What counts as a drop is one number."""
    assert pytest.approx(1 - numbers("lib/rate")["PUSHED_PERCENT"] / 100) == calls.FALL


def test_other_limits_are_one_number() -> None:
    """Other limits are one number."""
    assert numbers("lib/range")["EASY"] == explain.EASY
    assert numbers("lib/rest")["FIRST_TOKENS"] / MICRO == snapshot.FIRST_TOKENS


# --- in Python -------------------------------------------------------------------------------------------------------

ONCE: Final = {"LEASE", "REFRESH", "LONGEST_TRIP", "DEFAULT_BURST", "FALL", "LONGEST_NOTE", "LONGEST_WHO"}


def defined() -> Iterator[tuple[str, str]]:
    """Yield the modules of the package that give one of these names a number, with the name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant):
                name = ast.unparse(node.target)
                if name in ONCE:
                    yield str(path.relative_to(PACKAGE)), name


def test_a_number_has_one_source_in_python() -> None:
    """A number has one source in Python."""
    found = set(defined())
    own = {("_protocol/calls.py", name) for name in ONCE - {"LONGEST_NOTE", "LONGEST_WHO"}}
    own |= {("errors.py", "LONGEST_NOTE"), ("errors.py", "LONGEST_WHO")}
    assert found == own

"""`docs/protocol.md` and `docs/state.md` are true: held against the scripts' headers and against what lies in Redis."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from nexus_redis._protocol import calls, fields
from nexus_redis._protocol.calls import Claim
from nexus_redis._protocol.keys import SHARED, BudgetKeys
from nexus_redis._protocol.scripts import NAMES
from nexus_redis._protocol.snapshot import SETTINGS
from nexus_redis.messages import CapacitySignal, FlowControl, LoadReport, Message
from tests.harness.packing import FORMATS, KINDS
from tests.harness.script_driver import READ, ScriptDriver
from tests.harness.servers import Server
from tests.lua.test_report import QUEUE
from tests.project.test_sources import codes, header, listed
from tests.vectors.scripts import FILE

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = json.loads(FILE.read_text())


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    match = re.search(rf"^#+ {heading}\b[^\n]*\n(.*?)(?=^#|\Z)", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert match, heading
    return match[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w:]+)`", cell)


@pytest.mark.parametrize("name", NAMES)
def test_the_protocol_lists_the_scripts(name: str) -> None:
    """The protocol lists what a script takes, gives and refuses."""
    text, said = section("protocol.md", name), header(name)
    found: dict[str, list[str]] = {"ARGV": [], "Reply": []}
    kind = ""
    for cells in rows(text):
        if cells[0] in found:
            kind = cells[0]
        elif cells[0].isdigit():
            assert int(cells[0]) == len(found[kind]) + 1
            found[kind] += names(cells[1])
    assert found["ARGV"] == listed(said["ARGV"])
    assert len(found["Reply"]) == len(listed(said["Reply"]))
    if name != "inspect":
        assert found["Reply"] == listed(said["Reply"])
    assert codes(text.partition("Errors:")[2]) == codes(said["Errors"])


def test_claims_have_the_calls_defaults() -> None:
    """The defaults of a claim are those of its call."""
    cells = {names(row[1])[0]: row[3] for row in rows(section("protocol.md", "claim")) if len(row) == 4 and row[1]}
    told = {
        name: str(int(value) if isinstance(value, bool) else value) for name, value in Claim._field_defaults.items()
    }
    assert cells == told | {"at_us": "0"}


@pytest.mark.parametrize("model", [CapacitySignal, FlowControl, LoadReport], ids=lambda model: model.__name__)
def test_the_protocol_lists_message_fields(model: type[Message]) -> None:
    """The protocol lists the fields of a message."""
    fields = [name for row in rows(section("protocol.md", model.__name__))[1:] for name in names(row[0])]
    assert fields == list(model.model_fields)


def test_the_protocol_explains_every_code() -> None:
    """The protocol explains every code."""
    explained = {
        code for row in rows(section("protocol.md", "Five scripts")) for code in re.findall(r"NEXUS_\w+", row[0])
    }
    assert explained == {
        "NEXUS_INVALID_ARGUMENTS", "NEXUS_INVALID_KEYS", "NEXUS_SCHEMA", "NEXUS_STALE", "NEXUS_ID_TAKEN",
        "NEXUS_NEEDS_KEYS", "NEXUS_NO_LAW", "NEXUS_MISSING_", "NEXUS_DAMAGED",
    }  # fmt: skip


def test_the_protocol_lists_the_channel() -> None:
    """The protocol lists the words of a message on the channel."""
    words = [names(row[1])[0] for row in rows(section("protocol.md", "The channel"))[1:]]
    said = ["backpressure_level" if name == "level" else name for name in calls.Drop._fields]  # as in the messages
    assert words == said
    example = re.search(r"^    (\d.*)$", section("protocol.md", "The channel"), re.MULTILINE)
    assert example
    published = [text for call in VECTORS["calls"] for text in call.get("published", ())]
    assert example[1] in published


def test_keys_are_in_the_order_of_the_scripts() -> None:
    """The keys are spelled in the order of the scripts."""
    assert names(rows(section("protocol.md", "Five scripts"))[1][1]) == [f":{place}" for place in SHARED]
    documented = {name for row in rows(section("state.md", "Keys")) for name in names(row[0])}
    members = {":producer:ID", ":consumer:ID", ":producer:ID:state", ":consumer:ID:state"}
    assert documented == {f":{place}" for place in SHARED} | members


# --- what lies in Redis


@pytest.fixture
def full(story: ScriptDriver) -> ScriptDriver:
    """A budget with every field that there is."""
    for source in ("code", "operator"):
        story.configure(source, rate=100, min_rate=1, burst=1, law="drain", combine="min", latency_target_ms=9,
                        lossless=True, transit=2, grace=5, pause=0)  # fmt: skip
    story.claim("p", tokens=3)
    story.report("c", **QUEUE, latency_ms=3, cancelled=1)
    story.leave(consumer="c")
    story.report("c", **QUEUE, latency_ms=3, cancelled=1)
    story.at(20).claim("p", tokens=3, weight=2)
    story.report("c", **QUEUE, latency_ms=3, cancelled=1, pause_ms=1000)
    story.configure(pause=60)
    return story


def live(story: ScriptDriver, key: str) -> dict[str, str]:
    fields: Any = story.client.hgetall(key)
    return {calls.text(name): calls.text(value) for name, value in fields.items()}


@pytest.mark.parametrize("heading", ["The budget", "A producer", "A consumer"])
def test_every_field_of_a_hash_is_listed(full: ScriptDriver, heading: str) -> None:
    """Every field of a hash is listed, and no other."""
    key = {"The budget": full.keys.budget, "A producer": full.keys.producer("p"), "A consumer": full.keys.consumer("c")}
    listed_ = [name for row in rows(section("state.md", heading))[1:] for name in names(row[0])]
    assert len(listed_) == len(set(listed_))
    assert set(listed_) == set(live(full, key[heading]))
    parsers = {"The budget": fields.BUDGET, "A producer": fields.PRODUCER, "A consumer": fields.CONSUMER}
    assert set(listed_) == set(parsers[heading])


@pytest.mark.parametrize("part", [*KINDS, "report"])
def test_every_place_of_a_state_is_explained(full: ScriptDriver, part: str) -> None:
    """Every place of a packed state is explained."""
    table, places = rows(section("state.md", re.sub("_.*", "", part)))[1:], list[int]()
    for row in table:
        first, _, last = row[0].partition(" to ")
        places += range(int(first), int(last or first) + 1)
    if part == "report":
        state: Any = full.client.get(full.keys.consumer_state("c"))
        values = calls.text(state).split("\n")[0].split()
        assert tuple(names(table[-1][1])) == calls.REPORTED
    else:
        values = full.numbers(part, "p" if KINDS[part] == "producer" else None)
    assert places == list(range(1, len(values) + 1))
    if part in ("entry", "answer"):
        assert "".join(row[1] for row in table) == FORMATS[part.upper()]


def test_a_decoding_client_reads_everything(real_server: Server) -> None:
    """A client that decodes replies as text reads every hash, set and stream."""
    story = ScriptDriver(real_server.fast_client())
    story.configure(rate=100, lossless=True)
    story.report("c", **QUEUE)
    story.claim("p", tokens=3, priority="high")
    kwargs = story.client.connection_pool.connection_kwargs
    with redis.Redis(host=kwargs["host"], port=kwargs["port"], decode_responses=True) as client:
        found = {key: client.type(key) for key in client.keys("*")}
        assert {key for key, kind in found.items() if kind == "string"} == {k for k in found if k.endswith(":state")}
        for key, kind in found.items():
            if kind != "string":
                command, _, *more = READ[kind]
                assert client.execute_command(command, key, *more), key


def test_every_setting_is_listed_by_both_sources() -> None:
    """Every setting is listed by both sources."""
    listed_ = {name for row in rows(section("state.md", "The budget")) for name in names(row[0])}
    assert {f"{setting}_by_{source}" for setting in SETTINGS for source in ("code", "operator")} <= listed_


def test_nothing_else_lies_there(full: ScriptDriver) -> None:
    """No other key lies in Redis than those that the page lists."""
    kinds = {row[1] for row in rows(section("state.md", "Keys"))[1:]}
    found = {calls.text(full.client.type(key)) for key in full.state}
    assert found == kinds == {"hash", "zset", "stream", "string"}
    shared = {f"{full.keys.budget}:{place}" for place in SHARED}
    members = {full.keys.producer("p"), full.keys.consumer("c")}
    assert set(full.state) <= shared | {full.keys.budget} | members | {f"{key}:state" for key in members}


# --- the transcript


def answer(text: str) -> list[str]:
    """What redis-cli printed, without numbering; the ids of a stream are the server's own time."""
    return re.findall(r'"((?:[^"\\]|\\.)*)"', re.sub(r'"\d{13}-\d+"', '"id"', text))


def as_pairs(words: list[str]) -> list[tuple[str, str]]:
    return sorted(zip(words[::2], words[1::2], strict=True))


def test_the_transcript_is_what_lies_there(one_server: Server) -> None:
    """The transcript shows what lies in Redis."""
    story = ScriptDriver(one_server.fast_client())
    story.keys = BudgetKeys("nexus", "elasticsearch")
    story.configure(rate=2000, who="app@web-1")
    story.configure("operator", rate=1500, who="anna@ops1", why="maintenance")
    story.report("es-1", load=95, capacity=400)
    for now in (1, 1.25):
        story.at(now).claim("filebeat-1", tokens=20, requested_rate=10_000)
    story.report("es-1", load=95, capacity=400)
    looks = re.findall(r"^\$ redis-cli (.*)\n([^$`]*)", (DOCS / "state.md").read_text(), re.MULTILINE)
    assert len(looks) == 5
    for command, printed in looks:
        words = shlex.split(command)
        done = subprocess.run(
            [sys.executable, "-m", "nexus_redis", "redis", *words], capture_output=True, text=True, check=True,
            env={**os.environ, "NEXUS_REDIS_URL": one_server.url},
        )  # fmt: skip
        there, shown = answer(done.stdout), answer(printed)
        assert (as_pairs(there) == as_pairs(shown)) if words[0] == "HGETALL" else (there == shown), command

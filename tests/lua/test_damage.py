"""State that was changed by hand: the error names the field and the key, repair takes it away and keeps the rest."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
import redis

from nexus_redis import calls
from nexus_redis.faults import as_nexus_error
from nexus_redis.hub import Pause
from nexus_redis.removal import repair
from nexus_redis.values import keyed_name
from tests.lua.test_refusals import run
from tests.servers import Server
from tests.story import Story

QUEUE: dict[str, Any] = {"done": 0, "errors": 0, "in_flight": 0, "queue_depth": 0, "queue_limit": 100}
SEQS = itertools.count(1_000)
NAN, INFINITE = struct.pack(">d", float("nan")), struct.pack(">d", float("inf"))
BUDGET: dict[str, list[Any]] = {
    "bucket": [b"", b"short", NAN * 14, INFINITE * 14], "terms": [b"x", NAN * 18 + b"1\0a\0\0"],
    "class_normal": [b"\0" * 63], "schema": ["x", "nan", "-1", ""], "parts": ["", "{", "[1,null]", '["a"]'],
    "rate_by_operator": ["fast", "-1", "nan"],
    "combine_by_code": ["all"], "paused_until_us": ["soon"], "left_rate_per_s": ["x"], "left_us": ["x"],
}  # fmt: skip
FIELDS = [(field, value) for field, values in BUDGET.items() for value in values]


@pytest.fixture
def lived(real_server: Server) -> Story:
    """A budget of 50/s by an operator, with a consumer and two producers, that has just been used."""
    story = Story(real_server.client())
    story.configure(rate=100, combine="sum")
    story.configure("operator", rate=50, min_rate=5)
    for i in range(4):
        story.at(1 + i / 4).report(**QUEUE | {"done": 40 * i, "queue_depth": 50}, load=10, capacity=40)
        story.claim("p", tokens=1, seq=i + 1)
        story.claim("q", tokens=1, seq=i + 1)
    story.report("gone", load=0, capacity=5)
    story.leave(consumer="gone")
    return story.at(2)


def every_call(story: Story) -> dict[str, calls.Call[Any]]:
    return {
        "claim": calls.claim(
            story.keys, "p", calls.Claim(seq=next(SEQS), incarnation="p"), at_us=story.at_us, with_all_keys=True
        ),
        "report": calls.report(story.keys, "c", QUEUE, "c", next(SEQS), at_us=story.at_us),
        "configure": calls.configure(story.keys, at_us=story.at_us),
        "inspect": calls.inspect(story.keys, at_us=story.at_us),
    }


def errors(story: Story) -> dict[str, str]:
    """What each script says; that of one that does its work is left out."""
    found = {}
    for name, call in every_call(story).items():
        try:
            run(story, call)
        except redis.exceptions.ResponseError as error:
            found[name] = str(as_nexus_error(error))
    return found


def repaired(story: Story) -> list[calls.Damage]:
    """What the verb's plan has taken away."""
    plan = repair(story.keys, "")
    step = next(plan)
    while True:
        outcomes: list[Any] = []
        for job in step if not isinstance(step, Pause) else []:
            if isinstance(job, calls.Call):
                pinned = calls.configure(story.keys, at_us=story.at_us) if job.script.name == "configure" else job
                outcomes.append(pinned.decode(run(story, pinned)))
            else:
                outcomes.append(job.decode(story.client.execute_command(*job.args)))  # type: ignore[no-untyped-call]
        try:
            step = plan.send(outcomes)
        except StopIteration as end:
            damages: list[calls.Damage] = end.value
            return damages


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=[f"{field} {value!r:.20}" for field, value in FIELDS])
def test_a_damaged_field_of_the_budget_is_named_and_the_rest_lives_on(lived: Story, field: str, value: Any) -> None:
    lived.client.hset(lived.keys.budget, field, value)
    lived.at(2.6)
    found = errors(lived)
    for said in found.values():
        if field == "schema":
            assert said.startswith("NEXUS_SCHEMA: ")
            assert said.endswith("if it is not a number, `nexus-redis repair NAME` does")
            continue
        assert said.startswith(f"NEXUS_DAMAGED: the field {field} of the key test:{{story}} cannot be read")
        assert "`nexus-redis repair story --namespace test` takes it away and keeps the settings" in said
    assert repaired(lived) == ([(lived.keys.budget, field)] if found else [])  # sums are made again by themselves
    assert errors(lived) == {}
    lived.at(3).report(**QUEUE | {"done": 160}, load=10, capacity=40, seq=next(SEQS))
    rate = 50 if field != "rate_by_operator" else 100
    assert lived.configure().rate == min(rate, 40)
    assert lived.field("min_rate_by_operator") == "5"
    assert lived.field("rate_by_code") == "100"
    assert sum(lived.at(3 + i / 10).claim("p", tokens=10, seq=next(SEQS)).granted for i in range(20)) > 0
    assert repaired(lived) == []


@pytest.mark.parametrize("field", ["bucket", "terms", "rate_by_operator", "schema"])
def test_a_claim_never_stops_in_silence(lived: Story, field: str) -> None:
    for value in BUDGET[field]:
        lived.client.hset(lived.keys.budget, field, value)
        assert "nexus-redis repair" in str(errors(lived)), value


def test_a_schema_that_was_changed_by_hand_is_set_right_by_hand(lived: Story) -> None:
    before = lived.state
    lived.client.hset(lived.keys.budget, "schema", 3)
    assert all("`HSET 'nexus:{NAME}' schema 2` sets it right" in said for said in errors(lived).values())
    lived.client.hset(lived.keys.budget, "schema", 2)
    assert lived.state == before
    assert errors(lived) == {}


@pytest.mark.parametrize("place", ["rates", "frees"])
@pytest.mark.parametrize("score", [1e300, 9e15, "inf", 1])
def test_what_a_consumer_contributes_and_was_changed_by_hand_is_found_with_the_next_report(
    real_story: Story, place: str, score: Any
) -> None:
    story = real_story
    story.configure(lossless=True)
    story.at(1).report("c", **QUEUE, load=10, capacity=40, seq=next(SEQS))
    before = story.at(1.1).report("c", **QUEUE, load=10, capacity=40, seq=next(SEQS)).budget_rate
    story.client.zadd(f"{story.keys.budget}:{place}", {"c": score})
    granted = 0.0
    for i in range(24):
        after = story.at(1.5 + i / 4).report("c", **QUEUE, load=10, capacity=40, seq=next(SEQS)).budget_rate
        granted += story.claim("p", tokens=10, seq=next(SEQS)).granted
    assert after == before > 0
    assert granted > 0


@pytest.mark.parametrize(
    ("member", "field", "value"),
    [("producer:p", "entry", b"short"), ("producer:p", "answer", b""), ("consumer:c", "said", "1 nan - -"),
     ("consumer:c", "memory", "drain nan nan"), ("consumer:c", "joined_us", "x"), ("consumer:c", "rate_per_s", "fast")],
)  # fmt: skip
def test_a_damaged_member_is_named_and_the_others_live_on(lived: Story, member: str, field: str, value: Any) -> None:
    key = f"{lived.keys.budget}:{member}"
    lived.client.hset(key, field, value)
    damaged: Any = lived.client.dump(key)
    assert all(f"the field {field} of the key {key}" in said for said in errors(lived).values())
    lived.client.restore(key, 0, damaged, replace=True)
    assert repaired(lived) == [(key, field)]
    assert not lived.client.exists(key)
    assert errors(lived) == {}
    assert lived.claim("q", tokens=0, seq=next(SEQS)).budget_rate > 0


def test_a_budget_whose_schema_is_gone_goes_on_with_its_settings(lived: Story) -> None:
    lived.client.hdel(lived.keys.budget, "schema")
    lived.at(5).claim("p", tokens=1, seq=next(SEQS))
    assert float(lived.field("rate_per_s")) == 5  # the floor, until a consumer reports
    lived.report(load=10, capacity=40, seq=next(SEQS))
    assert float(lived.field("rate_per_s")) == 40


def test_a_fixed_limit_is_whole_at_once(story: Story) -> None:
    story.configure("operator", rate=50)
    story.at(1).claim("p", tokens=1)
    story.client.hset(story.keys.budget, "terms", "x")
    assert repaired(story) == [(story.keys.budget, "terms")]
    assert story.claim("p", tokens=1).budget_rate == 50_000_000


def test_a_key_of_another_type_is_named_and_taken_away(lived: Story) -> None:
    for place, key in enumerate(lived.keys.shared):
        lived.client.delete(key)
        lived.client.set(key, "x")
        said = errors(lived)
        assert said, key
        assert all(f"the key {key} is of another type" in each for each in said.values()), said
        assert repaired(lived) == [(key, "")]
        assert errors(lived) == {}, key
        if not place:
            lived.configure("operator", rate=50)
        lived.report(load=10, capacity=40, seq=next(SEQS))


def test_an_error_of_another_kind_is_told_as_it_was(real_server: Server) -> None:
    story = Story(real_server.client())
    story.configure(rate=100)
    story.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.ResponseError) as error:
            story.client.eval(*spread(calls.configure(story.keys)))
        assert "OOM" in str(error.value) or isinstance(error.value, redis.exceptions.OutOfMemoryError)
    finally:
        story.client.config_set("maxmemory", 0)


def spread(call: calls.Call[Any]) -> tuple[Any, ...]:
    return (call.script.text, len(call.keys), *call.keys, *call.args)


def test_repair_of_a_healthy_budget_changes_nothing_and_others_keys_are_refused(lived: Story) -> None:
    before = lived.state
    assert repaired(lived) == []
    assert lived.state == before
    call = calls.repair(lived.keys)
    with pytest.raises(redis.exceptions.ResponseError, match="NEXUS_INVALID_KEYS"):
        run(lived, call, keys=(lived.keys.budget, f"test:{{{keyed_name('a', 'b')}}}:consumers"))

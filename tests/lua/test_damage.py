"""State that was changed by hand: the error names the field and the key, repair takes it away and keeps the rest."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

import pytest
import redis

from nexus_redis import ServerRefused
from nexus_redis._protocol import calls
from nexus_redis._protocol.deletion import repair
from nexus_redis._protocol.plans import Call, Pause
from nexus_redis._redis.faults import as_nexus_error
from nexus_redis._values import error_texts
from nexus_redis._values.parse import keyed_name
from tests.harness.packing import places
from tests.harness.script_driver import ScriptDriver
from tests.harness.servers import Server
from tests.lua.test_refusals import run

QUEUE: dict[str, Any] = {"done": 0, "errors": 0, "in_flight": 0, "queue_depth": 0, "queue_limit": 100}
SEQS = itertools.count(1_000)
NAN, INFINITE = struct.pack(">d", float("nan")), struct.pack(">d", float("inf"))
FIELDS: list[tuple[str, str]] = [
    ("rate_by_operator", "fast"), ("rate_by_operator", "-1"), ("rate_by_operator", "nan"), ("combine_by_code", "all"),
    ("paused_until_us", "soon"), ("left_rate_per_s", "x"), ("left_us", "x"),
]  # fmt: skip
Spoil = Callable[[bytes], bytes]


def at(part: str, place: int, word: bytes) -> Spoil:
    """Spoil one place of a part of the budget's state."""

    def spoiled(state: bytes) -> bytes:
        begin, end, _ = places(part, state)[place]
        return state[:begin] + word + state[end:]

    return spoiled


STATES: dict[str, Spoil] = {
    "empty": lambda _: b"", "short": lambda _: b"short", "half": lambda state: state[: len(state) // 2],
    "text": lambda _: b"{}" * 400,
    "nan": at("bucket", 3, NAN), "infinite": at("bucket", 3, INFINITE), "nan in the terms": at("terms", 0, NAN),
    "older": at("bucket", 0, struct.pack(">d", 2)), "schema nan": at("bucket", 0, NAN),
}  # fmt: skip


@pytest.fixture
def lived(real_server: Server) -> ScriptDriver:
    """A budget of 50/s by an operator, with a consumer and two producers, that has just been used."""
    story = ScriptDriver(real_server.fast_client())
    story.configure(rate=100, combine="sum")
    story.configure("operator", rate=50, min_rate=5)
    for i in range(4):
        story.at(1 + i / 4).report(**QUEUE | {"done": 40 * i, "queue_depth": 50}, load=10, capacity=40)
        story.claim("p", tokens=1, seq=i + 1)
        story.claim("q", tokens=1, seq=i + 1)
    story.report("gone", load=0, capacity=5)
    story.leave(consumer="gone")
    return story.at(2)


def every_call(story: ScriptDriver) -> dict[str, Call[Any]]:
    return {
        "claim": calls.claim(
            story.keys, "p", calls.Claim(seq=next(SEQS), incarnation="p"), at_us=story.at_us, with_all_keys=True
        ),
        "report": calls.report(story.keys, "c", QUEUE, "c", next(SEQS), at_us=story.at_us),
        "configure": calls.configure(story.keys, at_us=story.at_us),
        "inspect": calls.inspect(story.keys, at_us=story.at_us),
    }


def errors(story: ScriptDriver) -> dict[str, str]:
    """What each script says; that of one that does its work is left out."""
    found = {}
    for name, call in every_call(story).items():
        try:
            run(story, call)
        except redis.exceptions.ResponseError as error:
            found[name] = str(as_nexus_error(error))
    return found


def damaged(key: str, field: str = "") -> str:
    """What a script says of a key, or of one field of it, that cannot be read."""
    repair = "nexus-redis repair story --namespace test"
    return str(ServerRefused("NEXUS_DAMAGED", error_texts.damaged(key, field, repair)))


def repaired(story: ScriptDriver) -> list[calls.Damage]:
    """What the verb's plan has taken away."""
    plan = repair(story.keys, "")
    step = next(plan)
    while True:
        outcomes: list[Any] = []
        for job in step if not isinstance(step, Pause) else []:
            if isinstance(job, Call):
                pinned = calls.configure(story.keys, at_us=story.at_us) if job.script.name == "configure" else job
                outcomes.append(pinned.decode(run(story, pinned)))
            else:
                outcomes.append(job.decode(story.client.execute_command(*job.args)))  # type: ignore[no-untyped-call]
        try:
            step = plan.send(outcomes)
        except StopIteration as end:
            damages: list[calls.Damage] = end.value
            return damages


def spoil(story: ScriptDriver, key: str, by: Spoil) -> None:
    """Change a state by hand."""
    state: Any = story.client.get(key)
    story.client.set(key, by(state), keepttl=True)


@pytest.mark.parametrize(("field", "value"), FIELDS)
def test_a_damaged_field_is_named(lived: ScriptDriver, field: str, value: str) -> None:
    """A damaged field of the budget is named, and the rest of the budget lives on."""
    lived.client.hset(lived.keys.budget, field, value)
    found = errors(lived.at(2.6))
    assert all(each == damaged(lived.keys.budget, field) for each in found.values()), found
    assert repaired(lived) == [(lived.keys.budget, field)]
    lives_on(lived, 50 if field != "rate_by_operator" else 100)


@pytest.mark.parametrize("name", STATES)
def test_a_damaged_state_is_named(lived: ScriptDriver, name: str) -> None:
    """A damaged state is named, and the budget begins again with its settings."""
    spoil(lived, lived.keys.state, STATES[name])
    found = errors(lived.at(2.6))
    assert "configure" in found
    assert all(each == damaged(lived.keys.state) for each in found.values()), found
    assert repaired(lived) == [(lived.keys.state, "")]
    lives_on(lived, 50)


def lives_on(story: ScriptDriver, rate: float) -> None:
    """Nothing is damaged any more, and the budget serves by its settings."""
    assert errors(story) == {}
    story.at(3).report(**QUEUE | {"done": 160}, load=10, capacity=40, seq=next(SEQS))
    assert story.configure().rate == min(rate, 40)
    assert story.field("min_rate_by_operator") == "5"
    assert story.field("rate_by_code") == "100"
    assert sum(story.at(3 + i / 10).claim("p", tokens=10, seq=next(SEQS)).granted for i in range(20)) > 0
    assert repaired(story) == []


@pytest.mark.parametrize("place", range(8))
def test_a_damaged_class_is_computed_again(lived: ScriptDriver, place: int) -> None:
    """A damaged number of a class is computed again within the next epochs."""
    spoil(lived, lived.keys.state, at("class_normal", place, NAN))
    assert errors(lived.at(2.6)) == {}
    assert sum(lived.at(3 + i / 10).claim("p", tokens=5, seq=next(SEQS)).granted for i in range(20)) > 30 * 1_000_000
    assert all(number == number for number in lived.numbers("class_normal"))  # noqa: PLR0124  # nan is not itself


@pytest.mark.parametrize("name", STATES)
def test_a_claim_never_stops_in_silence(lived: ScriptDriver, name: str) -> None:
    """A claim never stops in silence."""
    spoil(lived, lived.keys.state, STATES[name])
    assert damaged(lived.keys.state) in errors(lived).values()


@pytest.mark.parametrize("place", ["rates", "frees"])
@pytest.mark.parametrize("score", [1e300, 9e15, "inf", 1])
def test_a_contribution_changed_by_hand_is_found(real_story: ScriptDriver, place: str, score: Any) -> None:
    """A consumer's contribution that was changed by hand is found with the next report."""
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


@pytest.mark.parametrize("member", ["producer:p", "consumer:c"])
@pytest.mark.parametrize(
    "state",
    ["", "short", "c 1 2\\n", f"c 1 2 nan 4 5 6 7{' -' * 16}\\ndrain 1", f"c 1 2 3 4 5 6 7{' -' * 16}\\ndrian 1",
     f"c 1 - 3 4 5 6 7{' -' * 16}\\ndrain 1", f"c 1 2 3 4 5 6 7{' -' * 15}\\ndrain 1",
     f"c 1 2 3 4 5 6 7{' -' * 16}\\ndrain nan"],
)  # fmt: skip
def test_a_damaged_member_is_named(lived: ScriptDriver, member: str, state: str) -> None:
    """A damaged member is named, and the others live on."""
    key = f"{lived.keys.budget}:{member}:state"
    lived.client.set(key, state.replace("\\n", "\n"))
    found = errors(lived)
    assert found
    assert all(each == damaged(key) for each in found.values()), found
    assert repaired(lived) == [(key, "")]
    assert not lived.client.exists(key)
    assert errors(lived) == {}
    assert lived.claim("q", tokens=0, seq=next(SEQS)).budget_rate > 0


def test_a_damaged_consumer_is_forgotten(lived: ScriptDriver) -> None:
    """An operator may forget a consumer whose state is damaged."""
    lived.client.set(lived.keys.consumer_state("c"), "x")
    assert lived.leave(consumer="c", incarnation="*") is True


def test_lost_state_keeps_the_settings(lived: ScriptDriver) -> None:
    """A budget whose state is gone goes on with its settings."""
    lived.client.delete(lived.keys.state)
    lived.at(5).claim("p", tokens=1, seq=next(SEQS))
    assert float(lived.field("rate_per_s")) == 5  # the floor, until a consumer reports
    lived.report(load=10, capacity=40, seq=next(SEQS))
    assert float(lived.field("rate_per_s")) == 40


def test_lost_settings_begin_another_life(story: ScriptDriver) -> None:
    """A budget whose settings are gone begins another life, so that its code opens it again."""
    birth = story.configure(rate=50).birth
    story.at(1).claim("p", tokens=1)
    story.client.delete(story.keys.budget)
    answers = [story.at(1.1 + i / 10).claim("p", tokens=1) for i in range(5)]
    assert answers[-1].birth != birth
    assert answers[-1].budget_rate == 0
    assert story.field("birth") == answers[-1].birth
    assert story.configure(rate=50).rate == 50


def test_a_fixed_limit_is_whole_at_once(story: ScriptDriver) -> None:
    """A fixed limit is whole at once after a repair."""
    story.configure("operator", rate=50)
    story.at(1).claim("p", tokens=1)
    story.client.set(story.keys.state, "x")
    assert repaired(story) == [(story.keys.state, "")]
    assert story.claim("p", tokens=1).budget_rate == 50_000_000


def test_a_key_of_another_type_is_taken_away(lived: ScriptDriver) -> None:
    """A key of another type is named and taken away."""
    for place, key in enumerate(lived.keys.shared):
        lived.client.delete(key)
        lived.client.lpush(key, "x")
        said = errors(lived)
        assert said, key
        assert all(each == damaged(key) for each in said.values()), said
        assert repaired(lived) == [(key, "")]
        assert errors(lived) == {}, key
        if place < 2:
            lived.configure("operator", rate=50)
        lived.report(load=10, capacity=40, seq=next(SEQS))


def test_other_errors_are_told_as_they_are(real_server: Server) -> None:
    """An error of another kind is reported as it was."""
    story = ScriptDriver(real_server.fast_client())
    story.configure(rate=100)
    story.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.ResponseError) as error:
            story.client.eval(*spread(calls.configure(story.keys)))
        assert "OOM" in str(error.value) or isinstance(error.value, redis.exceptions.OutOfMemoryError)
    finally:
        story.client.config_set("maxmemory", 0)


def spread(call: Call[Any]) -> tuple[Any, ...]:
    return (call.script.text, len(call.keys), *call.keys, *call.args)


def test_repair_spares_a_healthy_budget(lived: ScriptDriver) -> None:
    """Repair of a healthy budget changes nothing, and keys of another kind are refused."""
    before = lived.state
    assert repaired(lived) == []
    assert lived.state == before
    call = calls.repair(lived.keys)
    with pytest.raises(redis.exceptions.ResponseError, match="NEXUS_INVALID_KEYS"):
        run(lived, call, keys=(lived.keys.budget, f"test:{{{keyed_name('a', 'b')}}}:consumers"))

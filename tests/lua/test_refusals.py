"""What the scripts refuse, they refuse whole: a code word that names the field, and not one key changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis

from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import Claim
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call
from nexus_redis._values import error_texts
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.errors import RATE, InvalidSetting, ServerRefused, from_code
from tests.harness.script_driver import MICRO, ScriptDriver
from tests.harness.servers import Server

KEYS = BudgetKeys("test", "story")
SAID: dict[str, Any] = {
    "load": 5.0,
    "capacity": 100.0,
    "done": 9,
    "errors": 0,
    "in_flight": 0,
    "queue_depth": 3,
    "queue_limit": 50,
}
GOOD: dict[str, Callable[[int], Call[Any]]] = {
    "claim": lambda at_us: calls.claim(KEYS, "p", Claim(MICRO, MICRO, MICRO, incarnation="p", seq=9), at_us),
    "report": lambda at_us: calls.report(KEYS, "c", SAID, "c", 9, "", at_us),
    "leave": lambda at_us: calls.leave_producer(KEYS, "p", "p", 5, 5, at_us),
    "leave_consumer": lambda at_us: calls.leave_consumer(KEYS, "c", "c", at_us),
    "forget": lambda at_us: calls.leave_consumer(KEYS, "c", "*", at_us, who="anna@ops1", note="why"),
    "configure": lambda at_us: calls.configure(
        KEYS, BudgetSettings(rate=5, min_rate=1, burst=1, law="aimd", combine="spread", latency_target_ms=5,
                             lossless=False,
                             transit=2, grace=5), pause=1, note="why", who="anna@ops1", at_us=at_us),
    "inspect": lambda at_us: calls.inspect(KEYS, 0, 10, at_us),
}  # fmt: skip

HUGE = "5" * 2_000_000
NO_NUMBER = (
    "NaN",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "-1",
    "1e3",
    "0x10",
    " 5 ",
    "5 ",
    "5\n",
    "5\x00",
    "+5",
    "１",
    HUGE,
)
NUMBERS_IN_JSON = ("1e3", "0x10", " 5 ", "5 ", "5\n", "+5", "5.")  # as servers read it
NO_WHOLE = (*NO_NUMBER, "", "1.5", "5.", "99999999999999999999", "1" + "0" * 17)
NO_NAME = ("a b", "{x}", "x" * 65, "-a", "a\n", "é", HUGE)
NO_WORD = ("", "HIGH", "high ", "rate", "1", "high\x00", HUGE)
TOO_MANY = ("9007199254740994", "99999999999999999")


def claim_field(name: str, *more: str) -> tuple[str, tuple[str, ...]]:
    return name, (*NO_WHOLE, *more)


# Per script, the arguments in order: the field that each is, and texts that are none.
POSITIONS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "claim": [
        ("at_us", (*NO_WHOLE, *TOO_MANY)), claim_field("need", "1000000000000001"), claim_field("tokens"),
        claim_field("requested_rate"),
        claim_field("whole", "2", "true"), claim_field("held"), claim_field("unused"), claim_field("burned"),
        claim_field("weight", "0", "9999", "1000000001"), ("priority", NO_WORD), ("incarnation", NO_NAME),
        ("seq", (*NO_WHOLE, *TOO_MANY)), ("birth", ("1" * 21, HUGE)), ("granted_total", (*NO_WHOLE, *TOO_MANY)),
        claim_field("trip", "1000001"),
        claim_field("fallback_rate"), claim_field("degraded"),
    ],
    "report": [
        ("at_us", NO_WHOLE), ("incarnation", NO_NAME), ("seq", NO_WHOLE), ("uptime_ms", (*NO_NUMBER, *TOO_MANY)),
        ("load", (*NO_NUMBER, "100.1")), ("capacity", (*NO_NUMBER, "0", "0.0000001", "1000000001")),
        ("queue_depth", (*NO_NUMBER, *TOO_MANY)), ("queue_limit", (*NO_NUMBER, *TOO_MANY, "0", "0.0")),
        ("done", (*NO_NUMBER, *TOO_MANY)), ("errors", (*NO_NUMBER, *TOO_MANY)), ("in_flight", (*NO_NUMBER, *TOO_MANY)),
        ("slots", (*NO_NUMBER, *TOO_MANY, "0")), ("latency_ms", (*NO_NUMBER, "86400001")),
        ("interval_ms", (*NO_NUMBER, "86400001")), ("pause_ms", (*NO_NUMBER, "86400001")),
        ("latency_p25_ms", (*NO_NUMBER, "86400001")), ("latency_p10_ms", (*NO_NUMBER, "86400001")),
        ("cancelled", (*NO_NUMBER, *TOO_MANY)), ("busy_ms", (*NO_NUMBER, *TOO_MANY)),
        ("labels", ("x" * 1025, HUGE)),
    ],
    "leave": [("at_us", NO_WHOLE), ("incarnation", (*NO_NAME, "**")), ("unused", NO_WHOLE), ("burned", NO_WHOLE)],
    "forget": [
        ("at_us", NO_WHOLE), ("incarnation", (*NO_NAME, "**")), ("unused", NO_WHOLE), ("burned", NO_WHOLE),
        ("who", ("x" * 65, HUGE)), ("note", ("x" * 201, HUGE)),
    ],
    "configure": [
        ("at_us", NO_WHOLE), ("source", NO_WORD), ("pause", (*(x for x in NO_NUMBER if x != "-1"), "-2", "86400001")),
        ("note", ("x" * 201, HUGE)), ("who", ("x" * 65, HUGE)),
        ("setting", (*NO_WORD[:2], "rates", "schema", "rate_by_code", HUGE)),
        ("rate", (*NO_NUMBER, "0.0000001", "1000000001")), ("setting", ("",)), ("min_rate", (*NO_NUMBER, "1000000001")),
        ("setting", ("",)), ("burst", (*NO_NUMBER, "86400.1")), ("setting", ("",)), ("law", ("AIMD", "x", HUGE)),
        ("setting", ("",)), ("combine", ("Sum", "max")), ("setting", ("",)),
        ("latency_target_ms", (*NO_NUMBER, "86400001")),
        ("setting", ("",)), ("lossless", ("2", "true", "01", HUGE)), ("setting", ("",)),
        ("transit", (*NO_NUMBER, "86401")),
        ("setting", ("",)), ("grace", (*NO_NUMBER, "86401")),
    ],
    "inspect": [("at_us", NO_WHOLE), ("offset", (*NO_WHOLE, "1000000001")), ("count", (*NO_WHOLE, "0", "1001"))],
}  # fmt: skip


@pytest.fixture
def settled(story: ScriptDriver) -> ScriptDriver:
    """A budget with a producer and a consumer, a second old."""
    story.configure(rate=100)
    story.claim("p", tokens=1)
    story.report("c", **SAID)
    return story.at(1)


def run(
    story: ScriptDriver, call: Call[Any], keys: tuple[Any, ...] | None = None, args: tuple[Any, ...] | None = None
) -> Any:
    told = call.keys if keys is None else keys
    return story.client.eval(call.script.text, len(told), *told, *(call.args if args is None else args))


def refusal(
    story: ScriptDriver, call: Call[Any], keys: tuple[Any, ...] | None = None, args: tuple[Any, ...] | None = None
) -> str:
    """The code of a refusal."""
    with pytest.raises(redis.exceptions.ResponseError) as error:
        run(story, call, keys, args)
    return str(error.value).split(" ")[0]


def words(call: Call[Any]) -> list[str]:
    """Its arguments as texts; of a claim, those in its array too, as they stand there."""
    if call.script.name != "claim":
        return [str(arg) for arg in call.args]
    return [str(call.args[0]), *str(call.args[1]).strip("[]").split(",")]


def spoilt(call: Call[Any], at: int, text: str) -> tuple[str, ...]:
    """Its arguments with another text in one place."""
    args = words(call)
    args[at] = f'"{text}"' if args[at].startswith('"') else text
    return (args[0], f"[{','.join(args[1:])}]") if call.script.name == "claim" else tuple(args)


@pytest.mark.parametrize("name", GOOD)
def test_the_good_call_is_good(settled: ScriptDriver, name: str) -> None:
    """The call that other tests spoil is a good one."""
    call = GOOD[name](settled.at_us)
    call.decode(run(settled, call))
    assert name == "leave_consumer" or len(POSITIONS[name]) == len(words(call))


@pytest.mark.parametrize("name", POSITIONS)
def test_a_bad_argument_writes_nothing(settled: ScriptDriver, name: str) -> None:
    """An argument out of its range is named, and nothing is written."""
    call, before = GOOD[name](settled.at_us), settled.state
    is_fake = isinstance(settled.client, fakeredis.FakeRedis)
    for i, (field, texts) in enumerate(POSITIONS[name]):
        for text in texts:
            if is_fake and name == "claim" and len(text) == 20:
                continue  # fakeredis' JSON makes an int of it that its Lua cannot hold
            if name == "claim" and i and text in NUMBERS_IN_JSON and field not in ("whole", "weight", "priority"):
                continue
            code = refusal(settled, call, args=spoilt(call, i, text))
            assert code == f"NEXUS_INVALID_{field.upper()}", text[:40]
    assert settled.state == before


@pytest.mark.parametrize("name", GOOD)
def test_arguments_have_a_number(settled: ScriptDriver, name: str) -> None:
    """Too few or too many arguments are refused."""
    call, before = GOOD[name](settled.at_us), settled.state
    for args in ((), call.args[:1], call.args[:-1], (*call.args, "1")):
        assert refusal(settled, call, args=args) == "NEXUS_INVALID_ARGUMENTS"
    assert settled.state == before


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "{}",
        "null",
        "[1]",
        "[" * 1000,
        "1,2",
        '[0,0,0,0,0,0,0,1000000,"normal","",0,"",0,0,0]',
        '[0,0,0,0,0,0,0,1000000,"normal",[],0,"",0,0]',
        '[0,0,0,0,0,0,0,1000000,"normal","",0,{},0,0]',
        '[0,0,0,0,0,0,0,1000000,"normal","",0,"",0,0',
        "x" * 400,
    ],
)
def test_a_claim_is_an_array_of_fourteen(settled: ScriptDriver, said: str) -> None:
    """A claim that is not an array of fourteen is refused."""
    call, before = GOOD["claim"](settled.at_us), settled.state
    assert refusal(settled, call, args=(call.args[0], said)).startswith("NEXUS_INVALID_")
    assert settled.state == before


def wrong_keys(keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield ()
    yield keys[:-1]
    yield (*keys, "test:{story}:more")
    for i in range(1, len(keys)):
        yield (*keys[:i], keys[i].replace("{story}", "{other}"), *keys[i + 1 :])
        yield (
            *keys[:i],
            keys[i] + (":x" if ":producer:" in keys[i] or ":consumer:" in keys[i] else "x"),
            *keys[i + 1 :],
        )
    for i, j in itertools.pairwise(range(len(keys))):
        yield (*keys[:i], keys[j], keys[i], *keys[j + 1 :])
    for budget in ("story", "{story}", "test:story", "test:{}", "test:{a b}", ":{story}", "test:{story}x",
                   "a:b:{story}", "test:{" + "x" * 65 + "}", "x" * 65 + ":{story}", "test:{{story}}", "test:{-a}", "",
                   "test:{a/}", "test:{/a}", "test:{a/b/c}", "test:{a/b c}", "test:{a/" + "x" * 63 + "}", "a/b:{story}",
                   HUGE):  # fmt: skip
        yield tuple(key.replace("test:{story}", budget) for key in keys)
    if len(keys) in (5, 13):
        for member in ("", "p", "test:{story}:producer", "test:{story}:producer:", "test:{story}:other:p",
                       "test:{story}:producer:a b", "test:{story}:producer:" + "x" * 65):  # fmt: skip
            yield (*keys[:-2], member, f"{member}:state")


@pytest.mark.parametrize("name", GOOD)
def test_keys_are_of_one_budget(settled: ScriptDriver, name: str) -> None:
    """Keys that are not those of one budget are refused."""
    call, before = GOOD[name](settled.at_us), settled.state
    every = [*wrong_keys(call.keys)]
    if name == "claim":  # which takes all of them, or five
        every += wrong_keys(calls.claim(KEYS, "p", Claim(), with_all_keys=True).keys)
    for keys in every:
        assert refusal(settled, call, keys=keys) == "NEXUS_INVALID_KEYS", str(keys)[:200]
    assert settled.state == before


def test_a_producers_key_is_no_consumers(settled: ScriptDriver) -> None:
    """The key of a producer is not the key of a consumer."""
    claim, report = GOOD["claim"](settled.at_us), GOOD["report"](settled.at_us)
    before = settled.state
    assert refusal(settled, claim, keys=report.keys) == "NEXUS_INVALID_KEYS"
    assert refusal(settled, report, keys=claim.keys) == "NEXUS_INVALID_KEYS"
    assert settled.state == before


@pytest.mark.parametrize("name", [name for name in GOOD if name != "inspect"])
@pytest.mark.parametrize("place", ["state", "hash alone"])
def test_newer_state_is_left_alone(settled: ScriptDriver, name: str, place: str) -> None:
    """The state of a newer release is left alone."""
    settled.client.hset(KEYS.budget, "schema", "4")
    if place == "state":
        settled.change("bucket", 0, 4)
    else:
        settled.client.delete(KEYS.state)  # that of a newer release may lie elsewhere
    before = settled.state
    assert refusal(settled, GOOD[name](settled.at_us)) == "NEXUS_SCHEMA"
    assert settled.state == before
    assert isinstance(from_code("NEXUS_SCHEMA"), ServerRefused)


def test_more_fields_are_read(settled: ScriptDriver) -> None:
    """State of this release with more fields is read."""
    settled.client.hset(KEYS.budget, "of_a_later_minor_release", "x")
    assert settled.claim("p").granted


SPOIL: dict[str, Callable[[redis.Redis, str], Any]] = {
    "list": lambda client, key: client.lpush(key, "x"),
    "zset": lambda client, key: client.zadd(key, {"x": 1}),
    "hash": lambda client, key: client.hset(key, "x", "1"),
}


@pytest.mark.parametrize("later", [0, 9, -600], ids=["at once", "when a deadline has passed", "after a step back"])
@pytest.mark.parametrize("name", GOOD)
def test_another_type_writes_nothing(real_server: Server, name: str, later: float) -> None:
    """A key of another type leaves nothing half written."""
    story = ScriptDriver(real_server.fast_client())
    refused = 0
    for place in range(13):
        for kind, spoil in SPOIL.items():
            story.client.flushall()
            story.at(1000).configure(rate=100, min_rate=3)
            story.report("c", **SAID)
            story.claim("p", tokens=1, seq=1)
            if later < 0:  # a step back is believed after five seconds
                story.at(996 + later).claim("p", tokens=0, seq=2)
            story.at(1001 + later)
            call = GOOD[name](story.at_us)
            if place >= len(call.keys):
                continue
            key = call.keys[place]
            if calls.text(story.client.type(key)) == kind:
                continue
            story.client.delete(key)
            spoil(story.client, key)
            before = story.state
            try:
                run(story, call)
            except redis.exceptions.ResponseError:
                refused += 1
                assert story.state == before, (key, kind)
    assert refused >= 6


CASES = [name for name in GOOD if name != "inspect"]


@pytest.mark.parametrize("later", [0, 9, -600], ids=["at once", "when a deadline has passed", "after a step back"])
def test_no_memory_keeps_the_state_whole(real_server: Server, later: float) -> None:
    """A server without memory keeps its state whole."""
    client = real_server.client()
    story = ScriptDriver(client)
    story.at(1000).configure(rate=100)
    story.report("c", **SAID)
    story.claim("p", tokens=1)
    story.at(1001 + later)
    before = story.state
    scripts = {name: GOOD[name](story.at_us) for name in CASES}
    mine, anothers = Claim(MICRO, MICRO, MICRO, incarnation="p", seq=9), Claim(MICRO, MICRO, MICRO, incarnation="q")
    scripts |= {
        "claim": calls.claim(KEYS, "p", mine, story.at_us, with_all_keys=True),
        "claim of a new one": calls.claim(KEYS, "q", anothers, story.at_us, with_all_keys=True),
        "report of a new one": calls.report(KEYS, "d", SAID, "d", 1, "", story.at_us),
        "claim that makes a budget": calls.claim(BudgetKeys("test", "new"), "p", Claim(), story.at_us),
    }
    client.config_set("maxmemory", 1)
    try:
        for name, call in scripts.items():
            try:
                run(story, call)
            except redis.exceptions.ResponseError as error:
                assert "maxmemory" in str(error)  # a report too soon writes nothing, and is answered
            else:
                assert name == "report"
                assert later < 0
            assert story.state == before, name
    finally:
        client.config_set("maxmemory", 0)
    assert story.claim("p").budget_rate >= 0


# --- the codes as errors


@pytest.mark.parametrize("field", sorted({field for table in POSITIONS.values() for field, _ in table}))
def test_a_refused_argument_has_a_remedy(field: str) -> None:
    """A refused argument is an error that says what to write instead."""
    error = from_code(f"NEXUS_INVALID_{field.upper()}")
    assert isinstance(error, InvalidSetting)
    assert error.field == field
    assert error.remedy not in (error_texts.NO_RANGE_KNOWN, error_texts.NOT_OUR_CALL)


def test_refusals_in_context_have_remedies() -> None:
    """A refusal that depends on the budget names the field and the remedy."""
    said = {
        "NEXUS_NO_LAW": ("load", error_texts.LOAD_WITHOUT_RATE),
        "NEXUS_INVALID_MIN_RATE": ("min_rate", error_texts.floor_above_ceiling(RATE.remedy)),
        "NEXUS_INVALID_LOSSLESS": ("lossless", error_texts.LOSSLESS_UNMEASURED),
        "NEXUS_MISSING_DONE": ("done", error_texts.measure_missing()),
    }
    for code, expected in said.items():
        error = from_code(code)
        assert isinstance(error, InvalidSetting)
        assert (error.field, error.remedy) == expected


def test_the_largest_claim_is_accepted(story: ScriptDriver) -> None:
    """A claim with every argument as large as it may be is not refused."""
    largest = Claim(
        need=10**15, tokens=10**16, requested_rate=10**16, whole=True, held=10**16, unused=10**16, burned=10**16,
        weight=10**9, priority="normal", incarnation="x" * 64, seq=2**53, birth="9" * 20, granted_total=2**53,
        trip=10**6,
        fallback_rate=10**16, degraded=10**16,
    )  # fmt: skip
    call = calls.claim(KEYS, "p", largest, at_us=2**53 - 10**9)
    answer = call.decode(story.client.eval(call.script.text, len(call.keys), *call.keys, *call.args))
    assert (answer.granted, answer.reason) == (0, "unset")

"""Hashes that a person has damaged: the reader names the field, `repair` mends it, and the other budgets stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from nexus_redis import ServerRefused
from nexus_redis._drivers.threaded import run_plan
from nexus_redis._protocol import all_budgets, calls, fields
from nexus_redis._protocol.damage import DAMAGED, damaged
from nexus_redis._protocol.deletion import repair
from nexus_redis._protocol.explain import explain
from nexus_redis._protocol.json_forms import summary_of, with_members
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Job, Plan, ask
from nexus_redis._protocol.snapshot import snapshot
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.cli import texts
from nexus_redis.cli.commands.list import entry_of
from nexus_redis.cli.output import as_json
from nexus_redis.errors import SETTINGS
from tests.harness.command_line import Shell
from tests.harness.servers import Server

KEYS, OTHER = BudgetKeys("nexus", "d"), BudgetKeys("nexus", "other")
SEQS: Final = count(1)
DAMAGES: Final = ("\x1b[2J", "nan", "inf", "-1", "", "1" + "0" * 400)
HASHES: Final = {
    KEYS.budget: fields.BUDGET, KEYS.consumer("c"): fields.CONSUMER, KEYS.producer("p"): fields.PRODUCER,
    KEYS.history: fields.ENTRY,
}  # fmt: skip
SPOTS: Final = [(key, field) for key, parsers in HASHES.items() for field in parsers]


@pytest.fixture
def shell(one_server: Server) -> Shell:
    return Shell(one_server.url, one_server.client(decode_responses=True))


@pytest.fixture
def client(one_server: Server) -> Any:
    """A client of a server with two budgets that are in use; one has a pause, a consumer and a producer."""
    client = one_server.client()
    client.zadd(budgets_key("nexus"), {KEYS.name: 1, OTHER.name: 1})
    jobs: list[Job] = [calls.configure(OTHER, BudgetSettings(rate=7))]
    for source in ("code", "operator"):
        settings = BudgetSettings(rate=100, min_rate=1, burst=2, law="range", combine="sum", latency_target_ms=9,
                                  lossless=False, transit=1, grace=5)  # fmt: skip
        jobs += [calls.configure(KEYS, settings, source=source), calls.configure(KEYS, source=source, pause=60)]
    jobs += use()
    run(ask(jobs, ""), client)
    return client


def use() -> list[Job]:
    """A report and a claim: after a repair, they write again what was taken away."""
    measures = {"load": 10, "capacity": 50, "queue_depth": 5, "queue_limit": 9, "done": 1, "errors": 0, "in_flight": 2}
    return [
        calls.report(KEYS, "c", measures, "c", next(SEQS)),
        calls.claim(KEYS, "p", calls.Claim(seq=next(SEQS), weight=2_000_000, incarnation="p"), with_all_keys=True),
    ]


def run(plan: Plan[Any], client: Any) -> Any:
    return run_plan(plan, client)


def damage(client: Any, key: str, field: str, value: str) -> str:
    """Write a value by hand, and return the field by which `repair` names it."""
    if key != KEYS.history:
        client.hset(key, field, value)
        return field
    entry = {"rate_per_s": "5", "level": "1", "load_percent": "0", "reason": "rate", "by": "code", field: value}
    return calls.text(client.xadd(key, entry))


def refusals(client: Any) -> Iterator[str]:
    """Yield what the readers of one budget refuse; whatever they accept must be valid in JSON and in words."""
    for plan in (snapshot(KEYS, ""), explain(KEYS, "", lambda: 0.0)):
        try:
            found = run(plan, client)
        except ServerRefused as error:
            yield str(error)
        else:
            as_json(with_members(found) if hasattr(found, "producers") else [str(found), *map(str, found.history)])


def listed(client: Any) -> dict[str, list[str]]:
    """What `status` and `list` cannot read, by budget; both have an entry for each."""
    found, _ = run(all_budgets.snapshots("nexus", ""), client)
    in_status = {each.name: [str(each.error)] if isinstance(each, all_budgets.DamagedBudget) else [] for each in found}
    as_json([summary_of(each) for each in found])
    stored, _ = run(all_budgets.settings_of_all("nexus", ""), client)
    entries = [entry_of(each) for each in stored]
    json.loads(as_json(entries))
    in_list = {each["name"]: each.get("damaged", []) for each in entries}
    assert in_status.keys() == in_list.keys()
    return {name: in_status[name] + in_list[name] for name in in_list}


def is_refused(parser: fields.Parser, value: str) -> bool:
    """Whether no script can have written this."""
    try:
        parser(value)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("parsers", HASHES.values(), ids=HASHES)
def test_what_is_a_number_is_finite(parsers: dict[str, fields.Parser]) -> None:
    """No field that is not a text takes a text, nan, inf or a huge number."""
    others = {field: parser for field, parser in parsers.items() if parser is not fields._text}
    assert len(others) >= 3
    assert not [
        field
        for field, parser in others.items()
        for value in DAMAGES
        if value != "-1" and not is_refused(parser, value)
    ]
    owed = {field for field, parser in others.items() if not is_refused(parser, "-1")}
    assert owed <= {"tokens", "held"}


@pytest.mark.parametrize(("key", "field"), SPOTS, ids=[f"{key.rpartition(':')[2]} {field}" for key, field in SPOTS])
def test_a_damaged_field_is_named_or_harmless(client: Any, key: str, field: str) -> None:
    """Whatever a person writes into a field, its reader names it or reads on, and `repair` makes it readable again."""
    for value in DAMAGES:
        named, problems = damage(client, key, field, value), listed(client)
        said = [*refusals(client), *problems.pop("d")]
        assert problems == {"other": []}
        assert set(said) <= {str(damaged(KEYS, key, field, value)), str(damaged(KEYS, key, field))}
        mended = run(repair(KEYS, ""), client)
        assert mended == ([(key, named)] if is_refused(HASHES[key][field], value) else [])
        assert mended or not said
        assert [*refusals(client), *listed(client)["d"]] == []
    assert run(repair(KEYS, ""), client) == []
    run(ask(use(), ""), client)
    assert list(refusals(client)) == []


@pytest.mark.parametrize("field", ["rate_per_s", "level", "load_percent", "reason", "tokens", "burst_s", "birth"])
def test_repair_writes_the_state_again(client: Any, field: str) -> None:
    """A damaged field that shows the state is there again after a repair, with its value."""
    before = client.hget(KEYS.budget, field)
    damage(client, KEYS.budget, field, "fast")
    run(repair(KEYS, ""), client)
    if field != "reason":  # any text is a reason to a reader; the next change writes it again
        after = client.hget(KEYS.budget, field)
        assert after == before if field != "tokens" else float(after) >= float(before)


@pytest.mark.parametrize("key", [KEYS.consumer("c"), KEYS.producer("p"), KEYS.history])
def test_a_key_of_another_type_is_named(client: Any, key: str) -> None:
    """A member or a history of another type is named and taken away."""
    client.delete(key)
    client.set(key, "x")
    assert set(refusals(client)) == {str(damaged(KEYS, key))}
    assert run(repair(KEYS, ""), client) == [(key, "")]
    assert list(refusals(client)) == []


def test_labels_are_free(client: Any) -> None:
    """A consumer may report any text as its labels, however deep it is nested."""
    client.hset(KEYS.consumer("c"), "labels", "[" * 100_000)
    assert list(refusals(client)) == []


def test_a_score_may_be_infinite(client: Any) -> None:
    """An instant without end, written by hand, is a number in JSON."""
    client.zadd(KEYS.producers, {"p": "-inf"})
    assert list(refusals(client)) == []


# --- the verbs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoiled(shell: Shell) -> Shell:
    """A shell with a budget whose rate is damaged, and a healthy one."""
    shell("set", "d", "--rate", "100", "--burst", "2")
    shell("set", "es", "--rate", "5")
    shell.client.hset("nexus:{d}", "rate_by_operator", "xyz")
    return shell


def test_list_shows_the_others(spoiled: Shell) -> None:
    """`list` marks the damaged budget, keeps what can be read of it, and ends with 1."""
    error = str(damaged(KEYS, KEYS.budget, "rate_by_operator", "xyz"))
    ended = spoiled("list")
    assert (ended.code, ended.error) == (1, error)
    assert ended.out == "d   burst 2 s (operator), damaged\nes  rate 5/s (operator)\n"
    ended = spoiled("list", "--json")
    assert (ended.code, ended.error) == (1, error)
    assert ended.json == [
        {"name": "d", "operator": {"burst": 2}, "code": {}, "damaged": [error]},
        {"name": "es", "operator": {"rate": 5}, "code": {}},
    ]


def test_status_shows_the_others(spoiled: Shell) -> None:
    """`status` marks the damaged budget and ends with 1; of the damaged one alone, it prints one line."""
    error = str(damaged(KEYS, KEYS.budget, "rate_by_operator", "xyz"))
    ended = spoiled("status")
    assert (ended.code, ended.error) == (1, error)
    assert [line.split()[0] for line in ended.out.splitlines()] == ["BUDGET", "d", "es"]
    ended = spoiled("status", "--json")
    assert (ended.code, ended.error) == (1, error)
    first, second = ended.json
    assert first == {**dict.fromkeys(second), "name": "d", "damaged": [error]}
    for words in (("status", "d"), ("status", "d", "--json"), ("explain", "d"), ("explain", "d", "--json")):
        ended = spoiled(*words)
        assert (ended.code, ended.out, ended.error) == (1, "", error)


def test_a_lost_state_hides_no_setting(spoiled: Shell) -> None:
    """A backup has all settings of a budget whose state is damaged; `status` marks this budget."""
    spoiled.client.set("nexus:{es}:state", "x")
    assert [each["operator"] for each in spoiled("list", "--json").json] == [{"burst": 2}, {"rate": 5}]
    assert [bool(each["damaged"]) for each in spoiled("status", "--json").json] == [True, True]


def test_repair_names_the_setting(spoiled: Shell) -> None:
    """`repair` says which setting is gone, and the budget is readable again."""
    assert spoiled("repair", "d").out == (
        "d: took away the field rate_by_operator of nexus:{d}, so the operator's value of rate is gone\n"
    )
    assert [spoiled(verb).code for verb in ("list", "status")] == [0, 0]
    assert spoiled("repair", "d").out == "d: nothing is damaged\n"


def test_a_setting_of_code_has_no_operator(shell: Shell, client: Any) -> None:
    """Where a repair has removed an operator's value, the value of code is not the operator's."""
    client.hset(KEYS.budget, "rate_by_operator", "xyz")
    run(repair(KEYS, ""), client)
    assert shell("status", "d", "--json").json["settings"]["rate"] == {"value": 100, "source": "code"}


def test_a_restore_keeps_what_was_damaged(spoiled: Shell, tmp_path: Path) -> None:
    """A restore of an incomplete entry sets what it has, removes nothing, and ends with 1."""
    backup = tmp_path / "budgets.json"
    backup.write_text(spoiled("list", "--json").out)
    spoiled("repair", "d")
    spoiled("set", "d", "--rate", "40", "--burst", "9")
    ended = spoiled("set", "--from", str(backup))
    assert (ended.code, ended.error) == (1, texts.incomplete_backup("d"))
    assert ended.out == "restored 2 budgets: d, es\n"
    assert spoiled("list", "--json").json[0] == {"name": "d", "operator": {"rate": 40, "burst": 2}, "code": {}}


WRONG: Final = "status w|explain w|run w -- true|pace w|pause w|resume w|signal w --rate 1|forget w c|set w --rate 1"


@pytest.mark.parametrize("line", [*WRONG.split("|"), "set w --unset rate", "report w --load 1 --capacity 5"])
def test_another_key_in_the_place_of_a_budget(shell: Shell, line: str) -> None:
    """A key of another type in a budget's place is damage, not a budget that is missing."""
    shell.client.set("nexus:{w}", 5)
    run: Callable[..., Any] = shell.process if line.startswith(("pace", "run")) else shell
    ended = run(*line.split())
    assert ended.code == 1
    assert ended.error == str(damaged(BudgetKeys("nexus", "w"), "nexus:{w}"))
    assert DAMAGED in ended.error


def test_another_key_on_the_list(spoiled: Shell) -> None:
    """A key of another type does not vanish from the lists in silence."""
    spoiled.client.zadd("nexus:budgets", {"w": 1})
    spoiled.client.set("nexus:{w}", 5)
    for words in (("list",), ("list", "--json"), ("status",), ("status", "--json")):
        ended = spoiled(*words)
        assert ended.code == 1
        assert str(damaged(BudgetKeys("nexus", "w"), "nexus:{w}")) in ended.err


def test_every_setting_is_read() -> None:
    """Each setting of each source has its parser."""
    assert {f"{name}_by_{source}" for name in SETTINGS for source in fields.SOURCES} <= fields.BUDGET.keys()

"""The command line as a shell sees it: streams, exit codes, and the keys in Redis afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console

from nexus_redis import Nexus
from nexus_redis._protocol import calls, scripts
from nexus_redis._protocol.calls import Claim, claim
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._values import error_texts, formatting, log_texts
from nexus_redis._values.parse import keyed_name
from nexus_redis.cli import resp, tables, texts
from nexus_redis.cli.commands.redis import lines
from nexus_redis.cli.context import Context
from nexus_redis.cli.output import LONGEST_LINE, as_json, as_message, choice
from nexus_redis.demo import Options, Result
from nexus_redis.errors import RANGES
from tests.cli.messages import GOLDEN, messages
from tests.harness.command_line import Ended, Shell
from tests.harness.script_driver import keyspace
from tests.harness.servers import Server
from tests.harness.support import PATIENCE, eventually, finish

ROOT = Path(__file__).parents[2]
VERBS = (
    "demo", "list", "status", "top", "explain", "set", "pause", "resume", "forget", "delete", "repair", "pace", "run",
    "signal", "report", "serve", "token", "redis", "bench", "scripts",
)  # fmt: skip
NOWHERE = "redis://:secret@127.0.0.1:1/0"
LONG = "n" * 64
ESCAPE = "\x1b"
on_valkey = pytest.mark.parametrize("real_server", ["valkey"], indirect=True)


@pytest.fixture
def shell(real_server: Server) -> Shell:
    return Shell(real_server.url, real_server.client(decode_responses=True))


@pytest.fixture
def nowhere() -> Shell:
    """A shell without a Redis, for verbs that must not need one."""
    return Shell(NOWHERE, redis.Redis())


# --- the protocol ----------------------------------------------------------------------------------------------------


def test_golden_example(shell: Shell) -> None:
    """The example of docs/protocol.md gives the same figures from a shell."""
    assert shell("report", "elasticsearch", "--id", "es-1", "--load", "95", "--capacity", "400").code == 0
    told = shell("signal", "elasticsearch", "--rate", "10000", "--id", "filebeat-1", "--json")
    assert told.code == 0
    assert told.json.items() >= {"recommended_rate": 100, "backpressure_level": 2, "current_load": 95}.items()
    assert told.json["action"] == "FlowControl"


@on_valkey
def test_golden_example_in_processes(shell: Shell) -> None:
    """The example gives the same figures where each verb is a process of its own."""
    report = shell.process("report", "elasticsearch", "--id", "es-1", "--load", "95", "--capacity", "400")
    assert (report.code, report.err) == (0, "")
    told = shell.process("signal", "elasticsearch", "--rate", "10000", "--id", "filebeat-1", "--json")
    assert (told.code, told.err) == (0, "")
    assert (told.json["recommended_rate"], told.json["backpressure_level"], told.json["current_load"]) == (100, 2, 95)


@on_valkey
def test_one_line_answers(shell: Shell) -> None:
    """`signal` and `report` print their answer in one line."""
    report = shell("report", "elasticsearch", "--id", "es-1", "--load", "95", "--capacity", "400")
    assert report.out == (
        "elasticsearch: es-1 can take 100/s (law range, capacity 400/s) for the next 3 min; the budget: "
        "100/s, level 2, load 95 %, reason load\n"
    )
    told = shell("signal", "elasticsearch", "--rate", "10000", "--id", "filebeat-1")
    assert told.out == ("elasticsearch: send 100/s of 10,000/s; the budget: 100/s, level 2, load 95 %, reason load\n")


@on_valkey
def test_signal_demand(shell: Shell) -> None:
    """The demand of a signal is stored, and counts for its epoch only."""
    shell("set", "stripe", "--rate", "100")

    def told(producer: str) -> float:
        rate: float = shell("signal", "stripe", "--rate", "1000", "--id", producer, "--json").json["recommended_rate"]
        return rate

    told("a")
    assert shell.client.hget("nexus:{stripe}:producer:a", "demand_per_s") == "1000"
    assert eventually(lambda: told("b") == 100)


@on_valkey
def test_signal_id_stays_free(shell: Shell) -> None:
    """A signal takes no token, and a producer may use its id afterwards."""
    shell("set", "stripe", "--rate", "1000")
    assert shell("signal", "stripe", "--rate", "10", "--id", "web-1", "--json").json["granted_total"] == 0
    with Nexus.from_url(shell.url) as nexus, nexus.budget("stripe").producer("web-1", timeout=PATIENCE) as producer:
        assert producer.acquire()
        assert producer.id == "web-1"


@on_valkey
def test_default_ids(shell: Shell) -> None:
    """Without --id, `signal` and `report` use one id that stays the same on this host."""
    ids = {shell("report", "es", "--load", "50", "--capacity", "10", "--json").json["instance_id"] for _ in range(2)}
    assert len(ids) == 1
    for _ in range(2):
        shell("signal", "es", "--rate", "10")
    assert {str(key).split(":")[3] for key in shell.client.keys("nexus:{es}:producer:*")} == ids


@on_valkey
def test_signal_leaves_nothing(shell: Shell) -> None:
    """The producer of a signal is not listed, and its hash expires with the epoch."""
    shell("signal", "es", "--rate", "10", "--id", "filebeat-1", "--create")
    assert shell("status", "es", "--json").json["producers"] == []
    left: Any = shell.client.pttl("nexus:{es}:producer:filebeat-1")
    assert left != -1  # -2 if it is gone, else it expires soon
    assert left <= 5000  # because its demand counts for the running epoch only


def server_time(shell: Shell) -> float:
    seconds, micros = shell.client.time()
    return seconds + micros / 1e6


@on_valkey
def test_report_lifetime(shell: Shell) -> None:
    """A report counts for three intervals, and for two seconds at least."""
    for every, lives in ((None, 180), ("10", 30), ("0.1", 2)):
        options = () if every is None else ("--every", every)
        before = server_time(shell)
        said = shell("report", "es", "--id", "es-1", "--load", "50", "--capacity", "10", *options, "--json")
        after = server_time(shell)
        assert said.json["lives_s"] == lives
        deadline = shell.client.zscore("nexus:{es}:consumers", "es-1")
        assert isinstance(deadline, float)
        assert before <= deadline / 1e6 - lives <= after


@on_valkey
def test_report_fields(shell: Shell) -> None:
    """Each measure of a report is stored."""
    said = {
        "queue_depth": "40",
        "queue_limit": "1000",
        "done": "5",
        "errors": "1",
        "in_flight": "3",
        "latency_ms": "7.5",
    }
    options = [word for field, value in said.items() for word in (f"--{field.replace('_', '-')}", value)]
    ended = shell("report", "pg", "--id", "pg-1", *options, "--slots", "8", "--json")
    assert ended.json.items() >= {"law": "drain", "current_load": 37.5, "capacity": None}.items()
    assert shell.client.hmget("nexus:{pg}:consumer:pg-1", list(said)) == list(said.values())


@on_valkey
def test_report_pause(shell: Shell) -> None:
    """A report with --pause takes its consumer out, and one with 0 brings it back."""

    def rate(*options: str) -> float:
        ended = shell("report", "es", "--id", "es-1", "--load", "0", "--capacity", "10", *options, "--json")
        assert ended.json["rate"] == ended.json["budget_rate"]
        given: float = ended.json["rate"]
        return given

    assert [rate(), rate("--pause", "30"), rate(), rate("--pause", "0")] == [10, 0, 0, 10]


@on_valkey
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (["--load", "95"], texts.load_alone(95, "es")),
        (["--capacity", "400"], texts.no_law("es")),
        ([], texts.NOTHING_TO_REPORT),
    ],
    ids=["load", "capacity", "nothing"],
)
def test_report_without_law(shell: Shell, said: list[str], error: str) -> None:
    """A report from which no law computes a rate is refused, with what is missing."""
    ended = shell("report", "es", "--id", "es-1", *said)
    assert (ended.code, ended.out, ended.error) == (2, "", error)
    assert shell.client.dbsize() == 0


@on_valkey
@pytest.mark.parametrize(("words", "code"), [(["--capacity", "400"], 0), ([], 2)], ids=["capacity", "no capacity"])
def test_report_fraction(shell: Shell, words: list[str], code: int) -> None:
    """A load that looks like a fraction is warned about, also where the report is refused."""
    ended = shell("report", "es", "--load", "0.95", *words)
    assert (ended.code, ended.err.splitlines()[0]) == (code, f"nexus-redis: {texts.load_is_fraction(0.95)}")


@on_valkey
def test_report_too_soon(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that Redis does not keep, because it comes too soon, ends with a finding."""
    now = 1_800_000_000_000_000
    ask: Any = Context.ask
    told: Any = calls.report
    # The clock of the server stands still, for the verb that reads it and for the script.
    monkeypatch.setattr(
        Context, "ask", lambda self, job: [now / 1e6] if getattr(job, "args", ()) == ("TIME",) else ask(self, job)
    )
    monkeypatch.setattr(calls, "report", lambda *given: told(*given, at_us=now))

    def report(done: int, *options: str) -> Ended:
        return shell("report", "pg", "--id", "pg-1", "--queue-depth", "4", "--done", str(done), *options)

    assert report(1).code == 0
    now += 10_000
    too_soon = report(2)
    assert (too_soon.code, too_soon.out, too_soon.error) == (1, "", texts.report_too_soon("pg-1", "pg", 60))
    assert shell.client.hget("nexus:{pg}:consumer:pg-1", "done") == "1"
    now += 100_000
    assert report(3, "--every", "0.1").code == 0
    assert shell.client.hget("nexus:{pg}:consumer:pg-1", "done") == "3"


@on_valkey
def test_report_to_lossless(shell: Shell) -> None:
    """A lossless budget refuses a report that lacks a measure, and names it."""
    shell("set", "es", "--lossless")
    ended = shell("report", "es", "--load", "5", "--capacity", "10")
    assert ended.code == 2
    options = "--queue-limit, --queue-depth, --done, --errors, --in-flight"
    assert ended.error == f"queue_limit: {texts.lossless_remedy(options)}"
    assert shell("status", "es", "--json").json["consumer_count"] == 0


# --- set, pause, resume ----------------------------------------------------------------------------------------------


def test_set_wins_over_code(shell: Shell) -> None:
    """An operator's value wins over the value in code until it is unset."""
    with Nexus.from_url(shell.url) as nexus:
        nexus.budget("stripe").configure(rate=7)
    ended = shell("set", "stripe", "--rate", "100/s", "--min-rate", "6/min", "--burst", "60", "--combine", "spread")
    assert ended == Ended(0, "stripe: 100/s, level 0, reason rate\n", "")
    with Nexus.from_url(shell.url) as nexus:
        nexus.budget("stripe").configure(rate=8)
    settings = shell("status", "stripe", "--json").json["settings"]
    assert {field: {name: each[name] for name in ("value", "source")} for field, each in settings.items()} == {
        "rate": {"value": 100, "source": "operator"},
        "min_rate": {"value": 0.1, "source": "operator"},
        "burst": {"value": 60, "source": "operator"},
        "combine": {"value": "spread", "source": "operator"},
    }
    unset = shell("set", "stripe", "--unset", "rate", "--unset", "min-rate", "--unset", "min_rate")
    assert unset.out == "stripe: 8/s, level 0, reason rate\n"


@on_valkey
def test_set_every_setting(shell: Shell) -> None:
    """`set` takes each setting, `status` shows it, and the budget no longer expires."""
    ended = shell("set", "es", "--law", "aimd", "--latency-target-ms", "250", "--no-lossless", "--transit", "2")
    assert ended.out == "es (new: nobody has opened it): 0/s, level 3, reason unset\n"
    shown = shell("status", "es").out
    for words in ("law aimd (operator ", "latency-target-ms 250 (", "lossless no (", "transit 2 s ("):
        assert words in shown
    assert shell.client.pttl("nexus:{es}") == -1


@on_valkey
def test_pause_and_resume(shell: Shell) -> None:
    """A pause stops a budget for a time or until it is resumed."""
    shell("set", "stripe", "--rate", "100")
    paused = shell("pause", "stripe", "30", "--reason", "429 Retry-After")
    assert paused.out == "stripe: paused for 30 s (429 Retry-After); 0/s, level 3, reason paused\n"
    seen = shell("status", "stripe", "--json").json
    assert seen.items() >= {"is_paused": True, "pause_reason": "429 Retry-After", "rate": 0, "level": 3}.items()
    assert 0 < seen["paused_for"] <= 30
    assert shell("resume", "stripe").out == "stripe: 100/s, level 0, reason rate\n"
    assert shell("pause", "stripe").out.startswith("stripe: paused until it is resumed; ")
    seen = shell("status", "stripe", "--json").json
    assert (seen["is_paused"], seen["paused_for"]) == (True, None)
    assert re.search("paused +until it is resumed", shell("status", "stripe").out)


@on_valkey
def test_resume_unknown_budget(shell: Shell) -> None:
    """`resume` of a budget that does not exist ends with 1 and creates nothing."""
    ended = shell("resume", "strpie")
    assert (ended.code, ended.out) == (1, "")
    assert ended.error == texts.unknown_budget("strpie", shell.where, can_create=True)
    assert shell.client.dbsize() == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("report s --load 95%", texts.not_a_number("--load", "95%")),
        ("report s --queue-depth=x", texts.not_a_number("--queue-depth", "x")),
        ("run s --cost abc -- true", texts.not_a_number("--cost", "abc")),
        ("demo --producers 1.5", texts.not_a_number("--producers", "1.5", is_whole=True)),
        ("pause s --key", texts.needs_value("--key")),
    ],
)
def test_option_as_typed(shell: Shell, words: str, problem: str) -> None:
    """An error about a value that is missing or not a number quotes the option as it was typed."""
    ended = shell(*words.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.error == texts.see_help(problem, f"nexus-redis {words.split(maxsplit=1)[0]}")


@on_valkey
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["set", "stripe", "--min-rate", "200"], f"--min-rate 200: {texts.MIN_RATE_REMEDY}"),
        (["set", "floor", "--rate", "1"], f"--rate 1: {texts.RATE_REMEDY}"),
        (["set", "stripe", "--lossless"], f"--lossless: {texts.LOSSLESS_REMEDY}"),
    ],
    ids=["min-rate", "rate", "lossless"],
)
def test_set_refused_by_budget(shell: Shell, words: list[str], error: str) -> None:
    """A setting that contradicts the rest of the budget is refused, and changes nothing."""
    shell("set", "stripe", "--rate", "100")
    shell("set", "floor", "--rate", "100", "--min-rate", "3")
    shell("report", "stripe", "--load", "5")
    fields = [f"{name}_by_operator" for name in ("rate", "min_rate", "lossless")]
    ended = shell(*words)
    assert (ended.code, ended.out, ended.error) == (2, "", error)
    assert shell.client.hmget("nexus:{stripe}", fields) == ["100", None, None]


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_of_all(shell: Shell) -> None:
    """`status` lists each budget in a line, those in trouble first, whichever verb created it."""
    assert shell("status", "--json").json == []
    assert "no budgets in namespace nexus at " in shell("status").out
    shell("set", "stripe", "--rate", "10/min")
    shell("report", "elasticsearch", "--load", "95", "--capacity", "400")
    shell("signal", "unheard", "--rate", "5", "--create")
    first, *rest = (line.split() for line in shell("status").out.splitlines())
    lines = [first, *(line[:-2] for line in rest)]  # without the age, 0.1 s
    assert lines == [
        ["BUDGET", "STATE", "RATE", "LEVEL", "LOAD", "REASON", "CONSUMERS", "PRODUCERS", "AGE"],
        ["elasticsearch", "Nearly", "full", "100/s", "2", "95", "%", "load", "1", "0"],
        ["unheard", "Not", "set", "0/s", "3", "-", "unset", "0", "0"],
        ["stripe", "OK", "10/min", "0", "-", "rate", "0", "0"],
    ]
    assert [each["name"] for each in shell("status", "--json").json] == ["elasticsearch", "stripe", "unheard"]


def test_status_of_one(shell: Shell) -> None:
    """`status NAME` shows the consumers and producers of the budget."""
    shell("report", "elasticsearch", "--id", "es-1", "--load", "95", "--capacity", "400")
    ask = Claim(requested_rate=50 * 10**6, weight=2 * 10**6, priority="high", incarnation="1", seq=1)
    call = claim(BudgetKeys("nexus", "elasticsearch"), "f-1", ask)
    shell.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)
    ended = shell("status", "elasticsearch")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^es-1 +100/s +400/s +95 % +range +[\d.]+ s +yes$", ended.out, re.MULTILINE)
    assert re.search(r"^f-1 +[\d.]+/s +50/s +0 +2 +high +[\d.]+ s$", ended.out, re.MULTILINE)
    seen = shell("status", "elasticsearch", "--json").json
    assert [(each["id"], each["rate"], each["is_live"]) for each in seen["consumers"]] == [("es-1", 100, True)]
    assert [(each["id"], each["demand"], each["weight"]) for each in seen["producers"]] == [("f-1", 50, 2)]
    assert set(seen) - set(shell("status", "--json").json[0]) == {"consumers", "producers"}


def test_status_says_how_many(shell: Shell) -> None:
    """`status NAME` says how many of how many producers it lists, if these are not all."""
    shell("set", "es", "--rate", "5000")
    pipeline = shell.client.pipeline()
    for name in (f"p-{i:04}" for i in range(1200)):
        pipeline.zadd("nexus:{es}:producers", {name: 1e15})
        pipeline.hset(f"nexus:{{es}}:producer:{name}", mapping={"weight": "1", "priority": "normal"})
    pipeline.execute()
    *_, last = shell("status", "es").out.splitlines()
    assert re.search(r"\b500 of 1,200 producers$", last)
    shell("set", "stripe", "--rate", "5000")
    assert " of " not in shell("status", "stripe").out


@on_valkey
def test_status_sees_silence(shell: Shell) -> None:
    """`status` sees that a consumer fell silent, without another call."""
    shell("report", "es", "--id", "es-1", "--load", "0", "--capacity", "10", "--every", "0.1")
    assert eventually(lambda: bool(shell("status", "--json").json[0]["reason"] == "no_consumers"))
    assert re.search(r"^es-1 .* no$", shell("status", "es").out, re.MULTILINE)


@on_valkey
def test_status_of_unknown_budget(shell: Shell) -> None:
    """`status` of a budget that does not exist ends with 1 and creates nothing."""
    for options in ((), ("--json",)):
        ended = shell("status", "nothing", *options)
        assert (ended.code, ended.out) == (1, "")
        assert ended.error == texts.unknown_budget("nothing", shell.where)
    assert shell.client.dbsize() == 0


@on_valkey
@pytest.mark.parametrize("columns", [80, 140])
def test_tables_fit(shell: Shell, columns: int) -> None:
    """Tables fit the terminal, and a pipe gets whole names."""
    shell("set", LONG, "--rate", "1e9")
    shell("report", LONG, "--id", LONG, "--load", "33.333", "--capacity", "123456789")
    shell("signal", LONG, "--rate", "123456789", "--id", LONG, "--weight", "999.99")
    shell("pause", LONG, "--reason", "because " * 20)
    for words in (["status"], ["status", LONG]):
        drawn = shell(*words, FORCE_COLOR="1", COLUMNS=str(columns), TERM="xterm").out
        assert ESCAPE in drawn
        widths = [len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in drawn.splitlines()]
        assert max(widths) <= columns
        assert LONG in shell(*words).out  # the width of a pipe has no limit
    assert len(shell("status").out.splitlines()) == 2


@on_valkey
def test_colours(shell: Shell) -> None:
    """Colours appear on a terminal only, and not with NO_COLOR."""
    shell("set", "stripe", "--rate", "5")
    assert ESCAPE not in shell("status", "stripe").out
    assert f"{ESCAPE}[32m" in shell("status", "stripe", FORCE_COLOR="1", TERM="xterm").out
    assert f"{ESCAPE}[32m" not in shell("status", "stripe", FORCE_COLOR="1", TERM="xterm", NO_COLOR="1").out


WITH_A_NAME = (
    "pause {name}", "pause {name} 5m --reason why", "resume {name}", "signal {name} --rate 5 --id p-1",
    "signal {name} --rate 5 --json --weight 2", "set {name} --unset rate", "forget {name} es-1", "delete {name} --yes",
    "explain {name}", "explain {name} --json", "status {name}", "status {name} --json", "run {name} -- echo ran",
    "run {name} --timeout 30 --on-outage open -- echo ran", "pace {name}",
)  # fmt: skip
CREATING = tuple(line for line in WITH_A_NAME if line.split()[0] in ("pause", "resume", "signal", "set", "run", "pace"))


def everything(shell: Shell) -> dict[str, Any]:
    """Return all keys and values in Redis."""
    with redis.Redis.from_url(shell.url) as client:
        return keyspace(client)


def typed(shell: Shell, *words: str) -> Ended:
    """Run a verb, in a process of its own if it takes signals or has a fast path."""
    if words[0] in ("run", "pace", "signal"):
        return shell.process(*words, stdin=subprocess.DEVNULL)
    return shell(*words)


@on_valkey
@pytest.mark.parametrize("line", WITH_A_NAME)
def test_unknown_name(shell: Shell, line: str) -> None:
    """Each verb refuses a misspelled name with 1, suggests similar names, and writes nothing."""
    for name in ("stripe", "Strips", "elasticsearch"):
        shell("set", name, "--rate", "1000")
    shell.client.zadd("nexus:budgets", {"strip": 1})  # a budget that no longer exists
    before = everything(shell)
    ended = typed(shell, *line.format(name="strpie").split(" "))
    near, can_create = texts.did_you_mean("stripe or Strips"), line in CREATING
    assert (ended.code, ended.out) == (1, "")
    assert ended.error == texts.unknown_budget("strpie", shell.where, near, can_create=can_create)
    if line.startswith("signal"):
        assert shell(*line.format(name="strpie").split(" ")) == ended  # the same with typer
    far = typed(shell, *line.format(name="postgres").split(" "))
    assert (far.code, far.error) == (1, texts.unknown_budget("postgres", shell.where, can_create=can_create))
    assert everything(shell) == before


@on_valkey
def test_name_with_key(shell: Shell) -> None:
    """NAME/KEY, as lists show it, names the budget of that key."""
    shell("set", "stripe", "--rate", "1000", "--key", "cust-42")
    shell("set", "stripe/cust-42", "--rate", "7")
    shell("set", "stripe", "--key", "Zoe & Co", "--rate", "8")
    hashed, plain = (line.split()[0] for line in shell("list").out.splitlines())
    for name, words in ((plain, ["--key", "cust-42"]), (hashed, ["--key", "Zoe & Co"])):
        assert shell("pause", name, "60").out.startswith(f"{name}: paused")
        assert shell("resume", "stripe", *words).out.startswith(f"{name}: ")
    assert typed(shell, "run", plain, "--", "echo", "ran").out == "ran\n"
    refused = typed(shell, "run", hashed, "--", "echo", "ran")
    assert (refused.code, refused.out) == (2, "")
    assert refused.error.startswith(f"name='{hashed}': ")


@on_valkey
@pytest.mark.parametrize("line", WITH_A_NAME)
def test_unknown_key(shell: Shell, line: str) -> None:
    """A misspelled NAME with a key is refused; of a known NAME, `run` and `pace` open a new key."""
    shell("set", "stripe", "--rate", "1000")
    shell("set", "stripe", "--rate", "1000", "--key", "cust-42")
    before = everything(shell)
    for name, key in (("strpie", "cust-42"), ("strpie", "Zoe & Co")):
        words = [word.format(name=name) for word in line.split(" ")]
        ended = typed(shell, *words[:2], "--key", key, *words[2:])
        assert (ended.code, ended.out) == (1, "")
        assert any(texts.did_you_mean(near) in ended.error for near in ("NAME stripe", "stripe/cust-42"))
    assert everything(shell) == before
    words = [word.format(name="stripe") for word in line.split(" ")]
    ended = typed(shell, *words[:2], "--key", "cust-43", *words[2:])
    if words[0] in ("run", "pace"):
        assert (ended.code, ended.out) == (0, "ran\n" if words[0] == "run" else "")
    else:
        assert (ended.code, ended.out) == (1, "")
        assert texts.did_you_mean("stripe/cust-42 or stripe") in ended.error
        assert everything(shell) == before


@on_valkey
@pytest.mark.parametrize("line", WITH_A_NAME)
def test_unknown_key_as_typed(shell: Shell, line: str) -> None:
    """The error about a key whose budget has a hash in its name quotes the key as it was typed."""
    words = line.format(name="strpie").split(" ")
    ended = typed(shell, *words[:2], "--key", "Zoe & Co", *words[2:])
    shown = texts.hashed_key(keyed_name("strpie", "Zoe & Co"), "Zoe & Co")
    assert ended.error == texts.unknown_budget(shown, shell.where, can_create=line in CREATING)


@on_valkey
def test_unknown_database(shell: Shell) -> None:
    """A database that the server does not have is refused in a whole sentence."""
    ended = shell("status", "--url", shell.url.rpartition("/")[0] + "/9999")
    said = error_texts.server_said(error_texts.SERVER_REFUSED["DB"], "DB index is out of range")
    assert (ended.code, ended.error) == (1, f"DB: {said}")


@on_valkey
@pytest.mark.parametrize("line", CREATING)
def test_create(shell: Shell, line: str) -> None:
    """With --create, a verb opens a budget that does not exist."""
    words = line.format(name="new").replace("30", "0.2").split(" ")
    is_run = words[0] == "run"  # the new budget has no rate
    ended = typed(
        shell, *words[:2], "--create", *(["--timeout", "0.2"] if is_run and "0.2" not in words else []), *words[2:]
    )
    assert ended.code == (75 if is_run else 0), ended.err
    assert [each["name"] for each in shell("list", "--json").json] == ["new"]


@on_valkey
def test_foreign_keys(shell: Shell) -> None:
    """Keys and names of others among those of the budgets are passed over."""
    shell("set", "stripe", "--rate", "5")
    shell.client.set("nexus:{strips}", "mine")
    odd: dict[Any, float] = {b"\xff\xfe": 1, "a b": 1, "strips": 1, "gone": 1}
    shell.client.zadd("nexus:budgets", odd)
    for words in (["status", "--json"], ["list", "--json"]):
        assert [each["name"] for each in shell(*words).json] == ["stripe"]
    assert "did you mean stripe?" in shell("set", "stripee", "--rate", "1").out
    shell.client.xadd("nexus:{stripe}:history", {"by": b"\xff", "reason": b"\xfe", "rate_per_s": "1", "level": "1",
                                                 "load_percent": "1"})  # fmt: skip
    assert shell("explain", "stripe").code == 0


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_budget_lines_fit(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Each budget takes one line, and the table drops columns on a narrow terminal."""
    names = ["stripe", *("a-name-as-long-as-names-may-be-because-somebody-has-chosen-it-so" + end for end in "12")]
    seen = [
        BudgetSnapshot(
            name[-64:], exists=True, rate=1234.5, level=3, load=0, reason="no_consumers", tokens=0, burst=0,
            granted_total=0, birth="", settings={}, paused_for=None, pause_reason="", last_consumer_end="",
            consumers=(), producers=(), consumer_count=0, producer_count=12_345, age=90, refresh=0.1,
        )
        for name in names
    ]  # fmt: skip
    console = Console(width=width, file=(drawn := StringIO()), force_terminal=True, color_system=None)
    monkeypatch.setattr(tables, "console_of_stdout", lambda: console)
    tables.show(lambda console: tables.budgets(console, seen))
    head, *lines = drawn.getvalue().splitlines()
    wanted = ["RATE", "LEVEL", "LOAD", "REASON", "CONSUMERS", "PRODUCERS", "AGE"]
    assert [word for word in head.split() if word in wanted] == {
        40: ["RATE", "LEVEL"],
        80: ["RATE", "LEVEL", "REASON", "CONSUMERS"],
    }.get(width, wanted)
    assert [line.split()[0][-1] for line in lines] == ["1", "2", "e"]  # in the order of their names
    assert all("1,234.5/s" in line.split() and len(line) <= width for line in lines)


@on_valkey
def test_control_characters(shell: Shell) -> None:
    """Text from Redis can neither move the cursor nor use markup."""
    shell("pause", "stripe", "--create", "--reason", f"[red]{ESCAPE}]0;owned{ESCAPE}[2J", "--by", f"a{ESCAPE}[2J")
    shell.client.hset("nexus:{stripe}", "reason", f"{ESCAPE}[2J[bold]")
    for ended in (shell("status"), shell("status", "stripe"), shell("pause", "stripe", "--reason", ESCAPE)):
        assert ended.code == 0
        assert ESCAPE not in ended.out
    shell("pause", "stripe", "--reason", f"[red]{ESCAPE}]0;owned")
    assert "[red]\N{REPLACEMENT CHARACTER}]0;owned" in shell("status", "stripe").out


@on_valkey
def test_namespace(shell: Shell) -> None:
    """--namespace wins over NEXUS_REDIS_NAMESPACE, and both select other keys."""
    shell("set", "stripe", "--rate", "5", "--namespace", "mine")
    assert shell.client.exists("mine:{stripe}")
    assert shell("status", "stripe").code == 1
    assert shell("status", "stripe", NEXUS_REDIS_NAMESPACE="mine").code == 0
    assert shell("status", "stripe", "--namespace", "mine", NEXUS_REDIS_NAMESPACE="other").code == 0


def test_scripts(nowhere: Shell) -> None:
    """`scripts` lists the scripts, and prints a source with its includes or the bundle."""
    listed = [line.split()[:2] for line in nowhere("scripts").out.splitlines()]
    assert listed == [[name, scripts.script(name).sha] for name in scripts.NAMES]
    for name in scripts.NAMES:
        assert nowhere("scripts", name, "--bundle").out == scripts.script(name).text
        shown = nowhere("scripts", name).out
        assert shown.startswith(f"--[[ {name}: ")
        assert shown.count("local function refill(") == (name != "inspect")
        assert "@include" not in shown
    refused = nowhere("scripts", "clam")
    assert (refused.code, refused.error) == (2, texts.unknown_script("clam", choice(scripts.NAMES)))


# --- redis -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("PING", ["PONG"]),
        ("ECHO PONG", ['"PONG"']),
        ("INCR n", ["(integer) 1"]),
        ("DECRBY n 5", ["(integer) -5"]),
        ("GET nothing", ["(nil)"]),
        ("KEYS nothing", ["(empty array)"]),
        ("SET a -5", ["OK"]),
        ("SET --url --json", ["OK"]),
        ("ECHO -h", ['"-h"']),
        ("ECHO --help", ['"--help"']),
        ("EVAL return{redis.pcall('GET')} 0", ["1) (error) "]),
        ("HSET h b 1", ["(integer) 1"]),
        (
            'EVAL return{1,{"a",{}},{2,{ok="OK"}},redis.call("HGETALL",KEYS[1]),false} 1 h',
            [
                "1) (integer) 1",
                '2) 1) "a"',
                "   2) (empty array)",
                "3) 1) (integer) 2",
                "   2) OK",
                "4) (empty array)",
                "5) (nil)",
            ],
        ),
    ],
)
def test_redis_answers(shell: Shell, command: str, shown: list[str]) -> None:
    """`redis` prints each answer as redis-cli does."""
    ended = shell("redis", *command.split(" "))
    lines = ended.out.splitlines()
    assert len(lines) == len(shown)
    assert all(line.startswith(start) for line, start in zip(lines, shown, strict=True)), lines
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("command", "said"),
    [("-x y", "ERR unknown command"), ("GET", "ERR wrong number of arguments for 'get' command")],
)
def test_redis_error(shell: Shell, command: str, said: str) -> None:
    """`redis` prints the words of a refusal on stderr, and ends with 1."""
    ended = shell("redis", *command.split(" "))
    assert (ended.code, ended.out) == (1, "")
    assert ended.error.startswith(texts.command_refused(said))


@on_valkey
def test_redis_bytes(shell: Shell) -> None:
    """`redis` sends any bytes, and shows a hash as a flat list."""
    ended = shell.process("redis", "HSET", "h", "f", os.fsdecode(b'"\xff\x00'[:2] + b"\n\\"))
    assert ended.out == "(integer) 1\n"
    assert shell("redis", "HGETALL", "h").out == '1) "f"\n2) "\\"\\xff\\n\\\\"\n'


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"$-1\r\n", ["(nil)"]),
        (b"*-1\r\n", ["(nil)"]),
        (b"$0\r\n\r\n", ['""']),
        (b"+\r\n", [""]),
        (b"-ERR a\x1b[2J\r\n", ["(error) ERR a\N{REPLACEMENT CHARACTER}[2J"]),
        (b"$4\r\n\x00\x7f\r\n\r\n", ['"\\x00\\x7f\\r\\n"']),
        (b"*10\r\n" + b":1\r\n" * 9 + b"*2\r\n*1\r\n:2\r\n:3\r\n",
         [*(f" {i}) (integer) 1" for i in range(1, 10)), "10) 1) 1) (integer) 2", "    2) (integer) 3"]),
    ],
)  # fmt: skip
def test_redis_forms(answer: bytes, shown: list[str]) -> None:
    """Each kind of answer is printed in its form."""
    assert list(lines(resp.read(BytesIO(answer)))) == shown


@pytest.mark.parametrize("answer", [b"", b"+OK", b"$5\r\nab", b"*2\r\n:1\r\n", b"HTTP/1.1 400\r\n"])
def test_redis_half_answer(answer: bytes) -> None:
    """An answer that is cut short, or not in the protocol, is an error."""
    with pytest.raises(ConnectionError):
        resp.read(BytesIO(answer))


@on_valkey
@pytest.mark.hurried
def test_redis_waits(shell: Shell) -> None:
    """A blocking command may take longer than the timeout of our calls."""
    assert shell("redis", "BLPOP", "nothing", "0.6").out == "(nil)\n"


@on_valkey
def test_redis_embedded(shell: Shell) -> None:
    """`redis` works on an embedded server."""
    ended = shell.process("redis", "--url", "embedded://", "PING")
    assert (ended.code, ended.out) == (0, "PONG\n")
    assert log_texts.EMBEDDED_STARTED.partition("%d")[2] in ended.err


# --- bad input -------------------------------------------------------------------------------------------------------

BAD = [
    "set {x} --rate 1", "pause a:b", "resume a}", "status {x}", f"status {LONG}n", "signal a/b/c --rate 1",
    "report .. --load 1",
    "signal x --rate 5 --id a{b}", "report x --load 5 --capacity 5 --id {", "set x --rate 1 --namespace a:b",
    "set x", "set", "set x --rate nan", "set x --rate -1", "set x --rate 1e10", "set x --rate 10/week",
    "set x --rate inf",
    "set x --min-rate 1e400", "set x --rate 1 --min-rate 2", "set x --burst nan", "set x --burst -1",
    "set x --burst 1e9",
    "set x --burst 86400 --rate 1e9", "set x --burst ten", "set x --law pid", "set x --combine max",
    "set x --transit inf",
    "set x --latency-target-ms 1e12", "set x --unset weight", "set x --rate 1 --unset rate", "set x --speed 5",
    "set x --rate", "set x y --rate 5",
    "pause x nan", "pause x 0", "pause x 1e9", "pause x -- -5", "pause x -5", "pause x soon", "pause x 5w",
    "pause x 1h30", "pause x 2d", "pause x --by a:b", f"resume x --by {LONG}n", "set x --rate 5 --by :",
    "run x --timeout 5w -- true", "report x --load 5 --capacity 1 --pause 2d", "set x --burst 1x", "bench --seconds 1x",
    f"pause x --reason {'r' * 201}",
    "signal x", "signal x --rate nan", "signal x --rate 1e10", "signal x --rate -1", "signal x --rate 1 --weight 0",
    "signal x --rate 1 --weight nan", "signal x --rate 1 --priority urgent", "signal x --rate 1e-9",
    "report x", "report x --load nan --capacity 1", "report x --load 101 --capacity 1",
    "report x --load -1 --capacity 1",
    "report x --load 5 --capacity 0", "report x --load 5 --capacity 1e10", "report x --queue-depth 1e300 --done 1",
    "report x --queue-depth 1 --queue-limit 0 --done 1", "report x --in-flight 1 --slots 0 --capacity 1",
    "report x --load 5 --capacity 1 --every 0", "report x --load 5 --capacity 1 --every nan",
    "report x --load 5 --capacity 1 --every 1e6", "report x --load 5 --capacity 1 --pause -1", "report x --every 5",
    "report x --load 5 --capacity 1 --latency-ms -3", "report x --load five",
    "list x", "explain", "explain {x}", "explain x --history -1", "forget x", "forget x {y}", "forget {x} y",
    "delete {x} --yes", "delete", "pace", "pace {x}", "pace x --cost words", "pace x --weight 0",
    "pace x --priority urgent", "run", "run x", "run {x} -- true", "run x --cost 0 -- true", "run x --cost nan -- true",
    "run x --timeout -1 -- true", "run x --weight 1e9 -- true", "run x --priority urgent -- true",
    "set --rate 5", "set --from /no/such/file",
    "set x --rate 5 --from /dev/null", "set --from /dev/null", "--completion csh", "delete x",
    "status a b", "status --rate", "scripts nothing", "redis", "frobnicate", "staus", "--nothing", "demo --seconds 0",
    "demo --producers 1000", "demo --consumers two", "demo --input /no/such/file", "demo --namespace a{b}",
]  # fmt: skip


@on_valkey
@pytest.mark.parametrize("line", BAD)
def test_bad_input(shell: Shell, line: str) -> None:
    """Wrong usage ends with 2 and one line on stderr, and writes nothing."""
    ended = shell(*line.split())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("nexus-redis: ")
    assert shell.client.dbsize() == 0


@pytest.mark.parametrize(
    "url",
    ["http://x", "redis://localhost:abc", "redis://localhost:99999", "redis://localhost?nothing=1",
     "redis://localhost?socket_timeout=x", "embedded://cache", "/run/redis.sock", "redis+cluster://a/1",
     "redis://[::1", ":hunter2@cache"],
)  # fmt: skip
def test_bad_address(nowhere: Shell, url: str) -> None:
    """An address that cannot be used is refused, without its password."""
    for words in (["status"], ["redis", "PING"]):
        ended = nowhere(words[0], "--url", url, *words[1:])
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert "--url" in ended.err
        assert "hunter2" not in ended.err


def test_error_text(nowhere: Shell) -> None:
    """An error names the option and the remedy, and hides passwords."""
    refused = nowhere("report", "x", "--load", "101", "--capacity", "1")
    assert refused.error == f"--load 101: {RANGES['load'].remedy}"
    for cost in ("--cost=0", "--cost 0", "--cost 0.0"):
        refused = nowhere("run", "x", *cost.split(), "--", "true")
        assert refused.error == f"{cost.replace('=', ' ')}: {RANGES['cost'].remedy}"
    assert nowhere("signal", "x").error.endswith(" See nexus-redis signal --help")
    assert "Did you mean 'status'" in nowhere("staus").err
    for words in (["status", "--url", "http://:hunter2@x"], ["status", "x", "redis://u:hunter2@x"]):
        assert "hunter2" not in nowhere(*words).err


def test_huge_argument(nowhere: Shell) -> None:
    """An error that quotes a huge argument is cut."""
    for words in (["status", "x" * 100_000], ["set", "x", "--rate", "9" * 100_000], ["status", "a", "b" * 100_000]):
        ended = nowhere(*words)
        assert ended.code == 2
        assert len(ended.err) <= LONGEST_LINE + 20


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["status"], ["signal", "x", "--rate", "5"], ["redis", "PING"], ["pause", "x"]])
def test_redis_away(nowhere: Shell, words: list[str]) -> None:
    """Without Redis a verb ends with 69, and hides the password."""
    ended = nowhere(*words)
    assert (ended.code, ended.out, ended.err.count("\n")) == (69, "", 1)
    assert "127.0.0.1:1" in ended.err
    assert "secret" not in ended.err


@on_valkey
def test_wrong_password(shell: Shell) -> None:
    """A wrong password ends with 1, and the error says so."""
    for words in (["status"], ["redis", "PING"]):
        ended = shell(*words, NEXUS_REDIS_URL=shell.url.replace("://", "://who:secret@"))
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert "invalid username-password" in ended.err


@on_valkey
def test_ctrl_c(shell: Shell) -> None:
    """Ctrl-C ends a verb with 130 and without a traceback."""
    process = shell.start("redis", "BLPOP", "nothing", "0")
    assert eventually(lambda: any(each["cmd"] == "blpop" for each in shell.client.client_list()))
    process.send_signal(signal.SIGINT)
    out, err = finish(process)
    assert (process.returncode, out, err) == (130, "", "")


@on_valkey
@pytest.mark.parametrize("words", [["scripts", "claim"], ["scripts"], ["--help"], ["status"]])
def test_broken_pipe(shell: Shell, words: list[str]) -> None:
    """When the reader of its output has gone, a verb ends with 141 and without an error."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = shell.process(*words, stdout=writing)
    os.close(writing)
    assert (ended.code, ended.err) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk(nowhere: Shell) -> None:
    """A full disk is one line on stderr."""
    with Path("/dev/full").open("w") as full:
        ended = nowhere.process("scripts", stdout=full)
    assert (ended.code, ended.error) == (1, texts.output_failed("No space left on device"))


def test_closed_output(nowhere: Shell) -> None:
    """A closed stdout is not an error."""
    ended = nowhere.process("scripts", stdout=None, preexec_fn=lambda: os.close(1))
    assert (ended.code, ended.err) == (0, "")


def test_bug(nowhere: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception keeps its traceback."""

    def broken(_: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(scripts, "script", broken)
    with pytest.raises(ZeroDivisionError):
        nowhere("scripts")


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_missing_packages(package: str) -> None:
    """Without typer or rich, one line says what to install."""
    code = f"import sys; sys.modules[{package!r}] = None; from nexus_redis.__main__ import main; sys.exit(main())"
    ended = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr == f"nexus-redis: {texts.INSTALL}\n"
    assert "pip install " + "nexus-redis" not in ended.stderr  # in two parts, because a test searches all files for it


# --- help ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_verb(nowhere: Shell, verb: str) -> None:
    """The help of each verb has an example and the common options."""
    ended = nowhere(verb, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(rf"Examples?:\n    .*nexus-redis {verb}", ended.out)
    for words in ("--url", "--namespace", "NEXUS_REDIS_URL", "password"):
        assert (words in ended.out) is (verb != "token")  # which asks no Redis
    assert max(map(len, ended.out.splitlines())) <= 100
    assert nowhere(verb, "-h").out == ended.out


def test_help_of_all(nowhere: Shell) -> None:
    """The first page of the help describes each verb in a whole line."""
    ended = nowhere("--help")
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\S.*\.$", ended.out, re.MULTILINE)
    assert "..." not in ended.out.split("Commands:")[1]
    assert nowhere() == Ended(2, "", ended.out)
    assert nowhere("--version").out == "nexus-redis 0.1.0\n"


def test_imports_of_app() -> None:
    """The list of verbs imports neither redis-py nor pydantic nor rich."""
    code = (
        "import sys, nexus_redis; before = set(sys.modules); import nexus_redis.cli.app\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {name for name in loaded.stdout.split() if name.split(".")[0] in ("redis", "pydantic", "msgpack", "rich")}
    assert not heavy


# --- demo ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The options of each demo, in place of a demo."""
    options: list[Options] = []

    def run(given: Options) -> Result:
        options.append(given)
        return Result("", 1, 1, 1, 1, 3, runs=())

    monkeypatch.setattr("nexus_redis.demo.run", run)
    return options


def test_demo_options(nowhere: Shell, played: list[Options], tmp_path: Path) -> None:
    """`demo` passes its options on."""
    words = ("--seconds", "3", "--producers", "4", "--consumers", "5", "--json", "--namespace", "mine")
    assert nowhere("demo", "--input", "a", "b", *words, "c").code == 0
    files = (Path("a"), Path("b"), Path("c"))
    assert played == [Options(files, 3, 4, 5, NOWHERE, "mine", json=True)]


def test_demo_server(nowhere: Shell, played: list[Options]) -> None:
    """`demo` uses an embedded server unless a Redis is named, and never the namespace of real work."""
    assert nowhere("demo", NEXUS_REDIS_URL="").code == 0
    # The demo deletes its budget, so it must not use the namespace of real work.
    assert nowhere("demo", NEXUS_REDIS_NAMESPACE="production").code == 0
    assert played == [Options(), Options(url=NOWHERE)]


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_whole_floats_in_json() -> None:
    """A whole float is written as an integer, as in the messages of the protocol, wherever it stands."""
    assert as_json({"rate": 100.0, "parts": [2.0, 0.5]}) == '{"rate": 100, "parts": [2, 0.5]}'
    assert as_message({"rate": 25.0, "more": {"load": 1.5}}) == '{"rate":25,"more":{"load":1.5}}'


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [
        (formatting.rate, 0, "0/s"),
        (formatting.rate, 1, "1/s"),
        (formatting.rate, 100, "100/s"),
        (formatting.rate, 2500.5, "2,500.5/s"),
        (formatting.rate, 1e9, "1,000,000,000/s"),
        (formatting.rate, 0.166667, "10/min"),
        (formatting.rate, 0.016667, "1/min"),
        (formatting.rate, 1 / 3600, "1/h"),
        (formatting.rate, 1 / 86_400, "1/d"),
        (formatting.rate, 1e-6, "0.0864/d"),
        (formatting.seconds, 0.25, "0.25 s"),
        (formatting.seconds, 180, "3 min"),
        (formatting.seconds, 86_400, "24 h"),
        (formatting.number, 9999.96, "10,000"),
        (formatting.number, 33.333, "33.33"),
    ],
)
def test_numbers(form: Callable[[float], str], value: float, shown: str) -> None:
    """Numbers are printed as people write them."""
    assert form(value) == shown


# --- texts -----------------------------------------------------------------------------------------------------------


def test_messages() -> None:
    """messages.txt lists all errors as they are; `python -m tests.cli.messages` writes it again."""
    assert messages() == GOLDEN.read_text()

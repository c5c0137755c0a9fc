"""`docs/operations.md` is true: transcripts are typed again, rights are enough and not too many, bytes are weighed.

The transcripts of `docs/command-line.md` are typed again as well.

A transcript is a block of `console`: lines behind `$` (and `>`, where they go on) are typed into one bash, on an empty
server; what follows each is what it prints, errors too. `...` in a line is anything, a line of it is any lines or none;
where two spaces stand there may be more.
"""

from __future__ import annotations

import asyncio
import os
import queue
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis

from benchmarks import footprint
from nexus_redis import Nexus, ServerRefused
from nexus_redis import asyncio as anexus
from nexus_redis._protocol import explain
from nexus_redis._redis.embedded import HOST, ServerProcess
from nexus_redis._values import log_texts
from tests.harness.command_line import ROOT, Shell
from tests.harness.servers import Server, launch
from tests.harness.support import LONG_PATIENCE, eventually

PAGE: Final = (ROOT / "docs" / "operations.md").read_text()
TRANSCRIPTS: Final = [
    pytest.param(match[1], id=f"{name}-{page[: match.start()].count(chr(10)) + 1}")
    for name, page in (("line", PAGE), ("command-line", (ROOT / "docs" / "command-line.md").read_text()))
    for match in re.finditer(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
]
NEXT: Final = "@@@ next @@@"
PUSH: Final = "nexus_redis/_redis/pubsub.py"
CHANNEL: Final = "nexus:{stripe}:flow"


# --- transcripts -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> Iterator[ServerProcess]:
    """A server that transcripts may give users to."""
    process = launch("valkey")
    yield process
    process.stop()


def typed(transcript: str) -> list[tuple[str, str]]:
    """What is typed, and what it prints."""
    steps: list[tuple[str, str]] = []
    for line in transcript.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        elif line.startswith("> "):
            steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", "")
        else:
            steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    return steps


def as_pattern(printed: str) -> str:
    """A regular expression for what is printed."""
    lines = (r"(?:.*\n)*" if line == "..." else _line_pattern(line) + r"\n" for line in printed.splitlines())
    return "".join(lines)


def _line_pattern(line: str) -> str:
    parts = (re.escape(part) for part in line.split("..."))
    return re.sub(r"(?:\\ ){2,}", " {2,}", ".*".join(parts))  # columns are as wide as an age happens to be


def tools(folder: Path) -> str:
    """A PATH with our command and, in the place of redis-cli, our verb that prints as it does."""
    python = shlex.quote(sys.executable)
    commands = {
        "python": python,
        "nexus-redis": f"{python} -m nexus_redis",
        "redis-cli": f"{python} -m nexus_redis redis",
    }
    for name, command in commands.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("transcript", TRANSCRIPTS)
def test_a_transcript_is_what_one_sees(own: ServerProcess, transcript: str, tmp_path: Path) -> None:
    """A transcript is what a reader sees."""
    with redis.Redis(port=own.port) as client:
        client.flushall()
        client.acl_deluser("nexus")
    steps = typed(transcript)
    script = f"\necho '{NEXT}'\n".join(command for command, _ in steps)
    script = script.replace("localhost:6379", f"{HOST}:{own.port}")
    (tmp_path / "tools").mkdir()
    environment = {
        **Shell(f"redis://{HOST}:{own.port}/0", redis.Redis()).environment,
        "PATH": tools(tmp_path / "tools"),
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LONG_PATIENCE,
    )  # fmt: skip
    found = done.stdout.split(f"{NEXT}\n")
    assert len(found) == len(steps)
    for (command, printed), seen in zip(steps, found, strict=True):
        assert re.fullmatch(as_pattern(printed), seen), f"$ {command}\n{seen}"


# --- rights ----------------------------------------------------------------------------------------------------------


def rights() -> list[str]:
    """The words of the page's ACL SETUSER, but for the user's name."""
    found = re.search(r"^\$ redis-cli ACL SETUSER nexus (.*)$", PAGE, re.MULTILINE)
    assert found
    return shlex.split(found[1])


def allowed(words: list[str]) -> set[str]:
    return {word[1:].upper() for word in words if word.startswith("+")}


def test_the_rights_are_those_of_the_sources() -> None:
    """The rights of the page are the commands that are in the sources."""
    scripts = [*(ROOT / "lua").rglob("*.lua"), ROOT / "nexus_redis" / "_protocol" / "budget_list.py"]
    lua = {command for path in scripts for command in re.findall(r"redis\.p?call\('([A-Z]+)'", path.read_text())}
    lua |= {
        c for path in (ROOT / "lua").rglob("*.lua") for c in re.findall(r"= \{'([A-Z]+)', keys\.", path.read_text())
    }
    python = {
        command
        for path in (ROOT / "nexus_redis").rglob("*.py")
        if path.name not in {"sources.py", "load_generator.py", "benchmark.py"} and "demo" not in path.parts
        for command in re.findall(r'Command\(\s*\("([A-Z]+)"', path.read_text())
    }
    python |= {command.upper() for command in re.findall(r"pubsub\.(\w*subscribe)\(", (ROOT / PUSH).read_text())}
    assert allowed(rights()) == (lua | python | {"EVALSHA", "EVAL"}) - {"SCAN"}
    assert {"PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"} <= lua | python
    assert {"HDEL", "SCAN"} <= lua | python  # or the searches above find nothing


@pytest.fixture
def restricted(real_server: Server) -> Iterator[Shell]:
    """A shell of the page's user, who may also watch a stream and a list as the page says."""
    admin = real_server.client(decode_responses=True)
    more = re.findall(r"`('~(?:orders|jobs)'.*?)`", PAGE)
    assert len(more) == 2
    admin.execute_command("ACL", "SETUSER", "nexus", *rights(), *(word for each in more for word in shlex.split(each)))  # type: ignore[no-untyped-call]  # redis-py
    admin.xgroup_create("orders", "index", mkstream=True)
    admin.xadd("orders", {"id": "1"})
    yield Shell(real_server.url.replace("://", "://nexus:secret@"), admin)
    admin.acl_deluser("nexus")


def test_only_delete_needs_more_rights(restricted: Shell, tmp_path: Path) -> None:
    """The rights of the page are enough for everything but `delete`."""
    with Nexus.from_url(restricted.url) as nexus:
        _use(nexus)
        _hear(nexus, restricted.client)
        with pytest.raises(ServerRefused) as refused:
            nexus.budget("stripe").delete()
        assert refused.value.code == "NOPERM"
        assert "scan" in refused.value.remedy
    asyncio.run(_use_async(restricted.url))
    backup = tmp_path / "budgets.json"
    backup.write_text(restricted("list", "--json").out)
    for line in (
        "status", "status stripe", "explain stripe", "set stripe --rate 50", f"set --from {backup}", "pause stripe",
        "resume stripe", "report stripe --id c --load 10 --capacity 20", "forget stripe c", "signal stripe --rate 20",
        "run stripe -- true",
    ):  # fmt: skip
        words = shlex.split(line)  # these two go past redis-py in a process of their own
        ended = (restricted.process if words[0] in {"signal", "run"} else restricted)(*words)
        assert ended.code == 0, (line, ended.err)
    assert "scan" in restricted("delete", "stripe", "--yes").err
    restricted.client.execute_command("ACL", "SETUSER", "nexus", "+scan")  # type: ignore[no-untyped-call]  # redis-py
    assert restricted("delete", "stripe", "--yes").code == 0


def _use(nexus: Nexus) -> None:
    """Whatever calls there are."""
    stripe, tenant = nexus.budget("stripe", rate="100/s"), nexus.budget("stripe", key="cust-42")
    stripe.acquire()
    tenant.acquire()
    stripe.signal(10)
    stripe.configure(rate=200)
    stripe.pause(0.01)
    stripe.resume()
    assert "stripe" in nexus.budgets()
    assert stripe.explain().history
    intake: queue.Queue[int] = queue.Queue(maxsize=10)
    with nexus.budget("elasticsearch").consumer() as consumer:
        consumer.watch(intake)
        assert eventually(lambda: nexus.budget("elasticsearch").snapshot().consumer_count == 1)
    watched: list[Any] = [
        nexus.budget("orders").watch_stream("orders", group="index", limit=100),
        nexus.budget("jobs").watch_list("jobs", limit=100, done="jobs:done"),
    ]
    assert eventually(lambda: nexus.budget("orders").snapshot().consumer_count == 1)
    assert eventually(lambda: nexus.budget("jobs").snapshot().consumer_count == 1)
    for each in watched:
        each.close()


def _hear(nexus: Nexus, admin: Any) -> None:
    """A drop, at once."""
    budget = nexus.budget("stripe")

    def is_listening() -> bool:
        budget.try_acquire()
        return bool(admin.pubsub_numsub(CHANNEL)[0][1] == 1)

    assert eventually(is_listening)
    heard: list[Any] = []
    account: Any = nexus._producers["stripe"]
    account.on_rate_drop = lambda drop, _now: heard.append(drop)
    budget.pause(0.01)
    assert eventually(lambda: bool(heard))


async def _use_async(url: str) -> None:
    async with anexus.Nexus.from_url(url) as nexus:
        budget = nexus.budget("elasticsearch", rate=100)
        await budget.acquire()
        async with budget.consumer(capacity=10) as consumer:
            await consumer.report(load=10)
        await budget.explain()


# --- the rest --------------------------------------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, or under a sentence."""
    below = PAGE.partition(heading)[2]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_each_reason_has_its_row() -> None:
    """Each reason has its row."""
    protocol = (ROOT / "docs" / "protocol.md").read_text()
    answers = re.search(r"^\| `reason` \|(.*)\|$", protocol, re.MULTILINE)
    assert answers
    of_answers = set(re.findall(r"`(\w+)`", answers[1])) - {"shadow"}  # is not there yet
    of_budgets = {row[0].strip("`") for row in rows("The budget's, in")}
    of_claims = {row[0].strip("`") for row in rows("A claim's own, in")}
    assert of_budgets == set(explain._REASONS)
    assert of_budgets | of_claims == of_answers | {"unavailable"}


def test_the_alerts_are_real_warnings() -> None:
    """The warnings to alert on are those that the code writes."""
    texts = [text for text in vars(log_texts).values() if isinstance(text, str)]
    row = next(row for row in rows("## What to alert on") if "WARNING" in row[0])
    told = re.findall(r"`([^`]+)`", row[1])
    assert len(told) == 7
    for warning in told:
        assert any(all(part in text for part in warning.split(" ..., ")) for text in texts), warning


def test_no_memory_allows_looks_and_deletes(own: ServerProcess) -> None:
    """Without memory, an operator can look and delete, and no more."""
    with redis.Redis(port=own.port, decode_responses=True) as client:
        client.flushall()
        shell = Shell(f"redis://{HOST}:{own.port}/0", client)
        shell("set", "stripe", "--rate", "100")
        client.config_set("maxmemory", 1)
        try:
            codes = {verb: shell(*verb.split()).code for verb in ("list", "status stripe", "explain stripe")}
            assert set(codes.values()) == {0}, codes
            assert shell("pause", "stripe").code == shell("set", "stripe", "--rate", "5").code == 69
            assert shell("delete", "stripe", "--yes").code == 0
        finally:
            client.config_set("maxmemory", 0)


# --- weights ---------------------------------------------------------------------------------------------------------


def test_the_memory_is_what_the_page_says() -> None:
    """Of one server, from fewer of each; the server's tables grow in steps, so within a third."""
    row = re.search(r"^\| Valkey .*?\|(.*)\|$", PAGE, re.MULTILINE)
    assert row
    said = [int(cell.replace(",", "")) for cell in row[1].split("|")]
    weighed = [int(cell.replace(",", "")) for cell in footprint.measure("valkey", 500).split("|")[2:7]]
    for promised, found in zip(said, weighed, strict=True):
        assert promised == pytest.approx(found, rel=1 / 3)

"""`status --watch` and `--log-format`, as a shell and a person see them."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from nexus_redis._values import log_texts
from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import BROKEN_PIPE, INTERRUPTED, SIGNALLED
from nexus_redis.cli.output import print_record
from tests.harness.chaos import Proxy
from tests.harness.command_line import Shell
from tests.harness.servers import Server
from tests.harness.support import eventually, finish


@pytest.fixture
def shell(one_server: Server) -> Shell:
    return Shell(one_server.url, one_server.client(decode_responses=True))


@pytest.fixture
def watching(shell: Shell) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `status --watch` with the time of a tenth of a second; what still runs at the end is killed."""
    started = []

    def start(*words: str, of: Shell = shell, **streams: object) -> subprocess.Popen[str]:
        started.append(of.start("status", "--watch", "0.1", *words, **streams))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line of stdout."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_json_is_a_line_a_look(shell: Shell, watching: Callable[..., subprocess.Popen[str]]) -> None:
    """With --json each look is a line, which has a change that is made meanwhile; Ctrl-C ends it with 130."""
    shell("set", "stripe", "--rate", "5000")
    process = watching("--json", of=shell.patient)
    (budget,) = json.loads(line(process))
    assert budget["rate"] == 5000
    assert budget["at"] > 1.7e9
    shell("set", "stripe", "--rate", "20")
    assert eventually(lambda: json.loads(line(process))[0]["rate"] == 20)
    process.send_signal(signal.SIGINT)
    _, err = finish(process)
    assert (process.returncode, err) == (INTERRUPTED, "")


def test_one_budget_may_be_watched(shell: Shell, watching: Callable[..., subprocess.Popen[str]]) -> None:
    """With a name, each line is that budget with its members; while it is gone, stderr says so once."""
    shell("set", "stripe", "--rate", "5000")
    process = watching("stripe", "--json", of=shell.patient)

    def looks() -> int:
        return int(shell.client.info("commandstats")["cmdstat_evalsha"]["calls"])

    assert json.loads(line(process))["producers"] == []
    shell("delete", "stripe", "--yes")
    assert process.stderr is not None
    assert "stripe" in process.stderr.readline()
    after = looks() + 5
    assert eventually(lambda: looks() > after)
    shell("set", "stripe", "--rate", "20")
    assert texts.WATCH_IS_BACK in process.stderr.readline()
    assert eventually(lambda: json.loads(line(process))["rate"] == 20)
    process.terminate()
    finish(process)
    assert process.returncode == SIGNALLED + signal.SIGTERM


def test_a_block_of_lines_a_look(shell: Shell, watching: Callable[..., subprocess.Popen[str]]) -> None:
    """Without a terminal each look is its time, the tables as without --watch, and an empty line."""
    shell("set", "stripe", "--rate", "5000")
    process = watching(of=shell.patient)
    for _ in range(2):
        when, title, row, end = (line(process) for _ in range(4))
        assert datetime.fromisoformat(when.strip()).year >= 2026
        assert title.split()[:3] == ["BUDGET", "STATE", "RATE"]
        assert row.split()[:3] == ["stripe", "OK", "5,000/s"]
        assert end == "\n"


def test_a_closed_pipe_ends_it(shell: Shell, watching: Callable[..., subprocess.Popen[str]]) -> None:
    """When the reader of its output goes away, the verb ends as `cat` does."""
    shell("set", "stripe", "--rate", "5000")
    process = watching("--json", of=shell.patient)
    assert line(process)
    assert process.stdout is not None
    process.stdout.close()
    assert eventually(lambda: process.poll() is not None)
    assert process.returncode == BROKEN_PIPE
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_redis_may_go_away(shell: Shell, one_server: Server, watching: Callable[..., subprocess.Popen[str]]) -> None:
    """While Redis is away, stderr says so once and stdout gets nothing; afterwards the verb goes on."""
    shell("set", "stripe", "--rate", "5000")
    with Proxy(one_server.port) as proxy:
        process = watching("--json", of=Shell(proxy.url, shell.client))
        assert line(process)
        proxy.refuse()
        proxy.reset()
        assert process.stderr is not None
        gone = process.stderr.readline()
        assert str(proxy.port) in gone
        assert gone.rstrip().endswith(texts.watch_goes_on("").removeprefix(". "))
        shell("set", "stripe", "--rate", "20")
        proxy.accept()
        assert texts.WATCH_IS_BACK in process.stderr.readline()
        assert eventually(lambda: json.loads(line(process))[0]["rate"] == 20)
        process.terminate()
        finish(process)


def test_the_first_look_fails_as_before(shell: Shell) -> None:
    """A wrong address or name ends the verb at once, with the exit code that it has without --watch."""
    assert shell("status", "--watch", "--url", "redis://127.0.0.1:1/0").code == 69
    ended = shell("status", "stripe", "--watch")
    assert (ended.code, ended.err.count("\n")) == (1, 1)


@pytest.mark.parametrize("words", [("--watch", "0"), ("--watch", "2parsecs"), ("--watch=9d",), ("--watch=",)])
def test_a_wrong_time_is_refused(shell: Shell, words: tuple[str, ...]) -> None:
    """A time out of its range is refused with the remedy."""
    ended = shell("status", *words)
    assert (ended.code, ended.out) == (2, "")
    assert "--watch" in ended.error


def test_the_time_may_be_left_out(shell: Shell) -> None:
    """A word after --watch that begins with no digit is the name."""
    ended = shell("status", "--watch", "strpie")
    assert (ended.code, "strpie" in ended.error) == (1, True)
    assert ended.error.endswith(texts.NAME_AFTER_WATCH)
    assert texts.NAME_AFTER_WATCH not in shell("status", "strpie", "--watch").error


def drawn(process: subprocess.Popen[str], ours: int, enough: Callable[[str], object]) -> str:
    """Return what a verb has drawn on a terminal when it is enough."""
    written = ""

    def has_enough() -> object:
        nonlocal written
        written += os.read(ours, 1 << 16).decode(errors="replace")
        return enough(written)

    assert eventually(has_enough)
    return written


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, 143)])
def test_a_terminal_is_drawn_in_place(
    shell: Shell, one_server: Server, watching: Callable[..., subprocess.Popen[str]], number: int, code: int
) -> None:
    """On a terminal each look is drawn over the last; trouble stands above it; the cursor is back at the end."""
    shell("set", "stripe", "--rate", "5000")
    with Proxy(one_server.port) as proxy:
        ours, theirs = os.openpty()
        process = watching(of=Shell(proxy.url, shell.client), stdout=theirs, stderr=theirs)
        os.close(theirs)
        drawn(process, ours, lambda text: text.count("5,000/s") > 2 and "\x1b[1A" in text)
        proxy.refuse()
        proxy.reset()
        text = drawn(process, ours, lambda text: re.search(rf"{proxy.port}.*stripe", text, re.DOTALL))
        assert "nexus-redis:" not in text
        proxy.accept()
        shell("set", "stripe", "--rate", "20")
        drawn(process, ours, lambda text: "20/s" in text)
        process.send_signal(number)
        eventually(lambda: process.poll() is not None)
        end = os.read(ours, 1 << 16).decode(errors="replace")
        os.close(ours)
    assert process.returncode == code
    assert "\x1b[?25h" in end


# --- --log-format ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _format_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option sets the variable for child processes, too: a test of it leaves no trace."""
    monkeypatch.delenv("NEXUS_REDIS_LOG_FORMAT", raising=False)


def test_errors_may_be_json(shell: Shell) -> None:
    """With --log-format json an error is a line of JSON, also one about the words after it."""
    ended = shell.process("--log-format", "json", "pause", "strpie")
    found = json.loads(ended.err)
    assert (ended.code, found["level"], found["logger"]) == (1, "ERROR", "nexus_redis.cli")
    assert texts.unknown_budget("strpie", shell.where, can_create=True) == found["message"]
    assert json.loads(shell.process("--log-format=json", "nosuch").err)["level"] == "ERROR"


@pytest.mark.parametrize("verb", [("run", "stripe", "--", "true"), ("signal", "stripe", "--rate", "5")])
def test_the_environment_sets_the_format(shell: Shell, verb: tuple[str, ...]) -> None:
    """NEXUS_REDIS_LOG_FORMAT does the same for all verbs, passwords left out, and warnings have their fields."""
    environment = {**shell.environment, "NEXUS_REDIS_LOG_FORMAT": "json"}
    url = ("--url", "redis://:hunter2@127.0.0.1:1/0")
    ended = shell.process(*verb[:2], *url, *verb[2:], env=environment)
    lines = [json.loads(each) for each in ended.err.splitlines()]
    assert ended.code == 69
    assert "hunter2" not in ended.err
    assert lines[-1]["logger"] == "nexus_redis.cli"
    warnings = [each["nexus_event"] for each in lines[:-1]]
    assert warnings == (["redis_away"] if verb[0] == "run" else [])
    assert "redis_away" in {name.lower() for name in vars(log_texts)}


def test_no_record_shows_a_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A password in an address is left out of the message, the fields and the traceback."""
    monkeypatch.setenv("NEXUS_REDIS_LOG_FORMAT", "json")
    url = "redis://:hunter2@cache:6379"
    error = ValueError(url)
    given = {"msg": url, "nexus_cause": url, "exc_info": (ValueError, error, None)}
    print_record(logging.makeLogRecord(given))
    written = capsys.readouterr().err
    assert json.loads(written)["nexus_cause"] == "redis://***@cache:6379"
    assert "hunter2" not in written


def test_an_unknown_format_is_refused(shell: Shell) -> None:
    """Another format is refused with those that there are, as an option and as a variable."""
    assert shell("--log-format", "xml", "status").code == 2
    ended = shell("status", NEXUS_REDIS_LOG_FORMAT="xml")
    assert (ended.code, "json" in ended.error) == (2, True)

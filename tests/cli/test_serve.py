"""The verbs `serve` and `token`, as processes that a signal ends."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
import redis

from nexus_redis.cli import extras, texts
from nexus_redis.server.access import ROLES, parsed
from tests.harness.command_line import Shell
from tests.harness.servers import Server
from tests.harness.support import PATIENCE, eventually, finish, join


@pytest.fixture
def shell(one_server: Server) -> Any:
    """A shell on an empty Redis."""
    with redis.Redis.from_url(one_server.url) as client:
        yield Shell(one_server.url, client).patient


def started(shell: Shell, *words: str) -> tuple[subprocess.Popen[str], httpx.Client]:
    """Start the server as a process, and return it with a client of the address that it prints."""
    process = shell.start("serve", "--port", "0", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    address = next(word for word in line.split() if word.startswith("http"))
    assert line.strip() == f"{texts.serving(address)}"
    client = httpx.Client(base_url=address, timeout=PATIENCE, verify=False)  # noqa: S501  # no TLS here
    return process, client


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_answers_who_waits(shell: Shell, workers: str) -> None:
    """SIGTERM ends the server after it has answered those that wait, and its tokens are back."""
    process, client = started(shell, "--workers", workers)
    with client:
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        client.put("/v1/budgets/slow", json={"settings": {"rate": "1/h"}})
        client.post("/v1/acquire", json={"budget": "slow"})
        answers: list[int] = []

        def wait() -> None:
            with httpx.Client(base_url=client.base_url, timeout=PATIENCE, verify=False) as own:  # noqa: S501
                answers.append(own.post("/v1/acquire", json={"budget": "slow", "timeout_ms": 60_000}).status_code)

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        waiting = "nexus:{slow}:producers"
        assert eventually(lambda: shell.client.zcard(waiting) > 0)
        assert eventually(lambda: float(shell.client.hget("nexus:{slow}", "demand_per_s") or 0) > 0)
        process.send_signal(signal.SIGTERM)
        join(*threads)
        _, error = finish(process)
    assert answers == [503] * 3
    assert process.returncode in (0, -signal.SIGTERM)
    assert error == ""
    assert shell.client.zcard(waiting) == 0


def test_a_port_in_use(shell: Shell) -> None:
    """A port in use is a usage error in one line."""
    process, client = started(shell)
    with client:
        ended = shell.process("serve", "--port", str(client.base_url.port))
        process.terminate()
        finish(process)
    assert ended.code == 2
    assert str(client.base_url.port) in ended.error
    assert ended.error.count("\n") <= 1


def test_an_open_address_needs_tokens(shell: Shell, tmp_path: Path) -> None:
    """Without tokens the server does not listen where others reach it, and a file that is not there is named."""
    assert shell.process("serve", "--host", "0.0.0.0").code == 2
    ended = shell.process("serve", "--host", "0.0.0.0", "--port", "0", "--tokens", str(tmp_path / "none"))
    assert ended.code == 2
    assert "none" in ended.error


def test_a_socket_and_an_address(shell: Shell, tmp_path: Path) -> None:
    """A unix socket beside an address is refused, and a wrong --wait is named as it was typed."""
    for words in (["--host", "0.0.0.0"], ["--port", "9"]):
        ended = shell.process("serve", "--socket", str(tmp_path / "s"), *words)
        assert ended.code == 2
        assert ended.error == texts.SOCKET_AND_ADDRESS
    assert shell.process("serve", "--wait", "abc").error.startswith("--wait 'abc':")


@pytest.mark.parametrize("words", [["serve"], ["token", "shop", "--role", "producer", "--file", "tokens"]])
def test_without_the_extra(shell: Shell, words: list[str]) -> None:
    """Without the packages of the extra, the verb says what to install."""
    with patch.object(extras, "find_spec", return_value=None):
        ended = shell(*words)
    assert ended.code == 2
    assert texts.install_extra("server", "starlette") in ended.error


def test_a_token_is_shown_once(shell: Shell, tmp_path: Path) -> None:
    """The verb prints a token, and its file has only the hash, for nobody else to read."""
    file = tmp_path / "tokens"
    ended = shell("token", "anna", "--role", "operator", "--role", "consumer", "--budget", "es*", "--file", str(file))
    assert ended.code == 0
    made = ended.out.strip()
    assert made not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    (caller,) = parsed(file.read_text(), file).values()
    assert (caller.name, sorted(caller.roles), caller.patterns) == ("anna", ["consumer", "operator"], ("es*",))
    assert shell("token", "shop", "--role", "producer", "--file", str(file)).code == 0
    assert len(parsed(file.read_text(), file)) == 2


def test_a_wrong_token(shell: Shell, tmp_path: Path) -> None:
    """A name that is there, an unknown role and a pattern with a comma are refused, and the file stays as it is."""
    file = tmp_path / "tokens"
    shell("token", "anna", "--role", "operator", "--file", str(file))
    before = file.read_text()
    assert shell("token", "anna", "--role", "observer", "--file", str(file)).code == 2
    ended = shell("token", "otto", "--role", "king", "--file", str(file))
    assert ended.code == 2
    assert all(role in ended.error for role in ROLES)
    assert shell("token", "otto", "--role", "observer", "--budget", "a,b", "--file", str(file)).code == 2
    assert file.read_text() == before


def test_a_file_of_no_use(shell: Shell, tmp_path: Path) -> None:
    """A file that is not there to be written, a directory, and a file of bytes are each a usage error in one line."""
    other = tmp_path / "bytes"
    other.write_bytes(b"\xff")
    for file in (tmp_path / "none" / "tokens", tmp_path, other):
        ended = shell.process("token", "anna", "--role", "operator", "--file", str(file))
        assert ended.code == 2
        assert str(file) in ended.error
        assert len(ended.err.splitlines()) == 1
        assert ended.out == ""
    assert other.read_bytes() == b"\xff"


def test_the_token_of_a_file_works(shell: Shell, tmp_path: Path) -> None:
    """A server with a file of tokens answers a caller that has one."""
    file = tmp_path / "tokens"
    token = shell("token", "anna", "--role", "operator", "--file", str(file)).out.strip()
    process, client = started(shell, "--tokens", str(file))
    with client:
        assert client.get("/v1/budgets").status_code == 401
        assert client.get("/v1/budgets", headers={"authorization": f"Bearer {token}"}).json() == []
        process.terminate()
        finish(process)


def test_the_proxy(shell: Shell) -> None:
    """`serve --upstream` passes requests on at the budget's rate, and tells of itself at paths of its own."""
    upstream, client = started(shell)  # the API is an upstream like any other
    process = shell.start(
        "serve", "--port", "0", "--upstream", str(client.base_url), "--budget", "es", "--rate", "1/h", "--wait", "0",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    address = next(word for word in line.split() if word.startswith("http")).rstrip(",")
    with client, httpx.Client(base_url=address, timeout=PATIENCE, verify=False) as through:  # noqa: S501  # no TLS here
        assert through.get("/v1/whoami").json() == client.get("/v1/whoami").json()
        answer = through.get("/v1/whoami")
        assert answer.status_code == 429
        assert answer.json()["budget"] == "es"
        own = "/.well-known/nexus-redis"
        assert through.get(f"{own}/healthz").text == "ok\n"
        assert through.get(f"{own}/readyz").status_code == 200
        assert 'nexus_redis_client_denied_total{budget="es"' in through.get(f"{own}/metrics").text
        assert through.get(f"{own}/else").status_code == 404
        assert through.get("/v1/whoami", headers={"host": "evil.example"}).status_code == 421
        process.send_signal(signal.SIGTERM)
        _, error = finish(process)
        assert error == ""
        upstream.terminate()
        finish(upstream)


@pytest.mark.parametrize(
    "words",
    [
        ["--budget", "es"],
        ["--upstream", "http://es:9200"],
        ["--upstream", "es:9200", "--budget", "es"],
        ["--upstream", "http://es:9200", "--budget", "e s"],
        ["--upstream", "http://es:9200", "--budget", "es", "--cost", "packets"],
        ["--upstream", "http://es:9200", "--budget", "es", "--stats", "kafka"],
        ["--upstream", "http://es:9200", "--budget", "es", "--rate", "fast"],
        ["--upstream", "http://es:9200", "--budget", "es", "--host", "0.0.0.0"],
        ["--upstream", "http://es:9200", "--budget", "es", "--tokens", "tokens", "--anyone"],
        ["--anyone", "--host", "0.0.0.0"],
    ],
)
def test_a_wrong_proxy(shell: Shell, words: list[str]) -> None:
    """Options of the proxy that make no sense are a usage error in one line."""
    ended = shell.process("serve", "--port", "0", *words)
    assert ended.code == 2, ended
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_log_is_json(shell: Shell, workers: str) -> None:
    """With --log-format json every line of the server is a record, those of its workers too, and no request is one."""
    process = shell.start(
        "--log-format", "json", "serve", "--port", "0", "--workers", workers,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    first = json.loads(process.stderr.readline())
    address = next(word for word in first["message"].split() if word.startswith("http"))
    with httpx.Client(base_url=address, timeout=PATIENCE, verify=False) as client:  # noqa: S501  # no TLS here
        assert eventually(lambda: client.get("/readyz").status_code == 200)
        client.put("/v1/budgets/pay", json={"settings": {"rate": 100}})
        for _ in range(20):
            client.post("/v1/acquire", json={"budget": "pay"})
        client.post("/v1/budgets/pay/pause", json={"seconds": None})
        line = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, rest = finish(process)
    assert out == ""
    records = [json.loads(each) for each in [line, *rest.splitlines()]]
    assert records[0]["nexus_budget"] == "pay"
    assert len(records) < 10

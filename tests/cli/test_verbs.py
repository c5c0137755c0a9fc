"""pace, run, explain, backups, forget, repair, delete, completion and bench as a shell sees them, with signals."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import pytest
import redis

from nexus_redis import Nexus
from nexus_redis._protocol.json_forms import BudgetJson, ExplanationJson, ReportJson
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.identity import whoami
from nexus_redis._values.results import Grant
from nexus_redis.cli import texts
from nexus_redis.cli.app import VERBS
from nexus_redis.cli.child_process import run_command
from nexus_redis.cli.commands.list import SettingsJson
from nexus_redis.cli.paced_copy import PacedCopy
from nexus_redis.cli.progress import Progress
from nexus_redis.errors import AcquireTimeout, Unavailable
from nexus_redis.messages import FlowControl
from nexus_redis.testing import ManualClock
from tests.harness.command_line import ROOT, Ended, Shell
from tests.harness.servers import Server, launch
from tests.harness.support import LONG_PATIENCE, PATIENCE, eventually, finish, in_thread, is_missing
from tests.harness.tls import certify, encrypting

if TYPE_CHECKING:
    from nexus_redis.cli.os_signals import ReceivedSignals
    from nexus_redis.client import Producer

ESCAPE = "\x1b"
BYTES = bytes(range(256)) * 700 + b"\n\r\n\x00no end"


@pytest.fixture
def shell(one_server: Server) -> Shell:
    return Shell(one_server.url, one_server.client(decode_responses=True))


def start(shell: Shell, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a verb whose streams are pipes of bytes."""
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
    return subprocess.Popen((sys.executable, "-m", "nexus_redis", *words), cwd=ROOT, env=shell.environment, **streams)


def paced(shell: Shell, data: bytes, *options: str, name: str = "fast") -> bytes:
    """Return the output of `pace` on a fast budget."""
    process = start(shell.patient, "pace", name, *options)
    out, err = finish(process, data)
    assert (process.returncode, err) == (0, b"")
    return bytes(out)


def server_time(shell: Shell) -> float:
    seconds, micros = shell.client.time()
    return seconds + micros / 1e6


def producers(shell: Shell, name: str) -> int:
    count: int = shell("status", name, "--json").json["producer_count"]
    return count


# --- pace ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["lines", "bytes"])
@pytest.mark.parametrize("data", [b"", b"a", b"\n", b"a\n\nb", BYTES, b"x" * 300_000, b"y" * 70_000 + b"\nz\n"])
def test_pace_copies(shell: Shell, data: bytes, unit: str) -> None:
    """`pace` copies bytes unchanged."""
    shell("set", "fast", "--rate", "1e9")
    assert paced(shell, data, "--cost", unit) == data
    assert producers(shell, "fast") == 0


class RecordingProducer:
    """A producer that always grants `rate` tokens per second, and records the cost of each acquire."""

    def __init__(self, rate: float = float("inf")) -> None:
        self.rate, self.taken = rate, list[float]()
        self.flow = FlowControl(
            consumer_id="x", recommended_rate=1e6, backpressure_level=0, current_load=0.0, budget_rate=1e6
        )

    def signal(self, _rate: float) -> FlowControl:
        return self.flow

    def acquire(self, cost: float, timeout: float | None = None) -> Grant:
        self.taken.append(cost)
        return Grant(cost, waited=cost / self.rate)


class RestoredProducer(RecordingProducer):
    """A producer that grants `degraded` acquires without a limit, and then has a server that allows 20 tokens/s."""

    def __init__(self, degraded: int) -> None:
        super().__init__()
        self._degraded = degraded
        self.flow = self.flow.model_copy(update={"recommended_rate": 20.0, "budget_rate": 20.0})

    def signal(self, _rate: float) -> FlowControl:
        raise Unavailable("x", "down")

    def acquire(self, cost: float, timeout: float | None = None) -> Grant:
        if timeout is not None and len(self.taken) >= self._degraded:
            raise AcquireTimeout("x", cost, timeout)
        grant = super().acquire(cost)
        return replace(grant, degraded=len(self.taken) <= self._degraded)


def through(
    book: RecordingProducer, blocks: list[bytes], monkeypatch: pytest.MonkeyPatch, *, is_open: bool = False
) -> list[bytes]:
    """Return the pieces that `pace` writes when it reads these blocks."""
    written: list[bytes] = []

    def write(_: int, data: bytes) -> int:
        written.append(bytes(data))
        return len(data)

    left = [*blocks, b""]
    received = cast("ReceivedSignals", SimpleNamespace(first=0))
    pipe: Any = PacedCopy(cast("Producer", book), received, Progress(), by_lines=True, is_open=is_open)
    monkeypatch.setattr(pipe, "_read", lambda: left.pop(0))
    monkeypatch.setattr("nexus_redis.cli.paced_copy.os.write", write)
    pipe.run()
    monkeypatch.undo()
    return written


@pytest.mark.parametrize(
    ("blocks", "tokens"),
    [
        ([b"a\nb\nc"], 3),
        ([b"a\nb\n"], 2),
        ([b"\n\n"], 2),
        ([b"a", b"b", b"\nc"], 2),
        ([b"x" * 200_000], 1),
        ([b"x" * 200_000, b"y\nz"], 2),
        ([b"x" * 70_000, b"x" * 70_000, b"\n"], 1),
        ([b"x" * 70_000, b"x" * 70_000, b"x" * 70_000, b"\ny"], 2),
        ([b"x" * 70_000, b"x" * 10], 1),
    ],
)
def test_pace_line_cost(monkeypatch: pytest.MonkeyPatch, blocks: list[bytes], tokens: int) -> None:
    """A line costs one token, however long it is and however it ends."""
    book = RecordingProducer()
    written = through(book, blocks, monkeypatch)
    assert b"".join(written) == b"".join(blocks)
    assert sum(book.taken) == tokens
    assert all(part.endswith(b"\n") or len(part) > 65_536 for part in written[:-1])


def test_pace_redis_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pace` takes large pieces while its outage mode lets everything pass, and small ones when Redis is back."""
    book, lines = RestoredProducer(degraded=5), [b"%d\n" % i for i in range(100)]
    written = through(book, [b"".join(lines)], monkeypatch, is_open=True)
    assert b"".join(written) == b"".join(lines)
    assert book.taken == [1, 1, 2, 4, 8] + [1] * 84


def test_pace_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pace` takes small pieces if others use nearly all of the budget: of a million per second it gets twenty."""
    blocks = [b"line\n" * 1000] * 20
    written = through(RecordingProducer(rate=20), blocks, monkeypatch)
    assert b"".join(written) == b"".join(blocks)
    assert max(len(piece) for piece in written[-200:]) <= 5 * len(b"line\n")  # a quarter of a second


def test_pace_needs_tokens(shell: Shell) -> None:
    """`pace` writes nothing without a token."""
    shell("set", "slow", "--rate", "1000")
    shell("pause", "slow")
    process = start(shell.patient, "pace", "slow")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"line\n" * 101)
    process.stdin.flush()
    assert eventually(lambda: producers(shell, "slow") == 1)
    assert select.select([process.stdout.fileno()], [], [], 0)[0] == []
    shell("resume", "slow")
    assert finish(process) == (b"line\n" * 101, b"")
    assert shell("status", "slow", "--json").json["granted_total"] >= 101


def test_pace_uses_all(monkeypatch: pytest.MonkeyPatch, one_server: Server) -> None:
    """`pace` uses the whole rate of a budget that nobody else uses."""
    with ManualClock() as clock, Nexus.from_url(one_server.url) as nexus:
        book: Any = nexus.budget("fast", rate=2000)
        book.acquire()
        began = clock.now
        through(book, [b"1234567\n" * 2000] * 10, monkeypatch)
        assert clock.now - began == pytest.approx(10, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "unit"), [(2_000, "lines"), (8_000_000, "bytes")])
def test_pace_four_shells(shell: Shell, tmp_path: Path, rate: int, unit: str) -> None:
    """Four shells that copy files hold the sum to the rate, however fast or slow the machine is."""
    began = server_time(shell)
    shell("set", "shared", "--rate", str(rate))
    line = b"1234567\n"
    size = len(line) if unit == "lines" else 1
    data = tmp_path / "data"
    with data.open("wb") as file:
        block = line * 1_000 if unit == "lines" else os.urandom(1 << 20)
        while file.tell() < rate * size / 2:
            file.write(block)
    outs = [tmp_path / f"out{i}" for i in range(4)]
    shells = []
    for out in outs:
        with data.open("rb") as source, out.open("wb") as target:
            shells.append(start(shell.patient, "pace", "shared", "--cost", unit, stdin=source, stdout=target))
    assert [(finish(each)[1], each.returncode) for each in shells] == [(b"", 0)] * 4
    passed = 4 * data.stat().st_size / size
    assert passed <= 1 + rate * (0.25 + server_time(shell) - began)  # a full bucket, and the rate since
    assert shell("status", "shared", "--json").json["granted_total"] >= passed
    for out in outs:
        assert out.read_bytes() == data.read_bytes()
    for big in (*outs, data):  # or pytest keeps them on disk
        big.unlink()


def test_pace_redis_away(tmp_path: Path) -> None:
    """`pace` waits while Redis is away, and loses nothing."""
    server = launch("valkey")
    try:
        shell = Shell(f"redis://127.0.0.1:{server.port}/0", redis.Redis(port=server.port))
        shell("set", "slow", "--rate", "100")
        lines = b"".join(b"%06d\n" % i for i in range(300))
        process = start(shell, "pace", "slow")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines)
        process.stdin.close()
        process.stdin = None
        first = os.read(process.stdout.fileno(), 7)
        assert server.pid is not None
        assert process.stderr is not None
        os.kill(server.pid, signal.SIGSTOP)
        said = in_thread(process.stderr.readline)
        os.kill(server.pid, signal.SIGCONT)
        assert b"Redis does not answer" in said
        out, err = finish(process)
        assert (process.returncode, first + out) == (0, lines)
        assert b"Redis answers again" in err
    finally:
        server.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_pace_signal(shell: Shell, number: int) -> None:
    """A signal ends `pace` after it has written what it had read."""
    shell("set", "slow", "--rate", "20")
    reading, writing = os.pipe()
    lines = [f"{i:06d}\n".encode() for i in range(500)]
    os.write(writing, b"".join(lines))
    process = start(shell.patient, "pace", "slow", stdin=reading)
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 7)
    process.send_signal(number)
    out, err = finish(process)
    os.close(writing)
    with os.fdopen(reading, "rb") as rest:
        left = rest.read()
    assert (process.returncode, err) == (128 + number, b"")
    assert first + out + left == b"".join(lines)  # no line is lost or written twice
    assert left
    assert producers(shell, "slow") == 0


def test_pace_signal_input(shell: Shell) -> None:
    """A signal ends `pace` while it waits for input."""
    shell("set", "fast", "--rate", "1000")
    process = start(shell, "pace", "fast")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"whole\npart")
    process.stdin.flush()
    assert os.read(process.stdout.fileno(), 100) == b"whole\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == b"part"  # to its end, with the input still open: the end of that would be no signal
    finish(process)
    assert process.returncode == 143


def test_pace_signal_tokens(shell: Shell) -> None:
    """A signal ends `pace` while it waits for tokens."""
    shell("set", "stopped", "--rate", "1000")
    shell("pause", "stopped")
    process = start(shell, "pace", "stopped")
    assert process.stdin is not None
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    assert eventually(lambda: producers(shell, "stopped") == 1)
    process.send_signal(signal.SIGINT)
    out, _ = finish(process)
    assert process.returncode == 130
    assert out in (b"", b"a\n", b"a\nb\n")  # not read yet, or read and written
    assert producers(shell, "stopped") == 0


def test_pace_second_signal(shell: Shell, tmp_path: Path) -> None:
    """A second signal ends `pace` while nobody reads its output."""
    shell("set", "fast", "--rate", "1e9")
    data = tmp_path / "data"
    data.write_bytes(b"x" * (1 << 20))
    with data.open("rb") as source:
        process = start(shell, "pace", "fast", "--cost", "bytes", stdin=source)
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 1) == b"x"  # it has read the whole file, and a pipe holds less

    def is_gone() -> bool:
        process.send_signal(signal.SIGTERM)
        return process.poll() is not None

    try:
        assert eventually(is_gone)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 143


TWO_SIGNALS = """
import os, queue, signal
from nexus_redis.cli.os_signals import receive_signals
heard, received = queue.Queue(), receive_signals()
received.listen(lambda number, _is_key: heard.put(number))
for number in (signal.SIGTERM, signal.SIGINT):
    os.kill(os.getpid(), number)
    heard.get(timeout=60)
print(received.exit_code(), received.first)
"""


def test_first_signal_counts() -> None:
    """The first of two signals decides the exit code."""
    done = subprocess.run([sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True, timeout=LONG_PATIENCE,
                          check=True)  # fmt: skip
    assert done.stdout == "143 15\n"


def test_pace_broken_pipe(shell: Shell) -> None:
    """When the reader of its output goes away, `pace` ends with 141, as `cat` does."""
    shell("set", "fast", "--rate", "1e9")
    process = start(shell, "pace", "fast")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(b"x\n" * 100_000)
    with suppress(BrokenPipeError):
        process.stdin.close()
    assert process.wait(PATIENCE) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert producers(shell, "fast") == 0


@pytest.mark.parametrize(
    ("options", "code", "copied", "left"),
    [([], 69, b"", b"kept\n"), (["--on-outage", "open"], 0, b"kept\n", b"")],
    ids=["share", "open"],
)
def test_pace_without_redis(options: list[str], code: int, copied: bytes, left: bytes) -> None:
    """Without Redis, `pace` reads nothing and ends with 69, or copies all where its outage mode is open."""
    nowhere = Shell("redis://:secret@127.0.0.1:1/0", redis.Redis())
    reading, writing = os.pipe()
    os.write(writing, b"kept\n")
    os.close(writing)
    process = start(nowhere, "pace", "x", *options, stdin=reading)
    out, err = finish(process)
    assert (process.returncode, out, b"secret" in err) == (code, copied, False)
    assert all(line.startswith(b"nexus-redis: ") for line in err.splitlines())
    assert os.read(reading, 100) == left
    os.close(reading)


@pytest.mark.parametrize(("mode", "code", "out"), [("open", 0, "hi\n"), ("closed", 69, "")])
def test_run_without_redis(mode: str, code: int, out: str) -> None:
    """Without Redis, `run` follows its outage mode."""
    nowhere = Shell("redis://127.0.0.1:1/0", redis.Redis(port=1))
    ended = nowhere.process("run", "stripe", "--on-outage", mode, "--", "echo", "hi")
    assert (ended.code, ended.out) == (code, out)
    assert all(line.startswith("nexus-redis: ") for line in ended.err.splitlines())
    assert ended.err.endswith(f"{texts.command_not_run('')}\n") == bool(code)


def test_pace_unreadable_input(shell: Shell, tmp_path: Path) -> None:
    """An input that cannot be read is one line on stderr."""
    shell("set", "fast", "--rate", "1000")
    only_writable = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    process = start(shell, "pace", "fast", stdin=only_writable)
    out, err = finish(process)
    os.close(only_writable)
    assert (process.returncode, out) == (1, b"")
    assert Ended(1, "", err.decode()).error == texts.input_failed("Bad file descriptor")


@pytest.mark.parametrize("options", [(), ("--quiet",)])
def test_pace_progress(shell: Shell, options: tuple[str, ...]) -> None:
    """On a terminal `pace` shows its progress, but not with --quiet."""
    shell("set", "stripe", "--rate", "20", "--burst", "0")
    ours, theirs = os.openpty()
    process = start(shell.patient, "pace", "stripe", *options, stderr=theirs)
    finish(process, b"x\n" * 20)
    os.close(theirs)
    try:
        seen = os.read(ours, 1 << 16).decode()
    except OSError:  # nothing was written to it
        seen = ""
    os.close(ours)
    if options:
        assert seen == ""
    else:
        assert re.search(r"stripe  [\d,]+ lines  [\d.]+/\w+, share [\d.]+/s  level 0  waits for tokens", seen)
        assert seen.endswith("\r\n")
        assert "20 lines" in seen.splitlines()[-1]


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 143),
        (["/no/such"], 127),
        (["/"], 126),
    ],
)
def test_run_exit_code(shell: Shell, command: list[str], code: int) -> None:
    """`run` ends with the exit code of its command."""
    shell("set", "stripe", "--rate", "100")
    ended = shell.patient.process("run", "stripe", "--", *command)
    assert ended.code == code
    assert ended.err.count("\n") == (code in (126, 127))
    assert producers(shell, "stripe") == 0


def test_run_without_dashes(shell: Shell) -> None:
    """An option of a command without `--` is refused, with the remedy."""
    problem = texts.option_of_the_command("No such option: -s")  # the first half is typer's
    assert shell("run", "x", "curl", "-s").error == texts.see_help(problem, "nexus-redis run")
    misspelled = shell("run", "x", "--costs", "2", "--", "curl", "-s").error
    assert texts.option_of_the_command("") not in misspelled  # the dashes are there


def test_run_odd_command(shell: Shell) -> None:
    """An empty command takes no token, and the name of another cannot move the cursor."""
    shell("set", "stripe", "--rate", "100")
    empty = shell.process("run", "stripe", "--", "")
    assert (empty.code, empty.err.count("\n"), shell("status", "stripe", "--json").json["granted_total"]) == (2, 1, 0)
    odd = shell.process("run", "stripe", "--", "a\nb\x1b[31m")
    assert (odd.code, odd.err.count("\n")) == (127, 1)
    assert "\x1b" not in odd.err


def test_run_streams(shell: Shell) -> None:
    """The command has the streams of `run` and its words as they were typed."""
    shell("set", "stripe", "--rate", "100")
    process = start(
        shell, "run", "stripe", "--cost", "2", "--", "sh", "-c", 'cat; echo "$@" >&2', "sh", "--url", "--", "$x"
    )
    assert finish(process, b"in") == (b"in", b"--url -- $x\n")
    assert shell("status", "stripe", "--json").json["granted_total"] >= 2


def test_run_timeout(shell: Shell) -> None:
    """`run` ends with 75 after --timeout, and takes no token."""
    shell("set", "stripe", "--rate", "100")
    shell("pause", "stripe")
    ended = shell.process("run", "stripe", "--timeout", "0.3", "--", "echo", "never")
    assert (ended.code, ended.out, ended.err.count("\n")) == (75, "", 1)
    assert producers(shell, "stripe") == 0
    assert shell("status", "stripe", "--json").json["granted_total"] == 0


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2],
)
def test_run_forwards_signals(shell: Shell, number: signal.Signals) -> None:
    """`run` forwards signals to its command."""
    shell("set", "stripe", "--rate", "100")
    name = number.name.removeprefix("SIG")
    process = shell.start(
        "run", "stripe", "--", "sh", "-c", f"trap 'echo {name}; exit 9' {name}; echo go; while :; do sleep 0.1; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"{name}\n"
    assert process.wait(PATIENCE) == 9
    process.kill()
    process.stdout.close()
    if process.stderr:
        process.stderr.close()


AT_A_TERMINAL = """
import os, pty, signal
pid, fd = pty.fork()
if not pid:
    os.execv({words[0]!r}, {words!r})
seen = b''
while b'go' not in seen:
    seen += os.read(fd, 100)
os.write(fd, b'\\x03')
while b'got' not in seen:
    seen += os.read(fd, 100)
os.kill(pid, signal.SIGUSR1)
try:
    while part := os.read(fd, 100):
        seen += part
except OSError:
    pass
print(seen.count(b'got'), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_run_terminal_key(shell: Shell) -> None:
    """Ctrl-C reaches the command once: the terminal sends it to both processes. SIGUSR1 ends the test."""
    shell("set", "stripe", "--rate", "100")
    count = (
        "import signal; each = {signal.SIGINT, signal.SIGUSR1}; signal.pthread_sigmask(signal.SIG_BLOCK, each)\n"
        "print('go', flush=True)\n"
        "while signal.sigwait(each) == signal.SIGINT: print('got', flush=True)"
    )
    words = [sys.executable, "-m", "nexus_redis", "run", "stripe", "--", sys.executable, "-c", count]
    code = AT_A_TERMINAL.format(words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG_PATIENCE, cwd=ROOT,
                          env=shell.environment, check=True)  # fmt: skip
    assert done.stdout == "1 0\n"


def test_run_signal_while_waiting(shell: Shell) -> None:
    """A signal ends `run` while it waits for tokens, and the command does not start."""
    shell("set", "stripe", "--rate", "100")
    shell("pause", "stripe")
    process = shell.start("run", "stripe", "--", "echo", "never")
    assert eventually(lambda: producers(shell, "stripe") == 1)
    process.send_signal(signal.SIGTERM)
    assert finish(process) == ("", "")
    assert process.returncode == 143
    assert producers(shell, "stripe") == 0


def test_run_early_signal() -> None:
    """A signal that comes just before the command starts reaches the command."""
    early = cast("ReceivedSignals", SimpleNamespace(listen=lambda _tell: signal.SIGTERM))
    assert run_command(["sleep", "60"], early) == 143


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int, int]]:
    """Start a server with a password; yield the folder of its socket, its port, and a port where it speaks TLS."""
    folder = tmp_path_factory.mktemp("guarded")
    server = launch("valkey", "--unixsocket", str(folder / "redis.sock"))
    with redis.Redis(port=server.port) as client:
        client.config_set("requirepass", PASSWORD)
    if not is_missing("openssl"):
        certify(folder)
    with encrypting(folder, server.port) as port:
        yield folder, server.port, port
    server.stop()


PASSWORD = "p@ss/w:rd ?"


@pytest.mark.parametrize(
    ("address", "is_light"),
    [
        ("redis://:{password}@127.0.0.1:{port}", True),
        ("redis://:{password}@127.0.0.1:{port}/3", True),
        ("redis://default:{password}@localhost:{port}/0", True),
        ("unix://:{password}@{folder}/redis.sock", True),
        ("rediss://:{password}@localhost:{tls}/2", True),
        ("redis://:{password}@127.0.0.1:{port}?db=4&socket_timeout=5", False),
        ("unix://{folder}/redis.sock?db=1&password={password}", False),
    ],
)
def test_run_address(
    guarded: tuple[Path, int, int], monkeypatch: pytest.MonkeyPatch, address: str, is_light: bool
) -> None:
    """`run` and `signal` reach each kind of address; only an address with options needs redis-py."""
    folder, port, tls = guarded
    if address.startswith("rediss") and not (folder / "cert.pem").exists():
        pytest.skip("openssl is not installed")
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
    url = address.format(password=quote(PASSWORD, safe=""), folder=folder, port=port, tls=tls)
    with redis.Redis(port=port, password=PASSWORD) as client:
        client.flushall()
    shell = Shell(url, redis.Redis())
    assert shell.process("set", "stripe", "--rate", "100").code == 0
    assert shell.process("run", "stripe", "--", "echo", "hi") == Ended(0, "hi\n", "")
    assert shell.process("signal", "stripe", "--rate", "5").out.startswith("stripe: send 5/s of 5/s")
    assert ("redis" in loaded(shell, "run", "stripe", "--", "true")) is not is_light
    seen = shell.process("status", "stripe", "--json").json
    assert seen["granted_total"] >= 2  # more if the machine stood still between a claim and its answer
    assert seen["producers"] == []


def test_run_wrong_password(guarded: tuple[Path, int, int]) -> None:
    """`run` with a wrong password ends with 1 and names the remedy."""
    shell = Shell(f"redis://:wrong@127.0.0.1:{guarded[1]}/0", redis.Redis())
    ended = shell.process("run", "stripe", "--", "echo", "never")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "WRONGPASS" in ended.error
    assert error_texts.SERVER_REFUSED["WRONGPASS"] in ended.error


def test_run_weight_and_priority(shell: Shell) -> None:
    """`run` waits with the weight and the priority of its options."""
    shell("set", "stripe", "--rate", "100")
    shell("pause", "stripe")
    process = shell.start("run", "stripe", "--weight", "2.5", "--priority", "high", "--cost", "3", "--", "echo", "hi")
    assert eventually(lambda: producers(shell, "stripe") == 1, within_s=60)
    (waiting,) = shell("status", "stripe", "--json").json["producers"]
    assert (waiting["weight"], waiting["priority"]) == (2.5, "high")
    shell("resume", "stripe")
    assert process.communicate(timeout=60) == ("hi\n", "")
    seen = shell("status", "stripe", "--json").json
    assert seen["granted_total"] >= 3  # more if the machine stood still between a claim and its answer
    assert seen["producers"] == []


def test_run_without_rate(shell: Shell) -> None:
    """`run` warns that the budget has no rate while it waits."""
    process = shell.start("run", "unset", "--create", "--timeout", "60", "--", "echo", "hi")
    assert process.stderr is not None
    assert process.stderr.readline() == f"nexus-redis: {log_texts.NO_RATE % {'name': 'unset'}}\n"
    shell("set", "unset", "--rate", "100")
    assert process.communicate(timeout=60) == ("hi\n", "")


def test_run_new_key(shell: Shell) -> None:
    """The first `run` with a key takes over the settings of NAME."""
    shell("set", "stripe", "--rate", "50", "--burst", "2")
    assert shell.process("run", "stripe", "--key", "Zoe & Co", "--", "echo", "hi").out == "hi\n"
    settings = shell("status", "stripe", "--key", "Zoe & Co", "--json").json["settings"]
    assert settings == {"rate": {"value": 50, "source": "code"}, "burst": {"value": 2, "source": "code"}}


def test_run_large_cost(shell: Shell) -> None:
    """`run` sends several claims for a cost that one claim does not cover."""
    shell("set", "stripe", "--rate", "50")
    ended = shell.process("run", "stripe", "--cost", "40", "--timeout", "1m", "--", "echo", "hi")
    assert (ended.code, ended.out) == (0, "hi\n")
    assert shell("status", "stripe", "--json").json["granted_total"] >= 40


@pytest.mark.parametrize("timeout", ["0", "0s"])
def test_run_timeout_0(shell: Shell, timeout: str) -> None:
    """With a timeout of 0, `run` takes tokens that are available now, or none."""
    shell("set", "stripe", "--rate", "1/min")
    codes = [shell.process("run", "stripe", "--timeout", timeout, "--", "true").code for _ in range(2)]
    assert codes == [0, 75]


def test_run_redis_goes_away() -> None:
    """`run` continues with half of its share if Redis goes away while it waits."""
    server = launch("valkey")
    try:
        shell = Shell(f"redis://127.0.0.1:{server.port}/0", redis.Redis(port=server.port, decode_responses=True))
        shell("set", "slow", "--rate", "20", "--burst", "0")
        process = shell.start("run", "slow", "--cost", "60", "--timeout", "60", "--", "echo", "hi")
        assert eventually(lambda: producers(shell, "slow") == 1, within_s=60)
        assert eventually(lambda: shell("status", "slow", "--json").json["granted_total"] > 2, within_s=60)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert (process.returncode, out) == (0, "hi\n")
        assert log_texts.REDIS_AWAY.partition("%s")[0] in err
    finally:
        server.stop()


def test_run_newer_schema(shell: Shell) -> None:
    """`run` on the state of a newer release ends with 1 and says so."""
    shell("set", "stripe", "--rate", "100")
    shell.client.hset("nexus:{stripe}", "schema", "99")
    shell.client.delete("nexus:{stripe}:state")
    ended = shell.process("run", "stripe", "--", "echo", "never")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert ended.error.startswith("NEXUS_SCHEMA: ")


def test_run_loads_scripts(shell: Shell) -> None:
    """`run` loads its scripts into a server that does not know them."""
    shell("set", "stripe", "--rate", "100")
    shell.client.script_flush()
    assert shell.process("run", "stripe", "--", "echo", "hi") == Ended(0, "hi\n", "")
    assert producers(shell, "stripe") == 0


def in_bash(shell: Shell, line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a user types it: our command is on the PATH, and stubs replace curl, ssh and redis-cli."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    stubs = {"nexus-redis": f'PYTHONPATH={ROOT} exec {sys.executable} -m nexus_redis "$@"', "curl": "echo fetched",
             "ssh": "cat > /dev/null", "redis-cli": "cat > /dev/null"}  # fmt: skip
    for name, text in stubs.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=LONG_PATIENCE,
                          cwd=folder, env={**shell.environment, "PATH": path}, check=False)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "xargs -P8 -n1 nexus-redis run stripe -- curl -sfO < urls",
        pytest.param(
            "parallel -j8 nexus-redis run stripe --timeout 60 -- curl -sfO {} < urls",
            marks=pytest.mark.skipif(is_missing("parallel"), reason="GNU parallel is not installed"),
        ),
    ],
)
def test_run_fleet(shell: Shell, line: str, tmp_path: Path) -> None:
    """Each command of a fleet takes a token."""
    assert line in (ROOT / "docs" / "command-line.md").read_text()
    shell("set", "stripe", "--rate", "100")
    (tmp_path / "urls").write_text("".join(f"http://x/{i}\n" for i in range(6)))
    done = in_bash(shell, line, tmp_path)
    assert (done.returncode, done.stdout) == (0, "fetched\n" * 6)
    seen = shell("status", "stripe", "--json").json
    assert seen["granted_total"] >= 6  # some claims take more, which goes back
    assert seen["producer_count"] == 0


# --- explain ---------------------------------------------------------------------------------------------------------


def explained(shell: Shell, name: str) -> str:
    ended = shell("explain", name)
    assert (ended.code, ended.err) == (0, "")
    return ended.out


def load(shell: Shell, percent: str = "95", consumer: str = "es-1", *options: str) -> None:
    assert shell("report", "es", "--id", consumer, "--load", percent, "--capacity", "400", *options).code == 0


def floor_and_silence(shell: Shell) -> None:
    shell("set", "es", "--min-rate", "5")
    load(shell, "95", "es-1", "--every", "0.1")
    assert eventually(lambda: "no_consumers" in shell("explain", "es").out)


def ceiling_and_silence(shell: Shell) -> None:
    shell("set", "es", "--rate", "50")
    floor_and_silence(shell)


def under_the_ceiling(shell: Shell) -> None:
    with Nexus.from_url(shell.url) as nexus:
        nexus.budget("es").configure(rate=50)
    load(shell)


def spread(shell: Shell) -> None:
    shell("set", "es", "--combine", "spread")
    load(shell)


def one_of_two_silent(shell: Shell) -> None:
    load(shell, "95", "es-1", "--every", "0.1")
    load(shell, "50", "es-2")
    assert eventually(lambda: "Silent" in shell("explain", "es").out)


def operators_ceiling(shell: Shell) -> None:
    shell("set", "es", "--rate", "100", "--by", "bob@ops2")
    shell("set", "es", "--rate", "10/min", "--by", "anna@ops1", "--reason", "maintenance")


CASES: dict[str, tuple[Callable[[Shell], Any], list[str]]] = {
    "a consumer's report": (
        load,
        ["es: 100/s, level 2, load 95 %, reason load, for ", "es-1 reported ", "law range gives it 100/s",
         "less load on es-1", "another consumer"],
    ),
    "an operator's ceiling": (
        operators_ceiling,
        ["an operator set rate 10/min (anna@ops1, ", 'ago, before 100/s: "maintenance").', "a fixed limit",
         'rate 100/s -> 10/min by anna@ops1: "maintenance"', "rate unset -> 100/s by bob@ops2",
         "set es --rate RATE", "set es --unset rate"],
    ),
    "code's ceiling over what consumers take": (
        under_the_ceiling,
        ["code gives rate 50/s", "could take as much or more: 1 consumer live", "es-1 reported"],
    ),
    "a pause": (
        lambda shell: shell("pause", "es", "30", "--create", "--reason", "429 Retry-After", "--by", "anna@ops1"),
        ["An operator (anna@ops1) has paused the whole budget, for another ", ": 429 Retry-After.",
         "nexus-redis resume es", 'paused for 30 s by anna@ops1: "429 Retry-After"'],
    ),
    "a consumer's own pause": (
        lambda shell: load(shell, "50", "es-1", "--pause", "30"),
        ["The consumers have taken their parts out", "es-1 is paused for another "],
    ),
    "silence": (
        floor_and_silence,
        ["fell silent: es-1 (last report ", "the floor: min-rate 5/s", "a fixed rate: `nexus-redis set es --rate"],
    ),
    "silence under a ceiling": (
        ceiling_and_silence,
        ["fell silent: es-1 (last report ", "an operator's word", "nexus-redis forget es es-1"],
    ),
    "one of two silent": (
        one_of_two_silent,
        ["The consumers decide the rate: 1 consumer live", "without a part in it: es-1", "es-2 reported "],
    ),
    "spread": (
        spread,
        ["the fullest one rules", "Set by an operator, whatever code says: combine."],
    ),
    "nothing set": (
        lambda shell: shell("signal", "es", "--rate", "5", "--create"),
        ["No rate is set and no consumer has ever reported", "a fixed rate: rate= in code"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_explain(shell: Shell, case: str) -> None:
    """`explain` says what made the rate what it is."""
    make, phrases = CASES[case]
    make(shell)
    told = explained(shell, "es")
    for phrase in phrases:
        assert phrase in told, told
    assert "To raise it:" in told


def test_explain_forget(shell: Shell) -> None:
    """`explain` suggests `forget` only if that raises the rate."""
    floor_and_silence(shell)
    assert "forget" not in explained(shell, "es")
    assert "5/s" in shell("forget", "es", "es-1").out  # without a rate only the floor is left
    ceiling_and_silence(shell)
    assert "50/s" in shell("forget", "es", "es-1").out


def test_explain_producers(shell: Shell) -> None:
    """`explain` says how many producers share the rate."""
    with Nexus.from_url(shell.url) as nexus, nexus.budget("es", rate=1000).producer("p-1") as producer:
        producer.acquire()
        assert re.search(r"1 producer shares it, and wants [\d.,]+/\w+\.", explained(shell, "es"))


def test_explain_history(shell: Shell) -> None:
    """`explain` ends with the history, the newest entry first."""
    shell("set", "es", "--rate", "5")
    shell("pause", "es", "--reason", f"so{ESCAPE}[2J")
    told = explained(shell, "es")
    assert ESCAPE not in told
    lines = [re.split(" {2,}", line) for line in told[told.index("AGO") :].splitlines()]
    assert [(line[1], line[-1]) for line in lines[1:]] == [
        ("0/s", f'paused until it is resumed by {whoami()}: "so\N{REPLACEMENT CHARACTER}[2J"'),
        ("5/s", f"rate unset -> 5/s by {whoami()}"),
    ]
    assert "AGO" not in shell("explain", "es", "--history", "0").out
    missing = shell("explain", "nothing")
    assert (missing.code, missing.out) == (1, "")


def test_explain_long_reason(shell: Shell) -> None:
    """If the history does not reach back to the beginning of the reason, `since_s` is null."""
    for rate in range(1, 110):
        with Nexus.from_url(shell.url) as nexus:
            nexus.budget("es").configure(rate=2.0**rate / 2**85 if rate > 85 else rate * 10)
    assert shell("explain", "es", "--json").json["since_s"] is None


# --- list, and back --------------------------------------------------------------------------------------------------


def test_backup_restores(shell: Shell, tmp_path: Path) -> None:
    """A restore gives the operator's settings exactly as in the backup."""
    shell("set", "stripe", "--rate", "10/min", "--burst", "60", "--lossless", "--law", "drain", "--combine", "min")
    shell("set", "es", "--min-rate", "5")
    with Nexus.from_url(shell.url) as nexus:
        nexus.budget("es").configure(rate=100, transit=2)
    listed = shell("list", "--json")
    kept = {each["name"]: each for each in listed.json}
    assert kept["es"] == {"name": "es", "operator": {"min_rate": 5}, "code": {"rate": 100, "transit": 2}}
    backup = tmp_path / "budgets.json"
    backup.write_text(listed.out)
    shell("set", "stripe", "--rate", "7", "--unset", "burst", "--transit", "3")
    assert shell("delete", "es", "--yes").code == 0
    missing = shell("set", "strpie", "--from", str(backup))
    near = texts.did_you_mean("stripe")
    assert (missing.code, missing.error) == (2, texts.not_in_backup(str(backup), "strpie", near))
    ended = shell("set", "--from", str(backup))
    assert (ended.code, ended.out) == (0, "restored 2 budgets: es, stripe\n")
    told = shell("explain", "stripe").out
    assert (
        "rate 7/s -> 10/min, burst unset -> 60 s, law drain, combine min, lossless yes, transit 3 s -> unset by" in told
    )
    assert f'{whoami()}: "restored from budgets.json"' in told
    assert shell("list", "--json").json == listed.json
    assert shell("list").out.splitlines()[0].startswith("es      rate 100/s (code), transit 2 s (code), min-rate 5/s (")


def test_backup_and_code(shell: Shell, tmp_path: Path) -> None:
    """A restore does not overrule the settings of code that runs now."""
    with Nexus.from_url(shell.url) as nexus:
        budget = nexus.budget("es")
        budget.configure(rate=100)
        backup = tmp_path / "budgets.json"
        backup.write_text(shell("list", "--json").out)
        budget.configure(rate=200)
        assert shell("set", "es", "--from", str(backup)).out == "restored 1 budget: es\n"
        assert budget.snapshot().settings == {"rate": ("200", "code")}


@pytest.mark.parametrize(
    "text",
    ["", "[" * 200_000, "{}", "[1]", '[{"name": "a"}]', '[{"name": "a", "operator": 5, "code": {}}]', "[]", "\x00",
     '[{"name": "a{b", "operator": {}, "code": {}}]', '[{"name": "a", "operator": {"speed": 5}, "code": {}}]',
     '[{"name": "a", "operator": {"rate": 5}, "code": {}}, {"name": "b", "operator": {"rate": true}, "code": {}}]'],
)  # fmt: skip
def test_backup_bad_file(shell: Shell, tmp_path: Path, text: str) -> None:
    """A file that is not a backup is refused as a whole."""
    backup = tmp_path / "budgets.json"
    backup.write_text(text)
    ended = shell("set", "--from", str(backup))
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert shell.client.dbsize() == 0


def test_backup_edited(shell: Shell, tmp_path: Path) -> None:
    """A byte order mark of an editor does no harm."""
    backup = tmp_path / "budgets.json"
    backup.write_text('\ufeff[{"name": "a", "operator": {"rate": 5}, "code": {}}]', encoding="utf-8")
    assert shell("set", "--from", str(backup)).out == "restored 1 budget: a\n"


# --- forget, delete --------------------------------------------------------------------------------------------------


def test_forget(shell: Shell) -> None:
    """The budget no longer waits for a forgotten consumer."""
    shell("set", "es", "--combine", "min")
    load(shell, "50", "es-1")
    load(shell, "0", "es-2", "--every", "0.1")
    assert eventually(lambda: bool(shell("status", "es", "--json").json["reason"] == "no_consumers"))
    ended = shell("forget", "es", "es-2")
    assert (ended.code, ended.out) == (0, "es: forgot es-2; 400/s, level 0, reason load\n")
    for consumer in ("es-2", "es-9"):
        again = shell("forget", "es", consumer)
        assert (again.code, again.out) == (1, "")
        assert again.error == texts.unknown_consumer(consumer, "es", shell.where, texts.did_you_mean("es-1"))


def test_repair(shell: Shell) -> None:
    """Damaged keys are named, and `repair` removes them."""
    shell("set", "es", "--rate", "100")
    assert shell("repair", "es").out == "es: nothing is damaged\n"
    shell.client.set("nexus:{es}:state", "x")
    for words in (("signal", "es", "--rate", "5"), ("set", "es", "--rate", "50"), ("status", "es")):
        ended = shell(*words)
        assert ended.code == 1
        assert error_texts.damaged("nexus:{es}:state", "", "nexus-redis repair es") in ended.err
    shell.client.delete("nexus:{es}:producers")
    shell.client.set("nexus:{es}:producers", "x")
    ended = shell("repair", "es")
    assert ended.out == ("es: took away nexus:{es}:state\nes: took away nexus:{es}:producers\n")
    assert shell("signal", "es", "--rate", "5").out.startswith("es: send 5/s")
    assert shell("repair", "nowhere").code == 1


def test_key(shell: Shell) -> None:
    """Each verb finds the budget of NAME and --key."""
    key = ("--key", "Zo\u00eb & Co")
    with Nexus.from_url(shell.url) as nexus:
        nexus.budget("pay", rate=50)
        own = nexus.budget("pay", key=key[1])
        own.acquire()
        assert shell("status", "pay", *key, "--json").json["name"] == own.name
        assert f"{own.name}: 50/s" in shell("explain", "pay", *key).out
        assert shell("set", "pay", *key, "--burst", "2").out.startswith(f"{own.name}: 50/s")
        assert shell("pause", "pay", *key).out.startswith(f"{own.name}: paused")
        assert shell("resume", "pay", *key).out.startswith(f"{own.name}: 50/s")
        assert shell("report", "pay", *key, "--id", "a", "--load", "95", "--capacity", "40").out.startswith(own.name)
        assert own.snapshot().rate == 10
        assert shell("forget", "pay", *key, "a").out.startswith(f"{own.name}: forgot a; 50/s")
    for run in (shell, shell.process):
        assert run("signal", "pay", *key, "--rate", "500").out.startswith(f"{own.name}: send 50/s")
    assert shell.process("run", "pay", *key, "--", "echo", "hi").out == "hi\n"
    assert paced(shell, b"a\n", *key, name="pay") == b"a\n"
    # Each of the three verbs above took its token here; one that took it from another budget would be missing.
    assert shell("status", "pay", *key, "--json").json["granted_total"] >= 3
    assert shell("delete", "pay", *key, "--yes").out.startswith(f"{own.name}: deleted")
    for words, usage in (
        (["status", *key], "status NAME --key KEY"),
        (["set", *key, "--rate", "5"], "set NAME --key KEY"),
        (["set", *key, "--from", "-"], "set NAME --key KEY --from FILE"),
    ):
        ended = shell(*words)
        assert (ended.code, ended.out, ended.error) == (2, "", texts.key_without_name(usage))


def test_new_similar_name(shell: Shell) -> None:
    """A new name that is very similar to an existing one gets a question."""
    shell("set", "elasticsearch", "--rate", "5")
    said = shell("pause", "elasticsaerch", "5min", "--create").out
    assert said.startswith("elasticsaerch (new: nobody has opened it; did you mean elasticsearch?): paused for 5 min; ")
    assert shell("set", "postgres", "--rate", "1").out.startswith("postgres (new: nobody has opened it): 1/s")
    told = shell("report", "elastic-search", "--load", "5", "--capacity", "10")
    assert (told.code, told.error) == (0, texts.new_budget("elastic-search", texts.did_you_mean("elasticsearch")))


def test_delete(shell: Shell) -> None:
    """`delete` removes all keys of the budget, and none of others."""
    for name in ("es", "es2", "e"):
        shell("report", name, "--id", "es-1", "--load", "5", "--capacity", "10")
        shell("signal", name, "--rate", "5", "--id", "p-1")
    shell.client.hset("nexus:{es}:producer:long-gone", "weight", "1")
    for key in shell.client.keys("*"):
        shell.client.persist(key)  # or the hash of a signal expires during the test
    before = {key for key in map(str, shell.client.keys("*")) if not key.startswith("nexus:{es}")}
    refused = shell("delete", "es")
    assert (refused.code, shell.client.exists("nexus:{es}")) == (2, 1)
    assert re.fullmatch(r"es: deleted, \d+ keys\n", shell("delete", "es", "--yes").out)
    assert set(shell.client.keys("*")) == before
    assert [each["name"] for each in shell("list", "--json").json] == ["e", "es2"]
    assert shell("delete", "es", "--yes").code == 1


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_delete_asks(shell: Shell, answer: bytes, code: int) -> None:
    """On a terminal, `delete` asks first."""
    shell("set", "es", "--rate", "5")
    ours, theirs = os.openpty()
    process = start(shell, "delete", "es", stdin=theirs)
    os.write(ours, answer)
    _, err = finish(process)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == code
    assert texts.confirm_delete("es", shell.where).encode() in err
    assert bool(shell.client.exists("nexus:{es}")) == bool(code)


# --- completion ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["p"], "pause pace"),
        (["set", "x", "--law", ""], "range drain aimd"),
        (["pace", "x", "--cost", ""], "lines bytes"),
        (["run", "x", "--cost", "zz"], ""),
        (["explain", "x", "--hi"], "--history"),
        (["scripts", "c"], "claim configure"),
        (["--completion", ""], "bash zsh fish"),
    ],
)
def test_bash_completion(shell: Shell, words: list[str], completed: str) -> None:
    """bash completes verbs, options and their words."""
    script = shell("--completion", "bash").out
    line = " ".join(f"'{word}'" for word in ["nexus-redis", *words])
    code = f'{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _nexus_redis; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_zsh_and_fish_completion(shell: Shell, tmp_path: Path, name: str) -> None:
    """zsh and fish load their scripts."""
    text = shell("--completion", name).out
    for verb in VERBS:
        assert verb in text
    if is_missing(name):
        pytest.skip(f"{name} is not installed")
    path = tmp_path / "script"
    path.write_text(text)
    code = {
        "zsh": f"autoload -U compinit; compinit -D -u; source {path}; print $_comps[nexus-redis]",
        "fish": f'source {path}; complete -C "nexus-redis pace x --cost " | cut -f1 | string join " "',
    }[name]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run([name, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ({"zsh": "_nexus_redis\n", "fish": "bytes lines\n"}[name], "")


# --- help, docs, start-up --------------------------------------------------------------------------------------------


def examples() -> list[Any]:
    """Return each example of each --help. Those that take long, or go on until a signal, have tests of their own."""
    nowhere = Shell("redis://127.0.0.1:1/0", redis.Redis())
    found: list[Any] = []
    for verb in (*VERBS, "redis"):
        _, _, below = nowhere(verb, "--help").out.partition("Example")
        for line in re.findall(r"^    (.*nexus-redis .*)$", below, re.MULTILINE):
            if verb not in ("demo", "bench", "serve", "top") and "--watch" not in line:
                found.append(pytest.param(line, id=f"{verb}-{len(found)}"))
    return found


@pytest.mark.parametrize("line", examples())
def test_help_examples(shell: Shell, line: str, tmp_path: Path) -> None:
    """Each example of the help runs."""
    for name in ("stripe", "uplink"):
        shell("set", name, "--rate", "1000")
    shell("report", "elasticsearch", "--id", "es-1", "--load", "50", "--capacity", "400")
    (tmp_path / "budgets.json").write_text(shell("list", "--json").out)
    (tmp_path / "urls").write_text("http://x/1\nhttp://x/2\n")
    (tmp_path / "access.log").write_text("GET /\nGET /\n")
    (tmp_path / "backup.tar").write_bytes(b"\x00tar")
    done = in_bash(shell, line, tmp_path)
    assert done.returncode == 0, done.stderr


# --- bench -----------------------------------------------------------------------------------------------------------


def test_bench(shell: Shell) -> None:
    """`bench` measures, and leaves no key."""
    shell("set", "stripe", "--rate", "100")
    before = sorted(shell.client.keys("*"))
    ended = shell("bench", "--seconds", "0.1", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert list(ended.json) == documented("bench")
    for field in ("claims_per_s", "one_command_per_s", "acquires_per_s"):
        assert ended.json[field] > 0
    for field in ("round_trip_ms", "claim_ms", "claim_ms_at_once"):
        assert 0 < ended.json[field]["p50"] <= ended.json[field]["p99"] <= ended.json[field]["max"]
    assert sorted(shell.client.keys("*")) == before


def test_bench_namespace(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench` writes in its namespace only."""

    def keep(keys: Any, server: str) -> Iterator[Any]:
        yield from ()

    monkeypatch.setattr("nexus_redis.cli.benchmark.delete", keep)
    ended = shell("bench", "--seconds", "0.1", "--namespace", "mine")
    assert [line.split()[0] for line in ended.out.splitlines()] == ["server", "round", "claim", "claims", "acquire"]
    keys = [str(key) for key in shell.client.keys("*")]
    assert len(keys) > 10
    assert all(key.startswith("mine:") for key in keys)


ENDLESS = """
import sys
from nexus_redis.__main__ import main
from nexus_redis.cli import benchmark
def lasting(measure, seconds):
    return lambda *given: measure(*(seconds if isinstance(each, float) else each for each in given))
for name in ("_one_at_a_time", "_at_once", "_acquires"):
    setattr(benchmark, name, lasting(getattr(benchmark, name), 1e6 if name == {part!r} else 0.05))
sys.argv[1:] = ["bench"]
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("part", "key"),
    [("_one_at_a_time", ""), ("_at_once", ":floor$"), ("_acquires", ":producer:(?!producer-)")],
    ids=["while one calls", "fifty", "a loop"],
)
def test_bench_signal(shell: Shell, number: signal.Signals, part: str, key: str) -> None:
    """`bench` leaves no key when a signal ends it. One of its parts runs without end; a key shows that it has begun."""
    command = (sys.executable, "-c", ENDLESS.format(part=part))
    process = subprocess.Popen(command, cwd=ROOT, env=shell.patient.environment, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    assert eventually(lambda: any(re.search(key, str(found)) for found in shell.client.keys("nexus-bench:*")))
    process.send_signal(number)
    out, err = finish(process)
    assert (process.returncode, out, err) == (128 + number, b"", b"")
    assert shell.client.keys("*") == []


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9"])
def test_bench_bad_time(shell: Shell, seconds: str) -> None:
    """`bench` refuses a time out of its range."""
    ended = shell("bench", "--seconds", seconds)
    assert (ended.code, ended.out) == (2, "")
    assert "--seconds" in ended.err


def documented(verb: str) -> list[str]:
    """Return the fields of the verb's JSON in the docs."""
    page = (ROOT / "docs" / "command-line.md").read_text()
    _, _, below = page.partition("## JSON")
    section = re.split(r"^### ", below, flags=re.MULTILINE)
    table = next(part for part in section if part.startswith(f"{verb}\n"))
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_json_fields(shell: Shell) -> None:
    """The fields of each --json are those in docs/command-line.md."""
    shell("set", "es", "--rate", "5000")
    report = shell("report", "es", "--id", "es-1", "--load", "95", "--capacity", "400", "--json").json
    signalled = shell.process("signal", "es", "--rate", "50", "--id", "p-1", "--json").out
    assert list(report) == documented("report")
    assert list(shell("list", "--json").json[0]) == documented("list")
    assert list(shell("status", "es", "--json").json) == documented("status")
    assert list(shell("status", "--json").json[0]) == documented("status")[:-2]
    assert list(shell("explain", "es", "--json").json) == documented("explain")
    shapes = {"list": SettingsJson, "status": BudgetJson, "explain": ExplanationJson, "report": ReportJson}
    assert {verb: list(shape.__annotations__) for verb, shape in shapes.items()} == {
        verb: documented(verb) for verb in shapes
    }
    assert FlowControl.from_json(signalled).to_json() + "\n" == signalled


def test_signal_embedded(shell: Shell) -> None:
    """`signal` works on an embedded server, too."""
    ended = shell.process("signal", "es", "--create", "--rate", "5", "--url", "embedded://")
    assert (ended.code, ended.out.split(":")[0]) == (0, "es")


def test_signal_embedded_unknown(shell: Shell) -> None:
    """All attempts of `signal` to find a budget go to one embedded server."""
    ended = shell.process("signal", "es", "--rate", "5", "--url", "embedded://")
    assert ended.code == 1
    assert ended.error.count(log_texts.EMBEDDED_STARTED.partition("%d")[0]) == 1


def test_signal_both_ways(shell: Shell) -> None:
    """`signal` prints the same without typer, as in a process of its own, and with typer."""
    shell("set", "es", "--rate", "5000")
    for words in (["--json"], [], ["--weight=2", "--priority", "high"], ["--namespace", "nexus"]):
        quick, slow = (run("signal", "es", "--rate", "50/s", "--id", "p-1", *words) for run in (shell.process, shell))
        assert quick == slow


HEAVY = {
    "redis", "pydantic", "typer", "click", "rich", "msgpack", "asyncio", "ssl", "subprocess", "secrets",
    "difflib", "nexus_redis.client", "nexus_redis._redis.connect", "nexus_redis.messages",
    "nexus_redis._redis.embedded",
}  # fmt: skip


def loaded(shell: Shell, *words: str) -> set[str]:
    """Return the heavy modules that a verb imports."""
    code = (
        # a longer timeout, because after a late answer it would continue with redis-py
        "from nexus_redis.cli import fast_connection; fast_connection.CALL_TIMEOUT = 60\n"
        f"import sys; sys.argv[1:] = {list(words)!r}; from nexus_redis.__main__ import main; code = main()\n"
        "print(*sorted(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                          env=shell.environment)  # fmt: skip
    return HEAVY & set(done.stderr.split())


@pytest.mark.parametrize(
    "line",
    [
        "signal es --rate 5",
        "signal es --rate 5 --key cust-42 --json --create",
        "run es -- true",
        "run es true",
        "run es --cost 30 --weight 2 --priority=high --timeout 1m --on-outage closed -- true",  # more than a bucket
        "run es --key cust-42 -- true",
        "run fresh --create --on-outage open --timeout 30 --key cust-42 -- true",
    ],
)
def test_imports_of_fast_verbs(shell: Shell, line: str) -> None:
    """`signal` and `run` import no heavy module, because imports are most of the time that a start takes."""
    shell("set", "es", "--rate", "100")
    shell("set", "fresh", "--rate", "100")
    loaded(shell, *line.split())  # the first run loads the scripts
    assert loaded(shell, *line.split()) == set()


def test_imports_of_help(shell: Shell) -> None:
    """The help imports typer, and no other heavy module."""
    assert loaded(shell, "--help") <= {"typer", "click", "subprocess", "difflib"}


def test_list_empty(shell: Shell) -> None:
    """`list` of an empty namespace is valid JSON, or one line."""
    assert json.loads(shell("list", "--json").out) == []
    assert "no budgets in namespace nexus at " in shell("list").out

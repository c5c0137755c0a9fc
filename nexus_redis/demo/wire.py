"""The messages between the demo's processes: records go over a socket, settings and results over stdin and stdout.

A frame is a length and JSON. `multiprocessing.connection` does the framing, on a Unix socket in the directory of the
run. That is the working directory of each child, so the name of the socket is short whatever TMPDIR is.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

Record: TypeAlias = tuple[int, float, str]  # producer, time.monotonic() when it was read, the line
HOME_PREFIX = "nexus-redis-demo-"  # of the directory that holds all files of one demo
ADDRESS = "records.sock"
CONNECT_PATIENCE_S = 30.0  # all children start at once, on a machine that may have one core


def listen() -> Listener:
    return Listener(ADDRESS, backlog=128)


def connect(role: str, number: int) -> Connection:
    """Return a connection to the service, which knows it as e.g. producer 3."""
    gives_up_at = time.monotonic() + CONNECT_PATIENCE_S
    while True:
        try:
            connection = Client(ADDRESS)
        except (FileNotFoundError, ConnectionRefusedError):  # the service is not up yet
            if time.monotonic() > gives_up_at:
                raise
            time.sleep(0.02)
        else:
            send(connection, [role, number])
            return connection


def send(connection: Connection, message: object) -> None:
    connection.send_bytes(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def receive(connection: Connection) -> Any:
    """Return the next message; raise EOFError if the other side has closed."""
    return json.loads(connection.recv_bytes())


def end_process(failure: threading.ExceptHookArgs) -> None:
    """End the process if one of its threads fails, so that the parent notices: it could not work without the thread."""
    threading.__excepthook__(failure)
    sys.stderr.flush()
    os._exit(1)


class Parent:
    """The parent as a child sees it: a line of settings, then the starting signal. The child ends when stdin ends."""

    def __init__(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides, and closes stdin
        line = sys.stdin.readline()
        if not line:
            self._follow()
        self.settings: dict[str, Any] = json.loads(line)
        self._starts_at = 0.0
        self._started = threading.Event()
        threading.excepthook = end_process
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, kind: str, **news: object) -> None:
        sys.stdout.write(json.dumps({"kind": kind, **news}) + "\n")
        sys.stdout.flush()

    def wait_for_start(self) -> float:
        """Wait for the instant of time.monotonic() at which all children start, and return it."""
        self.tell("ready")
        self._started.wait()
        time.sleep(max(0.0, self._starts_at - time.monotonic()))
        return self._starts_at

    def _listen(self) -> None:
        for line in sys.stdin:
            self._starts_at = float(json.loads(line)["starts_at"])
            self._started.set()
        self._follow()

    def _follow(self) -> NoReturn:
        """Remove the directory of the demo, which a killed parent could not do, and end."""
        home = Path(sys.argv[1])
        if home.name.startswith(HOME_PREFIX):
            shutil.rmtree(home, ignore_errors=True)
        os._exit(1)

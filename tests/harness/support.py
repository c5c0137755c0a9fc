"""Small helpers that many tests share. What other threads and processes do is waited for, a minute at most.

A busy machine stops any of them for a second, so no test says how long anything takes. `PATIENCE` is the one limit, and
only a hang meets it.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
HOST: Final = "127.0.0.1"
PATIENCE: Final = 60.0  # seconds, for an event that takes milliseconds on an idle machine
LONG_PATIENCE: Final = 300.0  # seconds, where many processes must start first, or one runs a whole program


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in an event loop of its own."""
    with asyncio.Runner() as runner:
        return runner.run(main)


def is_missing(program: str) -> bool:
    """Whether to skip what needs it, which CI takes for a failure."""
    return shutil.which(program) is None


def eventually(is_so: Callable[[], object], *, within_s: float = PATIENCE) -> bool:
    """Ask again and again until `is_so` holds; False after a minute in which it never did."""
    gives_up_at = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > gives_up_at:
            return False
        time.sleep(0.005)
    return True


def join(*threads: threading.Thread) -> None:
    """Wait for the end of each thread; one that is still there after a minute fails the test."""
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread.name} still runs"


def in_thread(body: Callable[[], T]) -> T:
    """Return what `body` returns, within a minute: a call that should return soon must not hang the suite."""
    outcome: list[Callable[[], T]] = []

    def call() -> None:
        try:
            result = body()
        except BaseException as error:  # noqa: BLE001  # raised again in the test's thread
            failure = error

            def fail() -> T:
                raise failure

            outcome.append(fail)
        else:
            outcome.append(lambda: result)

    thread = threading.Thread(target=call, name="in-thread", daemon=True)
    thread.start()
    join(thread)
    return outcome[0]()


def finish(process: subprocess.Popen[Any], given: Any = None) -> tuple[Any, Any]:
    """Wait for the end of a process; returns what it wrote to its pipes, stdout and stderr."""
    out, error = process.communicate(given, timeout=PATIENCE)
    return out, error


def patient(url: str) -> str:
    """The address with a minute for each answer, for a process that is not about how long it waits for Redis."""
    return f"{url}?socket_timeout={PATIENCE:g}&socket_connect_timeout={PATIENCE:g}"


def now() -> float:
    """The time for a log that `assert_never_exceeded` judges: what that allows holds at any speed of the machine."""
    return time.monotonic()


def free_port() -> int:
    """A port that the system gives to nobody else for a minute: a connection of it has just ended and is in TIME_WAIT.

    Only a server that asks for this number, with SO_REUSEADDR as servers do, can listen there.
    """
    with socket.create_server((HOST, 0)) as listening:
        with socket.create_connection(listening.getsockname()):
            accepted, _ = listening.accept()
            accepted.close()  # the side that closes first is the one that waits
        return int(listening.getsockname()[1])


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def row(what: str, worst: float, most: float, note: str = "") -> None:
    """Print the worst window of a fault beside its bound; `pytest -s` shows it."""
    print(f"\n{what:60} worst {worst:8.1f}  bound {most:8.1f}  {note}", end="", flush=True)

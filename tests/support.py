"""Small helpers that many tests share."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` in an event loop of its own."""
    with asyncio.Runner() as runner:
        return runner.run(main)


def is_missing(program: str) -> bool:
    """Whether to skip what needs it; in CI never, where it would be a hole that nobody sees."""
    return shutil.which(program) is None and os.environ.get("CI") != "true"


def eventually(is_so: Callable[[], bool], *, within_s: float = 5.0) -> bool:
    """Whether `is_so` came true in time: for what other processes do, which no fake clock can step."""
    deadline = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])

"""Real processes that reach one server by a link each, and note the instant of each grant.

A link is a proxy of tests/harness/chaos.py that can be cut in three ways: it refuses connections, it is a hole (nothing
arrives), or it is deaf (requests are executed and no reply comes). Each Nexus has a link of its own. Up to 6 of them
run in a process each, more than that share processes, 8 in each. For each rate there is a budget, and each Nexus has a
thread for each budget that takes tokens as fast as it may. The instants are of CLOCK_MONOTONIC, which all processes
of a host share.

    with Linked(server.port, count=6, rates=[5, 500]) as linked:
        linked.cut(0, "hole")
        let_pass(2)
        linked.mend(0)
        worst_window(linked.times(500), 500)
"""

from __future__ import annotations

import logging
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import nexus_redis
from nexus_redis.errors import Closed, Unavailable
from tests.harness.chaos import Proxy
from tests.harness.support import LONG_PATIENCE, eventually, join, now

CUTS: Final = ("refused", "hole", "deaf")
MOST_ALONE: Final = 6  # so many have a process each
TOGETHER: Final = 8  # in one process, where they are more
NOTE: Final = struct.Struct("dd")  # of the files: a grant's instant, and whether it was degraded


def let_pass(seconds: float) -> None:
    """So long, about, a fault lasts. The bounds hold for any length."""
    time.sleep(seconds)


def name_of(rate: float) -> str:
    """The budget of that rate."""
    return f"at-{rate:g}"


def notes_of(file: Path, rate: float) -> Path:
    """What a process notes of that budget."""
    return file.with_suffix(f".{name_of(rate)}")


class Linked:
    """So many Nexus objects, each behind `links[i]`."""

    def __init__(self, port: int, count: int, rates: Sequence[float]) -> None:
        self.rates, self._began = rates, 0.0
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-redis-linked-")))
        self.links = [self._stack.enter_context(Proxy(port)) for _ in range(count)]
        together = 1 if count <= MOST_ALONE else TOGETHER
        groups = [self.links[i : i + together] for i in range(0, count, together)]
        self._files = [self._folder / str(i) for i in range(len(groups))]
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for group, file in zip(groups, self._files, strict=True):
                self._processes.append(self._started(group, file))
            assert eventually(lambda: all(self._is_ready(file) for file in self._files), within_s=LONG_PATIENCE)
        except BaseException:
            self.stop()
            raise

    def _started(self, links: list[Proxy], file: Path) -> subprocess.Popen[bytes]:
        words = [str(file), ",".join(map(str, self.rates)), *(link.url for link in links)]
        command = [sys.executable, "-m", "tests.harness.linked", *words]
        return subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2])

    @staticmethod
    def _is_ready(file: Path) -> bool:
        return file.with_suffix(".ready").exists()

    def begin(self) -> None:
        """Leave out what was noted before."""
        self._began = now()

    def cut(self, i: int, how: str) -> None:
        """From now on nothing comes through, by one of CUTS."""
        link = self.links[i]
        if how == "refused":
            link.refuse()
        elif how == "hole":
            link.is_black_hole = True
        else:
            link.is_deaf = True

    def mend(self, i: int) -> None:
        """The link is up again."""
        link = self.links[i]
        link.is_black_hole = link.is_deaf = False
        link.loss = 0.0
        link.accept()

    def signal(self, i: int, number: signal.Signals) -> None:
        """To the i-th process."""
        self._processes[i].send_signal(number)

    def stop(self) -> None:
        """End the processes and the links."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(LONG_PATIENCE)
        self._stack.close()

    def times(self, rate: float, *, is_degraded: bool | None = None) -> list[float]:
        """The instants of all grants in order since `begin`, or of those only that were degraded or were not."""
        found: list[float] = []
        for file in self._files:
            notes = NOTE.iter_unpack(notes_of(file, rate).read_bytes())
            wanted = (at for at, flag in notes if is_degraded is None or bool(flag) is is_degraded)
            found += [at for at in wanted if at >= self._began]
        return sorted(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()


def take(budget: nexus_redis.Budget, notes: int, begun: threading.Event) -> None:
    """Take tokens as fast as they come, until the Nexus is closed. Each is noted at once: SIGKILL leaves no time."""
    while True:
        try:
            grant = budget.acquire()
        except Unavailable:
            continue
        except Closed:
            return
        os.write(notes, NOTE.pack(now(), grant.degraded))
        begun.set()


def main(file: str, rates: str, *urls: str) -> None:
    """Take tokens until stdin ends."""
    logging.getLogger("nexus_redis").addHandler(logging.NullHandler())  # the links break too often to be told of it
    numbers = [float(rate) for rate in rates.split(",")]
    nexuses = [nexus_redis.Nexus.from_url(url) for url in urls]
    threads, begun = [], []
    for rate in numbers:
        notes = os.open(notes_of(Path(file), rate), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for nexus in nexuses:
            event = threading.Event()
            given = (nexus.budget(name_of(rate), rate=rate), notes, event)
            threads.append(threading.Thread(target=take, args=given, daemon=True))
            if rate == max(numbers):
                begun.append(event)
    for thread in threads:
        thread.start()
    for event in begun:
        event.wait()
    Path(file).with_suffix(".ready").touch()
    sys.stdin.read()
    for nexus in nexuses:
        nexus.close()
    join(*threads)


if __name__ == "__main__":
    main(*sys.argv[1:])

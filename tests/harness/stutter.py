"""A busy machine without its load: pytest, and each process that it starts, is stopped again and again for a moment.

    .venv/bin/python -m tests.harness.stutter tests/contract -q          # what follows is pytest's
    .venv/bin/python -m tests.harness.stutter --share 0.9 tests/cli/test_cli.py

Of its time a process runs a few hundredths of a second at once, then it stands still (SIGSTOP) for the rest of it, each
at moments of its own: a server that does not answer yet, a worker that starts late, a test that comes too late to see
something. It takes no more of the processor than the tests do, and four times as long. A test that fails here fails
on a machine that others use.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

import psutil

TICK: Final = 0.004  # seconds between two looks at who is to be stopped or let go
RUNS: Final = (0.005, 0.04)  # seconds for which a process runs at once
LONGEST: Final = 0.25  # seconds for which it stands still, but for a hundredth of the times, when it is longer
LONG: Final = 0.02  # of the times
LOOK_EACH: Final = 0.2  # seconds: for new processes


class Stutter:
    """Stops and continues a process and all that it has started."""

    def __init__(self, pid: int, share: float, seed: int) -> None:
        self._root, self._share, self._random = psutil.Process(pid), share, random.Random(seed)
        self._known: dict[int, tuple[bool, float]] = {}  # by id: whether it stands still, and until when
        self._looked = 0.0

    def step(self, now: float) -> None:
        """Whoever is due is stopped or let go."""
        if now - self._looked > LOOK_EACH:
            self._looked = now
            self._look(now)
        for pid, (stands, until) in list(self._known.items()):
            if now >= until:
                self._signal(pid, signal.SIGCONT if stands else signal.SIGSTOP)
                self._known[pid] = (not stands, now + (self._run() if stands else self._pause()))

    def end(self) -> None:
        """Let everybody go."""
        for pid, (stands, _) in self._known.items():
            if stands:
                self._signal(pid, signal.SIGCONT)

    def _look(self, now: float) -> None:
        with suppress(psutil.NoSuchProcess):
            there = {self._root.pid, *(child.pid for child in self._root.children(recursive=True))}
            for pid in self._known.keys() - there:  # ended, or nobody's child any more
                if self._known.pop(pid)[0]:
                    self._signal(pid, signal.SIGCONT)
            for pid in there - self._known.keys():
                self._known[pid] = (False, now + self._run())

    def _run(self) -> float:
        return self._random.uniform(*RUNS)

    def _pause(self) -> float:
        if self._random.random() < LONG:
            return LONGEST * self._random.uniform(1, 3)
        mean = sum(RUNS) / 2 * self._share / (1 - self._share)
        return min(LONGEST, self._random.expovariate(1 / mean))

    @staticmethod
    def _signal(pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def main() -> int:
    """Run pytest that way; its exit code."""
    parser = argparse.ArgumentParser(prog="tests.harness.stutter", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--share", type=float, default=0.75, help="of its time that a process stands still")
    parser.add_argument("--seed", type=int, default=0)
    given, words = parser.parse_known_args()
    process = subprocess.Popen([sys.executable, "-m", "pytest", *words])
    stutter = Stutter(process.pid, given.share, given.seed)
    try:
        while process.poll() is None:
            stutter.step(time.monotonic())
            time.sleep(TICK)
    finally:
        stutter.end()
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())

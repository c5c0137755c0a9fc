"""Worker processes of the task queues, and what they noted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._redis.execute import perform
from nexus_redis._values.settings import BudgetSettings
from tests.harness.servers import Server
from tests.harness.support import PATIENCE

ROOT = Path(__file__).parents[2]


class Workers:
    """Processes of this interpreter's modules, ended with the test."""

    def __init__(self, server: Server) -> None:
        self._environment = {**os.environ, "NEXUS_REDIS_URL": server.url, "TESTS_WORKER": "1"}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, *arguments: str) -> None:
        """`python -m module arguments`, at the root of the repository."""
        command = [sys.executable, "-m", module, *arguments]
        self._started.append(subprocess.Popen(command, cwd=ROOT, env=self._environment, start_new_session=True))

    def stop(self) -> None:
        """Ask them to end, and wait for it."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(PATIENCE)

    def kill(self) -> None:
        """End them and all that they have started, at once: a taskiq worker takes a minute to end by itself."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def operator_sets(server: Server, rate: float) -> None:
    """The rate of the workers' budget, whatever they say: with 0 all of its tasks are put off."""
    call = calls.configure(BudgetKeys("work", "stripe"), BudgetSettings.of(rate=rate), source="operator")
    (outcome,) = perform(server.client, [call])
    assert isinstance(outcome, calls.Configured)


def noted(server: Server, name: str) -> list[tuple[float, float]]:
    """When each task of that name ran, as a log of one token each."""
    with server.client() as client:
        lines: Any = client.lrange(name, 0, -1)
    return sorted((float(line.split()[0]), 1.0) for line in lines)

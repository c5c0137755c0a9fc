"""Worker processes of the task queues, and the notes that they leave in Redis."""

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
    """Processes that run modules with this interpreter, and end with the test."""

    def __init__(self, server: Server) -> None:
        self._environment = {**os.environ, "NEXUS_REDIS_URL": server.url, "TESTS_WORKER": "1"}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, *arguments: str) -> None:
        """Run `python -m module arguments` at the root of the repository."""
        command = [sys.executable, "-m", module, *arguments]
        self._started.append(subprocess.Popen(command, cwd=ROOT, env=self._environment, start_new_session=True))

    def stop(self) -> None:
        """Ask the processes to end, and wait until they have."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            process.wait(PATIENCE)

    def kill(self) -> None:
        """Kill the processes and their children: a taskiq worker takes a minute to end by itself."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def operator_sets(server: Server, rate: float) -> None:
    """Set the rate of the workers' budget above their own setting. With 0, all of its tasks are deferred."""
    call = calls.configure(BudgetKeys("work", "stripe"), BudgetSettings.of(rate=rate), source="operator")
    (outcome,) = perform(server.client, [call])
    assert isinstance(outcome, calls.Configured)


def noted(server: Server, name: str) -> list[tuple[float, float]]:
    """Return when each task of that name ran, as a log of one token each."""
    with server.client() as client:
        lines: Any = client.lrange(name, 0, -1)
    return sorted((float(line.split()[0]), 1.0) for line in lines)

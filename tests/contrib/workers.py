"""Worker processes of the task queues, and what they noted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers import Server

ROOT = Path(__file__).parents[2]


class Workers:
    """Processes of this interpreter's modules, ended with the test."""

    def __init__(self, server: Server) -> None:
        self._environment = {**os.environ, "NEXUS_REDIS_URL": server.url}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, *arguments: str) -> None:
        """`python -m module arguments`, at the root of the repository."""
        command = [sys.executable, "-m", module, *arguments]
        self._started.append(subprocess.Popen(command, cwd=ROOT, env=self._environment))

    def stop(self) -> None:
        """End them, by force if they do not want to."""
        for process in self._started:
            process.terminate()
        for process in self._started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def noted(server: Server, name: str) -> list[tuple[float, float]]:
    """When each task of that name ran, as a log of one token each."""
    with server.client() as client:
        lines: Any = client.lrange(name, 0, -1)
    return sorted((float(line.split()[0]), 1.0) for line in lines)

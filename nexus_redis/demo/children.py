"""The processes of one run, which start together and end together.

Each is `python -m nexus_redis.demo.<role>` and inherits nothing. Its settings are a line on stdin, and its messages are
lines on stdout. When stdin closes, however the parent ended, the child ends.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from nexus_redis._values import error_texts
from nexus_redis.demo.options import DemoFailed

HEAD_START_S = 0.25  # so that the starting signal reaches every process before the start
PATIENCE_S = 60.0  # for processes to start on a busy machine
SHOWN_EACH_S = 0.25
TAIL_LINES = 12


class Children:
    """The processes, with a directory under `home`, in which they run, and one inbox for their messages."""

    def __init__(self, home: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=home))
        self.results: dict[str, dict[str, Any]] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._inbox: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._errors = (self.directory / "errors.txt").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        for reader in self._readers:
            reader.join()
        for process in self._processes.values():
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):  # the process did not read all of its input
                    cast("IO[str]", pipe).close()
        self._errors.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def names(self) -> set[str]:
        return set(self._processes)

    def start(self, name: str, role: str, settings: dict[str, Any]) -> None:
        paths = [str(Path(__file__).parents[2]), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        process = subprocess.Popen(
            [sys.executable, "-m", f"nexus_redis.demo.{role}", str(self.directory.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths)), "PYTHONUTF8": "1"},
        )
        self._processes[name] = process
        reader = threading.Thread(target=self._read, args=(name, process), daemon=True)
        self._readers.append(reader)
        reader.start()
        self._write(name, settings)

    def go(self, show: Callable[[int, int], None]) -> float:
        """Wait until all are ready, then give all the same instant of time.monotonic() to start at.

        Call `show(ready, processes)` a few times a second, because a busy machine needs many seconds to start them.
        """
        waiting, gives_up_at = set(self._processes), time.monotonic() + PATIENCE_S
        while waiting:
            show(len(self._processes) - len(waiting), len(self._processes))
            told = self.hear(SHOWN_EACH_S)
            if told and told[1]["kind"] == "ready":
                waiting.discard(told[0])
            if time.monotonic() > gives_up_at:
                raise DemoFailed(error_texts.demo_not_started(", ".join(sorted(waiting)), PATIENCE_S, self._tail()))
        starts_at = time.monotonic() + HEAD_START_S
        for name in self._processes:
            self._write(name, {"starts_at": starts_at})
        return starts_at

    def hear(self, timeout: float) -> tuple[str, dict[str, Any]] | None:
        """Return the next message and its sender; None if there was none. Results are also kept in `results`."""
        try:
            name, news = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
        if news["kind"] == "result":
            self.results[name] = news
        elif news["kind"] == "end" and name not in self.results:
            code = self._processes[name].wait()
            raise DemoFailed(error_texts.demo_ended_early(name, code, self._tail()))
        return name, news

    def _write(self, name: str, message: dict[str, Any]) -> None:
        pipe = cast("IO[str]", self._processes[name].stdin)
        with suppress(BrokenPipeError):  # the process has died, which its reader reports
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        for line in cast("IO[str]", process.stdout):
            self._inbox.put((name, json.loads(line)))
        self._inbox.put((name, {"kind": "end"}))

    def _tail(self) -> str:
        lines = (self.directory / "errors.txt").read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "".join(f"\n  {line}" for line in lines)

"""The command line as tests type it: in this process, which is quick, or in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from typer import testing
from typer.testing import CliRunner

from nexus_redis.cli.app import app
from tests.harness.support import finish, patient

ROOT = Path(__file__).parents[2]

# typer makes the commands of all verbs again for each run, which takes longer than most verbs do.
testing._get_command = cache(testing._get_command)  # type: ignore[attr-defined]  # its runner takes no command


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stdout holds, as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on stderr, without the name of the program; all of stderr if it is anything else."""
        line = self.err.removeprefix("nexus-redis: ").removesuffix("\n")
        return self.err if "\n" in line or len(line) == len(self.err) else line


@dataclass(frozen=True)
class Shell:
    """A shell whose environment names a Redis."""

    url: str
    client: redis.Redis

    @property
    def environment(self) -> dict[str, str]:
        names = ("NEXUS_REDIS_NAMESPACE", "FORCE_COLOR", "NO_COLOR", "COLUMNS")
        clean = {name: value for name, value in os.environ.items() if name not in names}
        return {**clean, "NEXUS_REDIS_URL": self.url}

    @property
    def where(self) -> str:
        """The namespace and the server, as messages name them."""
        address = urlsplit(self.url)
        return f"in namespace nexus at {address.hostname}:{address.port}"

    @property
    def patient(self) -> Self:
        """The same shell with a minute for each answer of Redis, for a process of its own on a busy machine."""
        return replace(self, url=patient(self.url))

    def __call__(self, *words: str, **environment: str) -> Ended:
        """Run a verb in this process. One that takes signals blocks them for good, so it needs a `process`."""
        ended = CliRunner().invoke(app, words, env={**self.environment, **environment}, catch_exceptions=False)
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()), f"{words[0]} has blocked signals: use `process`"
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a verb in a process of its own."""
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": self.environment, **options}
        return subprocess.Popen((sys.executable, "-m", "nexus_redis", *words), cwd=ROOT, text=True, **streams)

    def process(self, *words: str, **options: Any) -> Ended:
        """Run a verb in a process of its own, to its end."""
        process = self.start(*words, **options)
        out, err = finish(process)
        return Ended(process.returncode, out or "", err)

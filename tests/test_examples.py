"""Each example does what its first line says."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from nexus_redis.embedded import HOST
from tests.servers import Server

ROOT = Path(__file__).parent.parent


def start(server: Server, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Run an example as a user would."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *arguments], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "NEXUS_REDIS_URL": server.url},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Its output, if it ended well."""
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out


def test_the_quickstart_makes_its_calls_at_the_shared_rate(one_server: Server) -> None:
    """Two processes at once: 40 calls at 10/s take 4 s less the first bucket, however they are split."""
    processes = [start(one_server, "quickstart.py") for _ in range(2)]
    seconds = [float(finish(process).splitlines()[-1].split()[0]) for process in processes]
    assert max(seconds) > 2.5


def test_fifty_tasks_share_one_budget(one_server: Server) -> None:
    assert "50 calls at 100/s" in finish(start(one_server, "async_producer.py"))


def test_producers_follow_the_consumer_and_nothing_is_dropped(one_server: Server) -> None:
    """One consumer, three producers over a socket: what is sent gets done, and nothing is lost."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    consumer = start(one_server, "consumer.py", "--listen", f"{HOST}:{port}", "--seconds", "8")
    producers = [start(one_server, "producer.py", "--to", f"{HOST}:{port}", "--seconds", "4") for _ in range(3)]
    sent = sum(int(finish(producer).split()[-1]) for producer in producers)
    done, dropped = (int(number) for number in re.findall(r"\d+", finish(consumer)))
    assert dropped == 0
    assert done == sent > 500


def test_the_compose_file_runs_examples_that_exist() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    scripts = re.findall(r"python /src/(examples/\w+\.py)", text)
    assert sorted(scripts) == ["examples/consumer.py", "examples/producer.py"]
    assert all((ROOT / script).exists() for script in scripts)

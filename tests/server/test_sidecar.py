"""A server on a unix socket is a sidecar: one producer in Redis for all programs of a host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nexus_redis import Nexus
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, is_missing
from tests.server.served import Served

LOOP = """
set -eu
for each in $(seq 20); do
    curl -sf --unix-socket "$1" http://localhost/v1/acquire -H 'Content-Type: application/json' \\
        -d "{\\"budget\\": \\"stripe\\", \\"producer_id\\": \\"$2\\"}" > /dev/null
done
"""


@pytest.mark.skipif(is_missing("curl"), reason="curl is not installed")
def test_redis_sees_one_producer_a_host(one_server: Server, tmp_path: Path) -> None:
    """Loops of curl by three programs are one producer in Redis, and each gets its tokens."""
    path = tmp_path / "nexus.sock"
    with Served(one_server.url, socket=path) as served, Nexus.from_url(one_server.url) as nexus:
        served.put("stripe", rate=10_000)
        loops = [
            subprocess.Popen(["sh", "-c", LOOP, "sh", str(path), who], stderr=subprocess.PIPE)
            for who in ("shop", "backup", "cron")
        ]
        for loop in loops:
            _, error = loop.communicate(timeout=LONG_PATIENCE)
            assert loop.returncode == 0, error
        seen = nexus.budget("stripe").snapshot()
    assert seen.producer_count == 1
    assert seen.granted_total >= 60

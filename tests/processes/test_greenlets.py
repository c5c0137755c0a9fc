"""A process whose threads are greenlets of gevent or eventlet forks while greenlets wait for tokens."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.harness.command_line import ROOT
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all(); from gevent import spawn; join = lambda it: it.join()",
    "eventlet": "import eventlet; eventlet.monkey_patch(); from eventlet import spawn; join = lambda it: it.wait()",
}
PROGRAM = """
import os, sys
from nexus_redis import Nexus

nexus = Nexus.from_url(sys.argv[1])
budget = nexus.budget("stripe", rate="100/s")

def take(tokens):
    for _ in range(tokens):
        budget.acquire()

waiting = [spawn(take, 30) for _ in range(5)]
take(10)
child = os.fork()
take(10)
if not child:
    nexus.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
for it in waiting:
    join(it)
nexus.close()
print(status)
"""


@pytest.mark.parametrize("library", PATCHES)
def test_fork_beside_greenlets(one_server: Server, library: str) -> None:
    """The child inherits the greenlets of our threads. They do nothing there, and nothing is printed about them."""
    pytest.importorskip(library)
    ended = subprocess.run(
        (sys.executable, "-W", "ignore", "-c", PATCHES[library] + PROGRAM, one_server.url),
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=LONG_PATIENCE,
        check=False,
    )  # fmt: skip
    assert (ended.stderr, ended.stdout, ended.returncode) == ("", "0\n", 0)

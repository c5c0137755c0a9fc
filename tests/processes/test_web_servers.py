"""A Nexus in the module of a web application, under each kind of worker that replaces threads by something of its own.

The server is loaded with the module before it forks, and the workers patch the standard library afterwards: whatever
the module made before that is of the wrong kind, or the parent's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nexus_redis import Nexus
from tests.harness.servers import Server
from tests.harness.support import HOST, PATIENCE, eventually, free_port, is_open, join, patient

ROOT = Path(__file__).parents[2]
APP = "tests.processes.web_app:application"
pytestmark = pytest.mark.slow


@contextmanager
def served(server: Server, home: Path, program: str, *options: str, is_used: bool) -> Iterator[int]:
    """The port on which the program serves the application; it ends with the block."""
    port = free_port()
    given = [option.format(address=f"{HOST}:{port}") for option in options]
    environment = {**os.environ, "NEXUS_REDIS_URL": patient(server.url), "HOME": str(home)}
    environment |= {"TESTS_USED": "1"} if is_used else {}
    process = subprocess.Popen(
        [*program.split(), *given], cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        assert eventually(lambda: is_open(port) or process.poll() is not None)
        yield port
    finally:
        process.terminate()
        error = process.communicate(timeout=PATIENCE)[1]
    assert "Traceback" not in error, error


def visit(port: int, answers: list[str], path: str = "/") -> None:
    """Ask once; an error, or no answer within a minute, leaves nothing in `answers`."""
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=PATIENCE) as answer:
        answers.append(answer.read().decode())


def visited(port: int, *paths: str) -> list[str]:
    """What they were answered who all came at once."""
    answers: list[str] = []
    visitors = [threading.Thread(target=visit, args=(port, answers, path)) for path in paths]
    for visitor in visitors:
        visitor.start()
    join(*visitors)
    return answers


GUNICORN = (f"{sys.executable} -m gunicorn", "--workers", "2", "--bind", "{address}", "--preload")
UWSGI = (
    str(Path(sys.executable).with_name("uwsgi")), "--http-socket", "{address}", "--master", "--processes", "2",
    "--die-on-term", "--virtualenv", sys.prefix, "--pythonpath", str(ROOT), "--module", APP, "--enable-threads",
)  # fmt: skip
MODELS = {
    "gunicorn gevent": (*GUNICORN, "--worker-class", "gevent"),  # the others are in test_docs.py and test_examples.py
    "uwsgi threads": (*UWSGI, "--threads", "4"),
    "uwsgi gevent": (*UWSGI, "--gevent", "20", "--gevent-monkey-patch"),
    "uwsgi lazy-apps": (*UWSGI, "--lazy-apps"),
}
# At import. uWSGI forks behind Python's back, which no thread survives: where it loads the application first, it hangs.
MAY_BE_USED = ("gunicorn gevent", "uwsgi lazy-apps")


@pytest.mark.parametrize(
    ("model", "is_used"),
    [*((model, False) for model in MODELS if "lazy" not in model), *((model, True) for model in MAY_BE_USED)],
)
def test_forked_web_workers_serve(one_server: Server, tmp_path: Path, model: str, *, is_used: bool) -> None:
    """Workers that fork from a loaded application serve, and leave nothing behind."""
    program, *options = MODELS[model]
    application = [] if model.startswith("uwsgi") else [APP]
    with served(one_server, tmp_path, program, *options, *application, is_used=is_used) as port:
        answers = visited(port, *["/"] * 30, "/wait", "/wait", *["/"] * 30)
    assert len(answers) == 62
    assert all(len({line for line in answers if line.split()[0] == pid}) == 1 for pid, _ in map(str.split, answers))
    if model != "uwsgi gevent":  # gevent has ended when uWSGI has Python say goodbye: leases expire by themselves
        with Nexus.from_url(one_server.url) as nexus:
            assert nexus.budget("stripe").snapshot().producer_count == 0  # who is told to stop hands back and leaves

"""Docs are true: what they show runs, what they point at is there, what they count was counted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Server

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")
SNIPPETS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(PYTHON.findall(page.read_text()))
]


def environment(server: Server) -> dict[str, str]:
    """As a user has it, pointed at the test's server."""
    return {**os.environ, "NEXUS_REDIS_URL": server.url, "COLUMNS": "120"}


@pytest.mark.parametrize("code", SNIPPETS)
def test_every_python_snippet_runs(one_server: Server, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60,
        env=environment(one_server), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_readme_runs(one_server: Server) -> None:
    """The indented lines that begin with our command, in the order in which a reader would type them."""
    commands = re.findall(r"^    (nexus-redis .*?)(?:  +#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        arguments = [sys.executable, "-m", "nexus_redis", *shlex.split(command)[1:]]
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=60, env=environment(one_server), check=False
        )
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_tour_names_files_that_exist() -> None:
    tour = (ROOT / "docs" / "how-it-works.md").read_text()
    for name in set(re.findall(r"`((?:lua/|lib/)?\w+\.(?:py|lua))`", tour)):
        places = [ROOT / name, ROOT / "nexus_redis" / name, ROOT / "lua" / name]
        assert any(place.exists() for place in places), name

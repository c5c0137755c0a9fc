"""Docs are true: what they show runs, what they point at is there, what they count was counted."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from benchmarks import laws
from nexus_redis import Nexus
from nexus_redis._redis.embedded import HOST
from nexus_redis.contrib import httpx as httpx_helper
from nexus_redis.contrib import httpx2 as httpx2_helper
from nexus_redis.testing import assert_never_exceeded
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, PATIENCE, eventually, free_port, is_open, join, now, patient

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
HELPERS = sorted((DOCS / "contrib").glob("*.md"))
APPLICATIONS = [DOCS / "contrib" / f"{name}.md" for name in ("asgi", "fastapi", "wsgi")]  # served, and asked by curl
STORIES = [
    DOCS / "quick-start.md",
    DOCS / "concepts.md",
    DOCS / "http.md",
    *HOW_TO,
    *APPLICATIONS,
]  # run from top to bottom, shell and all
BLOCK = re.compile(r'^```(python|sh|text)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
SNIPPETS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    if page not in STORIES
    for number, (language, _, code) in enumerate(BLOCK.findall(page.read_text()))
    if language == "python"
]


def environment(server: Server) -> dict[str, str]:
    """As a user has it, pointed at the test's server."""
    return {**os.environ, "NEXUS_REDIS_URL": patient(server.url), "COLUMNS": "120"}


@pytest.mark.parametrize("code", SNIPPETS)
def test_every_python_snippet_runs(one_server: Server, code: str) -> None:
    """Every Python snippet runs."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=LONG_PATIENCE,
        env=environment(one_server), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# Installing would ask the network; what is asked for is looked up among what is there. Where a reader waits some
# seconds for what was started, a busy machine may need more: until each log has something in it.
BEGINNING = f"""
set -eu -o pipefail
pip() {{ (cd {shlex.quote(str(ROOT))}; python -m pip "$@" --quiet --dry-run --no-index --no-build-isolation); }}
sleep() {{
    command sleep "$@"
    for log in *.log; do while [ -e "$log" ] && [ ! -s "$log" ]; do command sleep 0.1; done; done
}}
"""
# What the pages show is what one sees; these figures become others where the machine does not keep up. Each is held in
# virtual time elsewhere.
MEASURED = {
    "adaptive-consumers": ("'dropped': 0", r"'dropped': \d+"),
    "per-customer": ("ann: come back in ", "ann: (?:served|come back in )"),
    "weights-and-classes": ("report: 15/s\nbatch: 95/s\nshop: 190/s\n", r"(?:\w+: \d+/s\n){3}"),
}


def as_script(page: str) -> tuple[str, list[str | None]]:
    """One bash script of all blocks of a page, each behind a line of its own; and what each is said to print."""
    script = BEGINNING
    said: list[str | None] = []
    for language, name, code in BLOCK.findall(page):
        if language == "text":
            said[-1] = code
            continue
        place = name or f"snippet{len(said)}.py"
        script += f"echo @@@\n{code}" if language == "sh" else f"echo @@@\ncat > {place} << 'THE END'\n{code}THE END\n"
        script += f"python -W error {place}\n" if language == "python" and not name else ""
        said.append(None)
    return script, said


@pytest.mark.slow
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_a_page_runs_as_written(one_server: Server, path: Path, tmp_path: Path) -> None:
    """A page runs from top to bottom and prints what it says."""
    page = path.read_text()
    for port in ("6399", "8000", "8001", "8080", "8081"):
        page = re.sub(rf"\b{port}\b", str(free_port()), page)
    script, said = as_script(page)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {**environment(one_server), "HOME": str(tmp_path), "PATH": programs}
    with (tmp_path / "printed").open("w+") as out, (tmp_path / "errors").open("w+") as errors:
        shell = subprocess.Popen(
            ["bash", "-c", script], cwd=tmp_path, env=known, stdout=out, stderr=errors, start_new_session=True
        )
        try:
            shell.wait(timeout=LONG_PATIENCE)
        finally:
            with suppress(ProcessLookupError):  # what the page started and left running
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, (tmp_path / "errors").read_text()
    printed = (tmp_path / "printed").read_text().split("@@@\n")[1:]
    for promised, found in zip(said, printed, strict=True):
        if promised is not None:
            # An answer that curl prints has no end of line; on the page it has one.
            pattern = ".*".join(re.escape(part) for part in promised.removesuffix("\n").split("...")) + "\n?"
            exact, measured = MEASURED.get(path.stem, ("", ""))
            assert exact in promised, "the page shows other figures now"
            pattern = pattern.replace(re.escape(exact), measured) if exact else pattern
            assert re.fullmatch(pattern, found, re.DOTALL), found


def test_web_workers_keep_one_limit(one_server: Server, tmp_path: Path) -> None:
    """The workers of the web application keep one limit, and leave nothing behind."""
    [(_, name, code), *_] = BLOCK.findall((DOCS / "how-to" / "web-application.md").read_text())
    (tmp_path / name).write_text(code)
    port = free_port()
    gunicorn = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", f"{HOST}:{port}", "--workers=4", "--preload", "shop:application"],
        env={**environment(one_server), "HOME": str(tmp_path)}, cwd=tmp_path, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    log, payers, stop = [], set(), threading.Event()

    def visit() -> None:
        while not stop.is_set():
            with suppress(urllib.error.HTTPError), urllib.request.urlopen(f"http://{HOST}:{port}/") as answer:
                payers.add(answer.read())
                log.append((now(), 1.0))

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    try:
        assert eventually(lambda: is_open(port))
        for visitor in visitors:
            visitor.start()
        assert eventually(lambda: len(log) > 100 and len(payers) > 1)
        stop.set()
        join(*visitors)
        assert_never_exceeded(log, "50/s", largest=4)  # what four visitors may be late to note
    finally:
        stop.set()
        gunicorn.terminate()
        gunicorn.wait(timeout=PATIENCE)
    assert not list(one_server.client().scan_iter("*:producer:*"))


@pytest.mark.parametrize("path", HOW_TO, ids=lambda path: path.stem)
def test_a_how_to_begins_with_its_program(path: Path) -> None:
    """A how-to begins with the finished program."""
    assert re.match(r"# [^\n]+\n\n```(python|sh)", path.read_text())
    assert re.findall(r"^## .*", path.read_text(), re.MULTILINE) == ["## Why", "## At 3 a.m."]


def inline(path: Path) -> list[str]:
    """What stands between backticks in the text of a page."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def test_a_recipe_in_a_sentence_runs_too(one_server: Server) -> None:
    """Each that calls something which has the same name on all pages; `...` stands for what the reader has."""
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("budget", rate=1000)
        known: dict[str, Any] = {
            "nexus": nexus, "budget": budget, "stripe": budget, "requests": nexus.budget("requests", rate=1000),
            "tokens": nexus.budget("tokens", rate="9000/s"), "consumer": budget.consumer(capacity=400),
            "queue": queue.Queue(9), "callable": lambda: 3, "batch": ["a", "b"], "n": 3, "used": 2, "r": None,
            "httpx": httpx, "httpx2": httpx2, "logging": logging, "len": len,
        }  # fmt: skip
        recipes = {(path.stem, code) for path in [*HOW_TO, *HELPERS] for code in inline(path)}
        ran = [code for page, code in sorted(recipes) if is_recipe(code, {*known, "Transport"})]
        for page, code in sorted(recipes):
            if code in ran:
                helper = httpx2_helper if page == "httpx2" else httpx_helper
                exec(code, {**known, "Transport": helper.Transport})  # noqa: S102  # our own pages
    assert len(ran) >= 12, ran


def is_recipe(code: str, known: set[str]) -> bool:
    """Whether it calls a method, and names nothing but what is known."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return False
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    calls = any(isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) for node in nodes)
    return calls and names <= known and "..." not in code


@pytest.mark.parametrize("path", HELPERS, ids=lambda path: path.stem)
def test_a_page_has_the_real_signatures(path: Path) -> None:
    """A signature on the page of a helper is that of the code."""
    module = importlib.import_module(f"nexus_redis.contrib.{path.stem}")
    for code in inline(path):
        match = re.fullmatch(r"(\w+)\((.*=.*)\)", code)
        if match and match[1] in module.__all__ and isinstance(call := ast.parse(code, mode="eval").body, ast.Call):
            parameters = list(inspect.signature(getattr(module, match[1])).parameters.values())
            said = [ast.unparse(each) for each in call.args] + [str(each.arg) for each in call.keywords]
            assert said == [each.name for each in parameters if not each.name.startswith("pool_")]
            defaults = [ast.literal_eval(each.value) for each in call.keywords]
            assert defaults == [each.default for each in parameters if each.name in said][len(call.args) :]


def test_every_command_of_the_readme_runs(one_server: Server) -> None:
    """The indented lines that begin with our command, in the order in which a reader would type them."""
    commands = re.findall(r"^    (nexus-redis .*?)(?:  +#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        if command == "nexus-redis top":  # it needs a terminal; tests/cli/test_top.py draws one
            continue
        arguments = [sys.executable, "-m", "nexus_redis", *shlex.split(command)[1:]]
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=LONG_PATIENCE, env=environment(one_server), check=False
        )
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Every link leads somewhere."""
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_tour_names_files_that_exist() -> None:
    """The tour names files that exist."""
    tour = (ROOT / "docs" / "how-it-works.md").read_text()
    for name in set(re.findall(r"`((?:\w+/)*\w+\.(?:py|lua))`", tour)):
        places = [ROOT / name, ROOT / "lua" / name, *(ROOT / "nexus_redis").rglob(name)]
        assert any(place.exists() for place in places), name


@pytest.mark.parametrize("law", laws.LAWS)
def test_the_plot_of_a_law_is_what_the_scripts_do(one_server: Server, law: str) -> None:
    """The plot of a law is what the scripts do."""
    picture = laws.IMAGES / f"law-{law}.svg"
    assert picture.read_text() == laws.drawing(law, laws.course(one_server.client(single_connection_client=True), law))

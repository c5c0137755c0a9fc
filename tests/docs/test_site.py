"""The site of docs/: builds without a warning, every link and anchor in it leads somewhere, and nothing is fetched."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.harness.support import LONG_PATIENCE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("site")  # one worker builds it
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What one page names, points at and fetches."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {name for name in (given.get("id"), given.get("name")) if name}
        if tag == "a" and given.get("href"):
            self.links.add(given["href"] or "")
        if tag in FETCHED and given.get("rel") != "canonical":
            self.fetched |= {source for source in (given.get(FETCHED[tag]),) if source}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site, and what the builder said."""
    place = tmp_path_factory.mktemp("docs").resolve()
    shutil.copy(ROOT / "zensical.toml", place)
    shutil.copytree(ROOT / "docs", place / "docs")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"], cwd=place, capture_output=True, text=True, check=False,
        timeout=LONG_PATIENCE, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    assert done.returncode == 0, said
    return place / "site", said


@pytest.fixture(scope="module")
def pages(built: tuple[Path, str]) -> dict[Path, Page]:
    found = {path: Page(path) for path in built[0].rglob("*.html")}
    assert len(found) > 20
    return found


def test_the_builder_has_no_complaint(built: tuple[Path, str]) -> None:
    """The builder has nothing to say against the site."""
    assert built[1].endswith("No issues found\n")


def test_every_link_has_a_target(pages: dict[Path, Page], built: tuple[Path, str]) -> None:
    """Every link leads to a page and to a place in it."""
    dangling = []
    for path, page in pages.items():
        for link in page.links | page.fetched:
            to = urlsplit(link)
            if to.scheme or to.netloc:
                continue
            target = path if not to.path else (path.parent / unquote(to.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            is_there = target.is_relative_to(built[0]) and target.exists()
            if path.name == "404.html" and not is_there:
                continue  # its links are relative to wherever the reader went astray
            if not is_there or (to.fragment and to.fragment not in {"__skip", *pages[target].ids}):
                dangling.append((path.name, link))
    assert dangling == []


def test_no_page_fetches_anything_from_elsewhere(pages: dict[Path, Page]) -> None:
    """No page fetches anything from elsewhere."""
    assert {source for page in pages.values() for source in page.fetched if urlsplit(source).netloc} == set()


def test_the_overview_says_how_to_install(built: tuple[Path, str]) -> None:
    """The overview says how to install the package, what it needs and what comes of it."""
    overview = (built[0] / "index.html").read_text()
    article = overview[overview.index("<article") :]
    above = article[: article.index("Where to go from here")]
    for said in ("pip install", "Python 3.11", "Redis 6.2", "Valkey"):
        assert said in re.sub(r"<[^>]*>", "", above), said
    assert 'src="images/law-drain.svg"' in above


def test_the_palette_can_be_switched(pages: dict[Path, Page], built: tuple[Path, str]) -> None:
    """A reader can switch between light and dark."""
    for path in pages:
        schemes = re.findall(r'<input[^>]*data-md-color-scheme="(\w+)"', path.read_text())
        assert {"default", "slate"} <= set(schemes), path
        assert len(re.findall(r'title="Switch to [a-z ]+"', path.read_text())) == 3, path


def test_drawings_fit_the_style_sheet(built: tuple[Path, str]) -> None:
    """Tables and drawings know what the style sheet needs."""
    style, script = (next(built[0].rglob(name)).read_text() for name in ("style.css", "script.js"))
    for name in ("data-heading", "--columns"):
        assert name in style
        assert name in script
    for page in built[0].rglob("*.html"):
        assert "script.js" in page.read_text(), page


def named(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        for place in entry.values():
            yield from [place] if isinstance(place, str) else named(place)


def test_every_page_is_in_the_navigation() -> None:
    """Every page has its place in the navigation."""
    nav = list(named(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert len(nav) == len(set(nav))
    assert set(nav) == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


@pytest.mark.parametrize(
    "module",
    ["nexus_redis", "nexus_redis.asyncio", "nexus_redis.errors", "nexus_redis.extending", "nexus_redis.testing"],
)
def test_every_public_name_is_in_the_reference(pages: dict[Path, Page], module: str) -> None:
    """Every public name is in the reference."""
    known = {name for page in pages.values() for name in page.ids}
    home = importlib.import_module(module)
    names = getattr(home, "__all__", None) or [
        name for name, value in vars(home).items() if inspect.isclass(value) and value.__module__ == module
    ]
    public = [name for name in names if not name.startswith("_") and name not in {"GRANTED", "Range"}]
    assert [name for name in public if not known & {f"{module}.{name}", defined(getattr(home, name))}] == []


def defined(value: Any) -> str:
    """Return the full name of a class or function where it is defined, "" for a value that has none."""
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else ""

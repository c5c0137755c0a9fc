"""The rooms of the package, and which of them may import which: three rules that hold by what Python does."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "nexus_redis"

# From the bottom up. A module imports from its own room and from those before it. How numbers are written and
# the texts of errors are rooms of their own, because `errors` needs both.
ROOMS: Final = (
    "formatting", "error_texts", "errors", "_values", "logs", "messages", "_protocol", "_core", "_runtime", "_redis",
    "_drivers", "_api", "client", "asyncio", "__init__", "extending", "testing", "contrib", "metrics", "server", "demo",
    "cli", "__main__",
)  # fmt: skip
LOWEST: Final = ("formatting", "error_texts")  # modules of `_values`
PURE: Final = (*LOWEST, "errors", "_values", "logs", "messages", "_protocol", "_core")
BLOCKED: Final = ("redis", "asyncio", "threading", "socket", "selectors", "subprocess", "time")

# What the pure rooms may use of other packages is imported first; after that nobody gets a blocked module any more.
IMPORT_PURE: Final = f"""
import concurrent.futures, importlib, logging, os, sys
import msgpack
from pydantic import AfterValidator, BaseModel, TypeAdapter
type("Model", (BaseModel,), dict())  # has pydantic import all that it needs
sys.modules.update(dict.fromkeys({BLOCKED!r}))
for name in sys.argv[1:]:
    importlib.import_module(name)
os._exit(0)  # an orderly end needs threading
"""


def modules() -> list[Path]:
    """All modules of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py") if "lua" not in path.parts)


def room_of(path: Path) -> str:
    """`_core` of nexus_redis/_core/ledger.py, `client` of nexus_redis/client.py."""
    parts = path.relative_to(PACKAGE).parts
    return path.stem if path.stem in LOWEST else parts[0] if len(parts) > 1 else path.stem


def dotted(path: Path) -> str:
    """The name by which a module is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """What a file imports of this package, anywhere in it: the module, and each name that it takes from there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "nexus_redis")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: no relative imports, so that each import says its room"
            if (node.module or "").split(".")[0] == "nexus_redis":
                yield from ((node.module or "", alias.name) for alias in node.names)


def test_pure_rooms_do_no_io() -> None:
    """Pure rooms import with no way to wait or to speak.

    `_values`, `_protocol` and `_core` do no I/O: they import where sockets, threads, event loops and clocks fail.
    """
    names = [dotted(path) for path in modules() if room_of(path) in PURE and path.stem != "__init__"]
    assert len(names) > 30
    command = [sys.executable, "-c", IMPORT_PURE, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in BLOCKED:  # and the rule has teeth: each of them is refused
        code = IMPORT_PURE.replace("os._exit(0)", f"import {name}")
        refused = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
        assert refused.returncode != 0, name


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    """A module imports from its room and those below.

    Imports go down only, also those inside of functions and those for type checkers.
    """
    own = room_of(path)
    for module, name in imported(path):
        below = module.split(".")[1:]
        lowest = next((each for each in LOWEST if each in (name, *below)), None)
        other = lowest or (below[0] if below else name if name in ROOMS else "__init__")
        assert ROOMS.index(other) <= ROOMS.index(own), f"{own} imports {module}"


@pytest.mark.parametrize(
    "path",
    sorted([*(PACKAGE / "contrib").glob("*.py"), *(ROOT / "examples").rglob("*.py")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_helpers_use_public_names(path: Path) -> None:
    """Helpers and examples use public names only.

    They import no name with an underscore, but for contrib's own modules, and use no such attribute of one of ours.
    """
    for module, name in imported(path):
        private = [part for part in (*module.split("."), name) if part.startswith("_") and part != "__future__"]
        assert not private or module.startswith("nexus_redis.contrib"), f"{module} import {name}"
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            assert isinstance(owner, ast.Name), f"{path.name}:{node.lineno} reaches into .{node.attr}"
            assert owner.id in ("self", "cls") or owner.id in _own_classes(tree), f"{path.name}:{node.lineno}"


def _own_classes(tree: ast.AST) -> set[str]:
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}

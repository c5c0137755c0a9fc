"""The texts of the helpers stand in one place, and a change of one shows in a diff that people read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from nexus_redis.contrib import _texts
from tests.contrib.messages import GOLDEN, listing

HELPERS = sorted(path for path in Path(_texts.__file__).parent.glob("*.py") if path.name != "_texts.py")
ERRORS = ("InvalidSetting", "SkipMessage", "HTTPException")


def test_golden() -> None:
    """`python -m tests.contrib.messages` writes the list again."""
    assert listing() == GOLDEN.read_text()


@pytest.mark.parametrize("path", HELPERS, ids=lambda path: path.stem)
def test_one_place(path: Path) -> None:
    """No helper logs or raises a text that stands elsewhere. The first argument of `InvalidSetting` is a name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.startswith("log.") or called in ERRORS:
            texts = node.args[1:] if called == "InvalidSetting" else node.args
            assert not any(is_prose(each) for each in texts), f"{path.name}:{node.lineno}"


def is_prose(node: ast.expr) -> bool:
    """Return whether an argument is a text that stands there, filled in or not."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))

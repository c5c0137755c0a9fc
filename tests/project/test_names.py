"""Each test has a short name, and a docstring that says in a sentence what holds."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
LONGEST: Final = len("test_") + 45


def test_names_are_short_and_have_a_sentence() -> None:
    """No test has a long name, and none is without a docstring."""
    offences = [
        f"{path.relative_to(TESTS)}: {node.name}"
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if len(node.name) > LONGEST or not ast.get_docstring(node)
    ]
    assert offences == []

"""The texts that people read are those of one golden file; all other tests refer to codes, fields and names."""

from __future__ import annotations

import ast
import re

import pytest

from nexus_redis._values import error_texts, log_texts
from nexus_redis.errors import NexusError
from tests.project.messages import ERRORS, FILE, WITH_ADDRESSES, listing, texts
from tests.project.test_rooms import modules


def test_the_golden_file_has_every_text() -> None:
    """A text was changed on purpose? Then `python -m tests.project.messages` writes the file again."""
    assert FILE.read_text() == listing()


def test_every_error_is_rendered() -> None:
    """A new leaf of the tree needs a sample in `ERRORS`."""
    assert {type(error) for error in ERRORS} | WITH_ADDRESSES == {NexusError, *NexusError.__subclasses__()}


@pytest.mark.parametrize("module", [error_texts, log_texts])
def test_a_text_stands_once_and_is_one_line(module: object) -> None:
    """Two names for one text would be two places to change it; only the codes of a table may share one."""
    found = dict(texts(module))  # type: ignore[arg-type]  # parametrize gives objects
    assert len(found) > 4
    assert all(text.isprintable() and text for text in found.values())
    single = [text for name, text in found.items() if "[" not in name]
    assert len(set(single)) == len(single)


@pytest.mark.parametrize("module", [error_texts, log_texts])
def test_every_text_is_used(module: object) -> None:
    """A text that no module names any more goes."""
    code = "".join(path.read_text() for path in modules())
    names = {name.partition("[")[0] for name, _ in texts(module)}  # type: ignore[arg-type]  # likewise
    assert [name for name in sorted(names) if len(re.findall(rf"\b{name}\b", code)) < 2] == []


def test_tests_repeat_no_text() -> None:
    """A test names a text by its constant: no literal of four words or more in a test is a part of a text."""
    rooms = FILE.parents[1]
    golden = [(rooms / room / "messages.txt").read_text() for room in ("cli", "contrib")]
    ours = [text for module in (error_texts, log_texts) for _, text in texts(module)]
    known = "\n".join(" ".join(text.split()) for text in (*golden, *ours))
    repeated = [
        f"{path.relative_to(rooms)}:{node.lineno}: {node.value}"
        for path in sorted({*rooms.rglob("*.py")} - {*rooms.rglob("messages.py")})  # these have the sample data
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if len(node.value.split()) >= 4 and node.value.strip() in known
    ]
    assert repeated == []

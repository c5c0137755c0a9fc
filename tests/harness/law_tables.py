"""The tables of docs/laws.md that simulations write: each between two comments that name it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"


def shown(name: str) -> str:
    """The table of that name, as the page has it."""
    return PAGE.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end {name} -->")[0]


def put(table: str, name: str) -> None:
    """Write it into the page."""
    before, after = re.split(rf"(?s)(?<=<!-- {name} -->\n).*(?=<!-- end {name} -->)", PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(f"{before}{table}\n{after}", encoding="utf-8")


def show(table: str, name: str) -> None:
    """Print it; with --write, write it into the page."""
    print(table)
    if "--write" in sys.argv:
        put(table, name)

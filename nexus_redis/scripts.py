"""The Lua scripts: find, compose, hash.

A script is one file in `lua/`; a line `--- @include name` stands for `lua/lib/name.lua`, put in once, in that order.
The SHA-1 of the composed text is what EVALSHA calls, so a release *is* its scripts: old and new clients run side by
side. `nexus-redis scripts claim` prints the composed text, and `redis-cli --ldb` steps through it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

NAMES: Final = ("claim", "report", "leave", "configure", "inspect")
_INCLUDE: Final = re.compile(r"^--- @include (\w+)$", re.MULTILINE)
_FUNCTION: Final = re.compile(r"^local function (\w+)\((?:[^\n]* end|[^\n]*\)\n.*?^end)\n+", re.MULTILINE | re.DOTALL)
_WORD: Final = re.compile(r"\w+")
_NAME: Final = re.compile(r"\b(?<!-- )[A-Z][A-Z0-9_]*\b")
_CONSTANT: Final = re.compile(r"^local ([A-Z][A-Z0-9_]*) = ([-\d.e+]+)(?=$| *--)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One composed script: `text` for EVAL, `sha` for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script `name` with its includes; LookupError when there is none of that name."""
    if name not in NAMES:
        raise LookupError(f"no script {name!r}: there are {', '.join(NAMES)}")
    text = _with_constants(_without_unused(_composed(_folder() / f"{name}.lua", set())))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _folder() -> Path:
    here = Path(__file__).parent
    # In a wheel lua/ lies inside the package; in a checkout (and an editable install) beside it.
    return next(folder for folder in (here / "lua", here.parent / "lua") if (folder / "claim.lua").exists())


def _composed(path: Path, seen: set[str]) -> str:
    def included(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return f"-- {name}: see above"
        seen.add(name)
        return _composed(path.parents[path.parent.name == "lib"] / "lib" / f"{name}.lua", seen).rstrip()

    return _INCLUDE.sub(included, path.read_text(encoding="utf-8"))


def _without_unused(text: str) -> str:
    """Functions of the library that this script never calls: the server would define them at each call all the same."""
    functions = list(_FUNCTION.finditer(text))
    while functions:
        uses = Counter(_WORD.findall(text))
        unused = [found for found in functions if uses[found[1]] == 1]
        for found in unused:
            text = text.replace(found[0], "")
        functions = [found for found in functions if found not in unused] if unused else []
    return text


def _with_constants(text: str) -> str:
    """Numbers that have a name in capitals, written in where they are used.

    A server defines a script's functions anew at each call, and each local that one captures costs as much as a line of
    arithmetic: by name, the constants alone were a tenth of a claim.
    """
    numbers = dict(_CONSTANT.findall(text))
    text = _CONSTANT.sub(r"-- \1 = \2", text)
    return _NAME.sub(lambda found: numbers.get(found[0], found[0]), text)

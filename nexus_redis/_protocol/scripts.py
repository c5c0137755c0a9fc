"""Find, read and hash the Lua scripts that a server runs.

A script is one file in `lua/`, with parts from `lua/lib/`. `make bundle` (tools/bundle_lua.py) turns these into the
text in `lua/bundle/` that is sent to a server. EVALSHA calls the text by its SHA-1, so a release *is* its scripts, and
old and new clients run side by side. `nexus-redis scripts claim` prints the source, and with `--bundle` the text that
is sent. `redis-cli --ldb` steps through that text.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from nexus_redis._values import error_texts

NAMES: Final = ("claim", "report", "leave", "configure", "inspect")
ALSO: Final = ("repair",)  # not a part of the protocol
_ASKED: Final = re.compile(r"^--- @(?:include|holds \w+) (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script: `text` for EVAL, `sha` for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script `name`; raise LookupError if there is none of that name."""
    if name not in NAMES + ALSO:
        raise LookupError(error_texts.unknown_script(name, NAMES))
    text = _bundled(name)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def source(name: str) -> str:
    """Return the source of a script with all that it includes, each part once, for people to read."""
    return with_parts(_folder() / f"{name}.lua", set())


def with_parts(path: Path, seen: set[str]) -> str:
    """Return the text of a file with all parts that it includes, except those in `seen`."""

    def parts(asked: re.Match[str]) -> str:
        new = [part for part in asked[1].split() if part not in seen]
        seen.update(new)
        return "\n".join([f"-- {part}.lua\n{with_parts(_folder() / 'lib' / f'{part}.lua', seen)}" for part in new])

    return _ASKED.sub(parts, path.read_text())


def _bundled(name: str) -> str:
    return (_folder() / "bundle" / f"{name}.lua").read_text()


def _folder() -> Path:
    here = Path(__file__).parents[1]
    # In a wheel, lua/ is inside the package; in a checkout (and an editable install), it is beside the package.
    return next(folder for folder in (here / "lua", here.parent / "lua") if (folder / "claim.lua").exists())

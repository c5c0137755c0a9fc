"""The source of the records: named files, lines from a pipe, or the sources of Python's standard library."""

import os
import select
import stat
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nexus_redis._values import error_texts

LINE_LIMIT = 500  # characters; otherwise a minified file would be one record that takes a second
PIPE_LIMIT = 64 * 2**20  # bytes of stdin that are kept, more than a run can index
PIPE_PATIENCE_S = 1.0  # for the first byte: a pipe without a writer must not stop the demo
PIPE_SECONDS = 5.0  # for all bytes: `tail -f` never ends


@dataclass(frozen=True, slots=True)
class Source:
    """Files to read, in this order and then again from the start, and a name for them."""

    name: str
    files: tuple[Path, ...]


def choose_source(named: Sequence[Path], directory: Path) -> Source:
    """Return the named files, else the lines of stdin (copied to `directory`), else the standard library's sources."""
    if named:
        return Source(", ".join(map(str, named)), tuple(checked(path) for path in named))
    piped = directory / "stdin.txt"
    if copy_stdin(piped):
        return Source("stdin", (checked(piped),))
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    if not files:  # this interpreter ships its library as a zip of bytecode
        raise ValueError(error_texts.no_library_sources(root))
    return Source(f"the sources of Python {sys.version_info.major}.{sys.version_info.minor}", tuple(files))


def checked(path: Path) -> Path:
    """Return an absolute path, after reading its first record: an error should come now and not during a run."""
    if path.exists() and not path.is_file():
        raise ValueError(error_texts.input_is_not_a_file(path))
    try:
        with path.open("rb") as file:
            if any(line.strip() for line in file):
                return path.resolve()
    except OSError as error:
        raise ValueError(error_texts.unreadable_input(path, error.strerror or "")) from error
    raise ValueError(error_texts.input_without_lines(path))


def copy_stdin(target: Path) -> bool:
    """Return whether stdin is a pipe or file with data, copied into `target`. A terminal or /dev/null has none."""
    try:
        kind = os.fstat(0).st_mode
    except OSError:  # closed
        return False
    if not (stat.S_ISFIFO(kind) or stat.S_ISREG(kind) or stat.S_ISSOCK(kind)):
        return False
    size, ends = 0, time.monotonic() + PIPE_PATIENCE_S
    with target.open("wb") as file:
        while size < PIPE_LIMIT and select.select([0], [], [], max(0.0, ends - time.monotonic()))[0]:
            chunk = os.read(0, 2**16)
            if not chunk:
                break
            if not size:
                ends = time.monotonic() + PIPE_SECONDS
            size += file.write(chunk)
    return size > 0


def endless_lines(files: Sequence[Path], part: int, parts: int) -> Iterator[str]:
    """Yield records for producer `part` of `parts` forever: from its own files if there are enough, else each n-th
    line.

    Two producers of one file with lines a b c d e: the first gets a c e a c ..., the second b d b d ...
    """
    own_files = len(files) >= parts
    while True:
        if own_files:
            yield from records(files[part::parts])
        else:
            yield from islice(records(files), part, None, parts)


def records(files: Sequence[Path]) -> Iterator[str]:
    """Yield each line that is not blank, without the space around it."""
    for path in files:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if text := line.strip():
                    yield text[:LINE_LIMIT]

"""The real work: each line goes into a SQLite FTS5 index that finds any word, any prefix and any piece of it.

A search engine analyses a record into several fields, and writes each to a primary and to replicas. This index does the
same: words are stemmed and kept with their prefixes, pieces of 2 to 24 characters make substring search possible, and
everything is written twice. A slow worker writes more replicas of each record, as a node does that rebuilds a lost one.
It runs the same code, more often.
"""

import re
import sqlite3
from collections.abc import Sequence

PIECES = range(2, 25)
REPLICAS = 1  # besides the primary
REPLICAS_WHEN_SLOW = 9  # about a quarter of the speed; two workers together then lose about 40 %

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;  -- the file is temporary and need not survive a power cut
CREATE VIRTUAL TABLE words USING fts5(line, prefix = '1 2 3 4', tokenize = 'porter unicode61');
CREATE VIRTUAL TABLE pieces USING fts5(line, content = '', detail = none, tokenize = "unicode61 tokenchars '_'");
CREATE VIRTUAL TABLE replica
    USING fts5(line, pieces, content = '', detail = none, tokenize = "unicode61 tokenchars '_'");
"""


class LineIndex:
    """One worker's index. Its rows are counted at the end, and their number is what the demo calls indexed."""

    def __init__(self, path: str) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.executescript(SCHEMA)

    def add(self, lines: Sequence[str], *, replicas: int = REPLICAS) -> None:
        """Index the lines in one transaction: all are searchable when this returns, or none."""
        analysed = [(line, pieces_of(line)) for line in lines]
        self._base.execute("BEGIN")
        self._base.executemany("INSERT INTO words (line) VALUES (?)", [(line,) for line in lines])
        self._base.executemany("INSERT INTO pieces (line) VALUES (?)", [(pieces,) for _, pieces in analysed])
        for _ in range(replicas):
            self._base.executemany("INSERT INTO replica (line, pieces) VALUES (?, ?)", analysed)
        self._base.execute("COMMIT")

    def count(self) -> int:
        """Return the number of lines in the index."""
        (rows,) = self._base.execute("SELECT count(*) FROM words").fetchone()
        return int(rows)

    def find(self, piece: str) -> int:
        """Return the number of lines with this piece of 2 to 24 characters, e.g. `find("ort os")`."""
        (rows,) = self._base.execute(
            "SELECT count(*) FROM pieces WHERE pieces MATCH ?", (f'"{joined(piece)}"',)
        ).fetchone()
        return int(rows)

    def close(self) -> None:
        self._base.close()


def joined(text: str) -> str:
    return re.sub(r"\W+", "_", text.lower())


def pieces_of(line: str) -> str:
    """Return all pieces of a line: `os.x` -> "os s_ _x os_ s_x os_x"."""
    text = joined(line)
    return " ".join([text[at : at + size] for size in PIECES for at in range(len(text) - size + 1)])

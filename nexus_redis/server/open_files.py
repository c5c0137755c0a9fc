"""The limit of open files: each connection is one."""

from __future__ import annotations

import sys
from typing import Final

NO_LIMIT: Final = 1 << 30


def open_files() -> int:
    """Return how many files this process may have open."""
    if sys.platform == "win32":
        return NO_LIMIT
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def raise_file_limit() -> None:
    """Allow as many open files as the system does: a shell allows 1,024."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

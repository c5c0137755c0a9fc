"""Return tokens when a process ends, in each of the ways in which a process can end.

    the interpreter ends                          atexit
    a child of `multiprocessing` ends, and so a   os._exit comes right after the finalizers of `multiprocessing.util`,
    worker of a `ProcessPoolExecutor`             and atexit does not run
    a child of Celery's prefork pool ends         os._exit comes right after `worker_process_shutdown`

`multiprocessing` drops all finalizers when a child begins, after it has unpickled the child's work. So finalizers are
registered when a thread of ours starts. Before that, the process holds no tokens.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any, Final

LAST: Final = -100  # a finalizer's priority: after those of queues and pools, which may still acquire

_to_do: Final[list[Callable[[], None]]] = []
_watched: Final[set[str]] = set()  # the libraries that call us at the end of this process


def at_end(close_all: Callable[[], None]) -> None:
    """Call `close_all` at the end of this process, and of its children."""
    _to_do.append(close_all)
    atexit.register(close_all)


def note_start() -> None:
    """Take note that a thread of ours was started: from now on, the process may hold tokens."""
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None and "child" not in _watched:
        _watched.add("child")
        util.Finalize(None, _do_all, exitpriority=LAST)
    signals = sys.modules.get("celery.signals")
    if signals is not None and "celery" not in _watched:
        _watched.add("celery")
        signals.worker_process_shutdown.connect(_do_all, weak=False)


def _do_all(**_of_a_signal: Any) -> None:
    for each in reversed(_to_do):
        each()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watched.clear)

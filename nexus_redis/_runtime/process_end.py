"""What is held is handed back when a process ends, in each of the ways in which that happens.

    the interpreter ends                          atexit
    a child of `multiprocessing` ends, and so a   os._exit comes right behind the finalizers of `multiprocessing.util`,
    worker of a `ProcessPoolExecutor`             and atexit does not run
    a child of Celery's prefork pool ends         os._exit comes right behind `worker_process_shutdown`

`multiprocessing` drops all finalizers when a child begins, after it has unpickled what the child is to do. So they are
registered when a thread of ours starts: before that there is nothing to hand back.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any, Final

LAST: Final = -100  # a finalizer's priority: behind those of queues and pools, which may still acquire

_to_do: Final[list[Callable[[], None]]] = []
_watched: Final[set[str]] = set()  # who will call us at the end of this process


def at_end(close_all: Callable[[], None]) -> None:
    """Have it called at the end of this process, and of its children."""
    _to_do.append(close_all)
    atexit.register(close_all)


def note_start() -> None:
    """A thread was started: from now on there may be something to hand back."""
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

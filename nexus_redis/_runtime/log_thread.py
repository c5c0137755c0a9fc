"""Our log. A call queues its records, and a separate thread passes them to the handlers.

A handler is the user's code. It may block, and it may need the budgets that we serve: a handler that ships records at a
limited rate acquires a token for each one. If it were called while a lock of ours is held, or by the thread that talks
to Redis, it would wait for its own caller. So none of our threads, tasks and callers ever calls a handler.

    log.warning(...)  ->  queue  ->  thread "nexus-redis-log"  ->  logging.getLogger("nexus_redis"): filters, handlers

Records are made in the call that logs, so they carry its time, thread, line and context. The thread ends when the queue
is empty. If it cannot keep up (a handler hangs), the newest records beyond `MOST` are dropped and counted. Records that
are left when the interpreter ends are handled then, as far as the handlers let them.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import os
import threading
import traceback
from collections import deque
from typing import Final

from nexus_redis._runtime.locks import MadeAtFirstUse
from nexus_redis._values import log_texts
from nexus_redis._values.log import log, ours
from nexus_redis._values.log_fields import log_fields

MOST: Final = 1000  # records
EXIT_PATIENCE: Final = 1.5  # seconds


class _Queue:
    """The records that wait for the handlers, and the thread that exists while there are some."""

    # Reentrant, for a signal handler in the thread that holds it. No code of others is called while it is held.
    _changed = MadeAtFirstUse(lambda _: threading.Condition(threading.RLock()))

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        _Queue._changed.forget(self)
        self._records: deque[tuple[contextvars.Context, logging.LogRecord]] = deque()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._is_over = False

    def put(self, record: logging.LogRecord) -> None:
        """Let another thread handle a record."""
        with self._changed:
            if len(self._records) >= MOST:
                self._dropped += 1
                return
            self._records.append((contextvars.copy_context(), record))
            is_new = self._thread is None and not self._is_over
            if is_new:
                self._thread = threading.Thread(target=self._run, name="nexus-redis-log", daemon=True)
        if is_new:
            self._start()
        elif self._is_over:
            self.finish()

    def _start(self) -> None:
        # No lock is held here. A new thread runs before its start returns, so quick handlers have finished by then.
        thread = self._thread
        assert thread is not None
        try:
            thread.start()
        except RuntimeError:  # the interpreter is about to end, or the system gives no thread: the next record tries
            self._thread = None

    def flush(self, seconds: float) -> bool:
        """Wait until all records have been handled; return False if that takes longer."""
        with self._changed:
            if self._thread is threading.current_thread():
                return False
            if self._thread is not None:
                self._changed.wait_for(lambda: self._thread is None, seconds)
            return not self._records and self._thread is None

    def finish(self) -> None:
        """Handle the rest before the interpreter ends, when no thread runs on for long and no code waits for one."""
        self._is_over = True
        if not self.flush(EXIT_PATIENCE) and self._thread is None:
            self._run()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            context, record = found
            try:
                context.run(ours.handle, record)
            except Exception:  # noqa: BLE001  # the error of a filter, or of a handler that does not catch its own
                if logging.raiseExceptions:
                    traceback.print_exc()

    def _next(self) -> tuple[contextvars.Context, logging.LogRecord] | None:
        with self._changed:
            if self._records:
                return self._records.popleft()
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                text, data = log_texts.RECORDS_DROPPED, (dropped,)
                extra = log_fields(count=dropped)
                record = log.makeRecord(ours.name, logging.WARNING, __file__, 0, text, data, None, extra=extra)
                return contextvars.copy_context(), record
            self._thread = None
            self._changed.notify_all()
            return None

    def after_fork(self) -> None:
        """Begin with an empty queue in a forked child: thread and records are the parent's."""
        self._begin()


_queue: Final = _Queue()
flush: Final = _queue.flush
log.deliver = _queue.put

atexit.register(_queue.finish)  # imported, and so registered, before the modules that log as they end
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_queue.after_fork)

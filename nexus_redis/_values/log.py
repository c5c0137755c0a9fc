"""The logger of this package. `Log.deliver` decides what happens to a record.

The rooms below the drivers log without importing threads. `_runtime/log_thread.py` sets `deliver`, so that no caller
and no thread of ours ever runs a user's handler. Without it, a record is handled in the call that logs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

ours: Final = logging.getLogger("nexus_redis")


class Log(logging.Logger):
    """The logger `nexus_redis`, except that `deliver` gets its records."""

    def __init__(self) -> None:
        super().__init__(ours.name)
        self.deliver: Callable[[logging.LogRecord], None] = ours.handle

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return ours.isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        self.deliver(record)


log: Final = Log()

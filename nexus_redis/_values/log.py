"""The logger of this package. What happens to its records is decided by whoever sets `deliver`.

The rooms below the drivers log, and import no threads. `_runtime/log_thread.py` sets `deliver`, so that no caller and
no thread of ours ever runs a user's handler. Without it, records are handled where they arise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

ours: Final = logging.getLogger("nexus_redis")


class Log(logging.Logger):
    """The logger `nexus_redis`, but for what happens to its records."""

    def __init__(self) -> None:
        super().__init__(ours.name)
        self.deliver: Callable[[logging.LogRecord], None] = ours.handle

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return ours.isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        self.deliver(record)


log: Final = Log()

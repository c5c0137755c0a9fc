"""The logger of this package. `Log.deliver` decides what happens to a record.

The rooms below the drivers log without importing threads. `_runtime/log_thread.py` sets `deliver`, so that no caller
and no thread of ours ever runs a user's handler. Without it, a record is handled in the call that logs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from nexus_redis._values import log_texts
from nexus_redis._values.log_fields import log_fields

ours: Final = logging.getLogger("nexus_redis")
EVENTS: Final = {text: name.lower() for name, text in vars(log_texts).items() if name.isupper()}


class Log(logging.Logger):
    """The logger `nexus_redis`, except that `deliver` gets its records. A record with a text of ours has its event."""

    def __init__(self) -> None:
        super().__init__(ours.name)
        self.deliver: Callable[[logging.LogRecord], None] = ours.handle

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  # logging's name
        return ours.isEnabledFor(level)

    def makeRecord(  # noqa: N802, PLR0917  # logging's name and parameters
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        event = EVENTS.get(msg) if isinstance(msg, str) else None
        if event is not None:
            extra = {**log_fields(event=event), **(extra or {})}
        return super().makeRecord(name, level, fn, lno, msg, args, exc_info, func, extra, sinfo)

    def handle(self, record: logging.LogRecord) -> None:
        self.deliver(record)


log: Final = Log()

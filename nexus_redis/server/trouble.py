"""A trouble that may last: the log has a line when it begins and one when it is over, however many requests meet it."""

from __future__ import annotations

from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields


class Trouble:
    """One kind of trouble. `begun` is its text, with a place for the cause, and `over` that of its end."""

    def __init__(self, event: str, begun: str, over: str) -> None:
        self._event, self._begun, self._over, self._now = event, begun, over, ""

    def note(self, cause: str, kind: str = "") -> None:
        """Log the trouble, unless it is there already with this cause, or with a cause of this `kind`."""
        kind = kind or cause
        if kind != self._now:
            self._now = kind
            log.warning(self._begun, cause, extra=log_fields(event=self._event, cause=cause))

    def end(self) -> None:
        """Log that it is over, if it was there."""
        if self._now:
            self._now = ""
            log.info(self._over, extra=log_fields(event=f"{self._event}_over"))

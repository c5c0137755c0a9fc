"""What the metrics write to the log."""

from __future__ import annotations

from typing import Final

LOOK_FAILED: Final = (
    "The budgets in Redis could not be read for the metrics: %s. nexus_redis_up is 0 until they can be read, and the "
    "metrics of this process go on"
)
SENDING_BUG: Final = "The metrics could not be sent to Datadog. They are tried again at the next interval"

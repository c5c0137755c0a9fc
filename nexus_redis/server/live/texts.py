"""The texts of the live state, for logs and for people."""

from __future__ import annotations

from typing import Final

LOOK_FAILED: Final = "nexus_redis met a bug while it read budgets for the page, and reads them again: %s"
LOOK_BUG: Final = "The server could not read the budgets ({kind}); its log has the details. It tries again."

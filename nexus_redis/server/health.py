"""`/healthz`: the process answers. `/readyz`: Redis answers it, too."""

from __future__ import annotations

import time
from typing import Final

from nexus_redis._protocol.plans import Command
from nexus_redis.errors import NexusError
from nexus_redis.server.batch import Batch

LOOK_EACH: Final = 1.0  # seconds between two calls to Redis, however often somebody asks


class Health:
    """Whether Redis answers, as of a second ago."""

    def __init__(self, batch: Batch) -> None:
        self._batch, self._until, self._trouble = batch, 0.0, ""

    async def trouble(self) -> str:
        """Return why this server is not ready, "" if it is."""
        if time.monotonic() >= self._until:
            try:
                await self._batch.ask(Command(("TIME",), bool))
                self._trouble = ""
            except NexusError as error:
                self._trouble = str(error)
            self._until = time.monotonic() + LOOK_EACH
        return self._trouble

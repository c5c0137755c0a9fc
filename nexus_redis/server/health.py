"""`/healthz`: the process answers. `/readyz`: Redis carries out what the server asks it for, scripts as well.

A password that is wrong or a right that is missing is no outage: Redis answers, and refuses. The log has one line of
it when it begins, and one when it is over.
"""

from __future__ import annotations

import time
from typing import Final, TypedDict

from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Command
from nexus_redis.errors import NexusError, ServerRefused
from nexus_redis.server import texts
from nexus_redis.server.batch import Batch
from nexus_redis.server.problems import is_of_server
from nexus_redis.server.trouble import Trouble

LOOK_EACH: Final = 1.0  # seconds between two calls to Redis, however often somebody asks
REMEMBERED: Final = 60.0  # seconds after the last refusal of a request, until all is taken to be well again
PROBE: Final = "readyz"  # a budget that need not be there


class ReadyJson(TypedDict):
    """The answer of a server that is ready."""

    ready: bool


class Health:
    """Whether Redis carries calls out, as of a second ago."""

    def __init__(self, batch: Batch) -> None:
        self._batch, self._until, self._trouble = batch, 0.0, ""
        self._refused_until = 0.0
        self._refusal = Trouble("redis_refuses", texts.REDIS_REFUSES, texts.REDIS_ACCEPTS)

    async def trouble(self) -> str:
        """Return why this server is not ready, "" if it is."""
        if time.monotonic() >= self._until:
            await self.look()
        return self._trouble

    async def look(self) -> None:
        """Ask Redis, and note what it says."""
        try:
            probe = calls.inspect(BudgetKeys(self._batch.namespace, PROBE), count=1)
            await self._batch.ask(Command(("TIME",), bool), probe)
            self._trouble = ""
            if time.monotonic() >= self._refused_until:
                self._refusal.end()
        except NexusError as error:
            self._trouble = str(error)
            self._note(error)
        self._until = time.monotonic() + LOOK_EACH

    def failed(self, error: Exception) -> None:
        """Note why a request failed."""
        if self._note(error):
            self._refused_until = time.monotonic() + REMEMBERED

    def _note(self, error: Exception) -> bool:
        if not (isinstance(error, ServerRefused) and is_of_server(error)):
            return False
        self._refusal.note(str(error), error.code)
        return True

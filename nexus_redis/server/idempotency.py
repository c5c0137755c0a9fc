"""`Idempotency-Key`: a request that is sent again takes its tokens once (draft-ietf-httpapi-idempotency-key-header).

The first request with a key claims it in Redis, so this holds for every process and host:

    SET nexus:idempotency:DIGEST '{"asked": ..., "answer": null}' NX PX ...

The digest is of the caller and its key. A second request that asks for the same gets the answer of the first, or 409
while the first still waits. One that asks for anything else, of any budget, gets 422. A request that gets no tokens
frees its key, so that it may be sent again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.keys import idempotency_key
from nexus_redis._protocol.plans import Command
from nexus_redis.errors import InvalidSetting, NexusError
from nexus_redis.server import texts
from nexus_redis.server.batch import Batch
from nexus_redis.server.call import Reply
from nexus_redis.server.problems import AWAY_RETRY, Problem

LONGEST: Final = 255  # characters of a key
KEPT_S: Final = 600  # seconds for which an answer is kept
MARGIN_S: Final = 10  # seconds beyond its deadline for which a request that waits keeps its key
REPLAYED: Final = (b"idempotency-replayed", b"true")


class Idempotency:
    """The keys of requests, in Redis."""

    def __init__(self, batch: Batch, namespace: str) -> None:
        self._batch, self._namespace = batch, namespace

    async def run(
        self, caller: str, name: str, request: Any, timeout: float, operation: Callable[[], Awaitable[Reply]]
    ) -> Reply:
        """Run an operation once for all requests that a caller gives the same `name`. `request` is what it asks for."""
        if len(name) > LONGEST:
            raise InvalidSetting("Idempotency-Key", name, texts.idempotency_key_too_long(LONGEST))
        key, asked = idempotency_key(self._namespace, _digest([caller, name])), _digest(request)
        pending = json.dumps({"asked": asked, "answer": None})
        lives = int((timeout + MARGIN_S) * 1e3)
        claimed, kept = await self._batch.ask(
            Command(("SET", key, pending, "NX", "PX", lives), bool), Command(("GET", key), _json), is_repeatable=False
        )
        if not claimed:
            return _replayed(kept, asked)
        try:
            reply = await operation()
        except BaseException:
            with suppress(NexusError):  # the key expires by itself
                await self._batch.ask(Command(("DEL", key), bool))
            raise
        answer = json.dumps({"asked": asked, "answer": reply.value})
        with suppress(NexusError):  # the tokens are taken, so the caller gets its answer
            await self._batch.ask(Command(("SET", key, answer, "PX", KEPT_S * 1000), bool))
        return reply


def _replayed(kept: dict[str, Any] | None, asked: str) -> Reply:
    if kept is None or (kept["asked"] == asked and kept["answer"] is None):
        raise Problem("request-in-progress", texts.REQUEST_IN_PROGRESS, retry_after=AWAY_RETRY)
    if kept["asked"] != asked:
        raise Problem("idempotency-key-reused", texts.IDEMPOTENCY_KEY_REUSED)
    return Reply(kept["answer"], headers=[REPLAYED])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _json(reply: Any) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None if reply is None else json.loads(text(reply))
    return found

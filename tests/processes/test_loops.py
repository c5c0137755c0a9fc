"""The async face in event loops that are not asyncio's own, and where there is none of its kind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import uvloop

from nexus_redis import Budget, Nexus, NoLoop
from nexus_redis.asyncio import Nexus as AsyncNexus
from tests.harness.servers import Server
from tests.harness.support import PATIENCE


def test_uvloop_leaves_nothing_behind(one_server: Server) -> None:
    """uvloop serves producers and consumers and leaves nothing behind."""

    async def main() -> None:
        async with AsyncNexus.from_url(f"redis://localhost:{one_server.port}") as nexus:
            budget = nexus.budget("stripe", rate=1000)
            await asyncio.gather(*(budget.acquire(40) for _ in range(10)))
            async with budget.consumer() as consumer:
                assert await consumer.report(load=95, capacity=400) == 100

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    with one_server.client() as client:
        assert not list(client.scan_iter("*:producer:*"))
        assert client.hget("nexus:{stripe}", "last_consumer_end") == b"left"


CALLS: dict[str, Callable[[AsyncNexus], Awaitable[Any]]] = {
    "acquire": lambda nexus: nexus.budget("stripe").acquire(),
    "try_acquire": lambda nexus: nexus.budget("stripe").try_acquire(),
    "acquire of several": lambda nexus: nexus.acquire({nexus.budget("stripe"): 1}),
    "reserve": lambda nexus: nexus.budget("stripe").reserve(1).__aenter__(),
    "signal": lambda nexus: nexus.budget("stripe").signal(1),
    "snapshot": lambda nexus: nexus.budget("stripe").snapshot(),
    "report": lambda nexus: nexus.budget("stripe").consumer().report(load=1),
    "close": lambda nexus: nexus.close(),
}


@pytest.mark.parametrize("call", CALLS)
def test_trio_is_told_what_to_use(call: str) -> None:
    """Under trio each call says what to use instead."""

    async def main() -> None:
        nexus = AsyncNexus.from_url("redis://localhost:1")
        with pytest.raises(NoLoop):
            await CALLS[call](nexus)

    trio.run(main)


async def acquire(budget: Budget) -> None:
    """As the error says."""
    await trio.to_thread.run_sync(budget.acquire)


def test_trio_uses_the_sync_face(one_server: Server) -> None:
    """Under trio the sync face is used as the error says."""

    async def main() -> None:
        with Nexus.from_url(one_server.url) as nexus:
            budget = nexus.budget("stripe", rate=1000)
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(acquire, budget)
            assert budget._session.ledger.used == 5_000_000

    trio.run(main)

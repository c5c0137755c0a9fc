"""Both shells behind one face, so that a behaviour is written once: the async one runs in a loop in a thread."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import nexus_redis
import nexus_redis.asyncio
from nexus_redis._api.consumer import ConsumerBase
from nexus_redis._api.nexus import NexusBase
from nexus_redis._api.producer import ProducerBase
from tests.harness.servers import FAKE, Server
from tests.harness.support import PATIENCE, join

Pass = Callable[[float], None]

SHELLS: Final = ("sync", "async")
LONG: Final = 60.0  # seconds between two reports, where silence (three of them, or two seconds) is not the subject


class LoopInAThread:
    """An event loop that threads can call into."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="test-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.get_loop().run_forever()

    def run(self, call: Callable[[], Any]) -> Any:
        """What `call` gives, awaited if need be, in the loop."""

        async def go() -> Any:
            result = call()
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(go(), self.loop).result(PATIENCE)

    def stop(self) -> None:
        """End the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        join(self._thread)


class Shown:
    """An async object as if it were a sync one."""

    def __init__(self, loop: LoopInAThread, it: Any) -> None:
        self._loop, self.it = loop, it

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.it, name)
        if not inspect.isroutine(value):
            return value
        return lambda *args, **settings: self._show(self._loop.run(lambda: value(*args, **settings)))

    def _show(self, result: Any) -> Any:
        if isinstance(result, NexusBase | ProducerBase | ConsumerBase):
            return Shown(self._loop, result)
        return self._each(result) if isinstance(result, AsyncIterator) else result

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._loop.run(lambda: anext(items, end))) is not end:
            yield item

    def __enter__(self) -> Self:
        self._loop.run(self.it.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._loop.run(lambda: self.it.__aexit__(kind, error, where))


class Opener:
    """Opens a Nexus of one shell on a server, as often as a test likes, and closes what the test left open."""

    def __init__(self, shell: str) -> None:
        self.shell = shell
        self._loop = LoopInAThread() if shell == "async" else None
        self._opened: list[Any] = []

    def __call__(self, server: Server | str, client: dict[str, Any] | None = None, **settings: Any) -> Any:
        """`client`: options of a redis-py client to give, else an address is used where there is one."""
        nexus = self._sync(server, client, settings) if self._loop is None else self._async(server, client, settings)
        self._opened.append(nexus)
        return nexus

    def _sync(self, server: Server | str, client: dict[str, Any] | None, settings: dict[str, Any]) -> Any:
        if isinstance(server, str):
            return nexus_redis.Nexus.from_url(server, **settings)
        if client is None and server.kind != FAKE:
            return nexus_redis.Nexus.from_url(server.url, **settings)
        return nexus_redis.Nexus(server.client(**(client or {})), **settings)

    def _async(self, server: Server | str, client: dict[str, Any] | None, settings: dict[str, Any]) -> Any:
        assert self._loop is not None
        if isinstance(server, str):
            return Shown(self._loop, nexus_redis.asyncio.Nexus.from_url(server, **settings))
        if client is None and server.kind != FAKE:
            return Shown(self._loop, nexus_redis.asyncio.Nexus.from_url(server.url, **settings))
        nexus = nexus_redis.asyncio.Nexus(server.aclient(**(client or {})), **settings)
        if server.kind == FAKE:
            nexus._connections.made_sync = server.client(
                **(client or {})
            )  # fakeredis has no address for the reporting thread
        return Shown(self._loop, nexus)

    def around(self, client: Any) -> Any:
        """A Nexus on a redis-py client of this shell's kind."""
        nexus: Any
        if self._loop is None:
            nexus = nexus_redis.Nexus(client)
        else:
            nexus = Shown(self._loop, nexus_redis.asyncio.Nexus(client))
        self._opened.append(nexus)
        return nexus

    @property
    def is_async(self) -> bool:
        """Which shell it is."""
        return self._loop is not None

    def run(self, call: Callable[[], Any]) -> Any:
        """What `call` gives, awaited if need be, in the loop where there is one."""
        return call() if self._loop is None else self._loop.run(call)

    def close(self) -> None:
        """Close everything."""
        for nexus in self._opened:
            nexus.close()
        if self._loop is not None:
            self._loop.stop()


def it_of(budget: Any) -> Any:
    """The object itself, for a dict that goes to a nexus."""
    return getattr(budget, "it", budget)


def account_of(it: Any) -> Any:
    """The account behind a budget's or producer's face."""
    it = getattr(it, "it", it)
    return it._session

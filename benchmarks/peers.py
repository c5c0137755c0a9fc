"""The alternatives to this library, each used as its own documentation recommends, and this library, in one form.

A subject opens a limiter of `rate` tokens a second on one key, and yields `acquire(cost)`, which waits its turn. It
uses the waiting of the library, or else the sleep that its documentation offers. A limiter that is not shared lives in
memory and limits its own process. Bursts are each library's default. A library that is not installed is left out.

    limits          hit(); when refused, sleep until get_window_stats() says that the window has room
    throttled-py    limit(timeout=), which sleeps what the answer's retry_after says, and asks again
    pyrate-limiter  try_acquire(), which blocks; its state bucket (GCRA), the cheapest of its buckets
    steindamm       a slot is booked in one call, and slept for
    aiolimiter      in memory and asyncio only
    EVALSHA         not a limiter but the floor: a script of one command, called with redis-py
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import redis
import redis.asyncio

import nexus_redis
import nexus_redis.asyncio

Acquire = Callable[[int], object]
AsyncAcquire = Callable[[int], Awaitable[object]]
Opened = AbstractContextManager[Acquire]
AsyncOpened = AbstractAsyncContextManager[AsyncAcquire]

ONE_COMMAND = "return redis.call('INCR', KEYS[1])"
FOR_EVER = 3600.0  # seconds, if a library needs a limit for its waiting


@dataclass(frozen=True)
class Subject:
    """A limiter; `sync` and `async_` open it with (url, key, rate)."""

    name: str
    library: str
    is_shared: bool
    sync: Callable[[str, str, float], Opened] | None = None
    async_: Callable[[str, str, float], AsyncOpened] | None = None

    @property
    def is_installed(self) -> bool:
        """Return whether the subject can run here."""
        return find_spec(self.library) is not None


# --- ours ------------------------------------------------------------------------------------------------------------


def ours(**settings: Any) -> Callable[[str, str, float], Opened]:
    """Open a budget in a namespace with the name of the key; with settings, it has a producer of its own."""

    @contextmanager
    def opened(url: str, key: str, rate: float) -> Iterator[Acquire]:
        with nexus_redis.Nexus.from_url(url, namespace=key) as nexus:
            budget = nexus.budget("shared", rate=rate)
            yield budget.producer(**settings).acquire if settings else budget.acquire

    return opened


@asynccontextmanager
async def ours_async(url: str, key: str, rate: float) -> AsyncIterator[AsyncAcquire]:
    async with nexus_redis.asyncio.Nexus.from_url(url, namespace=key) as nexus:
        yield nexus.budget("shared", rate=rate).acquire


# --- the floor -------------------------------------------------------------------------------------------------------


@contextmanager
def floor(url: str, key: str, _rate: float) -> Iterator[Acquire]:
    with redis.Redis.from_url(url) as client:
        sha, run = client.script_load(ONE_COMMAND), client.evalsha
        yield lambda _cost: run(sha, 1, key)


@asynccontextmanager
async def floor_async(url: str, key: str, _rate: float) -> AsyncIterator[AsyncAcquire]:
    async with redis.asyncio.Redis.from_url(url) as client:
        sha, run = await client.script_load(ONE_COMMAND), client.evalsha
        yield lambda _cost: run(sha, 1, key)


# --- limits ----------------------------------------------------------------------------------------------------------


def limits(strategy: str, *, shared: bool) -> tuple[Callable[..., Opened], Callable[..., AsyncOpened]]:
    """Return the subject for a class of strategies."""

    @contextmanager
    def opened(url: str, key: str, rate: float) -> Iterator[Acquire]:
        from limits import RateLimitItemPerSecond, storage, strategies

        where = storage.storage_from_string(url if shared else "memory://")
        limiter, item = getattr(strategies, strategy)(where), RateLimitItemPerSecond(round(rate))

        def acquire(cost: int) -> None:
            while not limiter.hit(item, key, cost=cost):
                time.sleep(max(0.0, limiter.get_window_stats(item, key).reset_time - time.time()))

        yield acquire

    @asynccontextmanager
    async def opened_async(url: str, key: str, rate: float) -> AsyncIterator[AsyncAcquire]:
        from limits import RateLimitItemPerSecond
        from limits.aio import strategies
        from limits.storage import storage_from_string

        # Its default is coredis, which would be one more client of Redis to install.
        options = {"implementation": "redispy"} if shared else {}
        where: Any = storage_from_string(f"async+{url}" if shared else "async+memory://", **options)
        limiter, item = getattr(strategies, strategy)(where), RateLimitItemPerSecond(round(rate))

        async def acquire(cost: int) -> None:
            while not await limiter.hit(item, key, cost=cost):
                stats = await limiter.get_window_stats(item, key)
                await asyncio.sleep(max(0.0, stats.reset_time - time.time()))

        yield acquire
        if shared:
            await where.bridge.storage.aclose()

    return opened, opened_async


# --- throttled-py ----------------------------------------------------------------------------------------------------


def throttled(kind: str, *, shared: bool) -> tuple[Callable[..., Opened], Callable[..., AsyncOpened]]:
    """Return the subject for an algorithm."""

    @contextmanager
    def opened(url: str, key: str, rate: float) -> Iterator[Acquire]:
        from throttled import Throttled, store

        where = store.RedisStore(server=url) if shared else store.MemoryStore()
        limit = Throttled(key=key, using=kind, quota=f"{round(rate)}/s", store=where, timeout=FOR_EVER).limit

        def acquire(cost: int) -> None:
            while limit(cost=cost).limited:
                pass

        yield acquire

    @asynccontextmanager
    async def opened_async(url: str, key: str, rate: float) -> AsyncIterator[AsyncAcquire]:
        from throttled.asyncio import Throttled, store

        where = store.RedisStore(server=url) if shared else store.MemoryStore()
        limit = Throttled(key=key, using=kind, quota=f"{round(rate)}/s", store=where, timeout=FOR_EVER).limit

        async def acquire(cost: int) -> None:
            while (await limit(cost=cost)).limited:
                pass

        yield acquire

    return opened, opened_async


# --- pyrate-limiter --------------------------------------------------------------------------------------------------


def pyrate(*, shared: bool) -> tuple[Callable[..., Opened], Callable[..., AsyncOpened]]:
    """Return the state bucket, in Redis or in memory."""

    @contextmanager
    def opened(url: str, key: str, rate: float) -> Iterator[Acquire]:
        from pyrate_limiter import Duration, Limiter, Rate, RedisStateStore, StateBucket

        client = redis.Redis.from_url(url)
        store = RedisStateStore(client, key) if shared else None
        with client, Limiter(StateBucket([Rate(round(rate), Duration.SECOND)], store=store)) as limiter:
            take = limiter.try_acquire
            yield lambda cost: take(key, weight=cost)

    @asynccontextmanager
    async def opened_async(url: str, key: str, rate: float) -> AsyncIterator[AsyncAcquire]:
        from pyrate_limiter import BucketAsyncWrapper, Duration, Limiter, Rate, RedisStateStore, StateBucket

        async with redis.asyncio.Redis.from_url(url) as client:
            rates = [Rate(round(rate), Duration.SECOND)]
            store = RedisStateStore(client, key) if shared else None
            bucket: Any = StateBucket(rates, store=store) if shared else BucketAsyncWrapper(StateBucket(rates))
            with Limiter(bucket) as limiter:
                take = limiter.try_acquire_async
                yield lambda cost: take(key, weight=cost)

    return opened, opened_async


# --- steindamm -------------------------------------------------------------------------------------------------------

FINEST = 1e-3  # seconds between refills: its clock has milliseconds


def steindamm(*, shared: bool) -> tuple[Callable[..., Opened], Callable[..., AsyncOpened]]:
    """Refill one token at a time up to 1,000/s, then the tokens of a millisecond; the bucket holds a second."""

    def settings(key: str, rate: float) -> dict[str, Any]:
        every = max(1 / rate, FINEST)
        amounts = {"capacity": rate, "refill_frequency": every, "refill_amount": rate * every}
        return {"name": key, "max_sleep": FOR_EVER, **amounts}

    @contextmanager
    def opened(url: str, key: str, rate: float) -> Iterator[Acquire]:
        from steindamm import SyncTokenBucket

        with redis.Redis.from_url(url) as client:
            bucket: Any = SyncTokenBucket.create(connection=client if shared else None, **settings(key, rate))

            def acquire(cost: int) -> None:
                with bucket(cost):
                    pass

            yield acquire

    @asynccontextmanager
    async def opened_async(url: str, key: str, rate: float) -> AsyncIterator[AsyncAcquire]:
        from steindamm import AsyncTokenBucket

        async with redis.asyncio.Redis.from_url(url) as client:
            bucket: Any = AsyncTokenBucket.create(connection=client if shared else None, **settings(key, rate))

            async def acquire(cost: int) -> None:
                async with bucket(cost):
                    pass

            yield acquire

    return opened, opened_async


# --- aiolimiter ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def aiolimiter(_url: str, _key: str, rate: float) -> AsyncIterator[AsyncAcquire]:
    from aiolimiter import AsyncLimiter

    yield AsyncLimiter(rate, 1).acquire


# --- all of them -----------------------------------------------------------------------------------------------------

WINDOWS = {"fixed": "FixedWindow", "sliding": "SlidingWindowCounter", "moving": "MovingWindow"}
ALGORITHMS = {"GCRA": "gcra", "token bucket": "token_bucket"}

OURS = Subject("nexus-redis", "nexus_redis", True, ours(), ours_async)
SMOOTH = Subject("nexus-redis, smooth", "nexus_redis", True, ours(smooth=True))
FLOOR = Subject("EVALSHA of one command", "redis", True, floor, floor_async)


def _of_limits(name: str, *, shared: bool) -> Subject:
    opened = limits(f"{WINDOWS[name]}RateLimiter", shared=shared)
    return Subject(f"limits, {name}{'' if shared else ', memory'}", "limits", shared, *opened)


def _of_throttled(name: str, *, shared: bool) -> Subject:
    opened = throttled(ALGORITHMS[name], shared=shared)
    return Subject(f"throttled-py, {name}{'' if shared else ', memory'}", "throttled", shared, *opened)


SHARED = (
    *(_of_limits(name, shared=True) for name in WINDOWS),
    *(_of_throttled(name, shared=True) for name in ALGORITHMS),
    Subject("pyrate-limiter", "pyrate_limiter", True, *pyrate(shared=True)),
    Subject("steindamm", "steindamm", True, *steindamm(shared=True)),
)
IN_MEMORY = (
    # The moving window keeps an entry for each token, so it cannot be asked for a cost of 100 at this rate.
    *(_of_limits(name, shared=False) for name in ("fixed", "sliding")),
    *(_of_throttled(name, shared=False) for name in ALGORITHMS),
    Subject("pyrate-limiter, memory", "pyrate_limiter", False, *pyrate(shared=False)),
    Subject("steindamm, memory", "steindamm", False, *steindamm(shared=False)),
    Subject("aiolimiter", "aiolimiter", False, None, aiolimiter),
)
BY_NAME = {subject.name: subject for subject in (OURS, SMOOTH, FLOOR, *SHARED, *IN_MEMORY)}


def installed(*subjects: Subject) -> list[Subject]:
    """Return the subjects that can run here."""
    return [subject for subject in subjects if subject.is_installed]


def missing() -> list[str]:
    """Return the libraries that are not installed."""
    return sorted({subject.library for subject in BY_NAME.values() if not subject.is_installed})

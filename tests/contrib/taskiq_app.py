"""The taskiq broker of the tests' workers: a task on a budget of 40/s, and one without a budget."""

from __future__ import annotations

import os

import redis
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from nexus_redis.asyncio import Nexus
from nexus_redis.contrib.taskiq import NexusMiddleware
from tests.harness.support import now

URL = os.environ["NEXUS_REDIS_URL"]
nexus = Nexus.from_url(URL, namespace="work")
budget = nexus.budget("stripe", rate=40)
# Waiting for a task blocks in Redis, for longer than redis-py 8 waits for an answer by default.
broker = (
    ListQueueBroker(URL, socket_timeout=None)
    .with_result_backend(RedisAsyncResultBackend(URL, socket_timeout=None))
    .with_middlewares(NexusMiddleware(budget))
)  # fmt: skip


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def _close(_: TaskiqState) -> None:
    await nexus.close()


def note(name: str) -> None:
    """Note one line, with the time of the one clock that all processes of a host share."""
    with redis.Redis.from_url(URL) as client:
        client.rpush(name, now())


@broker.task(budget="stripe")
async def limited(number: int) -> int:
    note("limited")
    return number


@broker.task
async def free() -> None:
    note("free")

"""A batch of jobs becomes one round trip, and each reply an outcome. Failures are classified here, once.

    [Call, Command]  ->  EVALSHA and plain commands in one pipeline  ->  [outcome, Failed]

A server that does not know a script costs one more round trip, with the text of that script. The core never sees an
exception of redis-py: it gets a `Failed`, which says what may be done (`faults.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from time import monotonic
from typing import Any, Final

import redis
import redis.asyncio
from redis.exceptions import InvalidResponse

from nexus_redis._protocol.plans import Call, Command, Job, Outcome
from nexus_redis._redis.cluster import Cluster
from nexus_redis._redis.cluster_asyncio import AsyncCluster
from nexus_redis._redis.cluster_map import key_of
from nexus_redis._redis.faults import failed, is_demoted, is_unknown_script
from nexus_redis._values import error_texts

ABREAST: Final = 32  # calls in one pipeline of an event loop's thread: a few milliseconds of its time


def placing(client: Any, connection: Callable[[], Any]) -> Callable[[str | Job], str] | None:
    """Return a function that names the node of a cluster for a key or a job; None if the client is not a cluster's."""

    def place_of(it: str | Job) -> str:
        key = it.encode() if isinstance(it, str) else key_of(command_of(it))
        return str(connection().place_of(key)) if key else ""

    return place_of if isinstance(client, Cluster | AsyncCluster) else None


def perform(connection: Callable[[], redis.Redis], jobs: Sequence[Job]) -> list[Outcome]:
    """Run a batch in one round trip, or two if the server does not know a script. Never raise.

    The result has one outcome for each job.
    """
    began = monotonic()
    try:
        client = connection()
        replies = _batch(client, [command_of(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if is_unknown_script(reply)]
        if unknown:
            for i, reply in zip(unknown, _batch(client, [_with_text(jobs[i]) for i in unknown]), strict=True):
                replies[i] = reply
    except Exception as error:  # noqa: BLE001  # whatever the error is, the callers that wait for outcomes must get it
        return [failed(error, monotonic() - began)] * len(jobs)
    return [_outcome(job, reply) for job, reply in zip(jobs, replies, strict=True)]


async def perform_async(
    connection: Callable[[], redis.asyncio.Redis], jobs: Sequence[Job], turns: int = 0
) -> list[Outcome]:
    """Run a batch as `perform` does, in asyncio, after `turns` turns of the loop.

    A large batch goes as several pipelines, a turn apart, because redis-py packs and reads each one without a break.
    """
    if len(jobs) > ABREAST:
        slices = [jobs[at : at + ABREAST] for at in range(0, len(jobs), ABREAST)]
        parts = await asyncio.gather(*(perform_async(connection, each, turn) for turn, each in enumerate(slices)))
        return list(chain.from_iterable(parts))
    for _ in range(turns):
        await asyncio.sleep(0)
    began = monotonic()
    try:
        client = connection()
        replies = await _batch_async(client, [command_of(job) for job in jobs])
        unknown = [i for i, reply in enumerate(replies) if is_unknown_script(reply)]
        if unknown:
            again = await _batch_async(client, [_with_text(jobs[i]) for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
    except Exception as error:  # noqa: BLE001  # whatever the error is, the callers that wait for outcomes must get it
        return [failed(error, monotonic() - began)] * len(jobs)
    return [_outcome(job, reply) for job, reply in zip(jobs, replies, strict=True)]


def raise_if_cancelled() -> None:
    """Raise in a cancelled task that has just awaited redis-py, which may have swallowed the cancellation.

    redis-py can take a cancellation for a timeout of its own.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _batch(client: redis.Redis | Cluster, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    if isinstance(client, Cluster):
        return client.run(commands)
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py
    replies = pipe.execute(raise_on_error=False)
    if any(is_demoted(reply) for reply in replies):  # no longer a primary: its address leads to another one by now
        client.connection_pool.disconnect()
    return replies


async def _batch_async(client: redis.asyncio.Redis | AsyncCluster, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    if isinstance(client, AsyncCluster):
        return await client.run(commands)
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    replies: list[Any] = await pipe.execute(raise_on_error=False)
    if any(is_demoted(reply) for reply in replies):
        await client.connection_pool.disconnect()
    return replies


def command_of(job: Job) -> tuple[Any, ...]:
    """Return the command of a job; a script is called by its digest."""
    if isinstance(job, Command):
        return job.args
    return ("EVALSHA", job.script.sha, len(job.keys), *job.keys, *job.args)


def _with_text(job: Job) -> tuple[Any, ...]:
    """Return the command of a call with the whole script, for a server that does not know its digest."""
    assert isinstance(job, Call)
    return ("EVAL", job.script.text, len(job.keys), *job.keys, *job.args)


def _outcome(job: Job, reply: Any) -> Outcome:
    if isinstance(reply, Exception):
        return failed(reply)
    try:
        return job.decode(reply)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return failed(InvalidResponse(error_texts.odd_reply(error)))

"""`stats="elasticsearch"`: the write queue of each node makes the rate, read once a second from the nodes' statistics.

    GET /_nodes/thread_pool                   queue_size of each node: the limit of its queue
    GET /_nodes/stats/thread_pool             queue, active, completed, rejected: depth, in flight, done, errors

Each node is a consumer of the budget with the node's name, so the law is `drain`. Every proxy reads the statistics, one
of them reports a node, and the others stand by.

**Tokens.** Elasticsearch counts tasks, one for each shard that a bulk touches, and the budget counts requests, bytes or
actions. So a task is worth as many tokens as were granted for each completed task lately. Where 1,000 actions are
granted and 5 tasks are completed in each second, a task is worth 200 tokens, and a queue of 10 tasks is 2,000.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from nexus_redis._core.sources import Source
from nexus_redis._protocol import calls
from nexus_redis._protocol.plans import Command, Job, ask
from nexus_redis._values.parse import source_id
from nexus_redis.asyncio import Budget, Consumer
from nexus_redis.errors import NexusError
from nexus_redis.extending import log, log_fields
from nexus_redis.server.proxy import texts
from nexus_redis.server.proxy.failures import FAILURES, Broken, cause_of
from nexus_redis.server.proxy.upstream import Upstream

EACH: Final = 1.0  # seconds between two looks, and between two reports
PATIENCE: Final = 3  # looks that may fail before the nodes count as gone
SIZES_EACH: Final = 60  # looks after which the limits are read again; they are also read when a node is new
MEMORY: Final = 0.95  # of the tokens and tasks that are compared, from look to look: 20 s
SIZES_PATH: Final = "/_nodes/thread_pool?filter_path=nodes.*.name,nodes.*.thread_pool.write"
STATS_PATH: Final = "/_nodes/stats/thread_pool?filter_path=nodes.*.name,nodes.*.thread_pool.write"
OTHER: Final = re.compile(r"[^A-Za-z0-9_.-]")


class Pool(NamedTuple):
    """The write pool of one node: tasks that wait, that run, and that were completed or rejected since its start."""

    queue: int
    active: int
    completed: int
    rejected: int


def pools_of(document: Any) -> dict[str, Pool]:
    """Return the write pool of each node by the node's name. Raise `ValueError` for another document."""
    found = {name: Pool(*(int(pool[key]) for key in Pool._fields)) for name, pool in _write_pools(document)}
    if not found:
        raise ValueError("no node has a write pool")
    return found


def sizes_of(document: Any) -> dict[str, int]:
    """Return the limit of each node's write queue; nodes without a limit are left out."""
    sizes = {name: int(pool["queue_size"]) for name, pool in _write_pools(document)}
    return {name: size for name, size in sizes.items() if size > 0}


def _write_pools(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        for node in document["nodes"].values():
            if "write" in node.get("thread_pool", {}):
                yield str(node["name"]), node["thread_pool"]["write"]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not the statistics of nodes: {error!r}") from None


class NodeSource(Source):
    """One node as a consumer: what it reports is what the last look found, in tokens."""

    def __init__(self, budget_key: str, name: str) -> None:
        self._key = budget_key
        self.id = source_id("elasticsearch", OTHER.sub("_", name))
        self.said: dict[str, float] = {}
        self._then: Pool | None = None
        self._done = self._errors = 0.0

    def look(self) -> list[Job]:
        """Return one small command, because a report is sent when its look has been answered."""
        return [Command(("TYPE", self._key), calls.text)]

    def see(self, answers: Sequence[Any]) -> dict[str, float]:
        """Return the fields of the report."""
        del answers  # the statistics came from the node itself
        return self.said

    def note(self, now: Pool, limit: int | None, worth: float) -> None:
        """Take a look's findings. `worth` is in tokens for each task. A node that restarts counts from 0 again."""
        then, self._then = self._then, now
        if then is not None:
            self._done += worth * _grown(then.completed, now.completed)
            self._errors += worth * _grown(then.rejected, now.rejected)
        self.said = {
            "queue_depth": worth * now.queue, "in_flight": worth * now.active, "done": self._done,
            "errors": self._errors,
        } | ({} if limit is None else {"queue_limit": worth * limit})  # fmt: skip


class Worth:
    """How many tokens a task is worth: what was granted and completed lately, both fading alike.

    >>> worth = Worth()
    >>> [worth.note(granted, tasks) for granted, tasks in ((0, 0), (1_000, 5), (2_000, 10))]
    [1.0, 200.0, 200.0]
    """

    def __init__(self) -> None:
        self._granted = self._tasks = 0.0
        self._then: tuple[float, float] | None = None

    def note(self, granted_total: float, completed: float) -> float:
        """Take the two totals of a look, and return the worth of a task."""
        then, self._then = self._then or (granted_total, completed), (granted_total, completed)
        granted, tasks = _grown(then[0], granted_total), _grown(then[1], completed)
        self._granted = MEMORY * self._granted + granted
        self._tasks = MEMORY * self._tasks + tasks
        return self._granted / self._tasks if self._granted > 0 and self._tasks > 0 else 1.0


def _grown(then: float, now: float) -> float:
    return now - then if now >= then else now


class WriteQueues:
    """The task that reads the statistics, and the consumers of the nodes."""

    def __init__(self, budget: Budget, upstream: Upstream, *, has_rate: bool) -> None:
        self._budget, self._upstream, self._worth = budget, upstream, Worth()
        self._so = texts.FIXED_RATE if has_rate else texts.NO_RATE
        self._sources: dict[str, tuple[NodeSource, Consumer]] = {}
        self._sizes: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._failures = self._looks = 0
        self._is_read: bool | None = None  # not known yet
        self._is_stopping = False

    def start(self) -> None:
        """Begin to look, at once and then each second."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Stop looking, and have the nodes leave."""
        self._is_stopping = True  # a library may swallow the cancellation
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._forget(list(self._sources))

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._is_stopping:
            try:
                await self.look()
            except (*FAILURES, Broken, NexusError, ValueError) as error:
                await self._failed(error)
            due = max(due + EACH, loop.time())
            await asyncio.sleep(due - loop.time())

    async def look(self) -> None:
        """Read the statistics once, and have the nodes report them."""
        pools = pools_of(await self._upstream.get_json(STATS_PATH))
        if self._looks % SIZES_EACH == 0 or pools.keys() - self._sources.keys():
            self._sizes = sizes_of(await self._upstream.get_json(SIZES_PATH))
        self._looks += 1
        worth = self._worth.note(await self._granted_total(), sum(pool.completed for pool in pools.values()))
        for name, pool in pools.items():
            self._note(name, pool, worth)
        await self._forget([name for name in self._sources if name not in pools])
        self._failures = 0
        if not self._is_read:
            text, self._is_read = texts.STATS_READ if self._is_read is None else texts.STATS_BACK, True
            about = log_fields(event="stats_back", budget=self._budget.name, upstream=self._upstream.name)
            log.info(text, self._budget.name, self._upstream.name, len(pools), extra=about)

    def _note(self, name: str, pool: Pool, worth: float) -> None:
        known = self._sources.get(name)
        source = known[0] if known else NodeSource(self._budget._keys.budget, name)
        source.note(pool, self._sizes.get(name), worth)
        if known is None:
            self._sources[name] = source, self._budget._watch(source, None, EACH)

    async def _granted_total(self) -> float:
        budget = self._budget
        plan = ask([calls.inspect(budget._keys, count=1)], budget._nexus._scheduler.address)
        inspection: calls.Inspection = (await budget._nexus._drive(plan))[0]
        return float(inspection.fields.get("granted_total", 0))

    async def _failed(self, error: Exception) -> None:
        """Have the nodes leave after some failures: nobody knows any more how full they are."""
        self._failures += 1
        if self._is_read is not False and (self._failures >= PATIENCE or not self._sources):
            self._is_read = False
            cause, name = cause_of(error) if isinstance(error, FAILURES) else str(error), self._upstream.name
            about = log_fields(event="stats_away", budget=self._budget.name, upstream=name, cause=cause)
            log.warning(texts.STATS_AWAY, self._budget.name, name, cause, self._so, extra=about)
            await self._forget(list(self._sources))

    async def _forget(self, names: list[str]) -> None:
        for name in names:
            _, consumer = self._sources.pop(name)
            with suppress(NexusError):
                await consumer.close()

"""The Celery application of the tests' workers: a task on a budget of 40/s, one without a budget, one that fails."""

from __future__ import annotations

import os
from typing import Any

import redis
from celery import Celery

from nexus_redis import Nexus
from nexus_redis.contrib import _deferral
from nexus_redis.contrib.celery import NexusTask
from tests.harness.support import now

RATE = 40
if "TESTS_WORKER" in os.environ:  # not where the tests themselves import this
    _deferral.WITHOUT_RATE = 0.5  # type: ignore[misc]  # the tests stop the budget for a while, and go on soon
URL = os.environ["NEXUS_REDIS_URL"]

app = Celery("tests", broker=URL, backend=URL)
app.conf.update(
    broker_connection_retry_on_startup=True, worker_prefetch_multiplier=1, task_acks_late=False, result_expires=60
)
nexus = Nexus.from_url(URL, namespace="work")
budget = nexus.budget("stripe", rate=RATE)


def note(name: str, text: str) -> None:
    """Note one line, with the time of the one clock that all processes of a host share."""
    with redis.Redis.from_url(URL) as client:
        client.rpush(name, f"{now()} {text}")


@app.task(base=NexusTask, budget=budget, bind=True)  # type: ignore[untyped-decorator]  # Celery has no types
def limited(self: Any, number: int) -> int:
    note("limited", f"{number} {self.request.retries}")
    return number


@app.task(base=NexusTask, budget=budget, cost=lambda number, *, each: each * number)  # type: ignore[untyped-decorator]
def weighty(number: int, *, each: int) -> int:
    note("weighty", str(number))
    return number


@app.task(base=NexusTask, budget=budget, bind=True, max_retries=1)  # type: ignore[untyped-decorator]
def failing(self: Any) -> None:
    note("failing", str(self.request.retries))
    raise self.retry(countdown=0, exc=LookupError("as always"))


@app.task  # type: ignore[untyped-decorator]
def paid() -> None:
    budget.acquire()


@app.task  # type: ignore[untyped-decorator]
def free() -> None:
    note("free", "")

"""The Dramatiq broker of the tests' workers: an actor on a budget of 40/s, one without a budget, one that fails."""

from __future__ import annotations

import os

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from nexus_redis import Nexus
from nexus_redis.contrib import _deferral
from nexus_redis.contrib.dramatiq import NexusMiddleware
from tests.harness.support import now

if "TESTS_WORKER" in os.environ:  # not where the tests themselves import this
    _deferral.WITHOUT_RATE = 0.5  # type: ignore[misc]  # the tests stop the budget for a while, and go on soon
URL = os.environ["NEXUS_REDIS_URL"]


class Noting(dramatiq.Middleware):
    """A middleware that notes each deferred message, because the log of a worker goes nowhere."""

    def after_skip_message(self, _broker: dramatiq.Broker, _message: dramatiq.MessageProxy) -> None:
        note("skipped")


nexus = Nexus.from_url(URL, namespace="work")
budget = nexus.budget("stripe", rate=40)
broker = RedisBroker(url=URL)  # type: ignore[no-untyped-call]  # typed, but for the constructors
# Waiting for a result blocks in Redis, for longer than redis-py 8 waits for an answer by default.
backend = RedisBackend(client=redis.Redis.from_url(URL, socket_timeout=None))  # type: ignore[no-untyped-call]
broker.add_middleware(Results(backend=backend))  # type: ignore[no-untyped-call]
broker.add_middleware(NexusMiddleware())
broker.add_middleware(Noting())
dramatiq.set_broker(broker)


def note(name: str, text: object = "") -> None:
    """Note one line, with the time of the one clock that all processes of a host share."""
    with redis.Redis.from_url(URL) as client:
        client.rpush(name, f"{now()} {text}")


@dramatiq.actor(budget=budget, store_results=True)
def limited(number: int) -> int:
    note("limited")
    return number


@dramatiq.actor(budget=budget, cost=lambda number: 5 * number, store_results=True)
def weighty(number: int) -> int:
    return number


@dramatiq.actor(budget=budget, cost=50, store_results=True)
def too_much() -> int:
    note("too_much")
    return 1


@dramatiq.actor(budget=budget, cost=lambda record: record["tokens"], store_results=True)
def puzzling(record: dict[str, int]) -> int:
    return len(record)


@dramatiq.actor(budget=budget, max_retries=1, min_backoff=1)
def failing() -> None:
    note("failing")
    raise LookupError("as always")


@dramatiq.actor
def free() -> None:
    note("free")

"""A Nexus or a budget that goes to another process is opened there again; what belongs to one process says so."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis

import nexus_redis
import nexus_redis.asyncio
from nexus_redis._values import error_texts
from nexus_redis._values.results import Grant
from nexus_redis.errors import NotPicklable
from tests.harness.faces import Opener
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, PATIENCE, in_thread, run


def take(budget: nexus_redis.Budget) -> tuple[int, str, int, bool]:
    """What a worker does with a budget that it was handed."""
    budget.acquire(timeout=PATIENCE)
    there = {thread for thread in threading.enumerate() if thread.name == "nexus-redis"}
    return os.getpid(), budget._session.id, id(budget._nexus), there == budget._nexus._loop._threads


def take_async(budget: nexus_redis.asyncio.Budget) -> Grant:
    """The same, in an event loop of its own each time."""

    async def main() -> Grant:
        return await budget.acquire(timeout=PATIENCE)

    return asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_worker_is_a_producer_of_its_own(one_server: Server, start: str) -> None:
    """A worker opens the object that it is handed once, and is a producer of its own."""
    with nexus_redis.Nexus.from_url(one_server.url) as nexus:
        customer = nexus.budget("stripe", key="cust 42", rate="1000/s", burst=2)
        customer.acquire(timeout=PATIENCE)
        with multiprocessing.get_context(start).Pool(1) as pool:
            first, second = pool.map_async(take, [customer, customer], chunksize=1).get(LONG_PATIENCE)
            pool.close()
            in_thread(pool.join)
        assert first == second
        pid, producer, _, is_one = first
        assert (pid != os.getpid(), producer != customer._session.id, is_one) == (True, True, True)
        assert customer.snapshot().granted_total >= 3


@pytest.mark.slow
def test_each_loop_opens_an_async_nexus(one_server: Server) -> None:
    """An async nexus is opened for each loop that ends."""

    async def main() -> nexus_redis.asyncio.Budget:
        async with nexus_redis.asyncio.Nexus.from_url(one_server.url) as nexus:
            return nexus.budget("stripe", rate="1000/s")

    budget = run(main())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert all(pool.map_async(take_async, [budget, budget], chunksize=1).get(LONG_PATIENCE))


@pytest.mark.slow
def test_a_worker_joins_the_embedded_server() -> None:
    """A worker joins the embedded server of the process that hands the nexus over."""
    with nexus_redis.Nexus.from_url("embedded://") as nexus:
        budget = nexus.budget("stripe", rate="1000/s")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply_async(take, [budget]).get(LONG_PATIENCE)
            pool.close()
            in_thread(pool.join)
        assert budget.snapshot().granted_total >= 1


def test_a_copy_at_home_is_the_same(open_nexus: Opener, one_server: Server) -> None:
    """In its own process, a copy is the same nexus and the same producer."""
    nexus = open_nexus(one_server, namespace="mine", push=False)
    nexus = getattr(nexus, "it", nexus)
    budget = nexus.budget("stripe", key="a", rate=5)
    nexus.budget("stripe", key="a", burst=3)
    ways: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]  # noqa: S301
    for twin in ways:
        assert twin(nexus) is nexus
        again = twin(budget)
        assert again._session is budget._session
        assert again._registration is budget._registration
        assert (again.name, again._nexus) == (budget.name, nexus)


def test_settings_are_pickled_as_code_gives_them(one_server: Server) -> None:
    """Settings are pickled as code gives them, and a nexus that was closed is opened again."""
    first = nexus_redis.Nexus.from_url(one_server.url)
    budget = first.budget("stripe", rate=5)
    budget.configure(rate=7, burst=1)
    pickled = pickle.dumps(budget)
    first.close()
    again = pickle.loads(pickled)  # noqa: S301
    assert again._nexus is not first
    assert again._registration.given.given() == {"rate": 7, "burst": 1}
    assert pickle.loads(pickled)._nexus is again._nexus  # noqa: S301
    again._nexus.close()


def test_what_stays_says_what_to_do(open_nexus: Opener, server: Server) -> None:
    """An object that belongs to its process says what to do instead of pickling it."""
    nexus = open_nexus(server)
    budget: Any = nexus.budget("stripe", rate=5)
    things = [budget.producer(), budget.consumer(), budget.reserve(1)]
    remedies = [error_texts.PICKLE_PRODUCER, error_texts.PICKLE_CONSUMER, error_texts.PICKLE_RESERVATION]
    for thing, remedy in zip(things, remedies, strict=True):
        for how in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(NotPicklable) as refused:
                how(getattr(thing, "it", thing))
            assert refused.value.remedy == remedy
    with redis.Redis(port=1) as client, nexus_redis.Nexus(client) as ours:
        for it in (ours, ours.budget("stripe")):
            with pytest.raises(TypeError) as raised:
                pickle.dumps(it)
            assert isinstance(raised.value, NotPicklable)
            assert (raised.value.what, raised.value.remedy) == ("nexus of a client object", error_texts.PICKLE_NEXUS)

"""Calls to Redis on behalf of many requests, many in one round trip.

While a round trip is on its way, the calls of the requests that come meanwhile collect, and go together in the next.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from nexus_redis._protocol.plans import FIRST_BACKOFF, Failed, Fault, Job, Outcome, Plan
from nexus_redis.asyncio import Nexus
from nexus_redis.errors import Unavailable

MOST_TRIPS: Final = 4  # round trips on their way at once
MOST_REQUESTS: Final = 128  # in one round trip: more would keep the other users of this Redis waiting
PATIENCE: Final = 1.0  # seconds for which calls without an answer are repeated


class _Request(NamedTuple):
    jobs: list[Job]
    done: asyncio.Future[list[Outcome]]


class Batch:
    """The calls that wait for the next round trip."""

    def __init__(self, nexus: Nexus) -> None:
        self._nexus = nexus
        self._requests: list[_Request] = []
        self._trips: set[asyncio.Task[None]] = set()

    @property
    def namespace(self) -> str:
        """Return the namespace of all keys."""
        return self._nexus.namespace

    async def ask(self, *jobs: Job, is_repeatable: bool = True) -> list[Any]:
        """Send jobs and return their results. Raise the first error.

        A job that Redis has not executed is repeated for a second, and one whose reply was lost only if it
        `is_repeatable`.
        """
        loop = asyncio.get_running_loop()
        began, backoff = loop.time(), FIRST_BACKOFF
        while True:
            outcomes = await self._send(list(jobs))
            failures = [each for each in outcomes if isinstance(each, Failed)]
            if not failures:
                return outcomes
            for failure in failures:
                if failure.is_permanent:
                    raise failure.error
            waited = loop.time() - began
            is_safe = is_repeatable or all(each.fault is Fault.NOT_EXECUTED for each in failures)
            if waited >= PATIENCE or not is_safe:
                server = self._nexus._scheduler.address
                raise Unavailable(server, failures[0].cause, waited) from failures[0].error.__cause__
            await asyncio.sleep(backoff)
            backoff *= 2

    async def _send(self, jobs: list[Job]) -> list[Outcome]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Outcome]] = loop.create_future()
        self._requests.append(_Request(jobs, done))
        if len(self._trips) < MOST_TRIPS:
            trip = loop.create_task(self._trip())
            self._trips.add(trip)
            trip.add_done_callback(self._trips.discard)
        return await done

    async def _trip(self) -> None:
        while self._requests:
            requests, self._requests = self._requests[:MOST_REQUESTS], self._requests[MOST_REQUESTS:]
            jobs = [job for request in requests for job in request.jobs]
            try:
                outcomes = await self._nexus._drive(_once(jobs))
            except Exception as error:  # noqa: BLE001  # the requests get whatever it is
                for request in requests:
                    if not request.done.done():
                        request.done.set_exception(error)
                continue
            at = 0
            for request in requests:
                if not request.done.done():  # its caller has not gone
                    request.done.set_result(outcomes[at : at + len(request.jobs)])
                at += len(request.jobs)


def _once(jobs: list[Job]) -> Plan[list[Outcome]]:
    return (yield jobs)

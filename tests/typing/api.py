"""What users write, for two type checkers: it is read by mypy and by pyright, and never run.

A line that must not type-check names the rule of each checker that refuses it. Both checkers fail on a comment that
ignores nothing, so a mistake that is accepted one day fails here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import assert_type

import aiohttp
import fastapi
import flask
import httpx
import requests

import nexus_redis
import nexus_redis.asyncio
from nexus_redis import (
    GRANTED,
    AcquireTimeout,
    BudgetSnapshot,
    CapacitySignal,
    Denied,
    Explanation,
    FlowControl,
    Grant,
    InvalidSetting,
    LoadReport,
    Nexus,
    NexusError,
    Reservation,
    Unavailable,
)
from nexus_redis.contrib import asgi, wsgi
from nexus_redis.contrib.aiohttp import Middleware
from nexus_redis.contrib.fastapi import limit
from nexus_redis.contrib.httpx import AsyncTransport, Transport
from nexus_redis.contrib.requests import Adapter
from nexus_redis.messages import decode
from nexus_redis.testing import ManualClock, NexusServer, assert_never_exceeded

# --- sync


def acquires(nexus: Nexus) -> None:
    budget = nexus.budget("stripe", rate="100/s", burst=1)
    assert_type(budget, nexus_redis.Budget)
    assert_type(budget.acquire(), Grant)
    assert_type(budget.acquire(2, timeout="500ms"), Grant)
    assert_type(nexus.acquire({budget: 1, nexus.budget("tokens", rate=1000): 20.5}, timeout=2), Grant)
    assert_type(nexus.budgets(), list[str])
    with budget.producer("web-1", weight=2, priority="high", timeout=1, on_outage="closed") as producer:
        assert_type(producer.acquire(), Grant)
    with budget.reserve(30) as reservation:
        assert_type(reservation, Reservation)
        reservation.settle(20)


def a_denial_is_told_from_a_grant(budget: nexus_redis.Budget) -> float:
    result = budget.try_acquire()
    assert_type(result, Grant | Denied)
    assert result.retry_after  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    if result:
        assert_type(result, Grant)
        return result.waited
    assert_type(result, Denied)
    return result.retry_after


def paces(budget: nexus_redis.Budget, rows: list[str]) -> Iterator[int]:
    for row in budget.pace(rows, cost=len):
        assert_type(row, str)
        yield len(row)


def reports(nexus: Nexus) -> None:
    budget = nexus.budget("elasticsearch")
    with budget.consumer("es-1", capacity="400/s") as consumer:
        assert_type(consumer.report(load=95), float)
        with consumer.work():
            pass
        consumer.pause("10s")


def operates(budget: nexus_redis.Budget) -> None:
    assert_type(budget.snapshot(), BudgetSnapshot)
    assert_type(budget.explain(), Explanation)
    assert_type(budget.configure(rate=5), BudgetSnapshot)
    assert_type(budget.delete(), bool)
    assert_type(budget.signal("10/s"), FlowControl)


# --- decorators keep signatures


def decorates(budget: nexus_redis.Budget) -> None:
    @budget.limited
    def charge(customer: str, amount: int = 1) -> bool:
        return bool(customer) and amount > 0

    @budget.limited(cost=2, timeout="1s")
    def refund(customer: str) -> None: ...

    @budget.limited(cost=len)
    def insert(rows: list[str]) -> int:
        return len(rows)

    assert_type(charge("ann", amount=2), bool)
    assert_type(insert(["row"]), int)
    plain: Callable[[str], None] = refund
    plain("ann")
    charge(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    charge()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    insert("row", 2)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


# --- async


async def acquires_async() -> None:
    async with nexus_redis.asyncio.Nexus.from_url("redis://localhost") as nexus:
        budget = nexus.budget("stripe", rate=100)
        assert_type(budget, nexus_redis.asyncio.Budget)
        assert_type(await budget.acquire(), Grant)
        assert_type(await budget.try_acquire(), Grant | Denied)
        assert_type(await nexus.acquire({budget: 2}), Grant)
        assert_type(await budget.snapshot(), BudgetSnapshot)
        async with budget.producer() as producer:
            assert_type(await producer.acquire(timeout=1), Grant)
        async with budget.consumer(capacity=10) as consumer:
            assert_type(await consumer.report(load=10), float)

        @budget.limited
        async def charge(customer: str) -> bool:
            return bool(customer)

        assert_type(await charge("ann"), bool)
        await charge(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def paces_async(budget: nexus_redis.asyncio.Budget, rows: list[str]) -> AsyncIterator[str]:
    async for row in budget.pace(rows):
        assert_type(row, str)
        yield row


# --- messages, results and errors


def tells() -> str:
    signal = CapacitySignal(producer_id="web-1", consumer_id="stripe", requested_rate=10)
    assert_type(signal.tokens, float | None)
    report = LoadReport(consumer_id="stripe", instance_id="es-1", load=95)
    message = decode(signal.to_json())
    if isinstance(message, LoadReport):
        assert_type(message, LoadReport)
        return message.instance_id
    return report.to_json()


def outcomes(budget: nexus_redis.Budget) -> Grant:
    try:
        return budget.acquire(timeout=1)
    except AcquireTimeout:
        return GRANTED
    except (Unavailable, InvalidSetting) as error:
        raise NexusError(str(error)) from error


# --- helpers


def helps(budget: nexus_redis.Budget, application: flask.Flask) -> None:
    httpx.Client(transport=Transport(budget, cost=lambda request: len(request.content)))
    requests.Session().mount("https://", Adapter(budget))
    wsgi.Limit(application.wsgi_app, budget, hold="100ms")


def helps_async(budget: nexus_redis.asyncio.Budget, app: fastapi.FastAPI) -> None:
    httpx.AsyncClient(transport=AsyncTransport(budget))
    aiohttp.ClientSession(middlewares=[Middleware(budget, hosts={"example.com"})])
    app.add_middleware(asgi.Limit, budget=budget, hold=1)

    app.get("/", dependencies=[fastapi.Depends(limit(budget))])


# --- the testing kit


def tests(nexus: Nexus, nexus_server: NexusServer, clock: ManualClock) -> None:
    log = [(clock.now, 1.0) for _ in nexus.budget("stripe", rate="50/s").pace(range(100))]
    assert_never_exceeded(log, "50/s", largest=1)
    clock.advance(60)
    nexus_server.flush()


# --- what must not type-check


def mistakes(nexus: Nexus, other: nexus_redis.asyncio.Nexus, budget: nexus_redis.Budget) -> None:
    nexus.budget(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nexus.budget("stripe", rates=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    nexus.budget("stripe", rate=[5])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    budget.acquire("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    budget.acquire(timeout=[1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    budget.producer(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    budget.consumer(capacities=4)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    nexus.acquire({"stripe": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    nexus.acquire({other.budget("stripe"): 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    CapacitySignal(producer_id="web-1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Transport(other.budget("stripe"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncTransport(budget)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert budget.try_acquire().granted  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def mistakes_async(budget: nexus_redis.asyncio.Budget) -> None:
    budget.acquire()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    with budget.producer():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass

"""What becomes of the items of `pace` when tokens do not come, when it is left, and when it goes on."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from nexus_redis._api.pace import KEPT, NOTHING, AsyncPaced, Kept, Paced
from nexus_redis._values.cost import price_of
from nexus_redis.errors import AcquireTimeout
from tests.harness.support import run


class Tokens:
    """Gives so many, then raises until there are more."""

    def __init__(self, left: float) -> None:
        self.left = left
        self.error: BaseException = AcquireTimeout("ship", 1, 0.1)

    def acquire(self, cost: float) -> None:
        if self.left < cost:
            raise self.error
        self.left -= cost

    async def acquire_async(self, cost: float) -> None:
        if self.left < cost and isinstance(self.error, asyncio.CancelledError):
            await asyncio.Event().wait()
        self.acquire(cost)


async def pass_by() -> None:
    """Nobody else wants a turn."""


def pace(items: Any, tokens: Tokens, cost: Any = 1) -> Paced[Any]:
    return Paced(items, price_of(cost), tokens.acquire)


def pace_async(items: Any, tokens: Tokens, cost: Any = 1) -> AsyncPaced[Any]:
    return AsyncPaced(items, price_of(cost), tokens.acquire_async, pass_by)


def test_a_paced_iterator_keeps_its_item() -> None:
    """The same paced iterator goes on with the item that waited, whatever its source is."""
    for source in ([1, 2, 3, 4], iter([1, 2, 3, 4]), (i for i in range(1, 5))):
        tokens = Tokens(2)
        paced = pace(source, tokens)
        assert [next(paced), next(paced)] == [1, 2]
        for _ in range(2):
            with pytest.raises(AcquireTimeout):
                next(paced)
        tokens.left = 2
        assert list(paced) == [3, 4]


def test_a_new_one_restarts_only_a_list() -> None:
    """A new paced iterator goes on with the same iterator, and begins a list again."""
    tokens, given = Tokens(1), [1, 2, 3]
    source = iter(given)
    for items in (source, given):
        tokens.left = 1
        with pytest.raises(AcquireTimeout):
            list(pace(items, tokens))
    tokens.left = 10
    assert list(pace(source, tokens)) == [2, 3]
    assert list(pace(given, tokens)) == [1, 2, 3]


@pytest.mark.parametrize("source", [iter(range(9)), map(int, range(9))], ids=["tells_when_it_goes", "does_not"])
def test_workers_put_their_items_back(source: Iterator[int]) -> None:
    """Workers that share an iterator each put their item back."""

    async def work() -> list[int]:
        tokens, sent = Tokens(0), []

        async def one() -> None:
            while True:
                try:
                    sent.append(await anext(pace_async(source, tokens)))
                except StopAsyncIteration:
                    return
                except AcquireTimeout:
                    await asyncio.sleep(0)
                    tokens.left += 0.3

        await asyncio.gather(*(one() for _ in range(4)))
        return sent

    assert sorted(run(work())) == list(range(9))


def test_threads_share_an_iterator() -> None:
    """Threads that share an iterator lose nothing, however their steps mix."""
    kept, count = Kept(), 400
    source, taken, is_over = iter(()), list[int](), threading.Event()

    def put(first: int) -> None:
        for item in range(first, first + count):
            kept.put(source, item)

    def take_all() -> None:
        while (item := kept.take(source)) is not NOTHING:
            taken.append(item)

    def take() -> None:
        while not is_over.is_set():
            take_all()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        takers = [threading.Thread(target=take) for _ in range(2)]
        putters = [threading.Thread(target=put, args=(first,)) for first in (0, count, 2 * count)]
        for thread in takers + putters:
            thread.start()
        for thread in putters:
            thread.join(60)
        is_over.set()
        for thread in takers:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    take_all()
    assert sorted(taken) == list(range(3 * count))
    assert not kept.items


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), AcquireTimeout("ship", 1, 0.1)])
def test_no_error_of_acquire_loses_an_item(error: BaseException) -> None:
    """No error of `acquire` loses an item."""
    tokens, source = Tokens(1), iter("abc")
    tokens.error = error
    with pytest.raises(type(error)):
        list(pace(source, tokens))
    tokens.left = 10
    assert list(pace(source, tokens)) == ["b", "c"]


def test_a_failing_cost_consumes_its_item() -> None:
    """An item whose cost raises is consumed, as by `map`."""

    def cost(item: str) -> float:
        return {"a": 1, "b": 0}[item]

    tokens, source = Tokens(10), iter("axbx")
    with pytest.raises(KeyError):
        list(pace(source, tokens, cost))
    with pytest.raises(KeyError):
        list(pace(source, tokens, cost))
    assert (list(pace(source, tokens, cost)), tokens.left) == ([], 9)


def test_who_leaves_after_an_item_has_had_it() -> None:
    """An iterator that its user leaves after an item has consumed that item."""
    tokens, source = Tokens(10), iter(range(4))
    for item in pace(source, tokens):
        if item == 1:
            break
    assert list(pace(source, tokens)) == [2, 3]


def test_sharers_yield_each_item_once() -> None:
    """Two paced iterators that share a source yield each item once."""
    tokens, source = Tokens(0), iter(range(3))
    one, two = pace(source, tokens), pace(source, tokens)
    for paced in (one, two):
        with pytest.raises(AcquireTimeout):
            next(paced)
    tokens.left = 10
    assert sorted([*one, *two]) == [0, 1, 2]


def test_an_async_one_takes_both_kinds() -> None:
    """An async paced iterator goes on with iterables of both kinds."""

    async def numbers() -> AsyncIterator[int]:
        for i in range(4):
            yield i

    async def main() -> None:
        for source in (numbers(), iter(range(4)), [0, 1, 2, 3]):
            tokens = Tokens(2)
            paced = pace_async(source, tokens)
            assert [await anext(paced), await anext(paced)] == [0, 1]
            with pytest.raises(AcquireTimeout):
                await anext(paced)
            tokens.left = 2
            again = paced if isinstance(source, list) else pace_async(source, tokens)
            assert [item async for item in again] == [2, 3]

    run(main())


def test_a_cancelled_task_loses_no_item() -> None:
    """A task that is cancelled while it waits loses no item."""

    async def main() -> None:
        tokens, source, sent = Tokens(1), iter(range(3)), []
        tokens.error = asyncio.CancelledError()

        async def send() -> None:
            async with aclosing(pace_async(source, tokens)) as paced:
                async for item in paced:
                    sent.append(item)  # noqa: PERF401  # an extend that is cancelled keeps nothing

        task = asyncio.create_task(send())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tokens.left = 10
        await send()
        assert sent == [0, 1, 2]

    run(main())


def test_an_item_goes_with_its_source() -> None:
    """An item that waits goes with its source."""
    kept = Kept()

    def source() -> Iterator[int]:
        yield 1

    dies = source()
    kept.put(dies, "item")
    assert len(kept.items) == 1
    del dies
    gc.collect()
    assert len(kept.items) == 0


def test_a_thousand_items_are_remembered() -> None:
    """Of sources that do not tell when they go, the last thousand items are kept."""
    kept = Kept()
    sources = [map(str, [i]) for i in range(KEPT + 10)]  # no weak reference leads to them
    for i, source in enumerate(sources):
        kept.put(source, i)
    assert len(kept.items) == KEPT
    assert kept.take(sources[-1]) == KEPT + 9
    assert kept.take(sources[10]) == 10
    for source in sources:
        kept.take(source)
    assert not kept.items
    kept.put(sources[0], "again")
    assert kept.take(sources[0]) == "again"

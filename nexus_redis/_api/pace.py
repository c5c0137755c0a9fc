"""`producer.pace(items)`: the items of an iterable, each when its tokens are there. No I/O; a face gives `acquire`.

An item is taken from its source before its tokens are taken, since the cost may depend on the item. Where `acquire`
raises (a timeout, a cancelled task, Ctrl-C), the item is kept for its source, and comes first when the iteration goes
on:

    source = iter(queue.get, None)
    while True:
        try:
            for item in producer.pace(source):
                send(item)
            break
        except AcquireTimeout:  # no item of the source is lost
            log.warning("still waiting")

The iteration goes on when the same paced iterator is asked again, or when any producer calls `pace` with the same
source again. A new call finds the item only where the source is an iterator: a list or a range starts from its
beginning each time. An item whose `cost` raises, or is not a valid cost, is consumed, as by `map`.

Several workers may take the items of one iterator. Then several items may be kept at once, and they come in the order
in which they were put back.

A kept item is dropped when its source is collected. Some iterators, `map` and `zip` for instance, do not support weak
references; of those the last `KEPT` are held.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar, cast

from nexus_redis._runtime.locks import ModuleLock

T = TypeVar("T")

KEPT: Final = 1000
NOTHING: Final[Any] = object()

_lock: Final = ModuleLock()  # reentrant: a finalizer or a signal handler may take an item while its thread is here


class Kept:
    """Items that were taken without their tokens, by the identity of the iterator that they came from.

    There is a queue for each iterator: several workers may share it, and each may have to put its item back.
    """

    def __init__(self) -> None:
        self.items: dict[int, tuple[object, deque[Any]]] = {}
        self._held: dict[int, None] = {}  # the iterators that are held as well, oldest first

    def put(self, source: object, item: object) -> None:
        """Keep `item` until `source` is asked again."""
        key = id(source)
        with _lock:
            if key not in self.items:
                self.items[key] = self._owner(source), deque()
            self.items[key][1].append(item)
            if len(self._held) > KEPT:
                self._drop(next(iter(self._held)))

    def take(self, source: object) -> Any:
        """Return the oldest item that is kept for `source`, or NOTHING."""
        key = id(source)
        with _lock:
            if key not in self.items:
                return NOTHING
            queue = self.items[key][1]
            item = queue.popleft()
            if not queue:
                self._drop(key)
            return item

    def _owner(self, source: object) -> object:
        key = id(source)
        try:
            return weakref.ref(source, lambda _: self.items.pop(key, None))
        except TypeError:
            self._held[key] = None
            return source

    def _drop(self, key: int) -> None:
        self._held.pop(key, None)
        self.items.pop(key, None)


KEPT_ITEMS: Final = Kept()


class Paced(Iterator[T], Generic[T]):
    """The items of an iterable at a budget's pace. After an error the iteration goes on where it was."""

    def __init__(self, items: Iterable[T], price: Callable[..., float], acquire: Callable[[float], object]) -> None:
        self._source, self._price, self._acquire = iter(items), price, acquire
        self._kept = KEPT_ITEMS if self._source is items else Kept()

    def __next__(self) -> T:
        item: Any = self._kept.take(self._source) if self._kept.items else NOTHING
        if item is NOTHING:
            item = next(self._source)
        if (tokens := self._price(item)) > 0:
            try:
                self._acquire(tokens)
            except BaseException:
                self._kept.put(self._source, item)
                raise
        return cast("T", item)


class AsyncPaced(AsyncIterator[T], Generic[T]):
    """The items of an iterable, or of an async one, for tasks."""

    def __init__(
        self,
        items: Iterable[T] | AsyncIterable[T],
        price: Callable[..., float],
        acquire: Callable[[float], Awaitable[object]],
        give_way: Callable[[], Awaitable[object]],
    ) -> None:
        self._source: Any = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._is_async = isinstance(items, AsyncIterable)
        self._price, self._acquire, self._give_way = price, acquire, give_way
        self._kept = KEPT_ITEMS if self._source is items else Kept()

    async def __anext__(self) -> T:
        item: Any = self._kept.take(self._source) if self._kept.items else NOTHING
        if item is NOTHING:
            item = await self._next()
        if (tokens := self._price(item)) > 0:
            try:
                await self._acquire(tokens)
            except BaseException:
                self._kept.put(self._source, item)
                raise
        else:
            await self._give_way()
        return cast("T", item)

    async def _next(self) -> T:
        if self._is_async:
            return cast("T", await anext(self._source))
        for item in self._source:
            return cast("T", item)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Do nothing: the source is the caller's. `contextlib.aclosing` calls this."""

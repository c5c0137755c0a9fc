"""A method that is called for as long as its object lives, and does not keep it alive.

The threads of a Nexus need its connections and would keep it alive with them: a Nexus that nobody refers to would never
be collected, and would leave its threads and connections for good.

    Nexus --> LoopThread --> Borrowed --weakly--> Nexus._client
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakMethod

T = TypeVar("T")


class Borrowed(Generic[T]):
    """Call the method; once its object is gone, return what the method returned last."""

    def __init__(self, method: Callable[[], T]) -> None:
        self._method: WeakMethod[Any] = WeakMethod(method)
        self.last: T | None = None

    def __call__(self) -> T:
        method = self._method()
        if method is not None:
            self.last = method()
        if self.last is None:
            raise ConnectionError("the Nexus was collected before it was used")
        return self.last

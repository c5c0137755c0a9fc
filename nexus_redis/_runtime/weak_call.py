"""Call a method as long as its object lives, without keeping the object alive.

The threads of a Nexus need its connections, and a normal reference would keep the Nexus alive. A Nexus without other
references would then never be collected, and its threads and connections would stay forever.

    Nexus --> LoopThread --> Borrowed --weakly--> Nexus._client
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakMethod

from nexus_redis._values import error_texts

T = TypeVar("T")


class Borrowed(Generic[T]):
    """A weak method. Once its object is gone, a call returns what the method returned last."""

    def __init__(self, method: Callable[[], T]) -> None:
        self._method: WeakMethod[Any] = WeakMethod(method)
        self.last: T | None = None

    def __call__(self) -> T:
        method = self._method()
        if method is not None:
            self.last = method()
        if self.last is None:
            raise ConnectionError(error_texts.NEXUS_COLLECTED)
        return self.last

"""A Nexus that goes to another process is opened there again: what pickle and copy are told of it. No I/O.

    nexus.__reduce__()  ->  handed(nexus, ...)  ->  pickle  ->  reopened(...)  in the process that it came to

A pool of processes pickles its arguments for each call, so a process opens one Nexus for all that come from one
address. That lives as long as the process. In the process that it came from, it is found again and is itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from nexus_redis._runtime.locks import ModuleLock

Place = tuple[Any, str, str, bool]  # the class, the address, the namespace, and whether it listens

_known: WeakValueDictionary[Place, Any] = WeakValueDictionary()
_opened_here: dict[Place, Any] = {}
_lock: Final = ModuleLock()


def handed(nexus: Any, *place: Any) -> tuple[Callable[..., Any], Place]:
    """What `__reduce__` answers."""
    _known[place] = nexus
    return reopened, place


def reopened(kind: Any, url: str, namespace: str, push: bool) -> Any:
    """The Nexus of that address in this process, opened if need be."""
    place = kind, url, namespace, push
    with _lock:
        nexus = _known.get(place)
        if nexus is None or not nexus._is_usable:
            nexus = kind.from_url(url, namespace=namespace, push=push)
            _known[place] = _opened_here[place] = nexus
        return nexus


def budget_of(nexus: Any, name: str, key: str | None, settings: dict[str, Any]) -> Any:
    """The budget that one was of the Nexus that it belonged to."""
    return nexus.budget(name, key=key, **settings)

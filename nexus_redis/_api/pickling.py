"""How pickle and copy treat a Nexus: a process that gets a pickled one opens it again. No I/O.

    nexus.__reduce__()  ->  reduced(nexus, ...)  ->  pickle  ->  reopened(...) in the process that gets it

A pool of processes pickles its arguments for each call. So a process opens one Nexus for all that come with one address
and namespace, and keeps it until the process ends. In the process where it was pickled, the same object is found again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from nexus_redis._runtime.locks import ModuleLock

Origin = tuple[Any, str, str, bool]  # the class, the address, the namespace, and whether it listens for drops

_known: WeakValueDictionary[Origin, Any] = WeakValueDictionary()
_opened_here: dict[Origin, Any] = {}
_lock: Final = ModuleLock()


def reduced(nexus: Any, *origin: Any) -> tuple[Callable[..., Any], Origin]:
    """Return what `__reduce__` of a Nexus must: how to open it again."""
    _known[origin] = nexus
    return reopened, origin


def reopened(kind: Any, url: str, namespace: str, push: bool) -> Any:
    """Return the Nexus of that address in this process; open it if there is none."""
    origin = kind, url, namespace, push
    with _lock:
        nexus = _known.get(origin)
        if nexus is None or not nexus._is_usable:
            nexus = kind.from_url(url, namespace=namespace, push=push)
            _known[origin] = _opened_here[origin] = nexus
        return nexus


def budget_of(nexus: Any, name: str, key: str | None, settings: dict[str, Any]) -> Any:
    """Return the budget that a pickled budget becomes, of the Nexus that it came with."""
    return nexus.budget(name, key=key, **settings)

"""Flow control for fleets: one shared rate for one downstream, computed in Redis, claimed by every producer everywhere.

    from nexus_redis import Nexus                  # async: from nexus_redis.asyncio import Nexus, same names

    nexus = Nexus.from_url("redis://localhost:6379/0")
    budget = nexus.budget("stripe", rate="100/s")
    budget.acquire()

To read the code, follow one claim. A caller waits (client.py, _api/producer.py), and its session says how much to claim
(_core/producer.py, _core/ledger.py). The loop sends the claim when it is due (_core/loop.py, _protocol/calls.py,
_redis/execute.py), and lua/claim.lua decides. docs/how-it-works.md goes the same way, and CONTRIBUTING.md shows the
rooms.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_redis._protocol.explain import Explanation
    from nexus_redis._protocol.history import Event
    from nexus_redis._protocol.snapshot import BudgetSnapshot, ConsumerSnapshot, ProducerSnapshot
    from nexus_redis._values.results import GRANTED, Denied, Grant
    from nexus_redis.client import Budget, Consumer, Nexus, Producer, Reservation
    from nexus_redis.errors import (
        AcquireTimeout,
        Closed,
        InvalidSetting,
        NexusError,
        NoLoop,
        NoThread,
        ReentrantCall,
        ServerRefused,
        Unavailable,
    )
    from nexus_redis.messages import CapacitySignal, FlowControl, LoadReport

__all__ = [
    "GRANTED",
    "AcquireTimeout",
    "Budget",
    "BudgetSnapshot",
    "CapacitySignal",
    "Closed",
    "Consumer",
    "ConsumerSnapshot",
    "Denied",
    "Event",
    "Explanation",
    "FlowControl",
    "Grant",
    "InvalidSetting",
    "LoadReport",
    "Nexus",
    "NexusError",
    "NoLoop",
    "NoThread",
    "Producer",
    "ProducerSnapshot",
    "ReentrantCall",
    "Reservation",
    "ServerRefused",
    "Unavailable",
]

# The module of each name. A name is imported when it is first used, so that the command line does not pay a quarter of
# a second for a client that `--help` never needs.
_HOMES = {
    "client": ("Budget", "Consumer", "Nexus", "Producer", "Reservation"),
    "errors": (
        "AcquireTimeout",
        "Closed",
        "InvalidSetting",
        "NexusError",
        "NoLoop",
        "NoThread",
        "ReentrantCall",
        "ServerRefused",
        "Unavailable",
    ),
    "_protocol.explain": ("Explanation",),
    "_protocol.history": ("Event",),
    "messages": ("CapacitySignal", "FlowControl", "LoadReport"),
    "_values.results": ("GRANTED", "Denied", "Grant"),
    "_protocol.snapshot": ("BudgetSnapshot", "ConsumerSnapshot", "ProducerSnapshot"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("nexus-backpressure")
    elif name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

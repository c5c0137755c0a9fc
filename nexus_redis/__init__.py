"""Flow control for fleets: one shared rate for one downstream, computed in Redis, claimed by every producer everywhere.

    from nexus_redis import Nexus                  # async: from nexus_redis.asyncio import Nexus, same names

    nexus = Nexus.from_url("redis://localhost:6379/0")
    budget = nexus.budget("stripe", rate="100/s")
    budget.acquire()

To read the code, follow one claim: client.py (who waits), account.py, ledger.py (how much to ask), hub.py (when),
calls.py and wire.py (the question), then lua/claim.lua (the decision). docs/how-it-works.md walks that way.
"""

from importlib.metadata import version

from nexus_redis.client import Budget, Consumer, Nexus, Producer
from nexus_redis.errors import AcquireTimeout, Closed, InvalidSetting, NexusError, ServerRefused, Unavailable
from nexus_redis.messages import CapacitySignal, FlowControl, LoadReport
from nexus_redis.results import GRANTED, Denied, Grant
from nexus_redis.snapshot import BudgetSnapshot, ConsumerSnapshot, ProducerSnapshot

__version__ = version("nexus-backpressure")
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
    "FlowControl",
    "Grant",
    "InvalidSetting",
    "LoadReport",
    "Nexus",
    "NexusError",
    "Producer",
    "ProducerSnapshot",
    "ServerRefused",
    "Unavailable",
]

"""The bodies of requests that are not messages of the protocol. Each checks its fields as the messages do."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from nexus_redis._values.settings import Priority
from nexus_redis.errors import COST, LONGEST_KEY, LONGEST_NOTE, LONGEST_WHO, SECONDS
from nexus_redis.messages import BudgetName, Message, Milliseconds, Name, Tokens, Weight

Cost = Annotated[float, Field(ge=COST.low, le=COST.high)]
Key = Annotated[str, Field(min_length=1, max_length=LONGEST_KEY)]
Seconds = Annotated[float, Field(ge=SECONDS.low, le=SECONDS.high)]
Who = Annotated[str, Field(max_length=LONGEST_WHO)]
Why = Annotated[str, Field(max_length=LONGEST_NOTE)]


class TryRequest(Message):
    """A caller wants `cost` tokens of `budget` now, or none.

    `budget` with `key` is one budget of many: the customer `cust-42` of `stripe`. `producer_id` tells the programs of a
    host apart. Each of them gets its part by `weight`, after those of a higher `priority`.
    """

    budget: BudgetName
    key: Key | None = None
    cost: Cost = 1
    producer_id: Name | None = None
    weight: Weight = 1
    priority: Priority = "normal"


class AcquireRequest(TryRequest):
    """A caller waits for `cost` tokens of `budget`, for `timeout_ms` at most."""

    timeout_ms: Milliseconds | None = None


class LeaveRequest(Message):
    """A producer or a consumer of the protocol leaves: the one that `producer_id` or `instance_id` names.

    `unused` tokens go back to the budget, and `burned` ones have expired.
    """

    consumer_id: BudgetName
    producer_id: Name | None = None
    instance_id: Name | None = None
    incarnation: Name | None = None
    unused: Tokens = 0
    burned: Tokens = 0


class SetRequest(Message):
    """An operator sets settings of a budget. The value null takes the operator's value of a setting away."""

    settings: dict[str, Any]
    reason: Why = ""
    by: Who | None = None


class PauseRequest(Message):
    """An operator pauses a budget for `seconds`, or until it is resumed."""

    seconds: Seconds | None = None
    reason: Why = ""
    by: Who | None = None


class ResumeRequest(Message):
    """An operator ends a pause."""

    reason: Why = ""
    by: Who | None = None

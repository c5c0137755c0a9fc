"""Dramatiq: actors that run when the budget has room for them, and leave the worker to others until then.

    broker.add_middleware(NexusMiddleware())
    stripe = nexus.budget("stripe", rate="40/s")

    @dramatiq.actor(budget=stripe)
    def charge(customer): ...

A message over budget goes into its queue's delay queue until its turn is (`_turns.py`), so the worker thread is free
meanwhile. Dramatiq's own `ConcurrentRateLimiter` and its kin raise, which is retried with a backoff that grows by
guessing, and each counts as a retry; being put off does not.
"""

from __future__ import annotations

import math
import time
from typing import Any

from nexus_redis.client import Budget
from nexus_redis.contrib import need
from nexus_redis.contrib._turns import TURN, turns_of
from nexus_redis.errors import InvalidSetting, NexusError

need("dramatiq")

import dramatiq  # noqa: E402  # what it is called when it is missing must be said first
from dramatiq.middleware import Middleware, SkipMessage  # noqa: E402

__all__ = ["NexusMiddleware"]


class NexusMiddleware(Middleware):
    """Gives actors two options: `budget`, a `nexus_redis.Budget`, and `cost`, a number or a function of the arguments.

    Actors without a budget use the one given here, if there is one. A cost of 0 needs no token. With 40/s, two workers
    and 400 messages waiting, 40 of them run each second, and a message of another actor runs when a thread is not
    waiting for its turn. When Redis is away, `on_outage` rules ("share"). A message that can never have its tokens (a
    cost above any burst that was seen) goes to the dead letters, and the log has the `InvalidSetting`; one whose cost
    fitted before the rate fell is put off.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget

    @property
    def actor_options(self) -> set[str]:
        """What `@dramatiq.actor` takes beside its own."""
        return {"budget", "cost"}

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Called by the worker before each message."""
        options = broker.get_actor(message.actor_name).options
        budget, cost = options.get("budget", self._budget), options.get("cost", 1)
        if budget is None:
            return
        try:
            countdown = _countdown(budget, cost(*message.args, **message.kwargs) if callable(cost) else cost, message)
        except NexusError as error:
            # Dramatiq logs what a middleware raises and runs the message all the same: that would break the budget.
            message.fail()
            raise SkipMessage(str(error)) from error
        if countdown > 0:
            broker.enqueue(message.copy(options={TURN: time.time() + countdown}), delay=math.ceil(countdown * 1e3))
            message.options["store_results"] = False  # or a None would be stored as the result of this one
            raise SkipMessage(f"over the budget {budget.name}: again in {countdown:.3g} s")


def _countdown(budget: Any, cost: Any, message: dramatiq.MessageProxy) -> float:
    if not isinstance(budget, Budget):
        raise InvalidSetting("budget", budget, "give a nexus_redis.Budget: nexus.budget('stripe', rate='40/s')")
    return turns_of(budget).take(float(cost), due=message.options.get(TURN)) if cost > 0 else 0.0

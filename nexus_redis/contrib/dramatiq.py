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
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from nexus_redis.client import Budget
from nexus_redis.contrib import need
from nexus_redis.contrib._given import given
from nexus_redis.contrib._open import open_price
from nexus_redis.contrib._turns import TURN, turns_of

need("dramatiq")

import dramatiq  # noqa: E402  # what it is called when it is missing must be said first
from dramatiq.middleware import Middleware, SkipMessage  # noqa: E402

__all__ = ["NexusMiddleware"]


class NexusMiddleware(Middleware):
    """Gives actors two options: `budget`, a `nexus_redis.Budget`, and `cost`, a number or a function of the arguments.

    Actors without a budget use the one given here, if there is one. A cost of 0 needs no token; where the function
    fails, the message runs without one and the log says so. With 40/s, two workers
    and 400 messages waiting, 40 of them run each second, and a message of another actor runs when a thread is not
    waiting for its turn. When Redis is away, `on_outage` rules ("share"). A message that can never have its tokens (a
    cost above any burst that was seen) goes to the dead letters, and the log has the `InvalidSetting`; one whose cost
    fitted before the rate fell is put off.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = None if budget is None else given("budget", budget, Budget)
        self._prices: WeakKeyDictionary[dramatiq.Actor[Any, Any], Callable[..., float]] = WeakKeyDictionary()

    @property
    def actor_options(self) -> set[str]:
        """What `@dramatiq.actor` takes beside its own."""
        return {"budget", "cost"}

    def after_declare_actor(self, _broker: dramatiq.Broker, actor: dramatiq.Actor[Any, Any]) -> None:
        """Called when an actor is made: what cannot work is refused here and not when it runs."""
        if (budget := actor.options.get("budget")) is not None:
            given("budget", budget, Budget)
        self._prices[actor] = self._price(actor)

    def _price(self, actor: dramatiq.Actor[Any, Any]) -> Callable[..., float]:
        budget = actor.options.get("budget", self._budget)
        whose = f"budget {budget.name if budget else None}, actor {actor.actor_name}"
        return open_price(whose, actor.options.get("cost", 1))

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Called by the worker before each message."""
        actor = broker.get_actor(message.actor_name)
        budget = actor.options.get("budget", self._budget)
        if budget is None:
            return
        try:
            # Dramatiq has only logged what was wrong with the cost of an actor that is not in here: raise it now.
            price = self._prices.get(actor) or self._price(actor)
            tokens = price(*message.args, **message.kwargs)
            countdown = turns_of(budget).take(tokens, due=message.options.get(TURN)) if tokens > 0 else 0.0
        except Exception as error:
            # Dramatiq logs what a middleware raises and runs the message all the same: that would break the budget.
            message.fail()
            raise SkipMessage(str(error)) from error
        if countdown > 0:
            broker.enqueue(message.copy(options={TURN: time.time() + countdown}), delay=math.ceil(countdown * 1e3))
            message.options["store_results"] = False  # or a None would be stored as the result of this one
            raise SkipMessage(f"over the budget {budget.name}: again in {countdown:.3g} s")

"""Dramatiq: actors that run when the budget has tokens for them, and leave the worker to other actors until then.

    broker.add_middleware(NexusMiddleware())
    stripe = nexus.budget("stripe", rate="40/s")

    @dramatiq.actor(budget=stripe)
    def charge(customer): ...

A message over budget goes into the delay queue of its queue until it is due (`_deferral.py`), so the worker thread is
free meanwhile. Dramatiq's own rate limiters (`ConcurrentRateLimiter` and others) raise instead. Dramatiq then retries
with a backoff that does not know the rate, and counts each retry; it does not count a deferral.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from nexus_redis.client import Budget
from nexus_redis.contrib import _texts, need
from nexus_redis.contrib._deferral import DUE_HEADER, deferral_for
from nexus_redis.contrib._fail_open import fail_open_price
from nexus_redis.contrib._validate import require

need("dramatiq")

import dramatiq  # noqa: E402  # `need` must be able to say first what to install
from dramatiq.middleware import Middleware, SkipMessage  # noqa: E402

__all__ = ["NexusMiddleware"]


class NexusMiddleware(Middleware):
    """A middleware that gives actors two options: `budget`, a `nexus_redis.Budget`, and `cost`.

    `cost` is a number or a function of the arguments. An actor without a budget uses the one given here, if there is
    one. A message of cost 0 needs no token, nor does one for which the function fails; the log says so. With 40/s, two
    workers and 400 messages waiting, 40 of them run each second, and a message of another actor runs as soon as a
    thread does not wait for a token. When Redis is away, `on_outage` decides ("share"). A message whose cost is above
    every burst that this process has seen goes to the dead letters, and the log has the `InvalidSetting`; if the cost
    was within the burst before the rate fell, the message is deferred.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = None if budget is None else require("budget", budget, Budget)
        self._prices: WeakKeyDictionary[dramatiq.Actor[Any, Any], Callable[..., float]] = WeakKeyDictionary()

    @property
    def actor_options(self) -> set[str]:
        """Name the options that `@dramatiq.actor` accepts besides its own."""
        return {"budget", "cost"}

    def after_declare_actor(self, _broker: dramatiq.Broker, actor: dramatiq.Actor[Any, Any]) -> None:
        """Check the budget and the cost. Dramatiq calls this when the actor is made, long before a message runs."""
        if (budget := actor.options.get("budget")) is not None:
            require("budget", budget, Budget)
        self._prices[actor] = self._price(actor)

    def _price(self, actor: dramatiq.Actor[Any, Any]) -> Callable[..., float]:
        budget = actor.options.get("budget", self._budget)
        owner = f"budget {budget.name if budget else None}, actor {actor.actor_name}"
        return fail_open_price(owner, actor.options.get("cost", 1))

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        """Acquire the tokens, or defer the message. The worker calls this before each message."""
        actor = broker.get_actor(message.actor_name)
        budget = actor.options.get("budget", self._budget)
        if budget is None:
            return
        try:
            # Dramatiq has only logged the error about the cost of an actor that is not in `_prices`: raise it now.
            price = self._prices.get(actor) or self._price(actor)
            tokens = price(*message.args, **message.kwargs)
            due = message.options.get(DUE_HEADER)
            countdown = deferral_for(budget).acquire_or_defer(tokens, due=due) if tokens > 0 else 0.0
        except Exception as error:
            # Dramatiq logs an error of a middleware and runs the message all the same, which would exceed the budget.
            message.fail()
            raise SkipMessage(str(error)) from error
        if countdown > 0:
            broker.enqueue(
                message.copy(options={DUE_HEADER: time.time() + countdown}), delay=math.ceil(countdown * 1e3)
            )
            message.options["store_results"] = False  # or None would be stored as the result of the message
            raise SkipMessage(_texts.message_deferred(budget.name, countdown))

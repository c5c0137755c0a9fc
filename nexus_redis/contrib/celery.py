"""Celery: tasks that run when the budget has room for them, and leave the worker to others until then.

    stripe = nexus.budget("stripe", rate="40/s")

    @app.task(base=NexusTask, budget=stripe)
    def charge(customer): ...

Celery's own `rate_limit` holds per worker: two workers with 40/s send 80/s. Here all workers together send 40/s. A task
over budget goes back to the broker with the countdown at which its turn is (`_turns.py`), so its slot is free
meanwhile; that is no failure, and not counted against `max_retries`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, ClassVar

from nexus_redis._values.log import log
from nexus_redis.client import Budget
from nexus_redis.contrib import need
from nexus_redis.contrib._given import given
from nexus_redis.contrib._open import open_price
from nexus_redis.contrib._turns import TURN, turns_of
from nexus_redis.errors import InvalidSetting

need("celery")

from celery import Task  # noqa: E402  # what it is called when it is missing must be said first
from celery.exceptions import Reject, Retry  # noqa: E402

__all__ = ["NexusTask"]


class NexusTask(Task):  # type: ignore[misc]  # Celery is published without types
    """A task base: `@app.task(base=NexusTask, budget=stripe, cost=2)`.

    `budget` is a `nexus_redis.Budget`, opened at import: it does no I/O, and each worker process gets a producer of its
    own after the fork. `cost` is a number, or a function of the task's arguments; 0 needs no token. With 40/s, two
    workers of four processes and 400 tasks waiting, 40 of them run each second, and a task of another kind that comes
    meanwhile runs a second or three later; where that is too late, give such tasks a worker of their own.

    As the `task_cls` of an application it leaves tasks without a budget alone; named as a task's `base` it needs one.
    Called directly, as a function, the task takes no token. With `task_always_eager` it waits for it in place. When
    Redis is away, `on_outage` rules ("share"). A cost above any burst that was seen fails the task with
    `InvalidSetting`; one that fitted before the rate fell is put off.
    """

    abstract = True
    budget: ClassVar[Budget | None] = None
    cost: ClassVar[Any] = 1
    _price: ClassVar[Callable[..., float]]

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Called by Celery when the task is made: what cannot work is refused here and not when it runs."""
        super().on_bound(app)
        if cls.budget is None and not issubclass(cls, app.Task):  # named by itself, and not as the `task_cls` of all
            raise InvalidSetting("budget", None, f"name it: @app.task(base=NexusTask, budget=...) of {cls.name}")
        if cls.budget is not None:
            given("budget", cls.budget, Budget)
        whose = f"budget {cls.budget.name if cls.budget else None}, task {cls.name}"
        # Read and kept as static: a function among a class's attributes is no method here.
        cls._price = staticmethod(open_price(whose, inspect.getattr_static(cls, "cost")))

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called by the worker; a task that overrides it calls `super().before_start(...)` first."""
        super().before_start(task_id, args, kwargs)
        tokens = self._price(*args, **kwargs)
        if tokens == 0 or self.budget is None:
            return
        if self.request.is_eager:
            self.budget.acquire(tokens)
            return
        countdown = turns_of(self.budget).take(tokens, due=(self.request.headers or {}).get(TURN))
        if countdown > 0:
            self._put_off(countdown)

    def _put_off(self, countdown: float) -> None:
        """As `self.retry` does, but without counting: this was no attempt."""
        headers = {**(self.request.headers or {}), TURN: time.time() + countdown}
        again = self.signature_from_request(
            self.request, countdown=countdown, retries=self.request.retries, headers=headers
        )
        try:
            again.apply_async()
        except Exception as error:
            raise Reject(error, requeue=True) from error  # the broker keeps the message that we could not replace
        log.debug("%s[%s] is over its budget: again in %.3g s", self.name, self.request.id, countdown)
        raise Retry(when=countdown, is_eager=False, sig=again)

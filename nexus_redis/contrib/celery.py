"""Celery: tasks that run when the budget has tokens for them, and leave the worker to other tasks until then.

    stripe = nexus.budget("stripe", rate="40/s")

    @app.task(base=NexusTask, budget=stripe)
    def charge(customer): ...

Celery's own `rate_limit` applies to each worker: two workers with 40/s send 80/s. Here all workers together send 40/s.
A task over budget goes back to the broker with a countdown until it is due (`_deferral.py`), so its slot is free
meanwhile. Celery does not count that as a failure or against `max_retries`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, ClassVar

from nexus_redis.client import Budget
from nexus_redis.contrib import _texts, need
from nexus_redis.contrib._deferral import DUE_HEADER, deferral_for
from nexus_redis.contrib._fail_open import fail_open_price
from nexus_redis.contrib._validate import require
from nexus_redis.errors import InvalidSetting
from nexus_redis.extending import log, log_fields

need("celery")

from celery import Task  # noqa: E402  # `need` must be able to say first what to install
from celery.exceptions import Reject, Retry  # noqa: E402

__all__ = ["NexusTask"]


class NexusTask(Task):  # type: ignore[misc]  # Celery is published without types
    """A task base: `@app.task(base=NexusTask, budget=stripe, cost=2)`.

    `budget` is a `nexus_redis.Budget`, opened at import: opening does no I/O, and each worker process gets its own
    producer after the fork. `cost` is a number, or a function of the task's arguments; a task of cost 0 needs no token.
    With 40/s, two workers of four processes and 400 tasks waiting, 40 of them run each second, and a task of another
    kind that comes meanwhile runs one to three seconds later. Where that is too late, give such tasks their own worker.

    As the `task_cls` of an application, this class does not limit tasks without a budget; a task that names it as its
    `base` needs a budget. A task that is called directly, as a function, acquires no token. With `task_always_eager` a
    task waits for its token in place. When Redis is away, `on_outage` decides ("share"). A task whose cost is above
    every burst that this process has seen fails with `InvalidSetting`; if the cost was within the burst before the rate
    fell, the task is deferred.
    """

    abstract = True
    budget: ClassVar[Budget | None] = None
    cost: ClassVar[Any] = 1
    _price: ClassVar[Callable[..., float]]

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Check the budget and the cost. Celery calls this when the task is made, long before the task runs."""
        super().on_bound(app)
        if cls.budget is None and not issubclass(cls, app.Task):  # the task's own base, and not the `task_cls` of all
            raise InvalidSetting("budget", None, _texts.task_without_budget(cls.name))
        if cls.budget is not None:
            require("budget", cls.budget, Budget)
        owner = f"budget {cls.budget.name if cls.budget else None}, task {cls.name}"
        # Read and kept as static, because a cost function among the class's attributes is not a method.
        cls._price = staticmethod(fail_open_price(owner, inspect.getattr_static(cls, "cost")))

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Acquire the tokens, or defer the task. A task that overrides this calls `super().before_start(...)` first."""
        super().before_start(task_id, args, kwargs)
        tokens = self._price(*args, **kwargs)
        if tokens == 0 or self.budget is None:
            return
        if self.request.is_eager:
            self.budget.acquire(tokens)
            return
        due = (self.request.headers or {}).get(DUE_HEADER)
        countdown = deferral_for(self.budget).acquire_or_defer(tokens, due=due)
        if countdown > 0:
            self._defer(self.budget.name, countdown)

    def _defer(self, budget: str, countdown: float) -> None:
        """Send the task again, as `self.retry` does, but without counting: this was not an attempt."""
        headers = {**(self.request.headers or {}), DUE_HEADER: time.time() + countdown}
        again = self.signature_from_request(
            self.request, countdown=countdown, retries=self.request.retries, headers=headers
        )
        try:
            again.apply_async()
        except Exception as error:
            raise Reject(error, requeue=True) from error  # the broker keeps the message that could not be replaced
        about = log_fields(
            event="task_deferred", budget=budget, task=self.name, task_id=self.request.id, wait_s=countdown
        )
        log.debug(_texts.TASK_DEFERRED, budget, self.name, self.request.id, countdown, extra=about)
        raise Retry(when=countdown, is_eager=False, sig=again)

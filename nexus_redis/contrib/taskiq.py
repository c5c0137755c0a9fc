"""taskiq: tasks that begin when the budget has room for them.

    broker = RedisStreamBroker(url).with_middlewares(NexusMiddleware(stripe))

    @broker.task(budget="stripe", cost=2)
    async def charge(customer): ...

A task waits for its tokens in the worker, as a coroutine: no thread and no connection is held, but one of the worker's
`max_async_tasks` is. taskiq's brokers know no way to take a message back that all of them share, so where limited tasks
would crowd out others, they belong in a queue of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from nexus_redis._values.cost import parse_price
from nexus_redis._values.log import log
from nexus_redis.asyncio import Budget
from nexus_redis.contrib import need
from nexus_redis.contrib._given import given
from nexus_redis.contrib._open import open_price
from nexus_redis.errors import InvalidSetting, Unavailable

need("taskiq")

from taskiq import AsyncTaskiqDecoratedTask, TaskiqMessage, TaskiqMiddleware  # noqa: E402  # what it is called when it is missing comes first

__all__ = ["NexusMiddleware"]


AGAIN_AFTER: Final = 1.0  # seconds between two tries while Redis is away and the budget is closed


class NexusMiddleware(TaskiqMiddleware):
    """Gives tasks two labels: `budget`, the name of one of those given here, and `cost`, a number of tokens (1).

    Tasks without the label `budget` are left alone. With 40/s and two workers, both together begin 40 tasks a second.
    `cost` may also be a function of the task's arguments, which is called where the task is sent; where it fails, the
    task needs no token and the log says so. Labels can be given per call:
    `charge.kicker().with_labels(cost=5).kiq(customer)`. A label that cannot be right raises `InvalidSetting` where the
    task is sent. The task's `timeout` begins after the wait. When Redis is away, `on_outage` rules ("share"), and a
    closed budget's tasks wait until it is back.
    """

    def __init__(self, *budgets: Budget) -> None:
        super().__init__()
        self._budgets = {given("budget", budget, Budget).name: budget for budget in budgets}
        self._prices: WeakKeyDictionary[AsyncTaskiqDecoratedTask[Any, Any], Callable[..., float]] = WeakKeyDictionary()

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Called where the task is sent."""
        self._asked(message)
        return message

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Called by the worker before each task."""
        budget, cost = self._asked(message)
        while budget is not None and cost > 0:
            try:
                await budget.acquire(cost)
                break
            except Unavailable as error:
                log.warning("budget %s: task %s waits: %s", budget.name, message.task_name, error)
                await asyncio.sleep(AGAIN_AFTER)
        return message

    def _asked(self, message: TaskiqMessage) -> tuple[Budget | None, float]:
        name, cost = message.labels.get("budget"), message.labels.get("cost", 1)
        if name is None:
            return None, 0.0
        if name not in self._budgets:
            known = ", ".join(self._budgets) or "none"
            raise InvalidSetting("budget", name, f"NexusMiddleware has {known}: add this one, or name one of them")
        try:
            tokens = float(cost)  # a label is text on its way
        except (TypeError, ValueError):
            price = self._price(message.task_name)
            if price is None:
                raise InvalidSetting("cost", cost) from None
            # A function cannot travel, and has become the text that it looks like: from here on a number does.
            tokens = message.labels["cost"] = price(*message.args, **message.kwargs)
        return self._budgets[name], parse_price(tokens)

    def _price(self, task_name: str) -> Callable[..., float] | None:
        """The cost function that the task was declared with, if it was."""
        task = self.broker.find_task(task_name)
        cost = task.labels.get("cost") if task is not None else None
        if task is None or not callable(cost):
            return None
        if task not in self._prices:
            self._prices[task] = open_price(f"budget {task.labels.get('budget')}, task {task_name}", cost)
        return self._prices[task]

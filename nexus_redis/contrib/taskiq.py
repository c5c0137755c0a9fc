"""taskiq: tasks that begin when the budget has tokens for them.

    broker = RedisStreamBroker(url).with_middlewares(NexusMiddleware(stripe))

    @broker.task(budget="stripe", cost=2)
    async def charge(customer): ...

A task waits for its tokens in the worker, as a coroutine. It holds no thread and no connection meanwhile, but one of
the worker's `max_async_tasks`. taskiq has no way to return a message that works with every broker. Where limited tasks
would crowd out others, give the limited tasks their own queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from nexus_redis.asyncio import Budget
from nexus_redis.contrib import _texts, need
from nexus_redis.contrib._fail_open import fail_open_price
from nexus_redis.contrib._validate import require
from nexus_redis.errors import InvalidSetting, Unavailable
from nexus_redis.extending import log, log_fields, price_of

need("taskiq")

from taskiq import AsyncTaskiqDecoratedTask, TaskiqMessage, TaskiqMiddleware  # noqa: E402  # `need` says first what to install

__all__ = ["NexusMiddleware"]

RETRY_AFTER: Final = 1.0  # seconds between two tries while Redis is away and the budget is closed


class NexusMiddleware(TaskiqMiddleware):
    """A middleware that gives tasks two labels: `budget`, the name of a budget given here, and `cost`, tokens (1).

    Tasks without the label `budget` are not limited. With 40/s and two workers, both together begin 40 tasks a second.
    `cost` may also be a function of the task's arguments, which is called where the task is sent. If the function fails
    for a task, that task needs no token, and the log says so. A call may have its own labels:
    `charge.kicker().with_labels(cost=5).kiq(customer)`. A label that cannot be right raises `InvalidSetting` where the
    task is sent. The task's `timeout` begins after the wait. When Redis is away, `on_outage` decides ("share"), and the
    tasks of a closed budget wait until Redis is back.
    """

    def __init__(self, *budgets: Budget) -> None:
        super().__init__()
        self._budgets = {require("budget", budget, Budget).name: budget for budget in budgets}
        self._prices: WeakKeyDictionary[AsyncTaskiqDecoratedTask[Any, Any], Callable[..., float]] = WeakKeyDictionary()

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Check the labels, and replace a cost function by its number. taskiq calls this where the task is sent."""
        self._budget_and_cost(message)
        return message

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Acquire the tokens. The worker calls this before each task."""
        budget, cost = self._budget_and_cost(message)
        while budget is not None and cost > 0:
            try:
                await budget.acquire(cost)
                break
            except Unavailable as error:
                about = log_fields(
                    event="task_waits", budget=budget.name, task=message.task_name, task_id=message.task_id,
                    wait_s=RETRY_AFTER, cause=str(error),
                )  # fmt: skip
                log.warning(_texts.TASK_WAITS, budget.name, message.task_name, RETRY_AFTER, error, extra=about)
                await asyncio.sleep(RETRY_AFTER)
        return message

    def _budget_and_cost(self, message: TaskiqMessage) -> tuple[Budget | None, float]:
        name, cost = message.labels.get("budget"), message.labels.get("cost", 1)
        if name is None:
            return None, 0.0
        if name not in self._budgets:
            raise InvalidSetting("budget", name, _texts.unknown_budget([*self._budgets]))
        try:
            tokens = float(cost)  # labels travel as text
        except (TypeError, ValueError):
            price = self._price(message.task_name)
            if price is None:
                raise InvalidSetting("cost", cost) from None
            # A function cannot travel: the label is its repr. From here on the label is a number.
            tokens = message.labels["cost"] = price(*message.args, **message.kwargs)
        return self._budgets[name], price_of(tokens)()

    def _price(self, task_name: str) -> Callable[..., float] | None:
        """Return the cost function that the task was declared with, or None."""
        task = self.broker.find_task(task_name)
        cost = task.labels.get("cost") if task is not None else None
        if task is None or not callable(cost):
            return None
        if task not in self._prices:
            self._prices[task] = fail_open_price(f"budget {task.labels.get('budget')}, task {task_name}", cost)
        return self._prices[task]

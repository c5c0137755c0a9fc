"""Acquire the tokens of `run` in one thread and without redis-py, then run the command.

The producer and the loop that serves it are those of a `Nexus` (`_core/`). So this producer waits in turn, obeys its
outage mode and leaves as every other producer does. The thread that waits for the tokens drives the loop. The loop
needs neither redis-py nor pydantic nor typer, which take longer to import than all the rest.

    does the budget exist? -> claim, wait, claim ... -> tokens, an error, a signal or the deadline -> leave
"""

import select
import time
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from nexus_redis._core.loop import serve
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.registration import NOTHING, Registration
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Done, Outcome, Pause, step
from nexus_redis._values.parse import MICRO, budget_name, parse_cost, split_name
from nexus_redis._values.settings import ProducerSettings
from nexus_redis.cli import texts
from nexus_redis.cli.child_process import run_command
from nexus_redis.cli.exit_codes import Misuse
from nexus_redis.cli.fast_connection import Connection, namespace_of, running_server, url_of
from nexus_redis.cli.os_signals import FORWARDED, ReceivedSignals, receive_signals
from nexus_redis.cli.unknown_budgets import require_one
from nexus_redis.errors import AcquireTimeout, Closed, Unavailable

STOP_PATIENCE: Final = 1.5  # seconds for leaving, as in `_drivers/threaded`


class RunOptions(NamedTuple):
    """The options of `run`: `cost` tokens of a budget, within `timeout` seconds."""

    name: str
    key: str | None = None
    cost: float = 1.0
    timeout: float | None = None
    weight: float = 1.0
    priority: str = "normal"
    on_outage: str = "share"
    creates: bool = False
    url: str | None = None
    namespace: str | None = None


def run(options: RunOptions, command: list[str]) -> int:
    """Wait for the tokens, run the command, and return its exit code.

    A signal that comes before the tokens ends it with 128+n. Raises `AcquireTimeout`, `Unavailable`, `ServerRefused`,
    `InvalidSetting`, and `Finding` for a budget that does not exist.
    """
    if not command[0]:
        raise Misuse(texts.COMMAND_EMPTY)
    cost = round(parse_cost(options.cost) * MICRO)
    settings = ProducerSettings.of(weight=options.weight, priority=options.priority, on_outage=options.on_outage)
    prefix = namespace_of(options.namespace)
    name, key = split_name(options.name, options.key)
    keys = BudgetKeys(prefix, budget_name(name, key))
    parent = BudgetKeys(prefix, name) if key is not None else None
    registration = Registration(keys, NOTHING, Registration(parent, NOTHING) if parent is not None else None)
    received = receive_signals(FORWARDED)
    with running_server(url_of(options.url)) as url, Connection(url) as connection:
        if not options.creates:
            require_one(connection, keys, parent, key, options.url, options.namespace)
        scheduler = Scheduler(time.monotonic, lambda: None, connection.server)
        producer = ProducerSession(scheduler, keys, None, settings, registration)
        try:
            _acquire(producer, cost, options.timeout, _Loop(scheduler, connection), received)
        except Unavailable as error:
            raise Unavailable(error.server, texts.command_not_run(error.cause), error.waited) from None
    # The producer has left: tokens that it held beside those for the command have gone back.
    return received.exit_code() if received.first else run_command(command, received)


def _acquire(
    producer: ProducerSession, cost: int, timeout: float | None, loop: "_Loop", received: ReceivedSignals
) -> None:
    """Wait for the tokens or a signal, then leave. Raises the error of a claim, and `AcquireTimeout`."""
    since, is_now = time.monotonic(), timeout == 0
    waiter = Waiter(cost, since, whole=is_now)  # with a timeout of 0: all tokens with the first claim, or none
    producer.wait(waiter)
    try:
        deadline = since + producer.server.patience if is_now else NEVER if timeout is None else since + timeout
        loop.run(lambda: waiter.is_settled, deadline, wakeup=[received.wakeup])
        if waiter.error is not None:
            raise waiter.error
        if not waiter.is_served and not received.first:
            now = time.monotonic()
            retry_after = waiter.denied or max(0.0, producer.ledger.served_at(0) - now)
            raise AcquireTimeout(producer.keys.name, cost / MICRO, now - since, producer.reason, retry_after)
    finally:
        if not waiter.is_settled:
            producer.cancel(waiter, time.monotonic())
        producer.scheduler.close(Closed("nexus"))
        loop.run(lambda: False, time.monotonic() + STOP_PATIENCE)


class _Loop:
    """The loop of a scheduler, run step by step by the thread that waits for its results."""

    def __init__(self, scheduler: Scheduler, connection: Connection) -> None:
        self._loop, self._connection = serve(scheduler), connection
        self._found: Exchange | Pause | Done | None = None
        self._outcomes: list[Outcome] | None = None

    def run(self, is_over: Callable[[], bool], deadline: float, wakeup: Collection[int] = ()) -> None:
        """Run until `is_over()`, until the deadline, until a descriptor is readable, or until nothing is left to do."""
        if isinstance(self._found, Pause):  # a pause that was asked for before the producer began to leave
            self._found, self._outcomes = None, None
        while True:
            if self._found is None:
                self._found = step(self._loop, self._outcomes)
            if isinstance(self._found, Done) or is_over():
                return
            if isinstance(self._found, Exchange):
                self._outcomes = self._connection.perform(self._found.jobs)
            else:
                left = deadline - time.monotonic()
                seconds = min(self._found.seconds, left)
                if left <= 0 or select.select(wakeup, [], [], None if seconds == NEVER else seconds)[0]:
                    return
                self._outcomes = None
            self._found = None

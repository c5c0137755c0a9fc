"""The connection of a verb: --url and --namespace, or the environment, become a `Context` that runs plans."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import redis

from nexus_redis._drivers.threaded import run_plan
from nexus_redis._protocol.budget_list import listed, swept
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Job, Outcome, Pause, ask
from nexus_redis._redis.connect import address, connect, node_for, where
from nexus_redis._values.parse import budget_name
from nexus_redis.cli.fast_connection import namespace_of, running_server

T = TypeVar("T")


class Context:
    """A client of Redis, and the namespace that the budgets of a verb are in."""

    def __init__(self, client: redis.Redis, url: str, namespace: str) -> None:
        self.client, self.url, self.namespace = client, url, namespace
        self.server = where(client)

    @property
    def where(self) -> str:
        """The namespace and the server, as messages name them."""
        return f"in namespace {self.namespace} at {self.server}"

    def keys(self, name: str) -> BudgetKeys:
        """Return the keys of one budget."""
        return BudgetKeys(self.namespace, budget_name(name))

    def at_node_of(self, key: str) -> Self:
        """Return this context with a client of the one node of a cluster that holds `key`."""
        return type(self)(node_for(self.client, key), self.url, self.namespace)

    def ask(self, *jobs: Job) -> list[Any]:
        """Send calls in one round trip, and return their answers in order."""
        return self.run(ask(list(jobs), self.server))

    def run(self, plan: Generator[list[Job] | Pause, list[Outcome], T]) -> T:
        """Run a plan to its end, and return its result."""
        return run_plan(plan, self.client)

    def list_budget(self, name: str, *, is_kept: bool = False) -> None:
        """Put a budget on the list of all budgets; `is_kept` if an operator has set something."""
        self.run(swept(self.namespace, self.ask(listed(self.namespace, name, is_kept=is_kept))[0]))


@contextmanager
def open_context(url: str | None, namespace: str | None) -> Iterator[Context]:
    """Connect as the options say. An embedded server runs until the end of the block."""
    prefix = namespace_of(namespace)
    with running_server(address(url)) as found, connect(found) as client:
        yield Context(client, found, prefix)

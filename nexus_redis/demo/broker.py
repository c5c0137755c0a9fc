"""The Redis that the processes of the coordinated run share: a private embedded server, or the one of --url."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from nexus_redis._drivers.threaded import run_plan
from nexus_redis._protocol.deletion import delete
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._redis.connect import connect, node_for, where
from nexus_redis._redis.embedded import acquire
from nexus_redis._values import error_texts
from nexus_redis.demo.options import Options
from nexus_redis.demo.pace import BUDGET, Coordination
from nexus_redis.errors import InvalidSetting, Unavailable

GUEST_NAMESPACE = "nexus-demo"  # on the user's own server, apart from the user's budgets
SCRIPT_COMMANDS = ("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall")


@dataclass(frozen=True, slots=True)
class Broker:
    """The shared server, and the commands that show the budget on it."""

    coordination: Coordination
    is_private: bool
    client: redis.Redis
    server: redis.Redis  # on a cluster, the node that the budget is on

    @property
    def key(self) -> str:
        return BudgetKeys(self.coordination.namespace, BUDGET).budget

    def script_calls(self) -> int | None:
        """Return the number of scripts that this server has run, ours and all others; None if it does not tell."""
        try:
            stats: dict[str, Any] = self.server.info("commandstats")
        except redis.RedisError:
            return None
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in SCRIPT_COMMANDS)

    def budget_line(self) -> str:
        """Return the budget in a few words. A plain command reads it, because a script would count as a call."""
        try:
            rate, load, level = self.server.hmget(self.key, "rate_per_s", "load_percent", "level")
        except redis.RedisError:
            return ""
        return f"{float(rate):,.0f} records/s at {float(load or 0):.0f} % load, level {int(level or 0)}" if rate else ""

    def forget(self) -> None:
        """Delete the budget, whoever made it. Raises `Unavailable` if no server answers."""
        run_plan(delete(BudgetKeys(self.coordination.namespace, BUDGET), where(self.client)), self.client)

    def look_inside(self) -> list[tuple[str, str]]:
        """Return commands for another terminal, and what each one shows."""
        cli = shutil.which("redis-cli") or shutil.which("valkey-cli")
        url = self.coordination.url if self.is_private else '"$NEXUS_REDIS_URL"'  # the address may hold a password
        ask = f"{Path(cli).name} -u {url}" if cli else f"{own_command()} redis --url {url}"
        own = f"--url {url} --namespace {self.coordination.namespace}"
        return [
            (f"{ask} HGETALL '{self.key}'", "the budget: its rate, load and level"),
            (f"{ask} ZRANGE '{self.key}:producers' 0 -1", "who claims from it"),
            (f"{own_command()} status {BUDGET} {own}", "all of it as tables"),
        ]


def own_command() -> str:
    """Return the command that another terminal finds: this environment may not be active there."""
    if shutil.which("nexus-redis"):
        return "nexus-redis"
    beside = Path(sys.executable).with_name("nexus-redis")
    if not beside.exists():
        return f"{sys.executable} -m nexus_redis"
    return str(beside)


@contextmanager
def broker(options: Options) -> Iterator[Broker]:
    """Yield a server without the budget, and delete the budget at the end."""
    namespace = options.namespace or ("nexus" if options.url is None else GUEST_NAMESPACE)
    with ExitStack() as at_end:
        url = options.url or "embedded://"
        if url.startswith("embedded:"):
            embedded = acquire(url)
            at_end.callback(embedded.stop)
            url = embedded.start().url  # the other processes get this one
        client = at_end.enter_context(closing(connect(url)))
        key = BudgetKeys(namespace, BUDGET).budget
        try:
            server = node_for(client, key)
        except redis.RedisError as error:  # no node of a cluster answers
            raise Unavailable(where(client), str(error)) from error
        place = Broker(Coordination(url, namespace), is_private=options.url is None, client=client, server=server)
        if options.namespace and not place.is_private and server.exists(place.key):
            # The demo begins and ends by deleting its budget, and must never delete a budget that is in use.
            raise InvalidSetting("namespace", namespace, error_texts.demo_namespace_taken(BUDGET))
        place.forget()
        yield place
        place.forget()

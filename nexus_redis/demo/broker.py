"""The Redis where the processes of the coordinated run meet: a private embedded server, or the one that --url names."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from nexus_redis.demo.options import Options
from nexus_redis.demo.pace import BUDGET, Meeting
from nexus_redis.embedded import acquire
from nexus_redis.keys import BudgetKeys

GUEST_NAMESPACE = "nexus-demo"  # on a server of yours, away from your budgets
SCRIPT_COMMANDS = ("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall")


@dataclass(frozen=True, slots=True)
class Broker:
    """Where to meet, and how to look inside."""

    meeting: Meeting
    is_private: bool

    def script_calls(self) -> int | None:
        """Scripts that this server has run so far, ours and all others; None where it will not say."""
        try:
            with redis.Redis.from_url(self.meeting.url) as server:
                stats: dict[str, Any] = server.info("commandstats")
        except (redis.RedisError, ValueError):
            return None
        return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in SCRIPT_COMMANDS)

    def look_inside(self) -> list[tuple[str, str]]:
        """Commands for another terminal, and what each shows."""
        cli = shutil.which("redis-cli") or shutil.which("valkey-cli")
        url = self.meeting.url if self.is_private else '"$NEXUS_REDIS_URL"'  # may hold a password
        ask = f"{Path(cli).name} -u {url}" if cli else f"{own_command()} redis --url {url}"
        key = BudgetKeys(self.meeting.namespace, BUDGET).budget
        own = f"--url {url} --namespace {self.meeting.namespace}"
        return [
            (f"{ask} HGETALL '{key}'", "the budget: its rate, load and level"),
            (f"{ask} ZRANGE '{key}:producers' 0 -1", "who claims from it"),
            (f"{own_command()} explain {BUDGET} {own}", "why this rate"),
        ]


def own_command() -> str:
    """`nexus-redis` as another terminal finds it: this environment may not be active there."""
    if shutil.which("nexus-redis"):
        return "nexus-redis"
    beside = Path(sys.executable).with_name("nexus-redis")
    if not beside.exists():
        return f"{sys.executable} -m nexus_redis"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


@contextmanager
def broker(options: Options) -> Iterator[Broker]:
    """A fresh budget, gone again at the end."""
    namespace = options.namespace or ("nexus" if options.url is None else GUEST_NAMESPACE)
    with ExitStack() as at_end:
        url = options.url or "embedded://"
        if url.startswith("embedded:"):
            server = acquire(url)
            at_end.callback(server.stop)
            url = server.start().url  # that the other processes are told
        yield Broker(Meeting(url, namespace), is_private=options.url is None)

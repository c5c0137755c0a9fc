"""The list of a namespace's budgets: a sorted set of names, written by clients, that sweeps itself. No I/O.

The list is a hint for people and tools that want all names. Whoever opens a budget puts its name there, once a day
while the budget is in use; readers pass over names whose budget is gone.

    EVAL LIST_NAME nexus:budgets ...  ->  a few names, chosen by chance
    TYPE nexus:{name}, each           ->  those that are gone
    ZREM nexus:budgets ..., TYPE again, another few names  ->  and so on, ROUNDS times, as long as some are gone

So budgets of keys that were used once (a customer, an IP address) do not stay there for ever when they have expired.
Each write costs a bounded number of small commands, and may remove many more names than the one that it adds. The
commands are sent one by one: in a Redis Cluster the budgets lie elsewhere than their list.

The list expires a day after the last budget could have. Not where an operator has set something: such a budget never
expires, so the list does not either.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, NamedTuple

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command, Job, Outcome
from nexus_redis._values.parse import is_budget

LIST_EACH: Final = 86_400.0  # seconds: a process that uses a budget lists it again
KEEP_MS: Final = 8 * 86_400_000  # a budget is kept for 7 days after its last use, and was listed a day before at most
LOOKED_AT: Final = 16  # names in a round
ROUNDS: Final = 4  # for each write
GONE: Final = "none"  # the kind of a key that is not there

# KEYS: the list. ARGV: a name, 1 to keep the list for ever, KEEP_MS, how many names to reply.
LIST_NAME: Final = """
if redis.replicate_commands then redis.replicate_commands() end  -- else Redis 6.2 may let nothing write after PTTL
local left = redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1])
if ARGV[2] == '1' then
  redis.call('PERSIST', KEYS[1])
elseif left ~= -1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return redis.call('ZRANDMEMBER', KEYS[1], ARGV[4])
"""

Sweep = Generator[list[Job], list[Outcome], None]


class Listed(NamedTuple):
    """A name was listed; `others`: some that are there."""

    others: list[str]


def listed(namespace: str, name: str, *, is_kept: bool = False) -> Command[Listed]:
    """Put a name on the list; `is_kept` where an operator has set something."""
    key = budgets_key(namespace)
    return Command(
        ("EVAL", LIST_NAME, 1, key, name, int(is_kept), KEEP_MS, LOOKED_AT), lambda reply: Listed(_names(reply))
    )


def swept(namespace: str, outcome: Outcome) -> Sweep:
    """The plan that follows `listed`, given what came of that: drop names whose budget is gone."""
    key = budgets_key(namespace)
    for left in reversed(range(ROUNDS)):
        if not isinstance(outcome, Listed):
            return
        names = [name for name in outcome.others if is_budget(name)]
        kinds = (yield [_kind(namespace, name) for name in names]) if names else []
        gone = [name for name, kind in zip(names, kinds, strict=True) if kind == GONE]
        if not gone:
            return
        more: list[Job] = (
            [Command(("ZRANDMEMBER", key, LOOKED_AT), lambda reply: Listed(_names(reply)))] if left else []
        )
        outcome = yield from drop(namespace, gone, *more)


def drop(namespace: str, gone: list[str], *more: Job) -> Generator[list[Job], list[Outcome], Outcome]:
    """Take names off the list; what came of `more`, which is sent with it.

    A budget that was opened at this moment may have been listed before its name was dropped: it is listed again.
    """
    key = budgets_key(namespace)
    _, *outcomes = yield [Command(("ZREM", key, *gone), int), *(_kind(namespace, name) for name in gone), *more]
    back = [name for name, kind in zip(gone, outcomes, strict=False) if kind != GONE]
    if back:
        yield [listed(namespace, name) for name in back]
    return outcomes[-1] if more else None


def _kind(namespace: str, name: str) -> Job:
    return Command(("TYPE", BudgetKeys(namespace, name).budget), text)


def _names(reply: Any) -> list[str]:
    return [text(word) for word in reply]

"""The list of a namespace's budgets: a sorted set of names that clients write, and that sweeps itself. No I/O.

The list is a hint for people and tools that want all names. A client that opens a budget puts its name on the list, and
does so again once a day while the budget is in use. Readers skip names whose budget is gone.

    EVAL LIST_NAME nexus:budgets ...  ->  a few names, chosen by chance
    TYPE nexus:{name}, each           ->  the names whose budget is gone
    ZREM nexus:budgets ..., TYPE again, another few names  ->  and so on, ROUNDS times, as long as some are gone

So the names of budgets that were used once (for a customer, or an IP address) do not stay forever after these have
expired. Each write costs a bounded number of small commands, and may remove many more names than the one that it adds.
The commands are sent one by one, because in a Redis Cluster the budgets are on other nodes than their list.

The list expires a day after the last budget could have expired. A budget with a setting of an operator never expires,
so a list with such a budget does not expire either.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, NamedTuple

from nexus_redis._protocol.calls import text
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Command, Job, Outcome
from nexus_redis._values.parse import is_budget

LIST_EACH: Final = 86_400.0  # seconds until a process that uses a budget lists it again
KEEP_MS: Final = (
    8 * 86_400_000
)  # a budget stays for 7 days after its last use, and was listed at most a day before that
LOOKED_AT: Final = 16  # names that a round looks at
ROUNDS: Final = 4  # after each write
GONE: Final = "none"  # the TYPE of a key that does not exist

# KEYS: the list. ARGV: a name, 1 to keep the list forever, KEEP_MS, the number of names to reply.
LIST_NAME: Final = """
if redis.replicate_commands then redis.replicate_commands() end  -- without this, Redis 6.2 may refuse writes after PTTL
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
    """A name is on the list now; `others` are some names that are there."""

    others: list[str]


def listed(namespace: str, name: str, *, is_kept: bool = False) -> Command[Listed]:
    """Put a name on the list, forever if it `is_kept`, as the budgets with settings of an operator are."""
    key = budgets_key(namespace)
    return Command(
        ("EVAL", LIST_NAME, 1, key, name, int(is_kept), KEEP_MS, LOOKED_AT), lambda reply: Listed(_names(reply))
    )


def swept(namespace: str, outcome: Outcome) -> Sweep:
    """Return the plan that follows `listed`, given its outcome: take names off whose budget is gone."""
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
        outcome = yield from unlist(namespace, gone, *more)


def unlist(namespace: str, gone: list[str], *more: Job) -> Generator[list[Job], list[Outcome], Outcome]:
    """Take names off the list. Send `more` with it, and return the outcome of that.

    A budget that is opened at this moment may be listed just before its name is taken off. It is listed again.
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

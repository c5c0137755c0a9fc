"""Send the one call of `signal`, and format its answer: without redis-py, if the address and the server allow it.

`signal --json` prints the FlowControl of docs/protocol.md; its fields are those of `calls.flow_fields`.
"""

from typing import Any, Final, NamedTuple

from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import Listed, listed
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Command
from nexus_redis._values.formatting import rate
from nexus_redis._values.parse import micro, micro_rate, parse_name, parse_number, parse_rate
from nexus_redis.cli.fast_connection import Connection, ask_or_none, namespace_of, url_of
from nexus_redis.cli.output import as_message, standing
from nexus_redis.cli.unknown_budgets import exists
from nexus_redis.errors import WORDS, InvalidSetting

PRIORITIES: Final = (None, *WORDS["priority"])


class SignalOptions(NamedTuple):
    """The options of `signal`; `name` is the full name of the budget."""

    name: str
    rate: str
    id: str | None = None
    weight: float | None = None
    priority: str | None = None
    creates: bool = False
    url: str | None = None
    namespace: str | None = None


def send(options: SignalOptions) -> dict[str, Any] | None:
    """Send the signal, and return the fields of the FlowControl.

    Returns None if the caller must send it with redis-py: after any trouble, if the budget does not exist, and to an
    embedded server, which must be started once for all attempts.
    """
    if options.priority not in PRIORITIES:
        raise InvalidSetting("priority", options.priority)
    claim, list_name = commands(options)
    keys = BudgetKeys(namespace_of(options.namespace), options.name)
    url = url_of(options.url)
    if url.startswith("embedded:"):
        return None
    with Connection(url) as connection:
        if not options.creates and ask_or_none(connection, exists(keys)) != [True]:
            return None
        answers = ask_or_none(connection, claim, list_name)
    return None if answers is None else calls.flow_fields(options.name, answers[0])


def commands(options: SignalOptions) -> tuple[Call[calls.Answer], Command[Listed]]:
    """Return the claim of a signal, and the command that lists its budget."""
    # Without an incarnation nobody owns the id: the signal need not leave, and does not lock out a process of that id.
    ask = calls.Claim(
        requested_rate=micro_rate(parse_rate(options.rate)),
        weight=micro(parse_number("weight", options.weight) if options.weight is not None else 1),
        priority=options.priority or "normal",
    )
    prefix = namespace_of(options.namespace)
    producer = parse_name(options.id, "id") if options.id is not None else host_id()
    claim = calls.claim(BudgetKeys(prefix, options.name), producer, ask, with_all_keys=True)
    return claim, listed(prefix, options.name)


def formatted(flow: dict[str, Any], requested: str, *, json: bool) -> str:
    """Return the FlowControl as JSON, or as a line for people."""
    if json:
        return as_message({"action": "FlowControl", **flow})
    budget = standing(flow["budget_rate"], flow["backpressure_level"], flow["reason"], flow["current_load"])
    share = f"send {rate(flow['recommended_rate'])} of {rate(parse_rate(requested))}"
    return f"{flow['consumer_id']}: {share}; the budget: {budget}"


def host_id() -> str:
    """Return an id that stays the same on this host: with a random one, each call would be another member."""
    from nexus_redis._values.identity import default_id

    return default_id().rsplit("-", 2)[0]

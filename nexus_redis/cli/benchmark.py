"""The measurements of `bench`: round trip, claims one by one and at the limit of the server, acquires.

The claims are those of a thousand producers over fifty connections, on a budget that nobody else uses. A script of one
command, sent the same way, shows what the server could do at best. Nothing remains in Redis afterwards.
"""

import os
import random
from collections.abc import Callable, Iterator
from itertools import islice, repeat, takewhile
from time import perf_counter
from typing import Any, Final, TypedDict

import redis

from nexus_redis._protocol import calls
from nexus_redis._protocol.deletion import delete
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Command, ask
from nexus_redis._redis.faults import as_nexus_error
from nexus_redis._values.formatting import number, printable
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.cli import texts
from nexus_redis.cli.context import Context
from nexus_redis.cli.load_generator import drive, encode_call
from nexus_redis.cli.os_signals import Interruption
from nexus_redis.cli.resp import encode
from nexus_redis.errors import Unavailable

PRODUCERS, CONNECTIONS = 1_000, 50
RATE: Final = 1e8  # so high that no claim waits
FIRST, MOST = 500, 200_000  # calls: first enough to see how fast the server is, then as many as fit into the time
ONE_COMMAND: Final = "return redis.call('INCR', KEYS[1])"
CHUNK_S: Final = 0.002  # between two looks at the clock
WARM_S, LOT = 1.0, 10_000  # large acquires for a second, so that Redis learns the demand


class SpreadJson(TypedDict):
    """Milliseconds."""

    p50: float
    p99: float
    max: float


class BenchJson(TypedDict):
    """What `bench --json` prints."""

    server: str  # Redis or Valkey and its version; empty if this user may not ask
    round_trip_ms: SpreadJson
    claim_ms: SpreadJson  # one after the other
    claims_per_s: float
    claim_ms_at_once: SpreadJson
    one_command_per_s: float
    connections: int
    acquires_per_s: float


def measure(context: Context, seconds: float, interruption: Interruption) -> BenchJson:
    """Measure each value for about a fifth of `seconds`, and delete the budget afterwards."""
    name = f"bench-{os.getpid()}-{random.getrandbits(32):08x}"
    keys = context.keys(name)
    floor_key = f"{keys.budget}:floor"  # in the slot of the budget, so that it is deleted with the budget
    part = seconds / 5
    node = context.at_node_of(keys.budget)
    try:
        context.ask(calls.configure(keys, BudgetSettings.of(rate=RATE)))
        ping = Command(("PING",), bool)
        trips = _one_at_a_time(part, lambda: context.run(ask([ping], context.server)), interruption)
        claims = _Claims(keys)
        context.ask(claims.next())  # the first claim loads the script
        alone = _one_at_a_time(part, lambda: context.ask(claims.next()), interruption)
        floor, _ = _at_once(node, part, lambda sha: repeat(encode("EVALSHA", sha, 1, floor_key)), interruption)
        rate, waits = _at_once(node, part, lambda _: claims.encoded(), interruption)
        acquires = _acquires(context, name, part, interruption)
    finally:
        context.run(delete(keys, context.server))
    return {
        "server": _version(node),
        "round_trip_ms": _spread(trips),
        "claim_ms": _spread(alone),
        "claims_per_s": rate,
        "claim_ms_at_once": _spread(waits),
        "one_command_per_s": floor,
        "connections": CONNECTIONS,
        "acquires_per_s": acquires,
    }


def in_words(found: BenchJson) -> Iterator[str]:
    """Return the lines for people."""

    def ms(spread: SpreadJson) -> str:
        return f"p50 {number(spread['p50'])} ms, p99 {number(spread['p99'])} ms"

    part = 100 * found["claims_per_s"] / found["one_command_per_s"]
    yield f"server      {printable(found['server'])}"
    yield f"round trip  {ms(found['round_trip_ms'])}"
    yield f"claim       {ms(found['claim_ms'])}, one after the other"
    yield (
        f"claims      {number(round(found['claims_per_s']))}/s, {found['connections']} at once: "
        f"{ms(found['claim_ms_at_once'])}; {part:.0f} % of a script of one command"
    )
    yield f"acquire     {number(round(found['acquires_per_s']))}/s in this process, with tokens in hand"


class _Claims:
    """The claims of busy producers. The producers take turns, so that none has two claims under way."""

    def __init__(self, keys: BudgetKeys) -> None:
        self._keys, self._count = keys, 0

    def next(self) -> Call[calls.Answer]:
        """Return the claim of the next producer."""
        producer, seq = self._count % PRODUCERS, self._count // PRODUCERS + 1
        self._count += 1
        ask = calls.Claim(
            need=10**6, tokens=5 * 10**6, requested_rate=100 * 10**6, held=10**6, incarnation="bench", seq=seq
        )
        return calls.claim(self._keys, f"producer-{producer:04}", ask)

    def encoded(self) -> Iterator[bytes]:
        """Return claims as they are sent, without end."""
        while True:
            yield encode_call(self.next())


def _one_at_a_time(seconds: float, call: Callable[[], object], interruption: Interruption) -> list[float]:
    """Call for `seconds`, and return how long each call took."""
    took: list[float] = []
    end = perf_counter() + seconds
    while not took or perf_counter() < end:
        began = perf_counter()
        call()
        took.append(perf_counter() - began)
        interruption.check()
    return took


def _at_once(
    context: Context, seconds: float, commands: Callable[[str], Iterator[bytes]], interruption: Interruption
) -> tuple[float, list[float]]:
    """Return the calls per second at the limit of the server, and how long each call waited.

    `commands` makes them from the SHA of the script of one command.
    """
    sha: str = context.ask(Command(("SCRIPT", "LOAD", ONE_COMMAND), calls.text))[0]
    source = commands(sha)
    try:
        took, _ = drive(context.client, list(islice(source, FIRST)), CONNECTIONS)
        count = max(FIRST, min(MOST, round(FIRST / took * seconds)))
        made = list(islice(source, count))
        took, waits = drive(context.client, takewhile(lambda _: not interruption.number, made), CONNECTIONS)
    except redis.ResponseError as error:
        raise as_nexus_error(error) from error
    except (OSError, redis.RedisError) as error:
        raise Unavailable(context.server, texts.bench_connections(CONNECTIONS, str(error))) from error
    interruption.check()
    return count / took, waits


def _acquires(context: Context, name: str, seconds: float, interruption: Interruption) -> float:
    """Return the acquires per second of a plain loop, once it holds enough tokens."""
    from nexus_redis import Nexus

    with Nexus.from_url(context.url, namespace=context.namespace) as nexus:
        acquire = nexus.budget(name).acquire
        _loop(lambda: acquire(LOT), WARM_S, interruption)
        return _loop(acquire, seconds, interruption)


def _loop(acquire: Callable[[], object], seconds: float, interruption: Interruption) -> float:
    """Call `acquire` for `seconds`, and return the calls per second."""
    began, count, chunk = perf_counter(), 0, 1
    while (took := perf_counter() - began) < seconds:
        for _ in repeat(None, chunk):
            acquire()
        count += chunk
        interruption.check()
        chunk = max(1, round(count / max(perf_counter() - began, CHUNK_S) * CHUNK_S))
    return count / took


def _version(context: Context) -> str:
    """Return the name and version of the server, or an empty text if this user may not ask for them."""
    try:
        info: Any = context.client.info("server")
    except redis.RedisError:
        return ""
    kind = "valkey" if "valkey_version" in info else "redis"
    return f"{kind} {info.get(f'{kind}_version', '')}"


def _spread(took: list[float]) -> SpreadJson:
    ordered = sorted(1e3 * seconds for seconds in took)
    last = len(ordered) - 1
    return {"p50": ordered[int(0.5 * last)], "p99": ordered[int(0.99 * last)], "max": ordered[last]}

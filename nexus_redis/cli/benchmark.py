"""bench: what this machine and this Redis make of it.

The claims are those of a thousand producers, fifty at a time, each on a connection of its own, on a budget that nobody
else knows; a script of one command, sent the same way, says what the server could do at best.
"""

import os
import random
import signal
from collections.abc import Callable, Iterator
from itertools import repeat, takewhile
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from nexus_redis._values.parse import typed_seconds
from nexus_redis.cli.common_options import Json
from nexus_redis.cli.output import as_json, number, printable
from nexus_redis.errors import Range

if TYPE_CHECKING:
    from nexus_redis.cli.context import Place

LASTS: Final = Range(0.1, 600, "seconds")
OWN: Final = "nexus-bench"  # the namespace
PRODUCERS, CONNECTIONS = 1_000, 50
RATE: Final = 1e8  # nobody waits
FIRST, MOST = 500, 200_000  # calls: to see how fast it is, and with what is known then
ONE_COMMAND: Final = "return redis.call('INCR', KEYS[1])"
CHUNK_S: Final = 0.002  # between two looks at the clock
WARM_S, LOT = 1.0, 10_000  # demand is learned from claim to claim: from large acquires in a second


def bench(
    *,
    seconds: Annotated[str, typer.Option(metavar="TIME", help="Measure for about TIME, at least one second.")] = "5",
    json: Json = False,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Connect to this Redis or Valkey. Prefer NEXUS_REDIS_URL: `ps` shows a password here.",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX", help="Begin all keys with PREFIX. They are deleted afterwards.", show_default=OWN
        ),
    ] = None,
) -> None:
    """Measure on a Redis of yours: round trip, claims, acquires.

    The verb drives the server to its limit for a second or two, over fifty connections. Other users of that server
    will notice.

    \b
    Examples:
      nexus-redis bench
      nexus-redis bench --seconds 1 --json
    """
    from nexus_redis.cli.context import place

    lasts = typed_seconds(seconds, "seconds", LASTS)
    # Not NEXUS_REDIS_NAMESPACE: there is real work in there.
    with place(url, namespace or OWN) as here, _Ending() as ending:
        found = measured(here, lasts, ending)
    if json:
        print(as_json(found))
        return
    for line in lines(found):
        print(line)


class _Ending:
    """SIGTERM and Ctrl-C are taken note of and asked for: an exception out of a handler may come in a `__del__`, where
    it is lost. What was written is deleted before the end.
    """

    def __init__(self) -> None:
        self.came = 0

    def __enter__(self) -> Self:
        self._before = {each: signal.signal(each, self._hear) for each in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _hear(self, number: int, _frame: object) -> None:
        self.came = self.came or number

    def check(self) -> None:
        """Raise what ends the verb, if one has come."""
        if self.came:
            raise typer.Exit(128 + self.came)


def measured(here: "Place", seconds: float, ending: "_Ending") -> dict[str, Any]:
    """All of it, as the JSON has it; the budget is gone afterwards."""
    from nexus_redis._protocol import calls
    from nexus_redis._protocol.deletion import delete
    from nexus_redis._protocol.plans import Command, ask
    from nexus_redis._values.settings import BudgetSettings

    name = f"bench-{os.getpid()}-{random.getrandbits(32):08x}"
    keys = here.keys(name)
    floor_key = f"{keys.budget}:floor"  # in the slot of the budget, and deleted with it
    part = seconds / 5
    near = here.near(keys.budget)
    try:
        here.ask(calls.configure(keys, BudgetSettings.of(rate=RATE)))
        ping = Command(("PING",), bool)
        trips = _one_at_a_time(part, lambda: here.run(ask([ping], here.server)), ending)
        claims = _Claims(keys)
        here.ask(claims.next())  # the first one brings the script
        alone = _one_at_a_time(part, lambda: here.ask(claims.next()), ending)
        floor, _ = _at_once(near, part, lambda sha: _floor(sha, floor_key), ending)
        rate, waits = _at_once(near, part, lambda _: claims.packed(), ending)
        acquires = _acquires(here, name, part, ending)
    finally:
        here.run(delete(keys, here.server))
    return {
        "server": _version(near),
        "round_trip_ms": _spread(trips),
        "claim_ms": _spread(alone),
        "claims_per_s": rate,
        "claim_ms_at_once": _spread(waits),
        "one_command_per_s": floor,
        "connections": CONNECTIONS,
        "acquires_per_s": acquires,
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """For people."""

    def ms(spread: dict[str, float]) -> str:
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
    """Claims of producers that are busy, each one's in order."""

    def __init__(self, keys: Any) -> None:
        from nexus_redis._protocol import calls
        from nexus_redis.cli.load_generator import packed_call

        self._calls, self._packed, self._keys, self._count = calls, packed_call, keys, 0

    def next(self) -> Any:
        """The producers take turns, so none has two claims under way."""
        producer, seq = self._count % PRODUCERS, self._count // PRODUCERS + 1
        self._count += 1
        ask = self._calls.Claim(
            need=10**6, tokens=5 * 10**6, requested_rate=100 * 10**6, held=10**6, incarnation="bench", seq=seq
        )
        return self._calls.claim(self._keys, f"producer-{producer:04}", ask)

    def packed(self) -> Iterator[bytes]:
        """For ever."""
        while True:
            yield self._packed(self.next())


def _floor(sha: str, key: str) -> Iterator[bytes]:
    from nexus_redis.cli.load_generator import packed

    return repeat(packed("EVALSHA", sha, 1, key))


def _one_at_a_time(seconds: float, call: Callable[[], object], ending: _Ending) -> list[float]:
    """How long each took."""
    took: list[float] = []
    end = perf_counter() + seconds
    while not took or perf_counter() < end:
        began = perf_counter()
        call()
        took.append(perf_counter() - began)
        ending.check()
    return took


def _at_once(
    here: "Place", seconds: float, commands: Callable[[str], Iterator[bytes]], ending: _Ending
) -> tuple[float, list[float]]:
    """Calls a second at the server's limit, and how long each waited."""
    from itertools import islice

    import redis

    from nexus_redis._protocol.plans import Command
    from nexus_redis._redis.faults import as_nexus_error
    from nexus_redis.cli.load_generator import drive
    from nexus_redis.errors import Unavailable

    sha = str(here.ask(Command(("SCRIPT", "LOAD", ONE_COMMAND), _text))[0])
    source = commands(sha)
    try:
        took, _ = drive(here.client, list(islice(source, FIRST)), CONNECTIONS)
        count = max(FIRST, min(MOST, round(FIRST / took * seconds)))
        made = list(islice(source, count))
        took, waits = drive(here.client, takewhile(lambda _: not ending.came, made), CONNECTIONS)
    except redis.ResponseError as error:
        raise as_nexus_error(error) from error
    except (OSError, redis.RedisError) as error:
        raise Unavailable(here.server, f"with {CONNECTIONS} connections: {error}") from error
    ending.check()
    return count / took, waits


def _acquires(here: "Place", name: str, seconds: float, ending: _Ending) -> float:
    """Of a plain loop, once it holds tokens enough."""
    from nexus_redis import Nexus

    with Nexus.from_url(here.url, namespace=here.namespace) as nexus:
        acquire = nexus.budget(name).acquire
        _loop(lambda: acquire(LOT), WARM_S, ending)
        return _loop(acquire, seconds, ending)


def _loop(acquire: Callable[[], object], seconds: float, ending: _Ending) -> float:
    """Acquires a second."""
    began, count, chunk = perf_counter(), 0, 1
    while (took := perf_counter() - began) < seconds:
        for _ in repeat(None, chunk):
            acquire()
        count += chunk
        ending.check()
        chunk = max(1, round(count / max(perf_counter() - began, CHUNK_S) * CHUNK_S))
    return count / took


def _version(here: "Place") -> str:
    """Its name and number, and nothing where it does not tell: a user that may not ask is no failure."""
    import redis

    try:
        info: Any = here.client.info("server")
    except redis.RedisError:
        return ""
    kind = "valkey" if "valkey_version" in info else "redis"
    return f"{kind} {info.get(f'{kind}_version', '')}"


def _spread(took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    return {name: ordered[int(q * (len(ordered) - 1))] * 1e3 for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


def _text(reply: Any) -> str:
    from nexus_redis._protocol.calls import text

    return text(reply)

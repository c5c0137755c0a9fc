"""What a look at Redis shows of the whole fleet, and that nothing that stands there can break it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from nexus_redis import Nexus
from nexus_redis._core.tally import REASONS
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Plan
from nexus_redis._protocol.snapshot import BudgetSnapshot
from nexus_redis._redis.faults import failed
from nexus_redis.asyncio import Nexus as AsyncNexus
from nexus_redis.metrics import exposition, fleet
from nexus_redis.metrics.catalogue import CATALOGUE
from nexus_redis.metrics.fleet import FleetCounts, Look
from nexus_redis.metrics.prometheus import families
from nexus_redis.metrics.values import Values
from tests.harness.faces import LoopInAThread, Opener
from tests.harness.servers import Server
from tests.harness.support import free_port
from tests.metrics.reading import Reading, read


def budget(name: str, **fields: Any) -> BudgetSnapshot:
    """A budget as a look shows it."""
    usual: dict[str, Any] = {
        "exists": True, "rate": 100.0, "level": 0, "load": 0.0, "reason": "rate", "tokens": 1.0, "burst": 0.25,
        "granted_total": 0, "birth": "1", "settings": {}, "paused_for": None, "pause_reason": "",
        "last_consumer_end": "", "consumers": (), "producers": (), "consumer_count": 0, "producer_count": 0,
        "age": 0.0, "refresh": 0.1,
    }  # fmt: skip
    return BudgetSnapshot(name=name, **(usual | fields))


class Looks:
    """Looks one after the other, as one process sees them."""

    def __init__(self, **options: bool) -> None:
        self._counts = FleetCounts(**options)

    def __call__(self, *budgets: BudgetSnapshot, damaged: tuple[str, ...] = (), live: Any = None) -> Reading:
        values = Values()
        self._counts.read(Look(list(budgets), list(damaged), live or {}), values)
        return Reading(families(CATALOGUE, values, {}))


@pytest.fixture
def other(one_server: Server) -> Iterator[Nexus]:
    """Another process."""
    with Nexus.from_url(one_server.url) as nexus:
        yield nexus


def page(loop: LoopInAThread, nexus: AsyncNexus) -> Reading:
    """The page of metrics, as Prometheus reads it."""
    body, _ = loop.run(lambda: exposition(nexus))
    return Reading(parsed(body.decode()))


def test_a_look_shows_what_others_do(loop: LoopInAThread, nexus: AsyncNexus, other: Nexus) -> None:
    """The page shows budgets that this process has never used."""
    stripe = other.budget("stripe", rate=50)
    stripe.acquire()
    es = other.budget("es")
    with es.consumer(capacity=400, interval=60) as consumer:
        consumer.report(load=95)
        stripe.pause(reason="maintenance")
        found = page(loop, nexus)
    assert found("up") == 1
    assert found("budgets") == 2
    assert (found("rate_tokens_per_second", budget="es"), found("load_ratio", budget="es")) == (100, 0.95)
    assert found("consumers", budget="es", state="live") == 1
    assert found("consumers", budget="es", state="stale") == 0
    assert found("reason", budget="es", reason="load") == 1
    assert (found("paused", budget="stripe"), found("paused", budget="es")) == (1, 0)
    assert (found("rate_tokens_per_second", budget="stripe"), found("level", budget="stripe")) == (0, 3)
    assert (found("granted_tokens_total", budget="stripe") or 0) >= 1
    assert found("producers", budget="stripe") == 1


def test_a_collector_can_look_too(one_server: Server, open_nexus: Opener, other: Nexus) -> None:
    """With `fleet`, a collector of either face looks at all budgets, in the thread that scrapes."""
    other.budget("stripe", rate=50).acquire()
    nexus = open_nexus(one_server)
    assert read(nexus, fleet=True)("rate_tokens_per_second", budget="stripe") == 50
    assert read(nexus)("rate_tokens_per_second", budget="stripe") is None


def test_silent_consumers_are_stale() -> None:
    """A consumer that does not count any more is stale, and one whose state is unknown is in neither series."""
    look = Looks()
    found = look(budget("es", consumer_count=3), budget("mail", consumer_count=2), live={"es": 1})
    assert (found("consumers", budget="es", state="live"), found("consumers", budget="es", state="stale")) == (1, 2)
    assert found("consumers", budget="mail", state="live") == 0


def test_consumers_that_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget whose live consumers cannot be counted any more is in the look without them."""
    found = [budget("es", consumer_count=1), budget("mail", consumer_count=1)]

    def known(namespace: str, server: str) -> Plan[Any]:
        yield []
        return found, []

    monkeypatch.setattr(fleet, "snapshots", known)
    plan = fleet.look("nexus", "")
    next(plan)
    assert len(plan.send([])) == 2  # type: ignore[arg-type]  # one command for each
    with pytest.raises(StopIteration) as end:
        plan.send([failed(ConnectionError("gone")), 1])
    assert end.value.value == Look(found, [], {"mail": 1})


def test_keys_are_added_up() -> None:
    """The keys of a budget are one series: rates are added, and of load and level the highest counts."""
    look = Looks()
    found = look(
        budget("stripe", rate=100, tokens=7),
        budget("stripe/a", rate=20, load=30, level=1, producer_count=1, paused_for=3.0, reason="paused"),
        budget("stripe/b", rate=30, load=80, level=0, producer_count=2, tokens=-2),
    )
    assert found("rate_tokens_per_second", budget="stripe/*") == 50
    assert found("rate_tokens_per_second", budget="stripe") == 100
    assert (found("load_ratio", budget="stripe/*"), found("level", budget="stripe/*")) == (0.8, 1)
    assert (found("producers", budget="stripe/*"), found("bucket_tokens", budget="stripe/*")) == (3, -1)
    assert (found("keys", budget="stripe/*"), found("paused", budget="stripe/*")) == (2, 1)
    assert found("reason", budget="stripe/*", reason="paused") == found("reason", budget="stripe/*", reason="rate") == 1
    assert found.budgets("rate_tokens_per_second") == {"stripe", "stripe/*"}


def test_each_key_can_have_its_series() -> None:
    """With `keys`, each key has series of its own, and there is no sum."""
    found = Looks(keys=True)(budget("stripe", granted_total=1), budget("stripe/a", granted_total=5))
    assert found.budgets("granted_tokens_total") == {"stripe", "stripe/a"}
    assert found("granted_tokens_total", budget="stripe/a") == 5


def test_the_sum_of_grants_never_falls() -> None:
    """What keys were granted is counted from the first look on, whatever becomes of the keys."""
    look = Looks()

    def granted(*keys: BudgetSnapshot, damaged: tuple[str, ...] = ()) -> float | None:
        return look(*keys, damaged=damaged)("granted_tokens_total", budget="stripe/*")

    assert granted(budget("stripe/a", granted_total=1_000)) == 0
    assert granted(budget("stripe/a", granted_total=1_010), budget("stripe/new", granted_total=5)) == 15
    assert granted(budget("stripe/new", granted_total=6)) == 16  # the other has expired
    assert granted(budget("stripe/new", granted_total=2, birth="2")) == 18  # it was deleted, and begun again
    assert granted(damaged=("stripe/new",)) == 18
    assert granted(budget("stripe/new", granted_total=3, birth="2")) == 19  # and was repaired
    assert granted() == 19


def test_a_strange_reason_is_other() -> None:
    """A reason that somebody has written by hand becomes no label."""
    found = Looks()(*(budget(f"b{i}", reason=f'x{i}"\n') for i in range(5)), budget("c", reason=REASONS[0]))
    assert {labels for name, labels in found.all if name == "nexus_redis_reason"} == {
        frozenset({("budget", f"b{i}"), ("reason", "other")}) for i in range(5)
    } | {frozenset({("budget", "c"), ("reason", REASONS[0])})}


@pytest.mark.parametrize(
    "harm",
    [
        ("HSET", "{budget}", "rate_per_s", "a lot"),
        ("HSET", "{budget}", "load_percent", "NaN"),
        ("HSET", "{budget}", "reason", 'load"\n# TYPE nexus_redis_up counter\n'),
        ("SET", "{budget}:state", "not a state"),
        ("SET", "{budget}:consumers", "not a set"),
        ("SET", "{budget}:rates", "not a set"),
        ("SET", "{budget}", "not a hash"),
        ("ZADD", "nexus:budgets", 9e18, 'x"} 1\nnexus_redis_up 0'),
    ],
    ids=str,
)
def test_harm_does_not_break_a_scrape(
    loop: LoopInAThread, nexus: AsyncNexus, other: Nexus, one_server: Server, harm: tuple[Any, ...]
) -> None:
    """Whatever somebody has done to one budget, the page can be read and shows the other one."""
    with other.budget("bad").consumer(capacity=10, interval=60) as consumer:
        consumer.report(load=1)
        other.budget("good", rate=10).acquire()
        client = one_server.client()
        words = [str(word).replace("{budget}", BudgetKeys("nexus", "bad").budget) for word in harm]
        if words[0] == "SET":
            client.delete(words[1])
        client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py
        found = page(loop, nexus)
    assert found("up") == 1
    assert found("rate_tokens_per_second", budget="good") == 10
    assert found("damaged_budgets") in (0, 1)
    assert found("budgets") == 2
    assert found.budgets("rate_tokens_per_second") <= {"good", "bad"}


def test_without_redis_the_process_is_shown(loop: LoopInAThread) -> None:
    """While Redis is away, the page says so, and what the process has done stays on it."""
    nexus = AsyncNexus.from_url(f"redis://127.0.0.1:{free_port()}")
    loop.run(lambda: nexus.budget("stripe").producer(on_outage="open").acquire())
    found = page(loop, nexus)
    assert found("up") == 0
    assert found("client_acquires_total", budget="stripe") == 1
    assert found("budgets") is None
    loop.run(nexus.close)

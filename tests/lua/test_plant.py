"""The scripts on the plant: in step with their referee, true to the figures, and lossless where that is promised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_redis._redis.embedded import ServerProcess
from tests.harness import targets
from tests.harness.coordinators import COMPOSED, InStep, ScriptCoordinator
from tests.harness.fast_client import FastClient
from tests.harness.plant import Plant
from tests.harness.scenarios import ATTACKS, Attack, random_life
from tests.harness.servers import SOCKET, Server, launch

DECISIVE = (
    "capacity to 10 %",
    "freeze of 1.9 s, each 5 s, to 10 % between",
    "tokens spent late, freezes of 1.5 s",
    "half of the reports lost, capacity to 10 %",
    "crashes each 20 s, back after 0.3 s",
    "state lost, tokens spent late, drops to 10 %",
    "4 pushed in turn, one frozen 1.5 s each 6 s",
    "3 shards, one frozen 5 s",
)


@pytest.fixture(scope="module")
def process() -> Iterator[ServerProcess]:
    process = launch("valkey")
    yield process
    process.stop()


@pytest.fixture
def client(process: ServerProcess) -> Iterator[redis.Redis]:
    client = FastClient(process.port, str(process.directory / SOCKET))
    client.flushall()
    yield client
    client.close()


def attacked(client: redis.Redis, name: str, attack: Attack, planted: tuple[str, str] | None = None) -> Plant:
    life = ATTACKS[name](attack)
    return life.play(ScriptCoordinator(client, planted, **life.told))


def differences(client: redis.Redis, seed: int, planted: tuple[str, str] | None = None) -> list[str]:
    life = random_life(seed)
    both = InStep(ScriptCoordinator(client, planted, **life.told))
    life.play(both)
    return both.differences


# -- the scripts and their referee


@given(st.integers(0, 2**32))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scripts_and_referee_agree(client: redis.Redis, seed: int) -> None:
    """The scripts and the referee agree over any life of a fleet."""
    assert differences(client, seed) == []


def test_they_agree_on_every_kind_of_server(real_server: Server) -> None:
    """The scripts and the referee agree on every kind of server."""
    for seed in range(3):
        assert differences(real_server.fast_client(), seed) == []


@pytest.mark.soak
def test_they_agree_over_a_thousand_lives(client: redis.Redis) -> None:
    """The scripts and the referee agree over a thousand lives."""
    assert [seed for seed in range(1000) if differences(client, seed)] == []


# -- the figures


@pytest.fixture
def make(client: redis.Redis) -> targets.Make:
    return lambda: ScriptCoordinator(client)


@pytest.mark.slow
@pytest.mark.parametrize("delay", targets.DELAYS)
def test_drain_reaches_96_percent_over_a_step(make: targets.Make, delay: float) -> None:
    """`drain` reaches 96 % when the capacity falls to 40 % and comes back."""
    assert targets.over_the_step(make, delay, 1) >= 96


@pytest.mark.slow
def test_idleness_keeps_what_drain_knows(make: targets.Make) -> None:
    """An hour of idleness does not lower what `drain` then gives."""
    assert targets.after_the_night(make, 1.0, 1) >= 98


@pytest.mark.parametrize("delay", [0.5, 1.0])
def test_cold_drain_finds_the_capacity(make: targets.Make, delay: float) -> None:
    """From cold, `drain` finds 90 % of an unknown capacity within 5 seconds."""
    assert max(targets.from_cold(make, delay, seed) for seed in range(3)) <= 5


def test_a_cold_start_loses_nothing(make: targets.Make) -> None:
    """From cold, nothing is lost at half a second of delay."""
    assert sum(targets.lost_from_cold(make, 0.5, seed) for seed in range(3)) == 0


@pytest.mark.parametrize("stalls_at_work", [False, True])
def test_the_rate_returns_after_a_stall(make: targets.Make, *, stalls_at_work: bool) -> None:
    """After a stall of 5 seconds the rate is back within 5 seconds."""
    assert targets.after_a_stall(make, 1.0, 1, stalls_at_work=stalls_at_work) <= 5


@pytest.mark.parametrize("how", [{"failing": 0.05}, {"commit_s": 1.0}, {"queue_s": 3.0, "bulk_s": 1.0}])
def test_failures_and_batches_cost_little(make: targets.Make, how: dict[str, float]) -> None:
    """Records that fail and work in batches cost less than 3 percent."""
    assert targets.goodput_of(make, 1.0, 1, targets.WARM + 50, **how) >= 97


@pytest.mark.soak
def test_every_figure_is_reached_on_ten_seeds() -> None:
    """Every figure is reached on ten seeds."""
    with targets.measuring(targets.SEEDS, with_scripts=True) as measured:
        assert [str(figure) for figure in targets.figures(measured) if not figure.is_met] == []


# -- lossless


@pytest.mark.parametrize("name", DECISIVE)
def test_a_lossless_budget_loses_nothing(client: redis.Redis, name: str) -> None:
    """A lossless budget loses nothing."""
    plant = attacked(client, name, Attack(queue_s=1.0, delay=0.5, seed=1, seconds=60))
    assert plant.granted > 2_500
    assert plant.lost() == 0


def test_lossless_loses_nothing_in_one_life(client: redis.Redis) -> None:
    """A lossless budget loses nothing in a random life."""
    for seed in range(8):
        life = random_life(seed, is_lossless=True)
        assert life.play(ScriptCoordinator(client, **life.told)).lost() == 0, seed


def test_lossless_fills_deep_queues(client: redis.Redis) -> None:
    """A lossless budget fills queues that are deeper than the loop."""
    plant = attacked(client, "steady", Attack(queue_s=1.0, delay=0.5, seed=1, seconds=30))
    assert plant.goodput(10, 29) > 0.98


def test_without_lossless_an_attack_loses(client: redis.Redis) -> None:
    """Without lossless the same attack loses records."""
    life = ATTACKS["capacity to 10 %"](Attack(queue_s=0.2, delay=0.5, seed=1, seconds=60))
    life.is_lossless = False
    assert life.play(ScriptCoordinator(client, **life.told)).lost() > 0


@pytest.mark.soak
@pytest.mark.parametrize("name", ATTACKS)
def test_lossless_loses_nothing_in_any_delay(client: redis.Redis, name: str) -> None:
    """A lossless budget loses nothing, whatever the queue, the delay and the seed are."""
    for queue_s in (0.2, 1.0, 5.0):
        for delay in (0.5, 1.0):
            for seed in (1, 2, 3):
                assert attacked(client, name, Attack(queue_s, delay, seed)).lost() == 0, (queue_s, delay, seed)


@pytest.mark.soak
def test_lossless_loses_nothing_in_500_lives(client: redis.Redis) -> None:
    """A lossless budget loses nothing in five hundred random lives."""
    for seed in range(500):
        life = random_life(seed, is_lossless=True)
        assert life.play(ScriptCoordinator(client, **life.told)).lost() == 0, seed


# -- planted bugs

IN_STEP = (  # the seed of a life that shows it, and the bug
    (7, "min(rate, sums.arrivals * least(keys.ratios))", "min(rate, sums.rate)"),
    (7, "window.edge = window.landed + (least(keys.frees) or 0)", "window.edge = window.landed + sums.free"),
    (33, "if healing then seen = math.max(seen, oldest) end", ""),
    (3, "then lost = lost + burned end", "then lost = lost - burned end"),
    (4, "for i = SNAPSHOTS, 2, -1 do window.snapshots[i] = window.snapshots[i - 1] end", ""),
    (33, "or not consumer.deadline then return true end", "then return true end"),
)
LOSSES = (
    ("2 pushed 5:1, the first frozen 1.9 s each 5 s", 0.2, 1.0, ("SHORTEST_DEADLINE - 3 * INTERVAL)", "0)")),
    (
        "slow, crashes each 20 s, back after 0.3 s",
        1.0,
        1.0,
        ("first <= consumer.joined + SHORTEST_DEADLINE then", "first < 0 then"),
    ),
    ("state lost as it drops to 10 %", 2.0, 2.0, ("if window.lossless == 1 and quiet > 0", "if false")),
    (
        "4 pushed in turn, one to 10 %",
        1.0,
        0.5,
        ("window.edge = window.landed + (least(keys.frees) or 0)", "window.edge = window.landed + sums.free"),
    ),
)


@COMPOSED
@pytest.mark.parametrize(("seed", "text", "instead"), IN_STEP)
def test_the_referee_notices_a_planted_bug(client: redis.Redis, seed: int, text: str, instead: str) -> None:
    """The referee notices a planted bug."""
    assert differences(client, seed) == []
    assert differences(client, seed, (text, instead))


@COMPOSED
@pytest.mark.parametrize(("name", "queue_s", "delay", "planted"), LOSSES)
def test_without_its_rule_lossless_loses(
    client: redis.Redis, name: str, queue_s: float, delay: float, planted: tuple[str, str]
) -> None:
    """Without its rule a lossless budget loses records."""
    attacks = [Attack(queue_s, delay, seed, 60) for seed in (2, 3, 5)]
    assert any(attacked(client, name, attack, planted).lost() for attack in attacks)
    assert not attacked(client, name, attacks[0]).lost()

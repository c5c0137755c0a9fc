"""A lossless budget in a failover: the replica that takes over has an older state, and nothing is lost all the same."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from nexus_redis._protocol import calls
from nexus_redis._values.settings import micro
from tests.harness.coordinators import COMPOSED, ScriptCoordinator, at_us
from tests.harness.plant import Consumer, Plant
from tests.harness.script_driver import MICRO, ScriptDriver
from tests.harness.servers import Server


class Replicated(ScriptCoordinator):
    """As the client speaks to it: each producer carries the birth and the highest count that it was told."""

    def __init__(self, client: redis.Redis, planted: tuple[str, str] | None = None) -> None:
        super().__init__(client, planted, lossless=True)
        self.known: dict[str, tuple[str, int]] = {}
        self.replica: dict[Any, Any] = {}

    def claim(self, t: float, producer: str, want: float, burned: float, held: float) -> int:
        self.seqs[producer] = self.seqs.get(producer, 0) + 1
        birth, total = self.known.get(producer, ("", 0))
        tokens = int(want) * MICRO
        ask = calls.Claim(
            need=min(MICRO, tokens), tokens=tokens, requested_rate=micro(10 * want), held=micro(held),
            burned=micro(burned), incarnation=producer, seq=self.seqs[producer], birth=birth, granted_total=total,
        )  # fmt: skip
        answer: calls.Answer = self.run(calls.claim(self.keys, producer, ask, at_us=at_us(t), with_all_keys=True))
        self.known[producer] = (answer.birth, answer.granted_total)
        return answer.granted // MICRO

    def replicate(self) -> None:
        """The replica hears all up to now, and nothing after it."""
        keys = self.ask("KEYS", f"{self.keys.budget}*")
        self.replica = {key: self.ask("DUMP", key) for key in keys}

    def fail_over(self) -> None:
        """It becomes the primary."""
        self.ask("DEL", *self.ask("KEYS", f"{self.keys.budget}*"))
        for key, value in self.replica.items():
            self.ask("RESTORE", key, 0, value)


def attacked(server: Server, lag: float, freezes: float, seed: int, planted: tuple[str, str] | None = None) -> Plant:
    """A failover at 10 s to a replica that has been deaf for `lag`; the consumer is frozen from `freezes` on."""
    coordinator = Replicated(server.fast_client(), planted)
    consumer = Consumer("c", lambda t: -1.0 if freezes <= t < freezes + 6 else 400.0, 300)
    plant = Plant(coordinator, [consumer], producers=4, seconds=20, seed=seed)
    plant.at(10 - lag, coordinator.replicate)
    plant.at(10, coordinator.fail_over)
    return plant.run()


@pytest.mark.parametrize("freezes", ["soon", "late", "never"])
@pytest.mark.parametrize("lag", [0.1, 1, 3])
def test_a_deaf_replica_loses_nothing(one_server: Server, lag: float, freezes: str) -> None:
    """Nothing is lost, although the replica was deaf and the consumer is frozen."""
    at = {"soon": 10.05 - lag, "late": 9.95, "never": 30.0}[freezes]
    for seed in (1, 2):
        plant = attacked(one_server, lag, at, seed)
        assert plant.lost() == 0
        assert freezes != "never" or plant.goodput(14, 20) > 0.9


@COMPOSED
@pytest.mark.parametrize(
    "planted",
    [
        ("  window.net = window.net + missing", "  window.net = window.net"),
        ("  if not window then return end", "  if window then return end"),
    ],
    ids=["the window does not know of the grants", "nor does it wait"],
)
def test_without_its_rule_records_are_lost(one_server: Server, planted: tuple[str, str]) -> None:
    """Without the rule for failovers, records are lost."""
    assert sum(attacked(one_server, 0.3, 9.97, seed, planted).lost() for seed in (1, 2)) > 0


SAID: dict[str, Any] = {
    "done": 0, "errors": 0, "in_flight": 0, "queue_depth": 0, "queue_limit": 100, "capacity": 1000,
}  # fmt: skip


@pytest.fixture
def opened(story: ScriptDriver) -> ScriptDriver:
    """A lossless budget that may admit up to 100."""
    story.configure(lossless=True)
    for i in range(7):
        story.at(i / 4).report(**SAID)
    return story


def test_a_lost_count_is_in_flight(opened: ScriptDriver) -> None:
    """A count that the server has lost is in flight for the window."""
    birth = opened.claim("p", tokens=10, requested_rate=1e3).birth
    net = opened.numbers("window")[2]
    opened.claim("q", tokens=0, birth=birth, granted_total=70)
    assert opened.numbers("window")[2] == net + 60 * MICRO


def test_the_first_waits_for_the_others(opened: ScriptDriver) -> None:
    """The producer that comes first after a failover waits for producers that know of more grants.

    It knows of 70 of the grants that are lost, and another one of 95.
    """
    birth = opened.claim("p", tokens=10, requested_rate=1e3).birth
    first = opened.claim("q", tokens=20, requested_rate=1e3, birth=birth, granted_total=70)
    assert (first.granted, first.reason) == (0, "window")
    opened.at(1.6).claim("p", tokens=0, birth=birth, granted_total=95)
    for i in range(7, 13):
        opened.at(i / 4).report(**SAID)
    later = [opened.at(3 + i / 10).claim(f"r{i}", tokens=20, requested_rate=1e3).granted for i in range(4)]
    assert sum(later) <= 5 * MICRO

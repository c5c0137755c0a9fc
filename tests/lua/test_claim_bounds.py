"""G1, G2 and G9: random producers, weights, rate changes, retries, deaths and hand-backs against the referee."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import redis

from nexus_redis._values.settings import micro_rate
from tests.harness.script_driver import START_US, ScriptDriver
from tests.harness.servers import REAL, Server
from tests.models.fair_share import MICRO, Meter, burst_micro

STEPS = 400


@dataclass(eq=False)
class Held:
    """Tokens of one grant and when they will be spent, if they don't go back before: at once, or at the last moment."""

    tokens: int
    spend_us: int


class Chaos:
    """One random run. Its clients die, repeat themselves, hand back, or sit on their tokens to the last moment."""

    def __init__(self, story: ScriptDriver, seed: int, *, changes_rate: bool) -> None:
        self.story, self.random, self.changes_rate = story, random.Random(seed), changes_rate
        self.burst = self.random.choice([Fraction(1, 4), Fraction(1, 4), Fraction(0), Fraction(2)])
        self.set_rate(micro_rate(10 ** self.random.uniform(-1, 5)))
        self.depth = burst_micro(self.rate, self.burst)
        self.rates: list[tuple[int, int]] = [(story.at_us, self.rate)]
        self.held: dict[str, list[Held]] = {f"p{i}": [] for i in range(self.random.choice([1, 3, 12]))}
        self.incarnations: dict[str, str] = {}
        self.lives = itertools.count()
        self.lies = seed % 3 == 2  # hands back ten times what it has
        self.known: dict[str, int] = {}
        self.spent: list[Held] = []
        self.moved: list[tuple[int, int]] = []
        self.longest_lease = Fraction(1, 2)

    def set_rate(self, rate: int) -> None:
        self.rate = rate
        self.story.configure(rate=rate / MICRO, burst=float(self.burst))

    def step(self) -> None:
        rng, story = self.random, self.story
        story.at(story.now + rng.choice([1e-5, 0.001, 0.01, 0.05, 0.1, 0.3, 0.8]) * rng.random())
        if self.changes_rate and rng.random() < 0.03:
            self.set_rate(micro_rate(min(1e6, max(0.01, self.rate / MICRO * rng.choice([0.1, 0.5, 2, 10])))))
            self.rates.append((story.at_us, self.rate))
            self.depth = max(self.depth, burst_micro(self.rate, self.burst))
        who = rng.choice(list(self.held))
        if rng.random() < 0.02:  # dies; its successor knows nothing of its tokens
            story.seqs.pop(who, None)
        self.claim(who)

    def claim(self, who: str) -> None:
        rng, story = self.random, self.story
        is_new = who not in story.seqs
        mine = [] if is_new else [held for held in self.held[who] if held.spend_us > story.at_us]
        unused = 0
        if mine and rng.random() < 0.3:  # hands back all that it has not spent
            unused = sum(held.tokens for held in mine)
            self.spent = [held for held in self.spent if held not in mine]
            mine = []
        self.held[who] = mine
        depth = burst_micro(self.rate, self.burst) / MICRO
        need = rng.choice([1, 1, 1, 0.3, max(1, round(depth * rng.choice([0.1, 0.5, 1, 3])))])
        ask: dict[str, Any] = {
            "tokens": need * rng.choice([1, 1, 5, 100]), "need": need, "weight": rng.choice([1, 1, 1000]),
            "requested_rate": rng.choice([0.0, 1, self.rate / MICRO, 1e9]),
            "held": sum(held.tokens for held in mine) / MICRO, "unused": unused * (10 if self.lies else 1) / MICRO,
            "priority": rng.choice(["high", "normal", "low"]), "whole": rng.random() < 0.2,
        }  # fmt: skip
        if is_new:
            self.incarnations[who] = f"{who}-{next(self.lives)}"
        incarnation = self.incarnations[who]
        before, earned = story.tokens, self.earned()
        try:
            answer = story.claim(who, incarnation=incarnation, **ask)
        except redis.exceptions.ResponseError as error:
            assert str(error) == "NEXUS_ID_TAKEN"
            assert story.tokens == before
            story.seqs.pop(who)
            return
        after = story.tokens
        credited = after - min(before + earned, burst_micro(self.rate, self.burst)) + answer.granted
        # G9: at most once, and never beyond what its producer can hold for all that the server knows.
        assert 0 <= credited <= (self.known.get(who, 0) if self.lies else unused)
        self.known[who] = answer.granted + sum(held.tokens for held in mine)
        assert after <= burst_micro(self.rate, self.burst)
        assert answer.granted == 0 or after >= 0
        self.moved.append((story.at_us, answer.granted - credited))
        if answer.granted:
            lease = Fraction(round(answer.lease * MICRO), MICRO)
            self.longest_lease = max(self.longest_lease, lease)
            spend_us = rng.choice([story.at_us, story.at_us + int(lease * MICRO) - 1])
            self.held[who].append(Held(answer.granted, spend_us))
            self.spent.append(self.held[who][-1])
        if rng.random() < 0.15:  # the reply was lost: the same claim again, whatever it says now
            again = story.claim(who, incarnation=incarnation, seq=story.seqs[who], **{**ask, "tokens": 10**6})
            assert again == answer
            assert story.tokens == after

    def earned(self) -> int:
        """What the bucket will have earned until now, to the micro-token."""
        at, rest = self.story.numbers("bucket")[1:3]
        dt = self.story.at_us - at
        return ((self.rate - self.story.reserved) * dt + rest) // MICRO if dt > 0 else 0

    def run(self) -> None:
        for _ in range(STEPS):
            self.step()
        assert self.over(self.moved, Fraction(0)) <= 0, "G1"
        if not self.lies:
            assert self.over([(held.spend_us, held.tokens) for held in self.spent], self.longest_lease) <= 0, "G2"

    def over(self, events: list[tuple[int, int]], extra_s: Fraction) -> float:
        meter = Meter(0, self.depth, extra_s)
        for at_us, rate in self.rates:
            meter.set_rate(at_us - START_US + MICRO, rate)
        for at_us, tokens in events:
            meter.take(at_us - START_US + MICRO, tokens)
        return float(meter.worst)


def seeds(server: Server, count: int) -> range:
    """Other lives on each server: the same ones would come to the same."""
    first = count * REAL.index(server.kind)
    return range(first, first + count)


@pytest.mark.parametrize("changes_rate", [False, True], ids=["constant", "changing"])
def test_no_window_exceeds_the_bound(real_server: Server, changes_rate: bool) -> None:
    """No window of any length holds more than the bound.

    Granted minus handed back <= B + integral of R; spent, as late as a lease allows, <= that over a lease more.
    """
    client = real_server.fast_client()
    for seed in seeds(real_server, 3):
        client.flushall()
        Chaos(ScriptDriver(client), seed, changes_rate=changes_rate).run()


def test_no_crowd_exceeds_the_bound(real_server: Server, spare_redis: Callable[[float], None]) -> None:
    """In a crowd whose leases grow and shrink, no window holds more than the bound either.

    Twelve of them and four claims a second: refresh and lease follow how many came in each epoch.
    """
    spare_redis(4)
    client = real_server.fast_client()
    leases = set()
    for seed in seeds(real_server, 8)[5:]:  # of each eight, those in which more of the fleets are of twelve
        client.flushall()
        chaos = Chaos(ScriptDriver(client), seed, changes_rate=seed % 2 == 1)
        chaos.run()
        leases.add(chaos.longest_lease)
    assert max(leases) > 5

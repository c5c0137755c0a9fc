"""Large fleets: they claim less often, their leases are longer, and nothing else changes. lua/lib/crowd.lua.

A Redis that may be asked a hundred times a second makes a crowd of twenty.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import pytest
import redis

from nexus_redis._protocol import calls
from tests.harness.fleet import Fleet
from tests.harness.script_driver import ScriptDriver
from tests.harness.servers import Server

Spare = Callable[[float], None]
RATE = 1000.0
REFRESHED, SPAN = 10, 11  # places of the packed terms


@pytest.fixture
def story(one_server: Server) -> ScriptDriver:
    """On one kind: numbers as long as these are printed alike by all, which the fuzzed bounds see on each."""
    return ScriptDriver(one_server.fast_client())


@pytest.fixture
def crowd(story: ScriptDriver, spare_redis: Spare) -> Crowd:
    spare_redis(100)
    story.configure(rate=RATE)
    return Crowd(story)


class Crowd:
    """So many who come once an epoch each, wanting `tokens`; `last` is what each was told."""

    def __init__(self, story: ScriptDriver) -> None:
        self.story = story
        self.last: dict[str, calls.Answer] = {}

    def come(self, count: int, epochs: int = 3, tokens: float = 100, **ask: Any) -> calls.Answer:
        """The last answer, when all have come for some epochs."""
        story = self.story
        for _ in range(epochs):
            length = story.numbers("terms")[9] / 1e6
            for number in range(count):
                story.at(story.now + length / count)
                self.last[f"p{number}"] = story.claim(f"p{number}", tokens=tokens, **ask)
        return self.last[f"p{count - 1}"]


@pytest.mark.parametrize(("count", "refresh"), [(5, 0.1), (10, 0.1), (20, 0.2), (50, 0.5), (120, 1.2)])
def test_a_refresh_keeps_the_claim_limit(crowd: Crowd, count: int, refresh: float) -> None:
    """A refresh is so long that the claims stay under the limit."""
    answer = crowd.come(count, tokens=1000)
    assert answer.refresh == pytest.approx(refresh, rel=0.02)
    assert answer.lease == pytest.approx(5 * answer.refresh)


def test_it_is_never_longer_than_a_minute(story: ScriptDriver, spare_redis: Spare) -> None:
    """Then a lease and a wait have ended before what is known of a producer goes."""
    spare_redis(0.1)
    story.configure(rate=RATE)
    answer = Crowd(story).come(20, epochs=6)
    assert (answer.refresh, answer.lease) == (60, 300)
    ends_ms: Any = story.client.pttl(story.keys.producer("p19"))
    assert ends_ms > 1e3 * (answer.lease + answer.refresh)


def test_a_refresh_shrinks_with_the_crowd(crowd: Crowd) -> None:
    """A refresh is short again when the crowd has gone."""
    crowd.come(50)
    assert crowd.come(50, epochs=1).refresh == pytest.approx(0.5, rel=0.02)
    assert crowd.come(5, epochs=3).refresh == 0.1
    assert crowd.story.numbers("terms")[SPAN] > 500_000  # long leases may be out
    crowd.come(5, epochs=14)
    assert crowd.story.numbers("terms")[SPAN] == 500_000  # as in any small fleet


def test_a_shrinking_crowd_comes_no_faster(crowd: Crowd) -> None:
    """While a crowd shrinks, the producers that stay come no more often than they may.

    One of four of 120 stays. Who was told 1.2 s comes once in that time, and is there for all of it.
    """
    story, told = crowd.story, list[float]()
    coming = [(number / 100, number) for number in range(120)]
    while coming[0][0] < 20:
        now, number = heapq.heappop(coming)
        if now > 10 and number % 4:
            continue
        answer = story.at(now).claim(f"p{number}", tokens=0.1, need=0.1, requested_rate=0.1)
        heapq.heappush(coming, (now + (answer.refresh if now > 10 else 1.2), number))
        if now > 10:
            told.append(answer.refresh)
    assert told[0] == pytest.approx(1.2, rel=0.02)
    assert min(told) == told[-1] == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(("away", "is_long"), [(30, True), (-3600, True), (1000, False)])
def test_a_refresh_survives_an_outage(crowd: Crowd, away: float, is_long: bool) -> None:
    """After an outage or a step of the clock, a refresh is as long as before.

    All may be back in a moment, and their number is only known an epoch later; but not those of long ago.
    """
    crowd.come(50, epochs=4)
    story = crowd.story
    for name in ("p1", "p2"):
        story.at(story.now + 0.01).claim(name)
    story.at(story.now + away)
    for name in ("p3", "p4"):
        story.at(story.now + 0.01).claim(name)
    assert (story.numbers("terms")[REFRESHED] >= 400_000) == is_long
    crowd.come(50, epochs=2)
    assert story.numbers("terms")[REFRESHED] >= 400_000


def test_a_few_less_change_nothing(crowd: Crowd) -> None:
    """A few producers less change nothing."""
    crowd.come(50, epochs=4)
    refresh = crowd.story.numbers("terms")[REFRESHED]
    crowd.come(40, epochs=4)
    assert crowd.story.numbers("terms")[REFRESHED] == refresh


def test_who_only_asked_once_makes_no_crowd(crowd: Crowd) -> None:
    """A producer that only asked once makes no crowd."""
    crowd.come(50, incarnation="")
    assert crowd.last["p0"].refresh == 0.1
    assert crowd.story.client.zcard(crowd.story.keys.producers) == 0


def test_who_takes_a_large_part_is_spared(crowd: Crowd) -> None:
    """Fifty who want next to nothing, and one who wants all: he claims each 0.1 s, as if he were alone with a few."""
    for _ in range(12):
        crowd.come(50, epochs=1, tokens=0.1, need=0.1, requested_rate=0.1)
        greedy = crowd.story.claim("greedy", tokens=100, requested_rate=5000)
    assert crowd.last["p0"].refresh == pytest.approx(0.5, rel=0.05)
    assert (greedy.refresh, greedy.lease) == (0.1, 0.5)


def test_each_has_its_turn_within_a_refresh(crowd: Crowd) -> None:
    """However many producers find the bucket empty, each has its turn within a refresh."""
    crowd.come(50, tokens=1000)
    story = crowd.story
    answers = [story.claim(f"p{number}", tokens=1000) for _ in range(4) for number in range(50)]
    denied = [answer for answer in answers if not answer.granted]
    assert len(denied) > 100
    assert max(answer.retry_after for answer in denied) <= denied[0].refresh < 0.6


def test_a_single_claim_counts_for_a_round(story: ScriptDriver, spare_redis: Spare) -> None:
    """A producer that asks only once is remembered for longer than the others take to come.

    Else it would be a new one each time in one round, and be counted again.
    """
    spare_redis(1)
    story.configure(rate=RATE)
    refresh = Crowd(story).come(20).refresh
    assert refresh > 10
    story.claim("passing", incarnation="")
    ends_ms: Any = story.client.pttl(story.keys.producer("passing"))
    assert ends_ms > 1e3 * refresh


def test_a_lossless_budget_keeps_its_leases_short(story: ScriptDriver, spare_redis: Spare) -> None:
    """What is on the way to its consumers is as old as the longest lease."""
    spare_redis(100)
    story.configure(rate=RATE, lossless=True)
    story.report("c", queue_limit=1e6, queue_depth=0, in_flight=0, done=0, errors=0)
    crowd = Crowd(story)
    for _ in range(4):
        story.report("c", queue_limit=1e6, queue_depth=0, in_flight=0, done=0, errors=0)
        assert crowd.come(50, epochs=1).refresh == 0.1


@pytest.mark.parametrize("reports_from", [0, 5])
def test_lossless_begins_after_the_longest_lease(crowd: Crowd, reports_from: float) -> None:
    """Where lossless begins, nothing is granted before the tokens of the longest lease have arrived.

    The first report comes just before it, or when the leases are over and what they paid for is on its way.
    """
    lease, transit, story = crowd.come(50).lease, 5.0, crowd.story
    assert lease == pytest.approx(2.5, rel=0.02)
    began, granted = story.now, list[float]()
    story.configure(transit=transit)
    if not reports_from:
        story.report("c", queue_limit=1e6, queue_depth=0, in_flight=0, done=0, errors=0, capacity=RATE)
    story.configure(lossless=True)
    for step in range(1, 41):
        story.at(began + step / 4)
        if step / 4 >= reports_from:
            story.report("c", queue_limit=1e6, queue_depth=0, in_flight=0, done=0, errors=0, capacity=RATE)
        if story.claim("q").granted:
            granted.append(story.now - began)
    assert lease + transit - 1e-6 <= granted[0] <= lease + transit + 0.25


def test_an_unknown_capacity_costs_no_claims(crowd: Crowd) -> None:
    """A consumer of unknown capacity makes no producer come more often."""
    story = crowd.story
    story.configure(law="drain")  # else one that does nothing is taken for one that only looks on
    for done in range(8):
        story.report("known", done=1000 * done, capacity=RATE, queue_limit=1e6, queue_depth=0, in_flight=0, errors=0)
        story.report("standby", queue_limit=1e6, queue_depth=0, in_flight=0, done=0, errors=0)
        answer = crowd.come(50, epochs=1)
    assert story.numbers("window")[0] == 1  # what it can hold is counted
    assert answer.refresh == pytest.approx(0.5, rel=0.02)


def test_the_dead_are_no_crowd(crowd: Crowd) -> None:
    """After a step back of the clock the dead producers are no crowd."""
    story = crowd.story
    crowd.come(50)
    story.set_back(600)
    assert crowd.come(5, epochs=4, tokens=0.1, need=0.1, requested_rate=0.1).refresh == 0.1


def test_sums_of_a_very_large_crowd_stay_sums(story: ScriptDriver) -> None:
    """Ten thousand who each want all of a billion a second want more than 64 bits hold."""
    story.configure(rate=1e9)
    for number in range(3):
        story.claim(f"p{number}", tokens=1, requested_rate=1e9)
    story.change("class_normal", 6, 1e19)
    story.claim("p3", tokens=1, requested_rate=1e9)
    assert story.numbers("class_normal")[6] == pytest.approx(1e19, rel=1e-3)


def test_in_a_pause_a_crowd_comes_no_more_often(crowd: Crowd) -> None:
    """In a pause a crowd comes no more often."""
    crowd.come(120)
    crowd.story.configure(pause=60)
    for _ in range(3):
        answer = crowd.come(120, epochs=1)
        assert answer.granted == 0
        assert answer.refresh == pytest.approx(1.2, rel=0.02)
        assert answer.retry_after >= 1


def test_an_id_lasts_as_long_as_its_lease(crowd: Crowd) -> None:
    """An id belongs to its owner for as long as the owner's lease."""
    lease = crowd.come(50).lease
    assert lease > 2
    story = crowd.story
    story.at(story.now + lease - 0.1)
    with pytest.raises(redis.ResponseError, match="NEXUS_ID_TAKEN"):
        story.claim("p49", incarnation="another", seq=1)
    story.at(story.now + 0.2)
    story.claim("p49", incarnation="another", seq=1)


@pytest.mark.parametrize("shrinks", [False, True], ids=["still there", "gone meanwhile"])
def test_late_returns_fit_the_bucket(crowd: Crowd, *, shrinks: bool) -> None:
    """Tokens that come back late are credited only where the bucket had room for them all the time.

    They hold what they got when it was full. It is empty for seconds, but what it held has gone to others.
    """
    lease = hold(crowd)
    story = crowd.story
    for step in range(30):
        story.at(story.now + 0.1).claim("greedy", tokens=1000, requested_rate=5000)
        for other in range(0 if shrinks or step % 5 else 60):
            story.claim(f"q{other}", tokens=0)
    assert lease > 3
    assert (story.numbers("terms")[REFRESHED] == 100_000) == shrinks
    before = story.tokens
    assert before < 100e6
    for number in range(100):
        story.claim(f"p{number}", tokens=0, unused=5)
    assert story.tokens == before


def test_two_steps_back_keep_a_long_lease(crowd: Crowd) -> None:
    """A clock that steps back twice forgets no long lease."""
    hold(crowd)
    story = crowd.story
    for _ in range(10):
        story.at(story.now + 0.1).claim("greedy", tokens=1000, requested_rate=5000)
    for step in (6, 2):
        story.at(story.now - step).claim("greedy", tokens=1000, requested_rate=5000)
    before = story.tokens
    for number in range(100):
        story.claim(f"p{number}", tokens=0, unused=5)
    assert story.tokens == before


def hold(crowd: Crowd) -> float:
    """A hundred hold five tokens each, of a bucket that they leave full; for how long."""
    answer = crowd.come(100, tokens=5, requested_rate=5)
    assert all(each.granted == 5e6 for each in crowd.last.values())
    assert crowd.story.tokens == answer.burst - 5e6
    return answer.lease


def test_old_tokens_are_paid_for_late(crowd: Crowd) -> None:
    """A producer that held tokens when the state was lost pays for them, however late it comes.

    Learning lasts half a second, and in a crowd one may come back ten seconds later.
    """
    answer = crowd.come(50)
    story = crowd.story
    story.client.delete(*story.client.keys("*"))
    story.configure(rate=RATE)
    story.at(story.now + 2).claim("new", tokens=0)
    before = story.tokens
    story.claim("p49", tokens=0, held=50, birth=answer.birth, granted_total=answer.granted_total)
    assert story.tokens == before - 50e6


# --- fleets of clients


MORE_CROWDS = [(30, 1000, 0.95), (300, 1000, 0.95), (300, 3000, 0.9)]


@pytest.mark.parametrize(
    ("count", "rate", "least"),
    [(100, 1000, 0.95), *(pytest.param(*each, marks=pytest.mark.soak) for each in MORE_CROWDS)],
)
def test_a_sudden_crowd_is_spread_evenly(
    one_server: Server, spare_redis: Spare, count: int, rate: float, least: float
) -> None:
    """A crowd that starts in one moment uses all of the budget evenly.

    Each is told to wait longer than the bucket is deep: they must not come in one moment forever.
    """
    spare_redis(100)
    fleet = Fleet(one_server.fast_client(), rate)
    for _ in range(count):
        fleet.add()
    measured = fleet.measure(20, 60)
    assert measured.use > 0.98
    assert measured.least > least
    assert measured.over_g1 <= 1e-6
    assert measured.over_g2 <= 1e-6
    assert sum(producer.calls for producer in fleet.producers) / 60 < 170  # a fourth in the second in which it learns


def test_greedy_ones_get_what_a_crowd_leaves(one_server: Server, spare_redis: Spare) -> None:
    """A few greedy producers beside a crowd get what it leaves."""
    spare_redis(100)
    fleet = Fleet(one_server.fast_client(), RATE)
    for _ in range(200):
        fleet.add(2, kind="poisson")
    for _ in range(10):
        fleet.add()
    measured = fleet.measure(15, 60)
    assert measured.use > 0.97
    assert measured.least > 0.95
    assert measured.worst_wait < 1.5
    assert measured.over_g1 <= 1e-6


def test_a_crowd_delays_no_newcomer(one_server: Server, spare_redis: Spare) -> None:
    """A newcomer waits no longer beside a crowd that leaves much.

    A hundred use a tenth of the budget and come each 10 s. The newcomer takes a token each 20 ms, and is served at
    once.
    """
    spare_redis(10)
    fleet = Fleet(one_server.fast_client(), RATE)
    for _ in range(100):
        fleet.add(1, kind="poisson")
    newcomer = fleet.add(50, start=40)
    fleet.measure(30, 60)
    assert fleet.numbers("terms")[REFRESHED] > 5e6
    assert newcomer.served == pytest.approx(1000, rel=0.01)
    assert newcomer.worst_wait < 0.25
    assert sum(producer.calls for producer in fleet.producers) / 60 < 20


def test_newcomers_spare_redis(one_server: Server, spare_redis: Spare) -> None:
    """Newcomers in one moment do not ask more than Redis can answer.

    Twice as many come from one moment on, each with ten times as much to do, of a budget with room for all.
    """
    spare_redis(50)
    fleet = Fleet(one_server.fast_client(), 10 * RATE)
    for _ in range(300):
        fleet.add(2, kind="poisson")
    for _ in range(300):
        fleet.add(20, kind="poisson", start=40)
    fleet.advance(41)
    before = sum(producer.calls for producer in fleet.producers)
    fleet.advance(45)
    assert sum(producer.calls for producer in fleet.producers) - before < 4 * 150


def test_short_lives_use_most_of_the_rest(one_server: Server, spare_redis: Spare) -> None:
    """Producers that live for a second use most of what is left.

    Twenty jobs at a time, beside twenty that live on: a refresh is longer, an epoch still more.
    """
    spare_redis(50)
    fleet = Fleet(one_server.fast_client(), 500)
    for _ in range(20):
        fleet.add(5)

    def begin() -> None:
        fleet.later(fleet.now + 1, fleet.add(start=fleet.now).die)
        fleet.later(fleet.now + 1 / 20, begin)

    fleet.later(10, begin)
    fleet.advance(60)
    assert fleet.numbers("terms")[REFRESHED] > 1e6
    assert sum(tokens for time, tokens in fleet.used if time > 30) > 0.8 * 500 * 30
    assert min(sum(tokens for _, tokens in each.used) for each in fleet.producers[:20]) > 0.97 * 5 * 60
    assert sum(producer.calls for producer in fleet.producers) / 60 < 100

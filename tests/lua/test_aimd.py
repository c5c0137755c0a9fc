"""`aimd`, in Lua and in its referee: rule by rule, and on services that are simulated request by request."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from tests.harness.law_tables import shown
from tests.harness.service import (
    SERVICES,
    Curve,
    Free,
    Limiter,
    Mix,
    Outage,
    Queue,
    Service,
    Shared,
    World,
    about,
    row,
    stepped,
)  # fmt: skip
from tests.lua.test_laws import LUA, Consumer, LuaConsumer, LuaLaws, Story, composed
from tests.models.laws import Answer, Referee, Report, Setting


@pytest.fixture(params=["lua", "referee"])
def consumer(request: pytest.FixtureRequest) -> Consumer:
    return LuaConsumer(LUA) if request.param == "lua" else Referee()


def steady(rate: float) -> Curve:
    return lambda _: rate


# -- rule by rule


def climbing(consumer: Consumer, rate_at_least: float) -> tuple[Story, Answer]:
    story = Story(consumer, law="aimd")
    answer = story.says()
    while answer.rate < rate_at_least:
        answer = story.says(answer.rate / 4)
    return story, answer


def rested(consumer: Consumer, rate: float = 1000, **fields: float) -> Story:
    """A consumer that was refused half of its work once, and has done all of it at about that rate since then."""
    story, _ = climbing(consumer, rate)
    story.says(rate / 4, rate / 4)
    for _ in range(8):
        story.says(0.7 * rate / 4, **fields)
    return story


def test_aimd_starts_at_ten_or_as_given(consumer: Consumer) -> None:
    """The law `aimd` starts at ten, or at the given capacity."""
    assert Story(consumer, law="aimd").says().rate == 10
    assert Story(consumer, law="range", capacity=1, load=0).says().rate == 1
    assert Story(consumer, law="aimd", capacity=70).says().rate == 70


def test_the_rate_doubles_from_cold(consumer: Consumer) -> None:
    """From cold the rate doubles each loop as long as the work is done."""
    story = Story(consumer, law="aimd")
    rate = story.says().rate
    assert story.works(0.5, rate).rate == pytest.approx(20)


def test_the_rate_stays_near_the_work(consumer: Consumer) -> None:
    """The rate does not run away from the work that is done."""
    story = Story(consumer, law="aimd")
    story.says()
    for second in range(20):
        answer = story.says(2.5, in_flight=1000 * second)
    assert answer.rate <= 30


def test_nothing_grows_while_nothing_is_done(consumer: Consumer) -> None:
    """Nothing grows while nothing is done."""
    story = Story(consumer, law="aimd")
    story.says()
    assert story.works(5, 10).rate > 10
    rate = story.says().rate
    for second in range(40):
        answer = story.says(0, in_flight=rate * second)
    assert answer.rate == rate


def test_one_cut_at_a_time(consumer: Consumer) -> None:
    """A cut is not followed by another before its effect is seen."""
    story, answer = climbing(consumer, 1000)
    cut = story.says(answer.rate / 5, answer.rate / 10).rate
    assert cut < 0.75 * answer.rate
    assert [story.says(cut / 4, cut / 20).rate for _ in range(4)] == [pytest.approx(cut)] * 4


def test_five_percent_of_failures_are_normal(consumer: Consumer) -> None:
    """From cold, five percent of failures are accepted as normal."""
    story, answer = climbing(consumer, 1000)
    assert story.says(answer.rate / 4, 0.04 * answer.rate / 4).rate >= answer.rate
    assert story.says(answer.rate / 4, 0.25 * answer.rate / 4).rate < answer.rate


def test_failures_at_a_good_rate_are_normal(consumer: Consumer) -> None:
    """Failures at a good rate are those of the work itself."""
    story = rested(consumer)
    rates = [story.says(170, 4).rate for _ in range(240)]
    assert min(rates) > 300
    assert rates[-1] > 1000


def test_a_single_failure_only_holds_the_rate(consumer: Consumer) -> None:
    """A single failure only holds the rate."""
    story = rested(consumer, 100)
    rate = story.says(17).rate
    assert story.says(16, 1).rate == pytest.approx(rate)


def test_a_failed_probe_goes_back(consumer: Consumer) -> None:
    """A probe that fails returns to just below the known good rate."""
    story = rested(consumer)
    good = story.says(175).capacity
    while (answer := story.says(story_rate(story) / 4)).rate < 1.05 * good:
        pass
    answer = story.says(good / 4, 20)
    assert 0.98 * good < answer.rate < 1.02 * good


def story_rate(story: Story) -> float:
    """The rate that the consumer was told last."""
    law = story.consumer
    assert isinstance(law, LuaConsumer | Referee)
    if isinstance(law, Referee):
        assert law.law is not None
        return law.law.rate
    return float(LUA.laws.law_memory(law.text)[1].rate)


def test_tenfold_in_ten_seconds(consumer: Consumer) -> None:
    """Without overload the rate is tenfold within ten seconds."""
    story = rested(consumer)
    reports = 0
    while (answer := story.says(story_rate(story) / 4)).rate < 10_000:
        reports += 1
    assert reports / 4 < 10
    assert answer.rate < 20_000


def test_a_latency_above_its_target_is_overload(consumer: Consumer) -> None:
    """A latency above its target is overload."""
    story = Story(consumer, law="aimd", setting=Setting(latency_target_ms=50), capacity=100)
    story.says(latency_ms=1)
    assert story.says(25, latency_ms=50).rate == 100
    assert story.says(25, latency_ms=51).rate <= 70


def test_threefold_latency_is_overload(consumer: Consumer) -> None:
    """Without a target, three times the usual latency is overload."""
    story = Story(consumer, law="aimd", capacity=100)
    story.says(latency_ms=20)
    assert story.works(60, 100, latency_ms=20).rate == 100
    assert story.says(25, latency_ms=59).rate == 100
    assert story.says(25, latency_ms=65).rate <= 70


def test_the_middle_percentile_decides(consumer: Consumer) -> None:
    """The middle percentile decides."""
    story = Story(consumer, law="aimd", capacity=100)
    usual = {"latency_ms": 50.0, "latency_p25_ms": 20.0, "latency_p10_ms": 15.0}
    story.says(**usual)
    story.works(20, 100, **usual)
    for odd in ({"latency_ms": 5000.0}, {"latency_p25_ms": 200.0}, {"latency_p10_ms": 100.0}):
        assert story.says(25, **usual | odd).rate == 100
    assert story.says(25, latency_ms=50, latency_p25_ms=200, latency_p10_ms=150).rate <= 70


def test_below_ten_ms_is_never_too_much(consumer: Consumer) -> None:
    """A latency below ten milliseconds is never too much."""
    story = Story(consumer, law="aimd", capacity=100)
    story.says(latency_ms=1)
    story.works(10, 100, latency_ms=1)
    assert story.says(25, latency_ms=9).rate == 100


def test_an_old_latency_cuts_nothing(consumer: Consumer) -> None:
    """An old latency that an idle consumer repeats cuts nothing."""
    story = Story(consumer, law="aimd", setting=Setting(latency_target_ms=50), capacity=100)
    story.says(latency_ms=1)
    assert story.works(60, 0, latency_ms=500).rate == 100


def test_a_constant_latency_becomes_usual(consumer: Consumer) -> None:
    """A latency that does not follow the rate becomes the usual one."""
    story = Story(consumer, law="aimd", capacity=100)
    story.says(latency_ms=20)
    story.works(20, 100, latency_ms=20)
    rates = [story.says(story_rate(story) / 4, latency_ms=200).rate for _ in range(80)]
    assert min(rates) < 70
    assert rates[-1] == 100


def test_a_draining_queue_is_not_usual(consumer: Consumer) -> None:
    """A queue that is worked off does not become the usual latency."""
    story = Story(consumer, law="aimd", capacity=100)
    story.says(latency_ms=20)
    story.works(20, 100, latency_ms=20)
    for _ in range(240):  # what waits is worked off for a minute: more leaves than comes
        answer = story.says(25, latency_ms=2000, in_flight=3000 - 30 * story.at)
    assert answer.rate <= 70


def test_a_risen_capacity_lifts_the_rate(consumer: Consumer) -> None:
    """A capacity that rises takes along the rate that it held down."""
    story = Story(consumer, law="aimd")
    assert story.says(capacity=0.1).rate == pytest.approx(0.1)
    assert story.says(capacity=1).rate == 1
    assert story.says(1, capacity=40).rate == 10  # where one begins that is not known at all
    story = Story(consumer, law="aimd")
    story.says(capacity=1)
    assert story.says(capacity=5000).rate == 5000  # nothing came: it may be a single large cost that waits


def test_failures_hold_the_rate_down(consumer: Consumer) -> None:
    """A rate that failures hold down is not taken along."""
    story = Story(consumer, law="aimd")
    story.says(capacity=1)
    assert story.says(0, 1, capacity=5000).rate <= 1


def test_an_unused_rate_does_not_grow(consumer: Consumer) -> None:
    """A rate that is not used does not grow."""
    story = Story(consumer, law="aimd")
    rate = story.says().rate
    assert story.works(60, 0.4 * rate).rate == rate


def test_aimd_never_stands_at_zero_for_ever(consumer: Consumer) -> None:
    """The law `aimd` never stands at zero forever."""
    story = Story(consumer, law="aimd")
    story.says()
    for _ in range(400):
        answer = story.says(0, 5)
    assert answer.rate == pytest.approx(4)
    for _ in range(100):
        answer = story.says(answer.rate / 4)
    assert answer.rate > 100


# -- Lua and referee hear the same service


class Both:
    """Lives by what the referee answers; `differences` is where Lua would have answered otherwise."""

    def __init__(self, lua: LuaLaws) -> None:
        self.ours, self.theirs = LuaConsumer(lua), Referee()
        self.differences: list[str] = []

    def evaluate(
        self, set_law: str | None, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting
    ) -> Answer | None:
        ours = self.ours.evaluate(set_law, was, now, dt, at, setting)
        theirs = self.theirs.evaluate(set_law, was, now, dt, at, setting)
        if ours != pytest.approx(theirs, rel=1e-6, abs=1e-9):
            self.differences.append(f"at {at:.2f}: {ours} but {theirs}")
        return theirs


def life(seed: int) -> tuple[Service, dict[str, object]]:
    """A service that is limited, queues, or has a mix of requests, and changes on its way."""
    chance = random.Random(seed)
    speed, wanted = 10 ** chance.uniform(0.5, 1.8), chance.choice([None, None, 60.0])
    change = stepped(1.0, chance.choice([0.2, 3.0, 10.0]), 12.0, chance.choice([20.0, 99.0]))
    short, workers = about(chance.choice([0.005, 0.05, 0.3])), chance.choice([1, 4, 16])
    services: list[Service] = [
        Limiter(lambda t: speed * change(t), chance.choice([0.0, 0.2, 1.0])),
        Queue(workers, about(workers / speed), change),
        Shared(workers, about(workers / speed)),
        Free(short, failing=chance.choice([0.01, 0.04, 0.2])),
    ]
    service = chance.choice(services)
    if isinstance(service, Free):
        wanted = 60.0
    if chance.random() < 0.6:
        service = Mix(service, Free(about(chance.choice([0.3, 3.0]))), stepped(0.05, chance.choice([0.3, 0.95]), 20.0))
    if seed % 4 == 3:
        service = Outage(service, 12.0, 19.0)
    return service, {
        "demand": wanted,
        "has_percentiles": chance.random() < 0.7,
        "latency_target_ms": chance.choice([None, None, 100.0]),
        "delay": chance.choice([0.2, 0.5, 2.0]),
        "patience": chance.choice([math.inf, math.inf, 0.1, 1.0]),
        "observe": chance.random() < 0.3,
    }


def differences(lua: LuaLaws, seed: int) -> list[str]:
    both = Both(lua)
    service, how = life(seed)
    World(service, both, seconds=30, seed=seed, **how).run()  # type: ignore[arg-type]  # made by name
    return both.differences


@pytest.mark.parametrize("seed", range(12))
def test_lua_and_referee_agree(seed: int) -> None:
    """Lua and the referee agree over the life of a service."""
    assert differences(LUA, seed) == []


@pytest.mark.parametrize(
    ("planted", "instead_of"),
    [
        ("if m.since_cut < hold", "if m.since_cut > hold"),
        ("if rate < NEAR", "if rate > NEAR"),
        ("m.left > m.came + slack then", "m.left < m.came - slack then"),
        ("slow >= RELIEF * m.slow_at", "slow < RELIEF * m.slow_at"),
        ("value < usual and USUAL_DOWN", "value > usual and USUAL_DOWN"),
        ("if is_ebbing or not is_failing", "if is_ebbing and is_failing"),
        ("if not is_growing and not target and balance", "if not target and balance"),
        ("outcomes > 0 and rate <= m.known_good", "outcomes > 0 and rate > m.known_good"),
        ("is_same(m, rate, good) then back", "not is_same(m, rate, good) then back"),
        ("if m.did >= (1 - FAR) * thought", "if m.did < (1 - FAR) * thought"),
        ("m.is_slow > 0 or step.errors", "step.errors"),
        ("FIRST_WORK then return nil", "0 then return nil"),
        ("m.ok < VAIN * m.left", "m.ok > VAIN * m.left"),
        ("or step.left == 0 then return nil", "or step.done + step.errors == 0 then return nil"),
        ("if m.right < NOTHING", "if m.right > NOTHING"),
        ("2 * loop or rate <= trickle", "2 * loop or rate > trickle"),
        ("m.since_cut > RUN_LOOPS", "m.since_cut < RUN_LOOPS"),
        ("m.asked < USED", "m.asked > USED"),
        ("rate < BOUND * before", "rate > BOUND * before"),
        ("step.arrived > 0 and math.min(now, FIRST_RATE) or now", "now"),
    ],
)
def test_the_referee_notices_a_planted_bug(planted: str, instead_of: str) -> None:
    """The referee notices a planted bug."""
    text = composed()
    assert text.count(planted) == 1, planted
    broken = LuaLaws(text.replace(planted, instead_of))
    assert any(differences(broken, seed) for seed in range(60))


# -- an outage that is over


def outage(
    wanted: float | None, seconds: float, callers: int = 1, service: Service | None = None, seed: int = 1, **how: object
) -> World:
    """Twelve seconds of work, so many of an outage, and twenty after it."""
    end = 12 + seconds
    demand = None if wanted is None else wanted / callers
    gone = Outage(service or Free(about(0.02)), 12, end)
    laws = [Referee() for _ in range(callers)]
    return World(gone, *laws, seconds=end + 20, seed=seed, demand=demand, observe=callers > 1, **how).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [1, 3, 7, 15, 120])
@pytest.mark.parametrize(("wanted", "callers"), [(5, 1), (40, 1), (40, 3), (150, 4)])
def test_all_demand_may_return_after_an_outage(wanted: float, callers: int, seconds: float) -> None:
    """Ten seconds after an outage all that is wanted may go again."""
    world = outage(wanted, seconds, callers)
    assert world.lowest_rate(22 + seconds, 32 + seconds) > 0.9 * wanted


@pytest.mark.parametrize(("callers", "seconds"), [(1, 4), (1, 30), (3, 12)])
def test_a_thousand_a_second_return(callers: int, seconds: float) -> None:
    """A thousand a second are back ten seconds after an outage."""
    world = outage(1000, seconds, callers)
    assert world.lowest_rate(22 + seconds, 24 + seconds) > 900


@pytest.mark.parametrize("seconds", [2, 10, 60])
@pytest.mark.parametrize("wanted", [5, 80])
def test_a_given_capacity_returns(wanted: float, seconds: float) -> None:
    """A capacity that was given is back ten seconds after an outage."""
    world = outage(wanted, seconds, capacity=2 * wanted)
    assert world.lowest_rate(22 + seconds, 32 + seconds) > 0.9 * wanted


@pytest.mark.parametrize("seconds", [2, 10, 60])
@pytest.mark.parametrize("limit", [20, 100])
def test_a_limit_is_used_again(limit: float, seconds: float) -> None:
    """A limit is used up again ten seconds after an outage."""
    world = outage(None, seconds, service=Limiter(steady(limit)))
    assert world.done(22 + seconds, 32 + seconds) > 0.9 * limit
    assert world.refused(12 + seconds, 32 + seconds) < 0.2


def test_a_weaker_service_is_not_flooded() -> None:
    """A service that comes back weaker is not flooded."""
    world = outage(None, 15, service=Limiter(stepped(200, 20, 12)))
    assert world.refused(30, 47) < 0.35
    assert world.done(32, 47) > 17


def test_few_requests_look_for_the_end() -> None:
    """A few requests per loop look for the end of an outage."""
    world = outage(100, 60)
    tried = [one for one in world.ended if 30 <= one.t < 72]
    assert 2 < len(tried) / 42 < 6


# -- callers that give up


@pytest.mark.parametrize("workers", [1, 8])
def test_an_abandoned_service_is_relieved(workers: int) -> None:
    """A service whose callers give up is relieved.

    It takes four times as long from 20 to 24 s. All that it does then and long after is given up.
    """
    slow = stepped(1.0, 0.25, 20.0, 24.0)
    world = World(Queue(workers, about(workers / 200), slow), LuaConsumer(LUA), seconds=90, patience=1.0).run()
    assert world.done(10, 20) > 150
    assert world.done(60, 90) > 150


@pytest.mark.parametrize("patience", [0.2, 0.5])
def test_long_abandoned_requests_are_normal(patience: float) -> None:
    """A few long requests that are given up are not overload."""
    service = Mix(Free(about(0.02)), Free(about(30.0)), steady(0.2))
    world = World(service, LuaConsumer(LUA), demand=100.0, patience=patience).run()
    assert world.lowest_rate(20, 60) > 100


# -- long requests beside short ones are no overload


def free(service: Service, wanted: float = 100, seconds: float = 60, **how: object) -> World:
    """A service that can take anything, and callers that want less than they could have."""
    return World(service, Referee(), seconds=seconds, demand=wanted, **how).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("short", [0.002, 0.05])
@pytest.mark.parametrize(("part", "long"), [(0.005, 30), (0.01, 1), (0.05, 0.3), (0.2, 10)])
def test_long_polls_are_normal(short: float, part: float, long: float) -> None:
    """Long polls beside short requests are not overload."""
    world = free(Mix(Free(about(short)), Free(about(long)), part), seconds=40)
    assert world.lowest_rate(10, 40) > 100


@pytest.mark.parametrize("part", [0.25, 0.5, 0.75, 0.9])
def test_mixed_work_is_no_overload(part: float) -> None:
    """Short and long work in any mix is not overload."""
    for seed in (1, 2, 3):
        world = free(Mix(Free(about(0.005)), Free(about(0.5)), part), seconds=80, seed=seed)
        assert world.mean_rate(40, 80, most=100) > 85


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_another_mix_is_normal(part: float) -> None:
    """A deploy that makes requests long is another mix and not overload."""
    world = free(Mix(Free(about(0.01)), Free(about(2.0)), stepped(0.01, part, 20)), seconds=90)
    assert world.mean_rate(20, 90, most=100) > 80
    assert world.mean_rate(60, 90, most=100) > 90


@pytest.mark.parametrize("slower", [4, 20])
def test_a_slower_deploy_is_accepted(slower: float) -> None:
    """A deploy that makes all requests slower is accepted."""
    world = free(Free(lambda chance, t: chance.expovariate(20) * (slower if t >= 20 else 1)), seconds=90)
    assert world.mean_rate(60, 90, most=100) > 95


@pytest.mark.parametrize("wanted", [1, 5])
def test_a_slow_service_is_not_cut_by_chance(wanted: float) -> None:
    """A service of a few requests a second is not cut by chance."""
    world = free(Mix(Free(about(0.3)), Free(about(10.0)), 0.1), wanted, seconds=300)
    assert world.mean_rate(20, 300, most=wanted) > 0.9 * wanted


def test_a_median_alone_allows_long_requests() -> None:
    """A client that sends the median alone may have a few long requests."""
    world = free(Mix(Free(about(0.005)), Free(about(1.0)), 0.2), has_percentiles=False)
    assert world.lowest_rate(10, 60) > 100


@pytest.mark.parametrize("part", [0.005, 0.02, 0.04])
@pytest.mark.parametrize("wanted", [20, 200])
def test_failing_work_is_no_overload(part: float, wanted: float) -> None:
    """Work that fails for itself is not overload."""
    world = free(Free(about(0.05), failing=part), wanted, seconds=120)
    assert world.mean_rate(40, 120, most=wanted) > 0.75 * wanted


# -- real overload is one


QUEUES: dict[str, Callable[[], Service]] = {
    "4 workers": lambda: Queue(4, about(0.04)),
    "16 workers": lambda: Queue(16, about(0.16)),
    "4 cores": lambda: Shared(4, about(0.04)),
    "4 workers beside 5 % of long polls": lambda: Mix(Queue(4, about(0.04)), Free(about(10.0)), 0.05),
    "4 cores beside 20 % of long polls": lambda: Mix(Shared(4, about(0.04)), Free(about(2.0)), 0.2),
}


@pytest.mark.parametrize("has_percentiles", [True, False])
@pytest.mark.parametrize("name", QUEUES)
def test_a_queueing_service_stays_fast(name: str, *, has_percentiles: bool) -> None:
    """A queueing service is used, and its latency stays low."""
    world = World(QUEUES[name](), Referee(), seconds=100, has_percentiles=has_percentiles).run()
    assert world.done(40, 100) > 75
    assert world.median(40, 100) < 0.8


def test_a_latency_target_is_kept() -> None:
    """A latency target is kept."""
    world = World(Queue(8, about(0.04)), Referee(), seconds=80, latency_target_ms=100).run()
    assert world.done(30, 80) > 150
    assert world.median(30, 80) < 0.12


@pytest.mark.parametrize(("rate", "most"), [(20, 0.07), (200, 0.03)])
def test_a_limit_is_used_up_and_little_is_refused(rate: float, most: float) -> None:
    """A limit is used up, and little is refused."""
    world = World(Limiter(steady(rate)), Referee(), seconds=120).run()
    assert world.done(20, 120) > 0.97 * rate
    assert world.refused(20, 120) < most


@pytest.mark.parametrize("times", [2, 3, 10])
@pytest.mark.parametrize("rate", [20, 100])
def test_a_grown_limit_is_found(rate: float, times: float) -> None:
    """A limit that grows is found within ten seconds."""
    for phase in (0.0, 1.3, 2.6, 3.9):
        at = 25 + phase
        world = World(Limiter(stepped(rate, times * rate, at)), Referee(), seconds=at + 13, seed=3).run()
        assert world.seconds_until(0.9 * times * rate, at) <= 10, phase


def test_a_faster_service_is_used() -> None:
    """A queueing service that becomes faster is used within ten seconds."""
    world = World(Queue(4, about(0.04), stepped(1 / 3, 1, 40)), Referee(), seconds=60).run()
    assert world.seconds_until(85, 40) <= 10


def test_a_falling_capacity_is_followed() -> None:
    """A capacity that falls is followed at once."""
    world = World(Limiter(stepped(200, 60, 30)), Referee(), seconds=60).run()
    assert world.refused(33, 60) < 0.06
    assert world.done(34, 60) > 57


# -- several that observe one service


def observed(
    service: Service, count: int, demands: list[Curve | None] | None = None, seconds: float = 70, seed: int = 1
) -> World:
    laws = [Referee() for _ in range(count)]
    return World(service, *laws, seconds=seconds, demands=demands, observe=True, seed=seed).run()


def shares(world: World, start: float, end: float) -> list[float]:
    """The part of each caller in what was done."""
    done = [sum(one.is_done and start <= one.t < end for one in caller.ended) for caller in world.callers]
    return [each / sum(done) for each in done]


@pytest.mark.parametrize("count", [1, 2, 6, 20])
def test_observers_share_a_limit_evenly(count: int) -> None:
    """Observers share a limit evenly."""
    world = observed(Limiter(steady(100)), count)
    assert world.done(15, 70) > 95
    assert world.refused(15, 70) < 0.15
    assert min(shares(world, 15, 70)) > 0.8 / count


@pytest.mark.parametrize("count", [2, 6])
def test_a_stopped_observer_gives_way(count: int) -> None:
    """An observer that stops leaves its part to the others."""
    world = observed(Limiter(steady(100)), count, [stepped(1e6, 0.0, 30), *[None] * (count - 1)])
    assert world.done(35, 70) > 95
    assert world.refused(35, 70) < 0.12
    assert world.callers[0].rate < 0.5


def test_late_observers_get_their_part() -> None:
    """Observers that come later get their part and flood nobody."""
    world = observed(Limiter(steady(100)), 11, [None, *[stepped(0.0, 1e6, 30)] * 10])
    assert world.refused(30, 40) < 0.2
    assert world.done(40, 70) > 95
    assert min(shares(world, 40, 70)) > 0.8 / 11


def test_idle_observers_give_way() -> None:
    """Fifty idle observers leave the limit to the one that works."""
    world = observed(Limiter(steady(100)), 50, [None, *[stepped(1e6, 0.0, 10)] * 49])
    assert world.done(35, 70) > 95
    assert world.refused(35, 70) < 0.12


def test_rested_observers_go_on() -> None:
    """Observers that rest for twenty seconds go on where they were."""
    rests: Curve = lambda t: 0.0 if 30 <= t < 50 else 1e6  # noqa: E731  # one line, as the curves beside it
    world = observed(Limiter(steady(100)), 6, [rests] * 6)
    assert world.done(52, 70) > 90


def test_observers_keep_a_service_fast() -> None:
    """Observers keep the latency of a queueing service low."""
    worlds = [observed(Queue(16, about(0.16)), 6, seed=seed) for seed in (1, 2, 3)]
    assert min(world.done(20, 70) for world in worlds) > 85
    assert sorted(world.median(30, 70) for world in worlds)[1] < 0.8  # the middle one


def test_observers_follow_a_limit_that_falls() -> None:
    """Observers follow a limit that falls."""
    world = observed(Limiter(stepped(200, 60, 30)), 6)
    assert world.done(34, 70) > 57
    assert world.refused(36, 70) < 0.15


# -- the page


def test_the_simulated_services_are_current() -> None:
    """The table of simulated services is of this law.

    One row is run again; the others come from the same command, `python -m tests.harness.service --write`.
    """
    rows = shown("service")
    assert [line.split(" | ")[0][2:] for line in rows.splitlines()[2:]] == list(SERVICES)
    assert row("refuses above 20/s", Referee) in rows

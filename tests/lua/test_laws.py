"""The laws in Lua against their referee: the same reports give the same rates, and each rule does its work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa import lua51  # type: ignore[import-untyped]

from nexus_redis._protocol.scripts import with_parts
from tests.models.laws import Answer, Referee, Report, Setting

LIBRARY = Path(__file__).parents[2] / "lua" / "lib"
EXPORTS = "\nreturn {choose_law = choose_law, run_law = run_law, law_text = law_text, law_memory = law_memory}"
NO_GLOBALS = "setmetatable(_G, {__newindex = function(_, name) error('global ' .. name) end})\n"


def composed() -> str:
    return with_parts(LIBRARY / "law.lua", set())


class LuaLaws:
    """law.lua as report.lua sees it, in a Lua 5.1 that refuses globals."""

    def __init__(self, text: str) -> None:
        self.lua = lua51.LuaRuntime(unpack_returned_tuples=True)
        self.laws = self.lua.execute(NO_GLOBALS + text + EXPORTS)

    def table(self, values: Report | Setting) -> Any:
        return self.lua.table_from({k: v for k, v in asdict(values).items() if v is not None})


class LuaConsumer:
    """One consumer id; all that is kept between two reports is the text that Redis keeps."""

    def __init__(self, lua: LuaLaws) -> None:
        self.lua, self.text = lua, ""

    def evaluate(
        self, set_law: str | None, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting
    ) -> Answer | None:
        laws, table = self.lua.laws, self.lua.table
        _, memory = laws.law_memory(self.text)
        name = laws.choose_law(set_law, memory, table(now), table(setting))
        if name is None:
            return None
        answer = laws.run_law(name, memory, was and table(was), table(now), dt, at, table(setting))
        self.text = laws.law_text(name, memory)
        return Answer(*answer)


class Consumer(Protocol):
    def evaluate(
        self, set_law: str | None, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting
    ) -> Answer | None: ...


LUA = LuaLaws(composed())


# -- random walks: both sides hear the same consumer for a while


class Actor:
    """A consumer that changes its mood: idle, busy, flooded, stalled, failing, working in batches."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.others = chance, random.Random(1)  # what it is given later leaves the rest as it was
        self.scale = 10 ** chance.uniform(-1, 5)
        self.limit = chance.choice([None, 1.0, 7.0, round(self.scale) + 1.0, 5 * round(self.scale) + 1.0])
        self.capacity = chance.choice([None, None, self.scale, self.scale / 3])
        self.at = 1.7e9
        self.start()

    def start(self) -> None:
        self.done = self.errors = self.cancelled = self.in_flight = self.depth = 0.0
        self.busy_ms, self.is_measuring = 0.0, self.others.random() < 0.6
        self.mood = "busy"
        self.counts_from = self.at + self.chance.choice([0.0, 0.0, 3.0])  # till then it says that it does nothing
        self.came = self.at

    def report(self, dt: float) -> Report:
        chance = self.chance
        if chance.random() < 0.1:
            self.mood = chance.choice(["idle", "busy", "flooded", "stalled", "failing", "batches"])
        can = self.scale * dt * chance.uniform(0.5, 1.5)
        came = {"idle": 0.0, "busy": 0.9 * can, "flooded": 1.5 * can, "stalled": 0.3 * can}.get(self.mood, can)
        self.depth = min(self.limit or float("inf"), self.depth + round(came))
        did = 0.0 if self.mood == "stalled" else min(self.depth + self.in_flight, float(round(can)))
        if self.mood == "batches" and chance.random() < 0.75:
            moved = min(self.depth, did)
            self.depth, self.in_flight = self.depth - moved, self.in_flight + moved
        else:
            failed = float(round(did * chance.random())) if self.mood == "failing" or chance.random() < 0.1 else 0.0
            left = float(round((did - failed) * self.others.choice([0.0, 0.0, 0.3])))
            self.cancelled += left
            self.done, self.errors = self.done + did - failed - left, self.errors + failed
            if self.others.random() < 0.7:
                self.busy_ms += round(1000 * dt * self.others.choice([0.02, 0.3, 0.9, 1.0]), 3)
            rest = self.depth + self.in_flight - did
            if self.mood == "flooded" and self.limit and self.others.random() < 0.5:
                self.done, rest = self.done + round(2 * can), rest + did  # filled several times between two reports
            self.in_flight = min(rest, float(chance.choice([0, 0, 1, 5])))
            self.depth = rest - self.in_flight
        counts = self.at >= self.counts_from
        return Report(
            capacity=self.capacity,
            depth=self.depth,
            limit=self.limit,
            done=self.done if counts else 0.0,
            errors=self.errors if counts else 0.0,
            in_flight=self.in_flight if counts else 0.0,
            cancelled=self.cancelled if counts and self.cancelled else None,
            busy_ms=self.busy_ms if counts and self.is_measuring else None,
            slots=chance.choice([None, 8.0]),
            **self.latencies(chance.choice([None, 5.0, 40.0, 90.0])),
        )

    def latencies(self, median: float | None) -> dict[str, float | None]:
        if median is None or self.others.random() < 0.3:
            return {"latency_ms": median}
        low = self.others.choice([1, 2, 10])
        return {"latency_ms": median, "latency_p25_ms": median / low, "latency_p10_ms": median / 2 / low}


def partial(report: Report, chance: random.Random) -> Report:
    """Some consumers say less, and some only now and then."""
    gone = chance.choice([(), (), (), (), ("in_flight",), ("depth",), ("done",), ("errors",), ("done", "depth")])
    return replace(report, **dict.fromkeys(gone), load=chance.choice([None, None, None, 50.0, 95.0]))


def walk(lua: LuaLaws, seed: int, steps: int) -> Iterator[tuple[int, Answer | None, Answer | None]]:
    chance = random.Random(seed)
    actor = Actor(chance)
    law = chance.choice([None, None, "drain", "range", "aimd"])
    is_whole = chance.random() < 0.6
    hidden = chance.choice([(), (), ("depth",), ("depth", "limit", "capacity")])
    setting = Setting(
        rate=chance.choice([None, None, actor.scale / 2, 0.05]),
        latency_target_ms=chance.choice([None, 50.0]),
        loop_delay=chance.choice([0.1, 0.5, 1.0, 2.0]),
        interval=chance.choice([0.25, 0.25, 1.0]),
    )
    ours, theirs = LuaConsumer(lua), Referee()
    was: Report | None = None
    for i in range(steps):
        dt = setting.interval * chance.choice([1.0, 1.0, 1.0, 1.01, 0.98, 2.0, 2.9, 3.1, 20.0, 0.3])
        actor.at += dt * chance.choice([1.0, 1.0, 1.0, 0.0, 500.0, -1.0])
        if chance.random() < 0.02:
            actor.start()
            was = None
        now = replace(actor.report(dt), **dict.fromkeys(hidden))
        now = now if is_whole else partial(now, chance)
        since = None if was is None else dt
        told = replace(setting, here=actor.at - actor.came)
        yield (
            i,
            ours.evaluate(law, was, now, since, actor.at, told),
            theirs.evaluate(law, was, now, since, actor.at, told),
        )
        was = now


def differences(lua: LuaLaws, seed: int, steps: int = 150) -> list[str]:
    found = []
    for i, ours, theirs in walk(lua, seed, steps):
        if ours is None or theirs is None:
            if ours != theirs:
                found.append(f"report {i}: {ours} but {theirs}")
        elif ours != pytest.approx(theirs, rel=1e-6, abs=1e-9):
            found.append(f"report {i}: {ours} but {theirs}")
    return found


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_lua_and_referee_agree(seed: int) -> None:
    """Lua and the referee agree over any life of a consumer."""
    assert differences(LUA, seed) == []


@given(st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_rates_keep_floors_and_ceilings(seed: int) -> None:
    """No rate is below its floor or above its ceilings."""
    for _, answer, _ in walk(LUA, seed, 100):
        if answer is not None:
            assert 0 < answer.rate <= 1e9
            assert 0 < answer.window <= 1


@pytest.mark.parametrize(
    ("planted", "instead_of"),
    [
        ("max(0, (FULL - load)", "max(0, (EASY - load)"),
        ("speed < m.capacity and DOWN", "speed > m.capacity and DOWN"),
        ("depth <= aim(m, report) then", "depth >= aim(m, report) then"),
        ("depth_was > 0 and", "depth_was >= 0 and"),
        ("m.still > math.max(", "m.still < math.max("),
        ("max(0, at - m.best_at)", "max(0, m.best_at - at)"),
        ("if name == chosen then", "if name ~= chosen then"),
        ("done < 0 or errors < 0", "done < 0 or errors > 0"),
        ("return not has_worked and", "return has_worked and"),
        ("setting.here >= LOOKING_ON", "setting.here < LOOKING_ON"),
        ("+ (report.in_flight or 0) == 0", "== 0"),
        ("local left = done + errors + cancelled", "local left = done + errors"),
        ("(report.busy_ms - was.busy_ms) / 1000", "(report.busy_ms - was.busy_ms) / 999"),
        ("if busy > 0 and step.done > 0 then", "if busy > 0 and step.done > 0 and is_whole then"),
        ("then able = math.min(able, speed) end", "then able = math.max(able, speed) end"),
        ("math.max(able, m.rate)", "math.min(able, m.rate)"),
        ("is_urgent and speed", "speed"),
        ("peak > CROWDED * limit or depth", "peak > CROWDED * limit and depth"),
        ("or overflowed or crowded then", "or overflowed then"),
        ("(UNUSED * m.capacity + UNUSED_ITEMS)", "(UNUSED * m.capacity)"),
        ("if report.busy_ms and limit", "if limit"),
        ("knows = name == 'drain' or", "knows ="),
        ("if step.left <= most then", "if step.left > 0 then"),
        ("if m.surged == 0 then", "if m.surged == 1 then"),
        ("if step.left > 0 then m.surged = 0 end", ""),
        ("(was.in_flight or 0) + (was.depth or 0) + known", "known"),
        ("step.left == 0 and not report.in_flight", "step.left == 0"),
        ("seen >= m.best / 2 then unseen = 0", "seen >= m.best then unseen = 0"),
        ("able = math.min(SURGE * m.capacity, math.max(m.capacity / SURGE, able))", ""),
        ("    m.surged, m.quiet = 0, 0\n", ""),
    ],
)
def test_the_referee_notices_a_planted_bug(planted: str, instead_of: str) -> None:
    """The referee notices a planted bug."""
    text = composed()
    assert text.count(planted) == 1, planted
    broken = LuaLaws(text.replace(planted, instead_of))
    assert any(differences(broken, seed) for seed in range(150))


# -- what each rule is for, in Lua and in the referee


@pytest.fixture(params=["lua", "referee"])
def consumer(request: pytest.FixtureRequest) -> Consumer:
    return LuaConsumer(LUA) if request.param == "lua" else Referee()


class Story:
    """A consumer told report by report; counters are the sums of what it did."""

    def __init__(
        self, consumer: Consumer, *, law: str | None = None, setting: Setting | None = None, **always: float | None
    ) -> None:
        self.consumer, self.law, self.setting, self.always = consumer, law, setting or Setting(), always
        self.done = self.errors = self.at = 0.0
        self.was: Report | None = None

    def says(self, did: float = 0, failed: float = 0, *, dt: float = 0.25, **fields: float | None) -> Answer:
        self.done, self.errors, self.at = self.done + did, self.errors + failed, self.at + dt
        said: dict[str, Any] = {"done": self.done, "errors": self.errors, "in_flight": 0.0, **self.always, **fields}
        now = Report(**said)
        answer = self.consumer.evaluate(
            self.law, self.was, now, None if self.was is None else dt, self.at, self.setting
        )
        self.was = now
        assert answer is not None
        return answer

    def works(self, seconds: float, per_second: float, **fields: float) -> Answer:
        """Steadily, each report alike."""
        for _ in range(round(4 * seconds)):
            answer = self.says(per_second / 4, **fields)
        return answer

    def restarts(self) -> None:
        self.was, self.done, self.errors = None, 0.0, 0.0


def backlogged(consumer: Consumer, capacity: float = 1000, **also: Any) -> Story:
    """A consumer whose queue was never empty for 10 s: its capacity is known."""
    story = Story(consumer, limit=capacity, **also)
    story.says(depth=0.4 * capacity)
    story.works(10, capacity, depth=0.4 * capacity)
    return story


def emptied(consumer: Consumer, capacity: float = 1000) -> Story:
    """The same, when all of its queue is done."""
    story = backlogged(consumer, capacity)
    story.says(capacity / 4, depth=0)
    return story


def test_range_answers_the_protocols_example(consumer: Consumer) -> None:
    """The law `range` answers the protocol's own example on its first report."""
    assert Story(consumer, done=None, errors=None, capacity=400).says(load=95).rate == pytest.approx(100)


@pytest.mark.parametrize(("load", "part"), [(0, 1), (79, 1), (80, 1), (90, 0.5), (99, 0.05)])
def test_range_is_flat_below_80_percent(consumer: Consumer, load: float, part: float) -> None:
    """The law `range` gives all below 80 percent, and a straight line above."""
    assert Story(consumer, law="range", capacity=1000).says(load=load).rate == pytest.approx(1000 * part)


def test_range_keeps_a_hundredth_at_full_load(consumer: Consumer) -> None:
    """The law `range` keeps at full load a hundredth of its best."""
    story = Story(consumer, law="range", capacity=1000)
    assert story.says(load=100).rate == pytest.approx(0.2)
    story.says(load=10)
    assert story.says(load=100).rate == pytest.approx(10, rel=1e-3)


def test_range_takes_the_fullest(consumer: Consumer) -> None:
    """The law `range` takes the fullest of queue and slots."""
    story = Story(consumer, law="range", capacity=100, limit=10, slots=10)
    assert story.says(depth=1, in_flight=9).rate == pytest.approx(50)


def test_load_alone_uses_the_budgets_rate(consumer: Consumer) -> None:
    """A load without a capacity takes the rate of the budget."""
    only_load: dict[str, Any] = {"done": None, "errors": None, "in_flight": None}
    story = Story(consumer, setting=Setting(rate=200))
    assert story.says(load=90, **only_load) == pytest.approx((100, 200, 1))


def test_load_alone_fits_no_law(consumer: Consumer) -> None:
    """A load without a capacity or a rate fits no law."""
    assert consumer.evaluate(None, None, Report(load=95), None, 0, Setting()) is None
    assert consumer.evaluate(None, None, Report(), None, 0, Setting(rate=5)) is None


def test_a_law_once_chosen_changes_only_upward(consumer: Consumer) -> None:
    """A law that was chosen once changes only upward."""
    story = Story(consumer)
    assert story.says(latency_ms=5).capacity == 0  # aimd
    assert story.says(load=80, capacity=50).rate == pytest.approx(50)  # range
    assert story.says(latency_ms=5).rate == pytest.approx(50)  # still range, without a sample
    assert story.says(depth=1, limit=10).window < 1  # drain, cold


def test_uncounted_work_ends_in_range(consumer: Consumer) -> None:
    """The law of a consumer that counts nothing is `range` after a while, where a rate is known."""
    looks = Report(depth=0, limit=1000, done=0, errors=0, in_flight=0)
    told = Setting(rate=5000)
    assert answer_of(consumer, looks, replace(told, here=1.9)).capacity == 0  # drain's cold start
    assert answer_of(consumer, looks, replace(told, here=2)).rate == 5000
    assert answer_of(consumer, replace(looks, depth=900), replace(told, here=9)).rate == 2500
    assert answer_of(consumer, replace(looks, in_flight=1), replace(told, here=9)).capacity == 0  # it works


def answer_of(consumer: Consumer, report: Report, setting: Setting) -> Answer:
    answer = consumer.evaluate(None, None, report, None, 1e9, setting)
    assert answer is not None
    return answer


def test_a_chosen_law_is_used(consumer: Consumer) -> None:
    """The law that is set is used, even where another fits better."""
    assert Story(consumer, law="range", capacity=100).says(depth=9, limit=10).rate == pytest.approx(50)


def test_a_set_law_that_does_not_fit_is_refused(consumer: Consumer) -> None:
    """A law that is set and does not fit is refused."""
    assert consumer.evaluate("drain", None, Report(load=10, capacity=10), None, 0, Setting()) is None


def test_a_busy_queue_shows_the_capacity(consumer: Consumer) -> None:
    """A queue that was never empty shows the capacity."""
    assert backlogged(consumer, 1000).says(250, depth=200).capacity == pytest.approx(1000)


@pytest.mark.slow
def test_an_idle_hour_teaches_nothing(consumer: Consumer) -> None:
    """An idle hour does not lower what was learned."""
    story = emptied(consumer, 1000)
    assert story.works(3600, 0, depth=0).capacity == pytest.approx(1000)


def test_little_work_keeps_the_capacity(consumer: Consumer) -> None:
    """Little work is not taken for little capacity."""
    story = emptied(consumer, 1000)
    assert story.works(600, 20, depth=0).capacity == pytest.approx(1000)


def test_a_slower_consumer_is_noticed(consumer: Consumer) -> None:
    """A slower consumer is noticed within two seconds."""
    story = backlogged(consumer, 1000)
    assert story.works(2, 400, depth=300).capacity < 500


@pytest.mark.parametrize("where", ["in_flight", "depth"])
def test_a_stall_of_five_seconds_is_no_sample(consumer: Consumer, where: str) -> None:
    """A stall of five seconds is not a sample."""
    story = backlogged(consumer, 1000)
    story.says(20, depth=400)  # the stall began within this report
    story.works(5, 0, **{"depth": 400, where: 500})
    assert story.says(100, depth=800).capacity == pytest.approx(1000)


def test_a_stall_fills_the_queue(consumer: Consumer) -> None:
    """Through a stall the rate only fills what is left of the queue."""
    story = backlogged(consumer, 1000)
    assert story.works(2, 0, depth=900).rate == pytest.approx(200)
    assert story.works(1, 0, depth=1000).rate == pytest.approx(10, rel=1e-2)


def test_a_silence_is_no_sample(consumer: Consumer) -> None:
    """A silence is not a sample."""
    story = backlogged(consumer, 1000)
    assert story.says(10, dt=5, depth=800).capacity == pytest.approx(1000)


def test_a_report_too_soon_is_no_sample(consumer: Consumer) -> None:
    """A report that comes too soon is not a sample."""
    story = backlogged(consumer, 1000)
    assert story.says(0, dt=0.01, depth=900).capacity == pytest.approx(1000)


def test_batches_are_measured_whole(consumer: Consumer) -> None:
    """Work in batches is measured over the whole batch."""
    story = Story(consumer, limit=4000)
    story.says(depth=2000)
    for _ in range(20):
        for _ in range(3):
            story.says(0, depth=2000, in_flight=1000)
        answer = story.says(1000, depth=2000, in_flight=1000)
    assert answer.capacity == pytest.approx(1000)


def test_a_bad_record_changes_nothing(consumer: Consumer) -> None:
    """A record that fails for itself says nothing of the capacity."""
    story = emptied(consumer, 1000)
    for _ in range(40):
        answer = story.says(50, 5, depth=10)
        answer = story.says(50, 5, depth=0)
    assert answer.capacity == pytest.approx(1000)


def test_errors_of_a_full_queue_mean_no_room(consumer: Consumer) -> None:
    """Errors beside a full queue are work that found no room."""
    story = backlogged(consumer, 1000)
    story.says(250, depth=900)
    assert story.says(100, 1200, depth=800).capacity < 800


def test_a_probe_needs_arrivals_of_its_own(consumer: Consumer) -> None:
    """A probe needs arrivals of its own."""
    story = emptied(consumer, 1000)
    assert story.works(10, 900, depth=0).capacity > 1050
    story = emptied(consumer, 1000)
    assert story.works(10, 500, depth=0).capacity == pytest.approx(1000)


def test_a_probe_stays_near_the_work(consumer: Consumer) -> None:
    """A probe stays near the work that was seen."""
    story = emptied(consumer, 1000)
    for _ in range(80):
        answer = story.says(100, 150, depth=0)  # 1000/s arrive, 400/s are seen to be done
    assert answer.capacity < 1050


def test_a_queue_above_its_aim_ends_a_probe(consumer: Consumer) -> None:
    """A queue above its aim ends a probe."""
    story = backlogged(consumer, 1000)
    assert story.works(10, 900, depth=500).capacity <= 1000


def test_a_longer_queue_keeps_the_capacity(consumer: Consumer) -> None:
    """A longer queue lowers the rate and not the capacity."""
    story = backlogged(consumer, 1000)
    answer = story.says(250, depth=700)
    assert answer.capacity == pytest.approx(1000)
    assert answer.rate == pytest.approx(1000 - 500 / 5)


def test_a_shallow_queue_aims_at_four_tenths(consumer: Consumer) -> None:
    """A shallow queue is aimed at four tenths full."""
    story = backlogged(consumer, 1000)
    story.always["limit"] = 100
    assert story.says(250, depth=40).rate == pytest.approx(1000)


def test_a_restart_keeps_what_was_learned(consumer: Consumer) -> None:
    """A restart keeps what was learned."""
    story = backlogged(consumer, 1000)
    story.restarts()
    assert story.says(depth=200) == pytest.approx((1000, 1000, 1))


def test_shrinking_counters_are_a_base(consumer: Consumer) -> None:
    """Counters that shrink are a base and not a sample."""
    story = backlogged(consumer, 1000)
    assert story.says(-5000, depth=200).capacity == pytest.approx(1000)


def test_a_cold_window_opens_fourfold(consumer: Consumer) -> None:
    """From cold, a window opens fourfold each loop once work has come."""
    story = Story(consumer, limit=1000)
    assert story.says(depth=0) == pytest.approx((400, 0, 0.1))
    assert story.says(depth=0) == pytest.approx((400, 0, 0.1))
    assert story.says(40, depth=0) == pytest.approx((800, 0, 0.2))
    assert story.says(depth=0) == pytest.approx((1600, 0, 0.4))
    assert story.says(depth=0) == pytest.approx((3200, 0, 0.8))
    assert story.says(depth=0) == pytest.approx((4000, 0, 1))


def test_a_cold_window_needs_a_short_queue(consumer: Consumer) -> None:
    """From cold, a window opens no further while the queue is not short."""
    story = Story(consumer, limit=1000)
    story.says(depth=0)
    assert story.says(20, depth=100) == pytest.approx((800, 0, 0.2))
    assert story.says(120, depth=101) == pytest.approx((800, 0, 0.2))
    assert story.says(121, depth=100) == pytest.approx((1600, 0, 0.4))


def test_the_first_proof_ends_the_cold(consumer: Consumer) -> None:
    """The first proof ends the cold phase."""
    story = Story(consumer, limit=1000)
    story.says(depth=500)
    assert story.says(80, depth=600) == pytest.approx((320 - (600 - 64) / 5, 320, 1))


def test_four_loops_end_the_cold(consumer: Consumer) -> None:
    """Without proof, the best of four loops ends the cold phase."""
    story = Story(consumer, limit=1000)
    assert story.works(60, 0, depth=0).capacity == 0
    assert story.works(2, 40, depth=0).capacity == 0
    assert story.works(0.5, 20, depth=0).capacity == pytest.approx(40)


def test_no_queue_limit_doubles_until_proof(consumer: Consumer) -> None:
    """Without a queue limit, a used rate doubles each loop until there is proof."""
    story = Story(consumer)
    assert story.says(depth=0) == pytest.approx((10, 0, 1))
    assert story.works(0.5, 10, depth=0).rate == pytest.approx(20)
    assert story.works(30, 1, depth=0).rate == pytest.approx(20)
    story.says(3, depth=5)
    assert story.says(3, depth=5).capacity == pytest.approx(12)


def test_a_given_capacity_bounds_a_law(consumer: Consumer) -> None:
    """A given capacity is where a law starts and where it ends."""
    story = Story(consumer, limit=1000, capacity=800)
    assert story.says(depth=0).rate == 800
    assert story.works(10, 1000, depth=500) == pytest.approx((800 - (500 - 160) / 5, 800, 1))


def test_the_rate_of_the_budget_is_a_ceiling(consumer: Consumer) -> None:
    """The rate of the budget is a ceiling."""
    story = backlogged(consumer, 1000, setting=Setting(rate=300))
    assert story.says(250, depth=200) == pytest.approx((300, 1000, 1))


def test_the_floor_of_a_law(consumer: Consumer) -> None:
    """The floor is one token per five seconds, or a hundredth of the best rate."""
    story = backlogged(consumer, 1000)
    assert story.says(0, depth=90_000).rate == pytest.approx(10, rel=1e-3)
    story.at += 3 * 3600
    assert story.says(0, depth=90_000).rate == pytest.approx(0.2)


# -- the text that Redis keeps


def test_memory_is_one_text_of_whole_numbers() -> None:
    """The memory of a law is one text of whole numbers."""
    consumer = LuaConsumer(LUA)
    backlogged(consumer)
    words = consumer.text.split()
    assert words[0] == "drain"
    assert all(word.lstrip("-").isdigit() and abs(int(word)) < 2**53 for word in words[1:])


@pytest.mark.parametrize("text", ["", " "])
def test_no_memory_is_an_empty_one(text: str) -> None:
    """A missing memory is an empty one."""
    name, memory = LUA.laws.law_memory(text)
    assert name is None
    assert list(memory) == []


def test_other_memory_is_read_as_far_as_it_goes() -> None:
    """The memory of a newer or older release is read as far as it goes."""
    short, longer = "drain 1000000 2000000 3000000 4000000", "range 1000000 2000000 3000000 4000000"
    name, memory = LUA.laws.law_memory(short)
    assert (name, memory.rate, memory.capacity, memory.probe, memory.ok) == ("drain", 1, 4, 0.05, None)
    name, memory = LUA.laws.law_memory(longer)
    assert LUA.laws.law_text(name, memory) == "range 1000000 2000000 3000000"


def test_cancelled_work_is_no_sign_of_overload(consumer: Consumer) -> None:
    """A tenth of it is cancelled by its callers; the rest is done as before."""
    calm, rude = Story(consumer), Story(LuaConsumer(LUA) if isinstance(consumer, LuaConsumer) else Referee())
    for n in range(200):
        alone = calm.says(10, latency_ms=20)
        beside = rude.says(10, latency_ms=20, cancelled=float(n))
    assert beside.rate >= alone.rate > 20


def test_cancelled_work_has_left_the_queue(consumer: Consumer) -> None:
    """Else all that is cancelled would prove that the queue was never empty, and little done a low capacity."""
    story = emptied(consumer)
    before = story.says(25, depth=100).capacity
    after = story.says(25, depth=0, cancelled=75).capacity
    assert after == pytest.approx(before, rel=0.1)


# -- counters and clocks that say what cannot be

JUMPS = {
    "done": {"done": 1e6},
    "errors": {"errors": 1e6},
    "cancelled": {"cancelled": 1e6},
    "all": {"done": 2e5, "errors": 3e5},
}


class Loop:
    """A consumer of `capacity` per second whose producers send what the law allows. `jump` is added to its counters."""

    def __init__(self, consumer: Consumer, law: str, capacity: float, *, is_measuring: bool = False) -> None:
        self.consumer, self.law, self.capacity, self.is_measuring = consumer, law, capacity, is_measuring
        self.at = self.busy_ms = self.depth = 0.0
        self.counted = dict.fromkeys(("done", "errors", "cancelled"), 0.0)
        self.was: Report | None = None
        self.rate = 10.0

    def report(self, *, dt: float = 0.25, loses: float = 0.0, latency_ms: float = 20.0, **jump: float) -> float:
        self.at += dt
        came = self.rate * dt
        if self.law == "drain":
            self.depth = min(4 * self.capacity, self.depth + came)
            did = min(self.depth, self.capacity * dt)
            self.depth -= did
            refused = 0.0
        else:
            did = min(came, self.capacity * dt)
            refused = came - did
        self.counted["done"] += did
        self.counted["errors"] += refused
        self.busy_ms += 1000 * did / self.capacity + jump.pop("busy_ms", 0.0)
        for name, more in jump.items():
            self.counted[name] += more
        said: dict[str, Any] = {**self.counted, "in_flight": 0.0, "latency_ms": latency_ms}
        if self.law == "drain":
            said |= {"depth": self.depth, "limit": 4 * self.capacity}
        if self.is_measuring:
            said["busy_ms"] = self.busy_ms
        now = Report(**said)
        if not loses:
            answer = self.consumer.evaluate(
                self.law, self.was, now, None if self.was is None else dt, self.at, Setting()
            )
            assert answer is not None
            self.rate, self.was = answer.rate, now
        return self.rate

    def seconds(self, count: float, **how: Any) -> list[float]:
        return [self.report(**how) for _ in range(round(4 * count))]


def settled(consumer: Consumer, law: str, capacity: float = 100, **how: Any) -> Loop:
    loop = Loop(consumer, law, capacity, **how)
    loop.seconds(60)
    assert loop.rate == pytest.approx(capacity, rel=0.1)
    return loop


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
@pytest.mark.parametrize("law", ["drain", "aimd"])
@pytest.mark.parametrize("capacity", [20, 100, 20_000])
def test_a_counter_that_jumps_once_moves_nothing(
    consumer: Consumer, law: str, capacity: float, jump: dict[str, float]
) -> None:
    """A counter that jumps once moves nothing."""
    loop = settled(consumer, law, capacity)
    loop.report(**{name: more * capacity for name, more in jump.items()})
    assert max(loop.seconds(5)) <= 1.3 * capacity
    assert min(loop.seconds(5)) >= 0.7 * capacity


@pytest.mark.parametrize("law", ["drain", "aimd"])
def test_odd_counters_move_nothing(consumer: Consumer, law: str) -> None:
    """A counter that jumps now and then, or beside a new base, moves nothing."""
    loop = settled(consumer, law)
    for _ in range(20):
        loop.report(done=1e6)
        assert max(loop.seconds(2)) <= 130
    for _ in range(20):  # two processes behind one proxy answer in turn
        loop.report(done=-1e6)
        loop.report(done=1e6)
        assert 70 <= loop.rate <= 130


def test_busy_time_moves_at_most_fourfold(consumer: Consumer) -> None:
    """Busy time that jumps moves the capacity fourfold at most."""
    loop = settled(consumer, "drain", is_measuring=True)
    assert loop.report(busy_ms=1e9) >= 20
    assert min(loop.seconds(5)[8:]) >= 80


@pytest.mark.parametrize("law", ["drain", "aimd"])
def test_a_latency_that_jumps_once_costs_one_cut(consumer: Consumer, law: str) -> None:
    """A latency that jumps once costs no more than a cut, and does not become the usual one."""
    loop = settled(consumer, law)
    for latency_ms in (1e7, 1e-3):
        loop.report(latency_ms=latency_ms)
        assert min(loop.seconds(20)) >= 45
        assert loop.rate >= 80


@pytest.mark.parametrize("law", ["drain", "aimd"])
def test_counters_that_go_on_jumping_are_followed(consumer: Consumer, law: str) -> None:
    """Counters that go on jumping are followed fourfold a report at most, and forgotten in minutes."""
    loop = settled(consumer, law)
    before = loop.rate
    loop.report(done=1e6)
    assert loop.rate <= 1.3 * before
    for _ in range(8):
        before = loop.rate
        assert loop.report(done=1e6) <= 5 * before + 4 * 100
    loop.seconds(240)
    assert max(loop.seconds(5)) <= 150


@pytest.mark.parametrize("law", ["drain", "aimd"])
def test_a_good_rate_is_a_floor_for_minutes(consumer: Consumer, law: str) -> None:
    """A rate that was good once is the floor no longer than a few minutes of work."""
    loop = settled(consumer, law, 20_000)
    loop.capacity = 4
    loop.seconds(60)
    loop.seconds(180)
    assert max(loop.seconds(20)) <= 20


@pytest.mark.parametrize("law", ["drain", "aimd"])
def test_a_true_tenfold_rise_is_found(consumer: Consumer, law: str) -> None:
    """A rise to ten times that is true is found."""
    loop = settled(consumer, law)
    loop.capacity = 1000
    loop.seconds(20)
    assert loop.rate >= 700


def test_a_batch_in_flight_is_no_jump(consumer: Consumer) -> None:
    """A batch that was seen in flight is not a jump."""
    story = backlogged(consumer, 100)
    for _ in range(40):
        story.says(0, depth=20, in_flight=2000)
    assert story.says(2000, depth=20, in_flight=0).capacity > 100


def test_a_hidden_batch_is_no_jump(consumer: Consumer) -> None:
    """A batch of one that hides what is in flight is not a jump."""
    story = Story(consumer, law="aimd", in_flight=None)
    rates: list[float] = []
    for _ in range(20):
        for _ in range(11):
            story.says(0)
        rates.append(story.says(3 * rates[-1] if rates else 30).rate)
    assert rates[-1] >= 100

"""The laws as one would explain them at a whiteboard: slow, clear, and the referee of lua/lib/law.lua.

A law turns the reports of one consumer into the rate that it can take. Each law is an object that lives as long as the
consumer's id; `evaluate` is called once per report. Between two reports the state is kept in whole millionths, as in
Redis, so that both sides see the same numbers.

    referee = Referee()
    referee.evaluate(None, None, Report(load=95, capacity=400), None, 0.0, Setting())  ->  Answer(rate=100, ...)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import ClassVar, NamedTuple

MAX_RATE = 1e9
SLOWEST = 0.2  # one token per 5 s: the least that lets a law find its way back
LEAST_OF_BEST = 0.01
BEST_FADES_S = 600.0
SURGE = 4.0  # times what is known of a consumer: more is not believed of one report
MISSED_REPORTS = 3  # two may be lost before a gap says nothing
FIRST_RATE = 10.0
LOOKING_ON_S = 2.0  # so long one who has done nothing is taken for one who counts what it does
FIRST_PROBE = 0.05
LONG = 86_400.0  # no clock of a law counts further than a day


@dataclass(frozen=True, slots=True)
class Report:
    load: float | None = None
    capacity: float | None = None
    depth: float | None = None
    limit: float | None = None
    done: float | None = None
    errors: float | None = None
    cancelled: float | None = None
    in_flight: float | None = None
    slots: float | None = None
    latency_ms: float | None = None  # the median of the work that ended lately
    latency_p25_ms: float | None = None
    latency_p10_ms: float | None = None
    busy_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    rate: float | None = None
    latency_target_ms: float | None = None
    loop_delay: float = 0.5
    interval: float = 0.25
    here: float = 0.0  # seconds since it came

    @property
    def delay(self) -> float:
        """D: from a change of the rate to its effect in a report."""
        return max(0.5, self.loop_delay, self.interval)


class Answer(NamedTuple):
    rate: float
    capacity: float
    window: float


class Verdict(NamedTuple):
    """What a law alone says, before floor and ceiling; `seen` is work that was really done."""

    rate: float
    seen: float
    capacity: float
    window: float = 1.0


class Step(NamedTuple):
    """What happened between two reports of one incarnation."""

    dt: float
    done: float
    errors: float
    left: float
    arrived: float
    part: float = 1.0  # of what the report says, as much as is believed


def step_between(was: Report | None, now: Report, dt: float | None, setting: Setting) -> Step | None:
    if was is None or dt is None or dt < min(setting.interval / 2, 0.125) or was.done is None or now.done is None:
        return None
    done = now.done - was.done
    errors = (now.errors or 0) - (was.errors or 0)
    cancelled = (now.cancelled or 0) - (was.cancelled or 0)
    if done < 0 or errors < 0 or cancelled < 0:
        return None
    left = done + errors + cancelled
    held = ((now.in_flight or 0) + (now.depth or 0)) - ((was.in_flight or 0) + (was.depth or 0))
    return Step(min(dt, LONG), done, errors, left, max(0.0, left + held))


def load_of(report: Report) -> float | None:
    if report.load is not None:
        return report.load
    parts = []
    if report.depth is not None and report.limit:
        parts.append(100 * report.depth / report.limit)
    if report.in_flight is not None and report.slots:
        parts.append(100 * report.in_flight / report.slots)
    return max(parts, default=None)


def millionths(value: float) -> float:
    return float(f"{value * 1e6:.0f}") / 1e6


def toward(old: float | None, new: float, dt: float, tau: float) -> float:
    """One step of an exponential mean; the first value is taken as it is."""
    return new if old is None else old + (1 - math.exp(-dt / tau)) * (new - old)


@dataclass
class Law:
    """What all laws share: a floor under them, ceilings above them, and a memory that fits in Redis."""

    rate: float = 0.0
    best: float = 0.0
    best_at: float = 0.0
    counts: ClassVar[bool] = True  # it goes by what was done between two reports
    unseen: float = field(default=0.0, kw_only=True)  # seconds of work since half of the best was last seen
    surged: float = field(default=0.0, kw_only=True)  # more than is credible was said, and not taken back yet
    quiet: float = field(
        default=0.0, kw_only=True
    )  # seconds for which nothing left, of one that hides what is in flight

    def evaluate(self, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting) -> Answer:
        step = step_between(was, now, dt, setting) if self.counts else None
        if was is None or step is None:
            self.surged = self.quiet = 0.0
        else:
            step = self.believed(was, now, step)
        said = self.judge(was, now, step, setting)
        if said.seen >= self.best / 2:
            self.unseen = 0.0
        elif step is not None and step.done:
            self.unseen = min(LONG, self.unseen + step.dt)
        fades_s = 30.0 if self.unseen > 60 else BEST_FADES_S
        self.best = max(said.seen, self.best * math.exp(-max(0.0, at - self.best_at) / fades_s))
        self.best_at = at
        ceiling = min(MAX_RATE if x is None else x for x in (now.capacity, setting.rate, MAX_RATE))
        floor = max(SLOWEST, LEAST_OF_BEST * min(self.best, ceiling))
        self.rate = min(ceiling, max(floor, said.rate))
        answer = Answer(self.rate, said.capacity, said.window)
        self.round()
        return answer

    def believed(self, was: Report, now: Report, step: Step) -> Step | None:
        """What a report says, as far as the history makes it credible.

        All that the consumer held may leave at once, and beside it four times what was ever known of it. More than that
        is a slip of a counter: the first report of the kind is passed over. When it goes on it may be true after all,
        and then each report moves as much as is credible.
        """
        known = max(FIRST_RATE, self.rate, self.best, *self.speeds(), now.capacity or 0.0)
        most = (was.depth or 0) + (was.in_flight or 0) + 20 + known * (SURGE * step.dt + self.quiet)
        step = step._replace(arrived=min(step.arrived, most))
        is_quiet = not step.left and now.in_flight is None
        self.quiet = min(5.0, self.quiet + step.dt) if is_quiet else 0.0
        if step.left <= most:
            self.surged = 0.0 if step.left else self.surged
            return step
        if not self.surged:
            self.surged = 1.0
            return None
        part = most / step.left
        return step._replace(done=part * step.done, errors=part * step.errors, left=most, part=part)

    def speeds(self) -> tuple[float, ...]:
        """What is known of how much it can do in a second."""
        return ()

    def round(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None:
                setattr(self, f.name, [millionths(x) for x in value] if isinstance(value, list) else millionths(value))

    def judge(self, was: Report | None, now: Report, step: Step | None, setting: Setting) -> Verdict:
        raise NotImplementedError


@dataclass
class Range(Law):
    """Like a thermostat: full speed below 80 % load, nothing at 100 %, a straight line between."""

    counts: ClassVar[bool] = False

    def judge(self, was: Report | None, now: Report, step: Step | None, setting: Setting) -> Verdict:
        capacity = now.capacity if now.capacity is not None else setting.rate
        load = load_of(now)
        if capacity is None:
            return Verdict(self.rate, 0.0, 0.0)
        raw = self.rate if load is None else capacity * min(1.0, max(0.0, (100 - load) / 20))
        return Verdict(raw, 0.0 if load is None else raw, capacity)


@dataclass
class Drain(Law):
    """Learns how fast a queue is emptied, but only from reports that prove it was never empty.

    A work counter that stands still while work is at hand is not a sample: work may come in batches. `beat` learns how
    long it usually stands still. Longer than that is a stall: the capacity is kept for the time after it, while the
    rate only fills what is left of the queue.

    A consumer that measures how long its workers were busy says more: work done per busy second is the capacity,
    whatever the queue holds. Then as much of the capacity is left unused as a short queue needs to take what comes
    unevenly.
    """

    capacity: float = 0.0
    before: float = 0.0
    ok: float | None = None
    probe: float = FIRST_PROBE
    probe_age: float = 0.0
    still: float = 0.0
    beat: float = 0.0
    cold_for: float = 0.0
    working_for: float = 0.0
    highest: float = 0.0

    def speeds(self) -> tuple[float, ...]:
        return self.ok or 0.0, self.capacity, self.before

    def judge(self, was: Report | None, now: Report, step: Step | None, setting: Setting) -> Verdict:
        if not self.capacity and now.capacity:
            self.capacity = now.capacity
        seen = 0.0
        if was is not None and step is not None:
            seen = self.learn(was, now, step, setting)
        else:
            self.still = 0.0
            self.stop_probing()
        self.capacity = min(self.capacity, MAX_RATE if now.capacity is None else now.capacity)
        if self.capacity:
            return Verdict(self.drained(now, setting), seen, self.capacity)
        if now.limit:
            window = min(1.0, 0.1 * 4 ** min(10.0, self.cold_for / setting.delay))
            return Verdict(max(FIRST_RATE, 4 * window * now.limit), seen, 0.0, window)
        rate = self.rate or FIRST_RATE
        if step is not None and step.dt <= MISSED_REPORTS * setting.interval and step.arrived / step.dt >= 0.65 * rate:
            rate *= 2 ** (step.dt / setting.delay)
        return Verdict(rate, seen, 0.0)

    def drained(self, now: Report, setting: Setting) -> float:
        """The rate that brings the queue to its aim, in a time that the loop can follow."""
        depth = now.depth or 0
        unused = 0.0
        if now.busy_ms is not None and now.limit:
            unused = min(0.035, (0.002 * self.capacity + 0.15) / now.limit)
        rate = self.capacity * (1 - unused) - (depth - self.aim(now)) / max(5.0, 3 * setting.delay)
        if self.is_stalled and now.limit:
            rate = min(rate, max(0.0, now.limit - depth) / setting.delay)
        return rate

    def aim(self, now: Report) -> float:
        """The queue that it wants: short, yet enough to prove that there is work."""
        wanted = 0.2 * self.capacity
        part = 0.4 if now.busy_ms is None else 0.2
        return max(1.0, min(wanted, part * now.limit) if now.limit else wanted)

    @property
    def is_stalled(self) -> bool:
        return self.still > max(0.5, 2 * self.beat)

    def stop_probing(self) -> None:
        self.probe, self.probe_age = FIRST_PROBE, 0.0

    def learn(self, was: Report, now: Report, step: Step, setting: Setting) -> float:
        """Returns the work per second that it has just seen, 0 where the report is no sample."""
        self.probe_age += step.dt
        is_short = (now.depth or 0) <= 0.1 * (now.limit or math.inf)
        if not self.capacity and (self.cold_for > 0 or step.arrived > 0) and is_short:
            self.cold_for = min(LONG, self.cold_for + step.dt)

        if step.done == 0 and (now.in_flight or 0) + (now.depth or 0) > 0:
            self.still = min(LONG, self.still + step.dt)
            if self.is_stalled:  # the last sample was cut short by it
                self.capacity = max(self.capacity, self.before)
            return 0.0
        is_whole = not self.is_stalled and step.dt <= MISSED_REPORTS * setting.interval
        span = step.dt + self.still
        self.beat += (self.still - self.beat) / 4
        self.still = 0.0

        speed = min(MAX_RATE, step.done / span)
        busy_s = ((now.busy_ms or 0) - (was.busy_ms or 0)) / 1000 if None not in (was.busy_ms, now.busy_ms) else 0.0
        busy_s *= step.part
        if busy_s > 0 and step.done > 0:
            self.ok = toward(self.ok, speed, step.dt, setting.delay)
            self.measure(busy_s, speed, step, was, now)
            return self.ok
        if not is_whole:  # it can do at least this, perhaps far more
            self.highest = max(self.highest, speed)
            if self.capacity:
                self.capacity = max(self.capacity, speed)
            return 0.0
        self.ok = toward(self.ok, speed, step.dt, setting.delay)
        before, after = was.depth or 0, now.depth or 0
        never_empty = before > 0 and before + (was.in_flight or 0) > step.left + (now.in_flight or 0)
        if not self.capacity:
            self.start(speed, never_empty, step, now, setting)
            return self.ok
        self.before = self.capacity
        limit = math.inf if now.limit is None else now.limit
        overflowed = step.errors > 0 and before + after > 0.5 * limit
        if never_empty or overflowed or min(before, after) > 0.5 * limit:
            self.follow(speed, step.dt, is_urgent=True)
            self.stop_probing()
        elif speed > self.capacity:
            self.capacity = speed
        elif step.arrived / step.dt >= 0.65 * self.rate and after <= self.aim(now):
            self.reach(span, setting)
        else:
            self.stop_probing()
        return self.ok

    def measure(self, busy_s: float, speed: float, step: Step, was: Report, now: Report) -> None:
        """It measures how long its workers were busy: what they did in that time is what they can do."""
        able = min(MAX_RATE, step.done / busy_s)
        shallow, deep = sorted((was.depth or 0, now.depth or 0))
        limit = math.inf if now.limit is None else now.limit
        if shallow > 0.5 * limit:
            able = min(able, speed)
        if not self.capacity:
            self.capacity = max(able, self.rate)
            return
        self.before = self.capacity
        able = min(SURGE * self.capacity, max(self.capacity / SURGE, able))
        is_urgent = deep > 0.5 * limit or (now.depth or 0) > self.aim(now)
        self.follow(able, busy_s, is_urgent=is_urgent)

    def follow(self, speed: float, seconds: float, *, is_urgent: bool) -> None:
        """Learn from a proof; downward in half the time where the queue fills."""
        tau = max(1.0, 10 / self.capacity) * (0.5 if is_urgent and speed < self.capacity else 1.0)
        self.capacity = toward(self.capacity, speed, seconds, tau)

    def start(self, speed: float, never_empty: bool, step: Step, now: Report, setting: Setting) -> None:
        """Out of the cold: the first proof, or the best of a while that it was seen to work."""
        self.highest = max(self.highest, speed)
        if never_empty and speed > 0:
            self.capacity = speed
        elif self.highest > 0 and now.limit:
            self.working_for += step.dt
            if self.working_for > 4 * setting.delay:
                self.capacity = self.highest

    def reach(self, span: float, setting: Setting) -> None:
        """Its producers want more and its queue is short: see whether it can do more, tethered to what it did."""
        knows_better = self.capacity < 0.9 * self.best
        if self.probe_age >= setting.delay:
            self.probe, self.probe_age = min(0.5 if knows_better else 0.2, 2 * self.probe), 0.0
        if knows_better:
            self.probe = max(self.probe, 0.2)
        top = max(self.capacity, (2.0 if knows_better else 1.6) * (self.ok or 0.0))
        self.capacity = min(top, self.capacity * (1 + self.probe) ** min(10.0, span / setting.delay))


@dataclass
class Aimd(Law):
    """Probe for the limit of a consumer that shows no queue, only its errors and its latency.

    The law keeps the last rate that was good. It rests just below that rate for two loops, and then grows by an excess
    that doubles. When the work fails, or takes three times as long as usual, the rate falls back to what was done.
    """

    ok: float | None = None  # successes per second
    known_good: float = 0.0  # 0 until the first overload
    since_cut: float = LONG
    calm: float = 0.0  # seconds at or above the known good rate without overload
    right: float = 0.0  # successes and failures of about the last half second
    wrong: float = 0.0
    own: float = 0.0  # failures per outcome at a rate that is known to be good: they are not overload
    did: float = 0.0  # successes since the last cut
    lowest: float = 0.0  # the known good rate falls no further before the next cut
    echo: float = 0.0  # how long failures went on after a cut that ended a probe
    echoing: float = 0.0
    came: float = 0.0  # arrivals and outcomes per second
    left: float = 0.0
    usual: float = 0.0  # the latencies of a consumer that has little to do
    usual_p25: float = 0.0
    usual_p10: float = 0.0
    is_slow: float = 0.0
    slow_cuts: float = 0.0  # since the latency was last as usual
    is_trial: float = 0.0  # the last cut was made to see whether the latency follows the rate at all
    slow_at: float = 0.0  # slowdown at the last cut
    was_slow: float = 0.0  # the last cut was for latency
    was_probe: float = 0.0  # the last cut was of a rate above the known good one
    before: float = 0.0  # the known good rate before the cuts that follow each other
    asked: float = 0.0  # arrivals per second, over the time that a few of them take

    def speeds(self) -> tuple[float, ...]:
        return self.ok or 0.0, self.known_good, self.before

    def judge(self, was: Report | None, now: Report, step: Step | None, setting: Setting) -> Verdict:
        rate, seen = self.rate or now.capacity or FIRST_RATE, 0.0
        if step is not None:
            self.since_cut = min(LONG, self.since_cut + step.dt)
            rate = self.unbound(rate, was, now, step)
            if step.dt <= MISSED_REPORTS * setting.interval:
                rate = self.follow(rate, now, step, setting)
                seen = self.ok or 0.0
        return Verdict(rate, seen, self.known_good if now.capacity is None else now.capacity)

    def unbound(self, rate: float, was: Report | None, now: Report, step: Step) -> float:
        """The rate was all that the capacity allowed, which has risen: as for an unknown one, or for what waits."""
        assert was is not None
        if was.capacity is None or now.capacity is None or rate < 0.999 * was.capacity or step.errors + self.is_slow:
            return rate
        return max(rate, min(now.capacity, FIRST_RATE) if step.arrived else now.capacity)

    def follow(self, rate: float, now: Report, step: Step, setting: Setting) -> float:
        self.count(step)
        self.asked = toward(self.asked, min(MAX_RATE, step.arrived / step.dt), step.dt, 2 / rate)
        tolerated = min(0.075, 0.005 + 1.5 * self.own) if self.known_good else 0.05
        is_failing = step.errors > 0 and self.wrong - math.sqrt(self.wrong) > tolerated * (self.wrong + self.right)
        loop = self.loop(setting)
        self.hear(step, rate, loop, is_failing=is_failing)
        found = self.slowdown(now, step, setting)
        is_slow, excess = False, 0.0
        if found is not None:
            slowdown, latency = found
            assert now.latency_ms is not None
            if setting.latency_target_ms is not None:
                is_slow = now.latency_ms > setting.latency_target_ms
                excess = (now.latency_ms - setting.latency_target_ms) / 1000
            else:
                is_slow = slowdown > 3 and latency > 10
                excess = latency * (1 - 1 / slowdown) / 1000
            self.is_slow = float(is_slow)
        if is_failing or is_slow:
            self.calm = 0.0
            if is_failing:
                return self.fall(rate, step, loop, setting)
            return self.ease(rate, now, step, slowdown, excess, loop, setting)
        if self.known_good and self.ok is not None and self.ok - math.sqrt(self.ok) > rate:
            self.known_good = max(self.known_good, self.ok)  # more is done than comes: what waited is worked off
        if self.asked < 0.5 * rate or self.since_cut < loop or self.is_slow or step.errors > tolerated * step.done:
            return rate
        is_easy = self.was_slow > 0 and found is not None and found[0] < 1.2 and setting.latency_target_ms is None
        return self.climb(rate, step.dt, loop, setting, is_easy=is_easy)

    def count(self, step: Step) -> None:
        speed, dt = min(MAX_RATE, step.done / step.dt), step.dt
        self.ok = toward(self.ok, speed, dt, 1.0 if not self.ok else min(10.0, max(1.0, 10 / self.ok)))
        fading = math.exp(-dt / 0.5)
        self.right = min(MAX_RATE, self.right * fading + step.done)
        self.wrong = min(MAX_RATE, self.wrong * fading + step.errors)
        self.did = min(MAX_RATE, self.did + step.done)
        long = self.balance_time()
        self.came = toward(self.came, min(MAX_RATE, step.arrived / dt), dt, long)
        self.left = toward(self.left, min(MAX_RATE, step.left / dt), dt, long)

    def balance_time(self) -> float:
        """Seconds in which about 30 pieces of work come and leave."""
        return 30.0 if not self.left else min(30.0, max(2.0, 30 / self.left))

    def loop(self, setting: Setting) -> float:
        """From a change of the rate to its effect, and at least as long as a few outcomes take."""
        few = min(10.0, 4 / self.left) if self.left else 0.0
        return max(0.75, setting.delay, self.echo, few)

    def hear(self, step: Step, rate: float, loop: float, *, is_failing: bool) -> None:
        """Learn the echo of a cut, and which failures are there at a good rate too."""
        outcomes = step.done + step.errors
        if self.echoing:
            self.echoing += step.dt
            is_ebbing = step.errors * (self.wrong + self.right) < self.wrong * outcomes / 2
            if is_ebbing or not is_failing:
                self.echo, self.echoing = min(3.0, max(0.0, self.echoing - 0.25)), 0.0
        if outcomes and rate <= self.known_good and self.since_cut >= (1 + self.was_probe) * loop:
            share = min(0.1, step.errors / outcomes)
            self.own = toward(
                self.own, share, step.dt, 100.0 if not self.left else min(100.0, max(2.0, 100 / self.left))
            )

    def slowdown(self, now: Report, step: Step, setting: Setting) -> tuple[float, float] | None:
        """How many times the usual latency, of the middle one of the percentiles, and its value. None without news."""
        if now.latency_ms is None or step.left == 0:
            return None
        if setting.latency_target_ms is None and (now.done or 0) + (now.errors or 0) < 20:
            return None
        found = []
        for name, latency in (
            ("usual", now.latency_ms),
            ("usual_p25", now.latency_p25_ms),
            ("usual_p10", now.latency_p10_ms),
        ):
            if latency is not None:
                value = min(MAX_RATE, max(0.001, latency))
                usual = getattr(self, name) or value
                usual *= min(10.0, max(0.1, value / usual)) ** (
                    1 - math.exp(-step.dt / (30.0 if value < usual else 600.0))
                )
                setattr(self, name, usual)
                found.append((min(MAX_RATE, value / usual), value))
        return sorted(found)[(len(found) - 1) // 2]

    def fall(self, rate: float, step: Step, loop: float, setting: Setting) -> float:
        """Work fails: back to what is done, less what was refused."""
        seen = self.wrong + self.right
        if self.right < 0.1 * self.wrong or self.did < 4:
            return self.try_on(rate, loop, setting)
        if self.since_cut < 2 * loop:  # the cut was estimated from the first failures; correct it by what came after
            thought = self.known_good * self.since_cut
            if self.since_cut >= 0.5 and abs(self.did - thought) > 2 * math.sqrt(self.did):
                self.known_good = max(self.lowest, self.did / self.since_cut)
                if self.did < 0.95 * thought:
                    rate = min(rate, (1 - min(0.3, max(0.005, self.wrong / seen))) * self.known_good)
            return rate
        is_probe = 0 < self.known_good < rate
        if self.echoing:
            self.echo, self.echoing = min(3.0, 1.5 * loop), 0.0
        elif is_probe and seen >= 20:
            self.echoing = 1e-6
        if self.since_cut > 4 * loop:
            self.before = self.known_good
        good = self.good(rate)
        if step.errors >= 20:
            good = max(self.lowest, min(good, step.done / step.dt))
        back = 1 - min(0.3, max(0.005, (self.wrong - math.sqrt(self.wrong)) / seen))
        if is_probe and abs(good / self.known_good - 1) < 0.1:
            back = 0.995
        self.was_slow = self.slow_cuts = self.is_trial = 0.0
        self.was_probe = float(is_probe)
        return self.cut(rate, good, back)

    def try_on(self, rate: float, loop: float, setting: Setting) -> float:
        """Nothing is done, which says nothing of a limit: what was good stays so, and a few requests find the end."""
        trickle = 2 / setting.delay
        if self.since_cut < 2 * loop or rate <= trickle:
            return rate
        self.known_good = max(self.known_good or rate, self.before)
        self.since_cut = self.right = self.wrong = self.did = self.echoing = 0.0
        self.was_slow = self.slow_cuts = self.is_trial = self.was_probe = 0.0
        return max(trickle, 0.35 * rate)

    def ease(
        self, rate: float, now: Report, step: Step, slowdown: float, excess: float, loop: float, setting: Setting
    ) -> float:
        """Work takes too long: a rate that works off within 2 s what has queued up.

        A latency that does not follow the rate is no queue: after a trial cut in vain, it is the usual one.
        """
        assert now.latency_ms is not None
        target = setting.latency_target_ms
        hold = 2 * loop + 1
        if self.since_cut < hold:
            return rate
        slack = 0.1 * self.left + math.sqrt(self.left / self.balance_time())
        is_vain = step.left > step.done + step.errors and (self.ok or 0.0) < 0.1 * self.left  # it was all given up
        is_growing = is_vain or self.came > self.left + slack
        if self.left > self.came + slack and self.slow_cuts and target is None:
            return rate  # the queue is being worked off
        is_trial = not is_growing and self.slow_cuts > 0 and target is None
        if is_trial:
            wait = hold + min(30.0, now.latency_ms / 1000)
            if self.since_cut < wait:
                return rate
            if self.is_trial and slowdown >= 0.85 * self.slow_at:
                self.expect(now, 1.0)
                self.slow_cuts = self.is_trial = self.is_slow = 0.0
                return rate
        if not is_growing and target is None and self.balance_time() > 2:  # few, and no queue: it may be chance
            self.expect(now, 0.2)
        good = self.good(rate)
        back = 1 - min(0.5, max(0.4 if is_trial else 0.03, excess / 2))
        if self.known_good and not is_growing:  # no more comes than is done, so more may be possible
            done = self.ok or 0.0
            good = max(done, 0.9 * self.known_good)
            back *= min(1.0, done / good)
        self.slow_cuts, self.is_trial, self.slow_at, self.was_slow = 1.0, float(is_trial), slowdown, 1.0
        return self.cut(rate, good, back)

    def expect(self, now: Report, part: float) -> None:
        """Take a part of the way to the latency that is seen, if it is longer: all of it where it is accepted."""
        for name, latency in (
            ("usual", now.latency_ms),
            ("usual_p25", now.latency_p25_ms),
            ("usual_p10", now.latency_p10_ms),
        ):
            usual = getattr(self, name)
            if usual:
                setattr(self, name, usual * max(1.0, min(MAX_RATE, (latency or 0.0) / usual)) ** part)

    def good(self, rate: float) -> float:
        """What was done, which is what can be done while work waits; a stall counts for no less than half."""
        ok = self.did / self.since_cut if self.since_cut < 3 and self.did >= 10 else self.ok or 0.0
        self.lowest = min(self.known_good, 0.5 * rate) if self.known_good else 0.5 * rate
        return max(ok, self.lowest)

    def cut(self, rate: float, good: float, back: float) -> float:
        if not self.known_good:
            back = min(back, 0.7)
        elif rate > self.known_good and abs(good / self.known_good - 1) < 0.1:
            good = self.known_good + 0.3 * (good - self.known_good)  # the same limit as before: take the mean
        self.known_good = min(MAX_RATE, good)
        self.since_cut = self.right = self.wrong = self.did = 0.0
        return min(rate, back * self.known_good)

    def climb(self, rate: float, dt: float, loop: float, setting: Setting, *, is_easy: bool) -> float:
        """Double to the known good rate at most, rest there for two loops, then an excess that grows by itself."""
        if not self.known_good:
            return max(rate, min(rate * 2 ** (dt / setting.delay), 3 * (self.ok or 0.0)))
        self.slow_cuts = self.is_trial = 0.0
        lately = self.right * (1 - math.exp(-dt / 0.5)) / dt  # successes per second, of the last half
        if rate < 0.99 * self.known_good:
            self.calm = 0.0
            back = min(0.995 * self.known_good, toward(rate, self.known_good, dt, 0.5))
            return max(rate, min(back, rate * 2 ** (dt / setting.delay), 3 * lately))
        self.calm = min(LONG, self.calm + dt)
        if self.calm < 2 * loop and not is_easy:
            return rate
        excess = max(0.1 if is_easy else 0.01, rate / self.known_good - 1)
        grown = rate + self.known_good * 1.1 * excess * dt / loop
        return max(rate, min(grown, rate * 2 ** (dt / loop), 2 * lately))


LAWS: dict[str, type[Law]] = {"drain": Drain, "range": Range, "aimd": Aimd}  # in the order of preference


def fits(name: str, report: Report, setting: Setting) -> bool:
    if name == "drain":
        return report.depth is not None and report.done is not None
    if name == "range":
        return load_of(report) is not None and (report.capacity is not None or setting.rate is not None)
    return name == "aimd" and report.done is not None and (report.errors is not None or report.latency_ms is not None)


def only_looks_on(law: Law | None, report: Report, setting: Setting) -> bool:
    """It may have nothing to do, or look at a queue that others empty without a word."""
    if isinstance(law, Drain) and (law.capacity > 0 or law.highest > 0):
        return False
    does_nothing = not (report.done or report.errors or report.cancelled or report.in_flight)
    return does_nothing and setting.here >= LOOKING_ON_S


def choose(set_law: str | None, chosen: str | None, law: Law | None, report: Report, setting: Setting) -> str | None:
    """The law set, else the first that fits; once chosen, a law is left only for one higher in the list."""
    if not set_law and fits("range", report, setting) and only_looks_on(law, report, setting):
        return "range"
    order = [set_law] if set_law else list(LAWS)
    if chosen in order:
        order = order[: order.index(chosen) + 1]
    for name in order:
        if fits(name, report, setting):
            return name
    only_load = chosen != "drain" and load_of(report) is not None
    return chosen if chosen in order and not only_load else None


class Referee:
    """One consumer id: its law and what that law remembers, over all incarnations."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.law: Law | None = None

    def evaluate(
        self, set_law: str | None, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting
    ) -> Answer | None:
        name = choose(set_law, self.name, self.law, now, setting)
        if name is None:
            return None
        if name != self.name or self.law is None:
            self.name, self.law = name, LAWS[name]()
        return self.law.evaluate(was, now, dt, at, setting)

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
from typing import NamedTuple

MAX_RATE = 1e9
SLOWEST = 0.2  # one token per 5 s: the least that lets a law find its way back
LEAST_OF_BEST = 0.01
BEST_FADES_S = 600.0
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
    latency_ms: float | None = None
    busy_ms: float | None = None
    busy_done: float | None = None
    queue_peak: float | None = None


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

    def evaluate(self, was: Report | None, now: Report, dt: float | None, at: float, setting: Setting) -> Answer:
        said = self.judge(was, now, step_between(was, now, dt, setting), setting)
        self.best = max(said.seen, self.best * math.exp(-max(0.0, at - self.best_at) / BEST_FADES_S))
        self.best_at = at
        ceiling = min(MAX_RATE if x is None else x for x in (now.capacity, setting.rate, MAX_RATE))
        floor = max(SLOWEST, LEAST_OF_BEST * min(self.best, ceiling))
        self.rate = min(ceiling, max(floor, said.rate))
        answer = Answer(self.rate, said.capacity, said.window)
        self.round()
        return answer

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

    A consumer that measures how busy its workers were says more: what they did while none of them was idle, which is
    the capacity whatever the queue holds. Then as much of the rate is left unused as a short queue needs to take what
    comes unevenly, and a little more for each report in which it was full although the rate seemed right.
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
    trim: float = 0.0
    proof_age: float = LONG  # since it was seen as busy as can be; a day: never

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
            unused = self.trim + min(0.05, 0.003 * self.capacity / now.limit + 0.2 / now.limit)
        rate = self.capacity * (1 - unused) - (depth - self.aim(now)) / max(5.0, 3 * setting.delay)
        if self.is_stalled and now.limit:
            rate = min(rate, max(0.0, now.limit - depth) / setting.delay)
        return rate

    def aim(self, now: Report) -> float:
        """The queue that it wants: short, yet enough to prove that there is work."""
        wanted = 0.2 * self.capacity
        return max(1.0, min(wanted, 0.4 * now.limit) if now.limit else wanted)

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
        if self.proof_age < LONG:
            self.proof_age = min(self.proof_age + step.dt, LONG - 1)
        if not is_whole:  # it can do at least this, perhaps far more
            self.highest = max(self.highest, speed)
            if self.capacity and self.proof_age > 5:
                self.capacity = max(self.capacity, speed)
            return 0.0
        self.ok = toward(self.ok, speed, step.dt, setting.delay)
        before, after = was.depth or 0, now.depth or 0
        never_empty = before > 0 and before + (was.in_flight or 0) > step.left + (now.in_flight or 0)
        overflowed = now.limit is not None and step.errors > 0 and before + after > 0.5 * now.limit
        is_measured = was.busy_ms is not None and now.busy_ms is not None
        busy_s, busy_speed = self.busy_between(was, now, span) if is_measured else (0.0, 0.0)

        if not self.capacity:
            if busy_s >= 0.05 * span:
                self.capacity, self.proof_age = busy_speed, 0.0
            else:
                self.start(speed, never_empty, step, now, setting)
                if self.capacity and never_empty and is_measured:
                    self.proof_age = 0.0
            return self.ok
        self.before = self.capacity
        is_crowded = is_measured and now.limit is not None and min(before, after) > 0.5 * now.limit
        peak = max(before, after, now.queue_peak or 0)
        if is_measured and now.limit:
            is_right = speed >= 0.95 * (1 - self.trim) * self.capacity
            if peak > now.limit - 0.5 and is_right:
                self.trim = min(0.04, self.trim + 0.0025)
            else:
                self.trim = max(0.0, self.trim - 0.0005 * step.dt)
        if now.queue_peak is None and never_empty:
            busy_s = 0.0  # it sees its queue no more often than we do, and we have the better proof
        if busy_s > 0:
            proven = min(busy_speed, speed) if is_crowded else busy_speed
            is_filling = now.limit is not None and peak > 0.5 * now.limit
            self.follow(proven, busy_s, quickly=is_filling)
        if busy_s >= 0.1 * span:
            self.proof_age = 0.0
            self.stop_probing()
        elif never_empty or overflowed or is_crowded:
            self.follow(speed, step.dt, quickly=True)
            self.stop_probing()
            if is_measured:
                self.proof_age = 0.0
        elif speed > self.capacity and self.proof_age > 5:
            self.capacity = speed
        elif step.arrived / step.dt >= 0.65 * self.rate and after <= self.aim(now):
            self.reach(span, setting, is_measured=is_measured)
        else:
            self.stop_probing()
        return self.ok

    def busy_between(self, was: Report, now: Report, span: float) -> tuple[float, float]:
        """Seconds in which all workers were busy, and how fast they were; 0 where there was no such time."""
        seconds = ((now.busy_ms or 0) - (was.busy_ms or 0)) / 1000
        done = (now.busy_done or 0) - (was.busy_done or 0)
        if seconds <= 0 or done <= 0:
            return 0.0, 0.0
        return min(seconds, 2 * span), min(MAX_RATE, done / seconds)

    def follow(self, speed: float, seconds: float, *, quickly: bool) -> None:
        """Learn from a proof; downward in half the time where the queue fills."""
        tau = max(1.0, 10 / self.capacity) * (0.5 if quickly and speed < self.capacity else 1.0)
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

    def reach(self, span: float, setting: Setting, *, is_measured: bool) -> None:
        """Its producers want more and its queue is short: see whether it can do more, tethered to what it did."""
        knows_better = self.capacity < 0.9 * self.best
        most, least, tether = (0.5, 0.2, 2.0) if knows_better else (0.2, 0.0, 1.6)
        if is_measured:  # it says when it has reached the end
            most, least, tether = (0.5, least, 2.0) if self.proof_age < LONG else (1.0, 1.0, 3.0)
        if self.probe_age >= setting.delay:
            self.probe, self.probe_age = min(most, 2 * self.probe), 0.0
        self.probe = max(self.probe, least)
        top = max(self.capacity, tether * (self.ok or 0.0))
        self.capacity = min(top, self.capacity * (1 + self.probe) ** min(10.0, span / setting.delay))


@dataclass
class Aimd(Law):
    """TCP's rule for consumers that show no queue: climb while all is well, step down once per loop when it is not."""

    ok: float | None = None
    known_good: float = 0.0
    since_cut: float = LONG
    calm: float = 0.0
    minute_age: float = 0.0
    minute_mean: float = 0.0
    minute_reports: float = 0.0
    minutes: list[float] = field(default_factory=list)

    def judge(self, was: Report | None, now: Report, step: Step | None, setting: Setting) -> Verdict:
        rate, seen = self.rate or now.capacity or FIRST_RATE, 0.0
        if step is not None:
            self.since_cut = min(LONG, self.since_cut + step.dt)
            self.calm = min(LONG, self.calm + step.dt)
            if step.dt <= MISSED_REPORTS * setting.interval:
                rate = self.follow(rate, now, step, setting)
                seen = self.ok or 0.0
        return Verdict(rate, seen, self.known_good if now.capacity is None else now.capacity)

    def follow(self, rate: float, now: Report, step: Step, setting: Setting) -> float:
        hold = max(2.0, 2 * setting.delay + 1)
        self.ok = toward(self.ok, min(MAX_RATE, step.done / step.dt), step.dt, 1.0)
        is_slow = self.is_slow(now, step, setting)
        if step.errors > 0.05 * step.done or is_slow:
            if self.since_cut >= hold:
                self.known_good = max(self.ok, 0.5 * rate)
                rate = min(rate, 0.7 * self.known_good)
                self.since_cut = self.calm = 0.0
        elif step.arrived / step.dt >= 0.5 * rate and self.since_cut >= setting.delay:
            if not self.known_good:
                rate *= 2 ** (step.dt / setting.delay)
            elif rate < 0.94 * self.known_good:
                rate += (self.known_good - rate) * step.dt / hold
                self.calm = 0.0
            else:
                growth = 0.2 if self.calm > 60 else min(0.2, 0.01 * 2 ** ((self.calm - 10) / 5))
                rate *= (1 + growth) ** step.dt
        return rate

    def is_slow(self, now: Report, step: Step, setting: Setting) -> bool:
        """Latency counts only with work that left: an idle consumer may repeat an old one for ever."""
        if now.latency_ms is None or step.done + step.errors == 0:
            return False
        latency = min(MAX_RATE, now.latency_ms)
        self.minute_age += step.dt
        if self.minute_age >= 60 and self.minute_reports:
            self.minutes = [*self.minutes, self.minute_mean][-9:]
            self.minute_age = self.minute_mean = self.minute_reports = 0.0
        self.minute_reports += 1
        self.minute_mean += (latency - self.minute_mean) / self.minute_reports
        if setting.latency_target_ms is not None:
            return latency > setting.latency_target_ms
        return latency > max(10.0, 2 * min([*self.minutes, self.minute_mean]))


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

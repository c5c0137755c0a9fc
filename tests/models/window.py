"""The window rules and a whole coordinator in plain Python: what claim.lua and report.lua must amount to.

The window is TCP's, over a fleet: `net` tokens are out in the world, `arrived` of them are known to be no longer on the
way, and a claim may only take what the queues can still hold: `edge - net`. The coordinator adds the laws, the rules
across consumers and a bucket; shares, priorities and retries are not its subject: the plant asks it how much work
flows, not who sends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.harness.plant import IdTaken
from tests.harness.script_driver import START_US
from tests.models.laws import FIRST_RATE, SURGE, Drain, Referee, Report, Setting

LEASE, INTERVAL = 0.5, 0.25
SHORTEST_DEADLINE = 2.0
LATE = 3 * INTERVAL  # the horizon allows for a report of this age
SNAPSHOTS = 5
FORGOTTEN_AFTER = 10.0
ARRIVALS_TIME = 1.0
THIN = 50  # who gets less than a fiftieth of the arrivals counts as one that gets a fiftieth


@dataclass
class Session:
    """A consumer as the budget sees it. What its law learned stays until it leaves, the rest only while it is known."""

    referee: Referee = field(default_factory=Referee)
    state: str = "forgotten"  # or live, or silent
    joined_at: float = 0.0
    reported_at: float = 0.0
    silent_since: float = 0.0
    message: dict[str, Any] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    arrived: float = 0.0  # its own part of the window, under min
    arrivals: float = 0.0  # tokens per second
    rate: float = 0.0
    free: float = 0.0
    is_cold: bool = False


@dataclass
class Window:
    born: float
    transit: float = 1.0
    net: float = 0.0
    arrived: float = 0.0
    snapshots: list[float] = field(default_factory=lambda: [0.0] * SNAPSHOTS)
    slot: int | None = None

    def roll(self, t: float) -> None:
        """Five values of net, a quarter of T_x apart: what the oldest counts has arrived, or never will."""
        quarter_us = -(-round((LEASE + self.transit + LATE) * 1e6) // (SNAPSHOTS - 1))
        now = (START_US + round(t * 1e6)) // quarter_us
        for _ in range(0 if self.slot is None else min(SNAPSHOTS, now - self.slot)):
            self.snapshots = [self.net, *self.snapshots][:SNAPSHOTS]
        self.slot = now

    @property
    def oldest(self) -> float:
        return self.snapshots[-1]

    def burn(self, tokens: float) -> None:
        self.net -= tokens
        self.snapshots = [min(x, self.net) for x in self.snapshots]
        self.arrived = min(self.arrived, self.net)


class RefereeCoordinator:
    def __init__(
        self,
        setting: Setting | None = None,
        *,
        law: str | None = None,
        combine: str = "sum",
        is_lossless: bool = False,
        transit: float = 1.0,
        burst: float = 0.25,
    ) -> None:
        self.setting, self.law, self.is_lossless, self.burst = setting or Setting(), law, is_lossless, burst
        self.combine, self.transit = combine, transit
        self.lose_state(0.0)

    def of(self, *states: str) -> list[Session]:
        return [m for m in self.members.values() if m.state in states]

    # -- what the plant asks

    def claim(self, t: float, producer: str, want: float, burned: float, held: float) -> int:
        self.hear(t, burned)
        room = self.room(t)
        granted = int(max(0.0, min(want, self.tokens, want if room is None else self.admitted(room))))
        self.grant(granted)
        return granted

    def report(self, t: float, message: dict[str, Any]) -> None:
        self.expire(t)
        self.refill(t)
        now = Report(
            load=message.get("load"), capacity=message.get("capacity"), depth=message.get("queue_depth"),
            limit=message.get("queue_limit"), done=message.get("done"), errors=message.get("errors"),
            cancelled=message.get("cancelled"),
            in_flight=message.get("in_flight"), slots=message.get("slots"), latency_ms=message.get("latency_ms"),
            latency_p25_ms=message.get("latency_p25_ms"), latency_p10_ms=message.get("latency_p10_ms"),
            busy_ms=message.get("busy_ms"),
        )  # fmt: skip
        member = self.members.setdefault(message["instance_id"], Session())
        was, dt = None, None
        if member.message.get("incarnation") == message["incarnation"]:
            if message["seq"] <= member.message["seq"]:
                return
            if member.state != "forgotten":  # else what came to it meanwhile is written off, and it starts anew
                was, dt = member.report, (message["uptime_ms"] - member.message["uptime_ms"]) / 1000
        elif member.state == "live":
            raise IdTaken
        here = 0.0 if was is None else t - member.joined_at
        answer = member.referee.evaluate(self.law, was, now, dt, t, replace(self.setting, here=here))
        if answer is None:
            raise ValueError(f"no law fits {now}")
        self.place(t, member, was, now, dt)
        member.joined_at = t if was is None else member.joined_at
        member.free = answer.window * (now.limit or 0) - (now.depth or 0)
        if self.is_lossless and self.combine == "sum" and self.may_be_another_again(member):
            member.free = -(now.depth or 0)  # the limit is counted already
        member.state, member.reported_at, member.message, member.report = "live", t, message, now
        member.rate = answer.rate
        member.is_cold = answer.capacity == 0 and isinstance(member.referee.law, Drain) and now.limit is not None
        self.rate = self.combined()

    def leave(self, t: float, consumer: str) -> None:
        self.expire(t)
        self.refill(t)
        self.members.pop(consumer, None)
        self.rate = self.combined()

    def lose_state(self, t: float) -> None:
        self.window = Window(t, self.transit)
        self.has_window = self.is_lossless  # else from the first consumer on that says how much it can hold
        self.members: dict[str, Session] = {}
        self.rate = self.tokens = 0.0
        self.filled_at = t

    # -- the window

    def hear(self, t: float, burned: float) -> None:
        """What a claim says, before it is answered."""
        self.expire(t)
        self.refill(t)
        if self.has_window:
            self.window.roll(t)
            self.window.burn(burned)

    def grant(self, tokens: float) -> None:
        self.tokens -= tokens
        if self.has_window:
            self.window.net += tokens

    def place(self, t: float, member: Session, was: Report | None, now: Report, dt: float | None) -> None:
        """Its arrivals are no longer on the way; nor, while all reports are fresh, is what was granted T_x ago."""
        window = self.window
        self.has_window = True
        window.roll(t)
        came = 0.0
        if was is not None and dt:
            came = in_hands(now) - in_hands(was)
            most = SURGE * max(self.rate, member.arrivals, FIRST_RATE)  # a counter may jump
            member.arrivals += min(1.0, dt / ARRIVALS_TIME) * (min(most, max(0.0, came) / dt) - member.arrivals)
        if member.state == "forgotten":
            member.arrived = window.oldest
        window.arrived = min(window.net, window.arrived + came)
        member.arrived = min(window.net, member.arrived + came)
        others = [m for m in self.of("live", "silent") if m is not member]
        if all(m.state == "live" and t - m.reported_at <= LATE for m in others):
            window.arrived = max(window.arrived, window.oldest)
            member.arrived = max(member.arrived, window.oldest)

    def may_be_another_again(self, newcomer: Session) -> bool:
        """A consumer that crashed comes back under a new id while its old self still counts as live.

        Nor is a newcomer counted while one is about to be forgotten: the end of either state is one number in Redis.
        """
        since = newcomer.joined_at
        others = [m for m in self.of("live") if m is not newcomer]
        ending = (m.silent_since + FORGOTTEN_AFTER for m in self.of("silent") if m is not newcomer)
        return any(m.reported_at <= since for m in others) or any(end <= since + SHORTEST_DEADLINE for end in ending)

    def room(self, t: float) -> float | None:
        """Tokens that may still be granted; None where the window does not rule."""
        window, live, known = self.window, self.of("live"), self.of("live", "silent")
        if not self.is_lossless and not any(m.is_cold for m in live):
            return None
        if self.is_lossless and t < window.born + LEASE + window.transit:
            return 0.0
        if self.combine == "sum":
            return window.arrived + sum(m.free for m in live) - window.net
        if self.combine == "spread":
            return window.arrived + min((m.free for m in known), default=0.0) - window.net
        return min((m.arrived + m.free for m in known), default=0.0) - window.net

    def admitted(self, room: float) -> float:
        """Into a cold queue, one goes while none is on the way, or a window smaller than it would never open."""
        is_probe = not self.is_lossless and room > 0 and self.window.net <= self.window.arrived + 1e-6
        return max(room, 1.0) if is_probe else max(0.0, room)

    # -- time and the rate

    def refill(self, t: float) -> None:
        size = 1 + self.burst * self.rate if self.rate else 0.0
        self.tokens = min(size, self.tokens + self.rate * (t - self.filled_at))
        self.filled_at = t

    def expire(self, t: float) -> None:
        late = [m for m in self.of("live") if m.reported_at + SHORTEST_DEADLINE <= t]
        gone = [m for m in self.of("silent") if m.silent_since + FORGOTTEN_AFTER <= t]
        for member in gone:
            member.state = "forgotten"
        for member in late:
            member.state, member.silent_since = "silent", t
        if late or gone:
            self.refill(t)
            self.rate = self.combined()

    @property
    def is_nearly_idle(self) -> bool:
        """So little arrives that each one's part of it is a matter of rounding."""
        return self.combine == "spread" and sum(m.arrivals for m in self.of("live")) < THIN * 0.01

    def combined(self) -> float:
        live = self.of("live")
        rates = [m.rate for m in live]
        rate = sum(rates)
        if self.combine == "min":
            rate = 0.0 if self.of("silent") else min(rates, default=0.0)
        elif self.combine == "spread":
            moved = [m for m in live if m.arrivals > 0]
            if moved:
                even = sum(m.arrivals for m in moved) * min(m.rate / m.arrivals for m in moved)
                rate = min(rate, even, THIN * min(rates))
        return rate if self.setting.rate is None else min(rate, self.setting.rate)


def in_hands(report: Report) -> float:
    """All that ever reached a consumer."""
    left = (report.done or 0) + (report.errors or 0) + (report.cancelled or 0)
    return left + (report.in_flight or 0) + (report.depth or 0)

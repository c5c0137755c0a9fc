"""The window rules and a whole coordinator in plain Python: what claim.lua and report.lua must amount to.

The window is TCP's, over a fleet: `net` tokens are out in the world, `arrived` of them are known to be no longer on the
way, and a claim may only take what the queues can still hold: `edge - net`. The coordinator adds the laws and a bucket;
shares, priorities and retries are not its subject: the plant asks it how much work flows, not who sends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.referee_laws import Drain, Referee, Report, Setting

LEASE, INTERVAL = 0.5, 0.25
SHORTEST_DEADLINE = 2.0
SNAPSHOTS = 5
FORGOTTEN_AFTER = 10.0


@dataclass
class Member:
    """A consumer as the budget sees it."""

    referee: Referee
    reported_at: float
    message: dict[str, Any]
    report: Report
    arrived: float
    rate: float = 0.0
    window: float = 1.0
    is_cold: bool = False

    @property
    def deadline(self) -> float:
        return self.reported_at + SHORTEST_DEADLINE

    @property
    def free(self) -> float:
        return self.window * (self.report.limit or 0) - (self.report.depth or 0)


@dataclass
class Window:
    born: float
    transit: float = 1.0
    combine: str = "sum"
    net: float = 0.0
    arrived: float = 0.0
    snapshots: list[float] = field(default_factory=lambda: [0.0])
    slot: int = 0

    @property
    def horizon(self) -> float:
        """T_x: what was granted before it has arrived, or never will."""
        return LEASE + self.transit + 3 * INTERVAL

    def roll(self, t: float) -> None:
        now = int((t - self.born) / (self.horizon / (SNAPSHOTS - 1)))
        for _ in range(min(SNAPSHOTS, now - self.slot)):
            self.snapshots = [self.net, *self.snapshots][:SNAPSHOTS]
        self.slot = max(self.slot, now)

    def grant(self, t: float, tokens: float) -> None:
        self.roll(t)
        self.net += tokens

    def burn(self, tokens: float) -> None:
        self.net -= tokens
        self.snapshots = [min(x, self.net) for x in self.snapshots]

    def arrive(self, member: Member, tokens: float) -> None:
        self.arrived = min(self.net, self.arrived + tokens)
        member.arrived = min(self.net, member.arrived + tokens)

    def heal(self, t: float, live: list[Member], silent: list[Member]) -> None:
        """Not while anyone is late: the horizon allows for three intervals without a report, a deadline for more."""
        self.roll(t)
        if silent or any(t - m.reported_at > 3 * INTERVAL for m in live):
            return
        if t - self.born < self.horizon or len(self.snapshots) < SNAPSHOTS:
            return
        self.arrived = max(self.arrived, self.snapshots[-1])
        for member in live:
            member.arrived = max(member.arrived, self.snapshots[-1])

    def edge(self, live: list[Member], silent: list[Member]) -> float:
        if self.combine == "sum":
            return self.arrived + sum(m.free for m in live)
        if self.combine == "spread":
            return self.arrived + min(m.free for m in live + silent)
        return min(m.arrived + m.free for m in live + silent)


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
        self.window = Window(0.0, transit, combine)
        self.live: dict[str, Member] = {}
        self.silent: dict[str, Member] = {}
        self.rate = self.tokens = self.filled_at = 0.0

    def claim(self, t: float, producer: str, want: float, burned: float) -> int:
        self.expire(t)
        self.refill(t)
        self.window.burn(burned)
        granted = int(max(0.0, min(want, self.tokens, self.room(t))))
        self.tokens -= granted
        self.window.grant(t, granted)
        return granted

    def report(self, t: float, message: dict[str, Any]) -> None:
        self.expire(t)
        self.refill(t)
        now = Report(
            load=message.get("load"), capacity=message.get("capacity"), depth=message.get("queue_depth"),
            limit=message.get("queue_limit"), done=message.get("done"), errors=message.get("errors"),
            in_flight=message.get("in_flight"), slots=message.get("slots"), latency_ms=message.get("latency_ms"),
        )  # fmt: skip
        name = message["instance_id"]
        member = self.live.get(name) or self.silent.pop(name, None)
        was, dt = None, None
        if member is None:
            self.window.roll(t)
            start = self.window.snapshots[-1] if self.is_lossless else self.window.net
            member = Member(Referee(), t, message, now, start)
        elif member.message["incarnation"] == message["incarnation"]:
            if message["seq"] <= member.message["seq"]:
                return
            was, dt = member.report, (message["uptime_ms"] - member.message["uptime_ms"]) / 1000
        self.live[name] = member
        if was is not None:
            self.window.arrive(member, max(0.0, in_hands(now) - in_hands(was)))
        answer = member.referee.evaluate(self.law, was, now, dt, t, self.setting)
        if answer is None:
            raise ValueError(f"no law fits {now}")
        member.reported_at, member.message, member.report = t, message, now
        member.rate, member.window = answer.rate, answer.window
        member.is_cold = answer.capacity == 0 and isinstance(member.referee.law, Drain) and now.limit is not None
        self.total()
        if self.is_lossless:
            self.window.heal(t, list(self.live.values()), list(self.silent.values()))

    def leave(self, t: float, consumer: str) -> None:
        self.refill(t)
        self.live.pop(consumer, None)
        self.silent.pop(consumer, None)
        self.total()

    def room(self, t: float) -> float:
        live, silent = list(self.live.values()), list(self.silent.values())
        if self.is_lossless:
            if t < self.window.born + LEASE + self.window.transit or not live:
                return 0.0
            self.window.heal(t, live, silent)
        elif not any(m.is_cold for m in live):
            return float("inf")
        return self.window.edge(live, silent if self.is_lossless else []) - self.window.net

    def refill(self, t: float) -> None:
        size = 1 + self.burst * self.rate if self.rate else 0.0
        self.tokens = min(size, self.tokens + self.rate * (t - self.filled_at))
        self.filled_at = t

    def expire(self, t: float) -> None:
        late = [k for k, m in self.live.items() if m.deadline < t]
        if late:
            self.refill(t)
            for name in late:
                self.silent[name] = self.live.pop(name)
            self.total()
        self.silent = {k: m for k, m in self.silent.items() if t - m.deadline <= FORGOTTEN_AFTER}

    def total(self) -> None:
        rates = [m.rate for m in self.live.values()]
        if self.window.combine == "sum":
            self.rate = sum(rates)
        else:
            self.rate = 0.0 if self.silent and self.window.combine == "min" else min(rates, default=0.0)
        if self.setting.rate is not None:
            self.rate = min(self.rate, self.setting.rate)


def in_hands(report: Report) -> float:
    """All that ever reached a consumer."""
    return (report.done or 0) + (report.errors or 0) + (report.in_flight or 0) + (report.depth or 0)

"""What a producer hands back: it may have used that all the same, and pays for it with its credit."""

from __future__ import annotations

import pytest

from tests.harness.script_driver import MICRO, ScriptDriver
from tests.harness.servers import Server


@pytest.fixture
def fleet_story(one_server: Server) -> ScriptDriver:
    """A budget on one real server, since there is much arithmetic."""
    return ScriptDriver(one_server.fast_client())


class Greedy:
    """One of several that want all of the budget. A liar hands back what it has used, in one of several ways."""

    def __init__(self, story: ScriptDriver, name: str, rate: float, lies: str = "") -> None:
        self.story, self.name, self.rate, self.lies = story, name, rate, lies
        self.got = self.said = 0.0
        self.calls = 0

    def asks(self, tokens: float, **ask: float) -> float:
        ask.setdefault("requested_rate", self.rate)
        granted = self.story.claim(self.name, tokens=tokens, **ask).granted / MICRO
        self.got += granted
        return granted

    def comes(self) -> None:
        self.calls += 1
        want = 0.12 * self.rate
        match self.lies:
            case "":
                self.asks(want)
            case "with each claim":
                self.said = self.asks(want, unused=self.said)
            case "as if it were idle":
                self.asks(0, unused=self.said, requested_rate=0)
                self.said = self.asks(want)
            case _:
                self.said += self.asks(want, held=self.said)
                if self.lies == "saved up" and self.calls % 10 == 0:
                    self.asks(0, unused=self.said, requested_rate=0)
                    self.said = 0
                elif self.lies == "when it leaves" and self.calls % 5 == 0:
                    self.story.leave(self.name, unused=self.said)
                    self.said = 0


LIES = ("with each claim", "as if it were idle", "saved up", "when it leaves")


@pytest.mark.parametrize("lies", LIES)
@pytest.mark.parametrize("fleet", [4, 8])
def test_a_false_return_costs_the_liar(fleet_story: ScriptDriver, lies: str, fleet: int) -> None:
    """Tokens that are handed back although they were used cost the liar more than the budget."""
    rate = 500.0
    fleet_story.configure(rate=rate)
    liar = Greedy(fleet_story, "liar", rate, lies)
    all_ = [liar, *(Greedy(fleet_story, f"p{i}", rate) for i in range(fleet - 1))]
    for i in range(250):
        if i == 50:
            for each in all_:
                each.got = 0
        for j, each in enumerate(all_):
            fleet_story.at(1 + i / 10 + j / 10 / fleet)
            each.comes()
    assert sum(each.got for each in all_) <= 1.11 * rate * 20
    assert liar.got <= 0.9 * rate * 20 / fleet


def test_a_rested_producer_has_its_share(fleet_story: ScriptDriver) -> None:
    """A producer that hands back and rests has its share when it is back."""
    story, rate = fleet_story, 500.0
    story.configure(rate=rate)
    others, own = [Greedy(story, f"p{i}", rate) for i in range(3)], Greedy(story, "own", rate)
    for i in range(200):
        for j, each in enumerate((own, *others)):
            story.at(1 + i / 10 + j / 40)
            if each is not own or i % 10 < 4:  # 0.4 s of work, and then 0.6 s without
                held = each.asks(0.03 * rate)
            elif i % 10 == 4:
                each.asks(0, unused=held, requested_rate=0)
    assert own.got >= 0.9 * 0.4 * 20 * 0.03 * rate * 10


@pytest.mark.parametrize("to", [100, 500, 800])
def test_handing_back_for_a_drop_is_cheap(fleet_story: ScriptDriver, to: float) -> None:
    """What is handed back for a drop of the rate costs next to nothing."""
    story = fleet_story
    story.configure(rate=1000)
    fleet = [Greedy(story, f"p{i}", 1000) for i in range(4)]
    held = dict.fromkeys(fleet, 0.0)
    for i in range(60):
        if i == 20:
            story.configure(rate=to)
            for each in fleet:
                each.got = 0
        for j, each in enumerate(fleet):
            story.at(1 + i / 10 + j / 40)
            held[each] = each.asks(0.12 * to, unused=held[each] * (1 - to / 1000) if i == 20 else 0)
    assert sum(each.got for each in fleet) >= 0.93 * to * 4

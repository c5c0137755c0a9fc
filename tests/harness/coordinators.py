"""The real scripts behind the plant, alone or in step with their referee.

`ScriptCoordinator` runs claim.lua, report.lua and leave.lua on a real server, each at the plant's instant (`at_us`):
an hour of the plant takes as long as its calls. `InStep` asks both: the plant lives by what the scripts answer, the
referee hears the same and what was granted, and after each report both must name the same rate and the same room.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import redis

from nexus_redis._protocol import calls, scripts
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call
from nexus_redis._protocol.scripts import NAMES, script
from nexus_redis._values.settings import BudgetSettings, micro
from tests.harness.fast_client import FastClient
from tests.harness.packing import numbers
from tests.harness.plain_bundle import without_rules
from tests.harness.plant import IdTaken
from tests.harness.script_driver import START_US
from tests.models.laws import Setting
from tests.models.window import RefereeCoordinator
from tools import bundle_lua

MICRO = 1_000_000
COMPOSED = pytest.mark.xdist_group("composed")  # one worker reads the sources and composes changed scripts of them


@cache
def with_a_bug(name: str, line: str, instead: str) -> str:
    """A script as composed from sources in which a line is another one, where it has that line."""
    source, path = bundle_lua.source, scripts._folder() / f"{name}.lua"
    if line not in scripts.with_parts(path, set()):
        return script(name).text  # to compose it takes seconds

    def changed(path: Path) -> str:
        text = source(path)
        assert text.count(line) <= 1, line
        return text.replace(line, instead)

    with patch.object(bundle_lua, "source", changed), without_rules():
        return bundle_lua.composed(path)


class ScriptCoordinator:
    """One budget on the server behind `client`, best a `FastClient`; `told` are its settings, none by default.

    `planted` (text of the scripts, what to put instead) breaks them, to show that somebody notices.
    """

    _numbers = itertools.count()

    def __init__(self, client: redis.Redis, planted: tuple[str, str] | None = None, **told: Any) -> None:
        self.client = client
        self.keys = BudgetKeys("test", f"plant{next(self._numbers)}")
        self.told = BudgetSettings.of(**told)
        self.rate = 0.0
        self.seqs: dict[str, int] = {}
        self.shas: dict[str, str] = {}
        for name in NAMES:
            text = script(name).text if planted is None else with_a_bug(name, *planted)
            self.shas[name] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            self.ask("SCRIPT", "LOAD", text)
        is_as_written = all(self.shas[name] == script(name).sha for name in NAMES)
        assert is_as_written is (planted is None), "nothing planted"
        self.open(0.0)

    def open(self, t: float) -> None:
        self.run(calls.configure(self.keys, self.told, at_us=at_us(t)))

    def ask(self, *words: str | int) -> Any:
        if isinstance(self.client, FastClient):
            return self.client.ask(*words)
        connection = self.client.connection
        assert connection is not None  # a single-connection client: the others add a third to what a claim costs
        connection.send_command(*words)  # type: ignore[no-untyped-call]  # redis-py's
        return connection.read_response()

    def run(self, call: Call[Any]) -> Any:
        return call.decode(self.ask("EVALSHA", self.shas[call.script.name], len(call.keys), *call.keys, *call.args))

    def claim(self, t: float, producer: str, want: float, burned: float, held: float) -> int:
        self.seqs[producer] = self.seqs.get(producer, 0) + 1
        tokens = int(want) * MICRO
        ask = calls.Claim(
            need=min(MICRO, tokens),
            tokens=tokens,
            requested_rate=micro(10 * want),
            held=micro(held),
            burned=micro(burned),
            incarnation=producer,
            seq=self.seqs[producer],
        )
        answer: calls.Answer = self.run(calls.claim(self.keys, producer, ask, at_us=at_us(t), with_all_keys=True))
        return answer.granted // MICRO

    def report(self, t: float, message: dict[str, Any]) -> None:
        said = {name: value for name, value in message.items() if name in calls.REPORTED}
        incarnation, seq = str(message["incarnation"]), message["seq"]
        call = calls.report(self.keys, message["instance_id"], said, incarnation, seq, at_us=at_us(t))
        try:
            standing: calls.Standing = self.run(call)
        except redis.ResponseError as refusal:
            if "NEXUS_ID_TAKEN" in str(refusal):
                raise IdTaken from None
            raise
        self.rate = standing.budget_rate

    def leave(self, t: float, consumer: str) -> None:
        self.run(calls.leave_consumer(self.keys, consumer, "*", at_us=at_us(t)))

    def lose_state(self, t: float) -> None:
        for key in self.ask("KEYS", f"{self.keys.namespace}:{{{self.keys.name}}}*"):
            self.ask("DEL", key)
        self.seqs.clear()
        self.open(t)

    def room(self) -> float | None:
        """Tokens that the window lets pass; None where it does not rule."""
        window = numbers("window", self.ask("GET", self.keys.state) or b"")
        if not window:
            return None
        is_active, edge, net = window[:3]
        return (edge - net) / MICRO if is_active else None


class InStep:
    """Both at once. `differences` says where the referee would have had it otherwise."""

    def __init__(self, scripts: ScriptCoordinator) -> None:
        told = scripts.told
        transit = 1.0 if told.transit is None else told.transit
        self.scripts = scripts
        self.referee = RefereeCoordinator(
            Setting(rate=told.rate, loop_delay=told.transit or 0.0),
            combine=told.combine or "sum",
            is_lossless=bool(told.lossless),
            transit=transit,
        )
        self.differences: list[str] = []

    def claim(self, t: float, producer: str, want: float, burned: float, held: float) -> int:
        granted = self.scripts.claim(t, producer, want, burned, held)
        self.referee.hear(t, burned)
        room = self.referee.room(t)
        if room is not None and granted > self.referee.admitted(room) + 1e-3:
            self.differences.append(f"{t:.3f} s: granted {granted} into a room of {room:.3f}")
        self.referee.grant(granted)
        return granted

    def report(self, t: float, message: dict[str, Any]) -> None:
        self.both("report", t, message)
        if not self.referee.is_nearly_idle:
            self.compare(t, "rate", self.scripts.rate, self.referee.rate)
        self.compare(t, "room", self.scripts.room(), self.open_room(t))

    def leave(self, t: float, consumer: str) -> None:
        self.both("leave", t, consumer)

    def lose_state(self, t: float) -> None:
        self.both("lose_state", t)

    def both(self, what: str, t: float, *of: Any) -> None:
        refused = []
        for side in (self.scripts, self.referee):
            try:
                getattr(side, what)(t, *of)
            except IdTaken:
                refused.append(side)
        if len(refused) == 1:
            self.differences.append(f"{t:.3f} s: only one refuses {of}")
        if refused:
            raise IdTaken

    def open_room(self, t: float) -> float | None:
        """The referee's, as if no budget were ever young: the scripts hold that back in the claim."""
        return self.referee.room(max(t, 86_400.0))

    def compare(self, t: float, what: str, ours: float | None, theirs: float | None) -> None:
        if ours is None or theirs is None:
            is_same = ours is theirs
        else:
            is_same = math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-3)
        if not is_same:
            self.differences.append(f"{t:.3f} s: {what} {ours} but {theirs}")


def at_us(t: float) -> int:
    return START_US + round(t * MICRO)

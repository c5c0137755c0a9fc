"""The scripts told as a story: `story.at(1.5).claim("p1", tokens=10)`. The instant is pinned, so nothing sleeps.

Amounts are tokens here; the story turns them into the scripts' micro-tokens and back.
"""

from __future__ import annotations

from typing import Any, Self

import redis

from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call
from nexus_redis._values.settings import BudgetSettings, micro
from tests.harness.packing import changed, numbers

START_US = 1_800_000_000_000_000  # a story's zero on the server's clock
MICRO = 1_000_000


class ScriptDriver:
    """One budget on the server behind `client`."""

    def __init__(self, client: redis.Redis, name: str = "story") -> None:
        self.client, self.now = client, 0.0
        self.keys = BudgetKeys("test", name)
        self.seqs: dict[str, int] = {}

    def at(self, now: float) -> Self:
        """Go on at this second of the story."""
        self.now = now
        return self

    def set_back(self, seconds: float) -> Self:
        """Set the server's clock back; the scripts believe it after five seconds of service."""
        for step in (0, -seconds, 5):
            self.at(self.now + step).claim("eye", tokens=0)
        return self

    @property
    def at_us(self) -> int:
        """The instant as the scripts are told it."""
        return START_US + round(self.now * MICRO)

    def run(self, call: Call[Any]) -> Any:
        """One call, now."""
        return call.decode(self.raw(call))

    def raw(self, call: Call[Any]) -> Any:
        """One call, now; its reply as the server gave it."""
        try:
            return self.client.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
        except redis.exceptions.NoScriptError:
            return self.client.eval(call.script.text, len(call.keys), *call.keys, *call.args)

    def configure(self, source: str = "code", unset: tuple[str, ...] = (), pause: float | None = None,
                  who: str = "", why: str = "", **settings: Any) -> calls.Configured:  # fmt: skip
        """Open, set, unset, pause."""
        given = BudgetSettings.of(**settings)
        configured: calls.Configured = self.run(
            calls.configure(
                self.keys, given, source=source, unset=unset, pause=pause, note=why, who=who, at_us=self.at_us
            )
        )
        return configured

    def claim(self, producer: str = "p", tokens: float = 1, **ask: Any) -> calls.Answer:
        """A claim of `tokens`; need is one token or all of a smaller want, the demand is what is wanted a second."""
        amounts = {"need": min(1, tokens), "requested_rate": tokens, "held": 0.0, "unused": 0.0, "burned": 0.0}
        amounts |= {name: ask.pop(name) for name in tuple(ask) if name in amounts}
        weight = micro(ask.pop("weight", 1))
        seq = ask.pop("seq", self.seqs.get(producer, 0) + 1)
        self.seqs[producer] = max(seq, self.seqs.get(producer, 0))
        whole: dict[str, Any] = {name: micro(value) for name, value in amounts.items()}
        return self.claim_of(producer, calls.Claim(
            tokens=micro(tokens), weight=weight, seq=seq, incarnation=ask.pop("incarnation", producer), **whole, **ask
        ))  # fmt: skip

    def claim_of(self, producer: str, ask: calls.Claim) -> calls.Answer:
        """The claim as given."""
        answer: calls.Answer = self.run(calls.claim(self.keys, producer, ask, at_us=self.at_us, with_all_keys=True))
        return answer

    def report(self, consumer: str = "c", seq: int | None = None, incarnation: str | None = None,
               **said: float | None) -> calls.Standing:  # fmt: skip
        """A report; its uptime is the story's time unless said."""
        number = self.seqs.get(f"consumer {consumer}", 0) + 1 if seq is None else seq
        self.seqs[f"consumer {consumer}"] = number
        said.setdefault("uptime_ms", self.now * 1e3)
        standing: calls.Standing = self.run(
            calls.report(self.keys, consumer, said, consumer if incarnation is None else incarnation, number,
                         at_us=self.at_us)
        )  # fmt: skip
        return standing

    def leave(self, producer: str | None = None, consumer: str | None = None, unused: float = 0,
              incarnation: str | None = None) -> Any:  # fmt: skip
        """A producer or a consumer goes."""
        if producer is not None:
            who = producer if incarnation is None else incarnation
            return self.run(calls.leave_producer(self.keys, producer, who, micro(unused), at_us=self.at_us))
        assert consumer is not None
        who = consumer if incarnation is None else incarnation
        return self.run(calls.leave_consumer(self.keys, consumer, who, at_us=self.at_us))

    def inspect(self) -> calls.Inspection:
        """All of it."""
        inspection: calls.Inspection = self.run(calls.inspect(self.keys, at_us=self.at_us))
        return inspection

    def field(self, name: str) -> str:
        """One field of the budget's hash, "" where it is not there."""
        value = self.client.hget(self.keys.budget, name)
        return "" if value is None else calls.text(value)

    def shown(self, name: str) -> str:
        """One field of the budget as `inspect` gives it: at this instant."""
        return self.inspect().fields.get(name, "")

    def lose(self) -> None:
        """Take the budget away, as an eviction does; its members stay."""
        self.client.delete(self.keys.budget, self.keys.state)

    def numbers(self, part: str, producer: str | None = None) -> list[Any]:
        """A part of the budget's state, or of a producer's."""
        state: Any = self.client.get(self.keys.state if producer is None else self.keys.producer_state(producer))
        return numbers(part, state or b"")

    def change(self, part: str, place: int, number: float) -> None:
        """Another number in this place of a part of the budget's state."""
        state: Any = self.client.get(self.keys.state)
        self.client.set(self.keys.state, changed(part, state, place, number), keepttl=True)

    @property
    def tokens(self) -> int:
        """The bucket, in micro-tokens."""
        tokens: int = self.numbers("bucket")[3]
        return tokens

    @property
    def reserved(self) -> int:
        """Micro-tokens a second that the bucket does not earn: the shares of those who fell silent, awaited."""
        terms = self.numbers("terms")
        return int(min(terms[21], terms[0] / 2))

    @property
    def state(self) -> dict[str, Any]:
        """Every key on the server with all that it holds: equal before and after a call that changes nothing."""
        return keyspace(self.client)

    @property
    def notes(self) -> list[dict[str, str]]:
        """The history, oldest first."""
        entries: Any = self.client.xrange(self.keys.history)
        return [{calls.text(k): calls.text(v) for k, v in fields.items()} for _, fields in entries]


READ: dict[str, tuple[str | int, ...]] = {
    "hash": ("HGETALL", ""), "zset": ("ZRANGE", "", 0, -1, "WITHSCORES"), "stream": ("XRANGE", "", "-", "+"),
    "string": ("GET", ""), "list": ("LRANGE", "", 0, -1),
}  # fmt: skip


def keyspace(client: redis.Redis) -> dict[str, Any]:
    """What every key holds, by name."""
    found: Any = client.keys("*")
    names = sorted(calls.text(name) for name in found)
    types = client.pipeline(transaction=False)
    for name in names:
        types.type(name)
    values = client.pipeline(transaction=False)
    for name, kind in zip(names, types.execute(), strict=True):
        command, _, *more = READ[calls.text(kind)]
        values.execute_command(command, name, *more)  # type: ignore[no-untyped-call]  # redis-py
    return dict(zip(names, values.execute(), strict=True))

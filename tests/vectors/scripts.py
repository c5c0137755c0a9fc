"""The golden calls of `scripts.json`: one story from an empty database, at pinned instants, byte by byte.

A client in another language runs them in order and compares: the message, the keys and arguments that it sends for it,
the reply, the message that it makes of the reply, and what is published. `python -m tests.vectors` writes the file
anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from nexus_redis._core.signal_request import flow_of
from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import Claim
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call
from nexus_redis._values.settings import BudgetSettings, micro
from nexus_redis.messages import CapacitySignal, LoadReport

FILE = Path(__file__).parent / "scripts.json"
BUDGET = "elasticsearch"
KEYS = BudgetKeys("nexus", BUDGET)
START_US = 1_800_000_000_000_000
Step = tuple[str, CapacitySignal | LoadReport | None, Call[Any]]


def at_us(seconds: float) -> int:
    return START_US + round(seconds * 1_000_000)


def signal(note: str, at: float, producer: str = "filebeat-1", rate: float = 0, *, with_all_keys: bool = False,
           **asked: Any) -> Step:  # fmt: skip
    """A claim, from the message that asks for it."""
    message = CapacitySignal(producer_id=producer, consumer_id=BUDGET, requested_rate=rate, **asked)
    ask = Claim(
        need=micro(message.need or 0),
        tokens=micro(message.tokens or 0),
        requested_rate=micro(message.requested_rate),
        whole=bool(message.whole),
        held=micro(message.held or 0),
        unused=micro(message.unused or 0),
        burned=micro(message.burned or 0),
        weight=micro(message.weight or 1),
        priority=message.priority or "normal",
        incarnation=message.incarnation or "",
        seq=message.seq or 0,
        birth=message.birth or "",
        granted_total=message.granted_total or 0,
        fallback_rate=micro(message.fallback_rate or 0),
        degraded=micro(message.degraded or 0),
    )
    return note, message, calls.claim(KEYS, producer, ask, at_us(at), with_all_keys=with_all_keys)


def load(note: str, at: float, consumer: str = "es-1", **said: Any) -> Step:
    """A report, from the message that it is."""
    message = LoadReport(consumer_id=BUDGET, instance_id=consumer, **said)
    fields = {name: getattr(message, name) for name in calls.REPORTED}
    call = calls.report(KEYS, consumer, fields, message.incarnation or "", message.seq or 0, at_us=at_us(at))
    return note, message, call


def configure(say: str, at: float, settings: BudgetSettings | None = None, **act: Any) -> Step:
    return say, None, calls.configure(KEYS, settings, at_us=at_us(at), **act)


def leave(note: str, call: Call[Any]) -> Step:
    return note, None, call


def story() -> Iterator[Step]:
    """Every script, and of each what it answers in its several moods."""
    mine: dict[str, Any] = {"incarnation": "k3f9", "birth": str(START_US)}
    yield signal("a budget that nobody knows", 0, rate=10_000, tokens=1, incarnation="k3f9", seq=1)
    yield load("the protocol's example: the report", 0.1, load=95, capacity=400)
    yield signal("the protocol's example: the signal", 0.2, "filebeat-9", rate=10_000)
    yield signal("a claim that waits", 0.2, rate=10_000, tokens=50, need=1, seq=2, **mine)
    yield signal("the same again: a retry", 0.3, rate=10_000, tokens=50, need=1, seq=2, **mine)
    yield signal("an older one", 0.3, rate=10_000, tokens=50, need=1, seq=1, **mine)
    yield signal("somebody else under this id", 0.3, rate=1, incarnation="zz", seq=1)
    yield configure("code opens it", 0.4, BudgetSettings(rate=200, burst=0.5))
    yield load("a pool of two", 0.5, "es-2", capacity=600, queue_depth=50, queue_limit=100, incarnation="m1", seq=1,
               uptime_ms=250, done=0, errors=0, in_flight=0)  # fmt: skip
    yield signal("a grant", 0.7, rate=150.5, tokens=12.5, need=2.5, seq=3, granted_total=1, **mine)
    yield signal("a hand-back, by one of weight 2.5", 0.8, rate=150.5, tokens=0, held=4, unused=5, burned=0.25,
                 weight=2.5, priority="high", seq=4, granted_total=13, **mine)  # fmt: skip
    yield signal("all or nothing", 0.8, "filebeat-2", rate=20, tokens=3, need=3, whole=True, priority="low", seq=1,
                 incarnation="b7")  # fmt: skip
    yield load("a consumer that learns", 0.85, "es-2", capacity=600, queue_depth=40, queue_limit=100, incarnation="m1",
               seq=2, uptime_ms=500, done=120, errors=1, in_flight=5, latency_ms=12.5, interval_ms=250)  # fmt: skip
    yield load("a report too many", 0.9, "es-2", load=1, capacity=1, incarnation="m1", seq=1)
    yield load("a count, and nothing to go by", 0.9, "es-3", done=3)
    yield configure(
        "an operator has the last word",
        1,
        BudgetSettings(rate=90, law="range"),
        source="operator",
        who="anna@ops1",
        note="maintenance",
    )
    yield configure("code is overruled", 1.1, BudgetSettings(rate=500))
    yield configure("a floor above the ceiling", 1.1, BudgetSettings(min_rate=501))
    yield configure("a pause", 1.2, pause=30, note="429 Retry-After")
    yield signal("a claim in a pause", 1.3, "filebeat-2", rate=20, tokens=1, need=1, incarnation="b7", seq=2)
    yield configure("resumed", 1.4, pause=0)
    yield configure("an operator takes his words back", 1.5, unset=("rate", "law"), source="operator")
    yield leave("a consumer leaves", calls.leave_consumer(KEYS, "es-2", "m1", at_us(1.6)))
    late: dict[str, Any] = {"rate": 20, "tokens": 1, "need": 1, "incarnation": "b7", "seq": 3}
    yield signal("something is due", 4, "filebeat-2", **late)
    yield signal("the same with all keys: the other has fallen silent", 4, "filebeat-2", with_all_keys=True, **late)
    yield leave("an operator forgets it", calls.leave_consumer(KEYS, "es-1", "*", at_us(4.1)))
    yield signal("the budget is its rate", 4.2, "filebeat-2", rate=20, tokens=1, need=1, incarnation="b7", seq=4)
    yield leave("a producer leaves", calls.leave_producer(KEYS, "filebeat-2", "b7", 500_000, 0, at_us(4.3)))
    yield leave("a producer that nobody knows", calls.leave_producer(KEYS, "nobody", "b7", 1, 0, at_us(4.3)))
    yield "everything", None, calls.inspect(KEYS, 0, 10, at_us(4.4))


def record(client: redis.Redis) -> dict[str, Any]:
    """The story as it goes on this server, which is empty."""
    with client.pubsub() as ear:  # type: ignore[no-untyped-call]  # redis-py
        ear.subscribe(KEYS.flow)
        _heard(ear)
        found = [_told(client, ear, *step) for step in story()]
    return {"namespace": KEYS.namespace, "budget": KEYS.name, "channel": KEYS.flow, "calls": found}


def _heard(ear: Any) -> list[str]:
    """What came on the channel; a reply of our own behind it marks the end."""
    ear.ping("end")
    found: list[str] = []
    while (message := ear.get_message(timeout=60)) is None or message["type"] != "pong":
        if message is not None and message["type"] == "message":
            found.append(calls.text(message["data"]))
    return found


def _told(
    client: redis.Redis, ear: Any, note: str, message: CapacitySignal | LoadReport | None, call: Call[Any]
) -> dict[str, Any]:
    told: dict[str, Any] = {"note": note, "script": call.script.name}
    if message:
        told["message"] = message.to_json()
    told |= {"keys": list(call.keys), "argv": [str(arg) for arg in call.args]}
    try:
        reply = client.eval(call.script.text, len(call.keys), *call.keys, *call.args)
    except redis.exceptions.ResponseError as refusal:
        return told | {"error": str(refusal)}
    told["reply"] = _texts(reply)
    if published := _heard(ear):
        told["published"] = published
    if isinstance(message, CapacitySignal):
        told["answer"] = flow_of(BUDGET, call.decode(told["reply"])).to_json()
    return told


def _texts(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_texts(word) for word in reply]
    return calls.text(reply)


def pinned(told: dict[str, Any]) -> dict[str, Any]:
    """The same with the fields of a hash in an order that no server promises."""
    for call in told["calls"]:
        if call["script"] == "inspect":
            fields = call["reply"][1]
            pairs = sorted(zip(fields[::2], fields[1::2], strict=True))
            call["reply"][1] = [word for pair in pairs for word in pair]
    return told


def write(client: redis.Redis) -> None:
    """Write the file anew."""
    FILE.write_text(json.dumps(pinned(record(client)), indent=1, ensure_ascii=False) + "\n")

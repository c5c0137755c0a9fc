"""`tests/vectors/scripts.json`, on every server: what a client in another language must send, and what it will get."""

from __future__ import annotations

import json

from nexus_redis._protocol.scripts import NAMES
from nexus_redis.messages import CapacitySignal, LoadReport, decode
from tests.harness.servers import Server
from tests.vectors.scripts import FILE, pinned, record

VECTORS = json.loads(FILE.read_text())


def test_golden_calls_match(server: Server) -> None:
    """The golden calls are sent and answered byte by byte."""
    assert pinned(record(server.client())) == VECTORS


def test_they_can_be_sent_as_they_are_written(server: Server) -> None:
    """Without our client: the script by name, keys and arguments as text."""
    from nexus_redis._protocol.scripts import script

    client = server.client(decode_responses=True)
    for call in VECTORS["calls"]:
        if call["script"] == "inspect" or "error" in call:
            continue
        assert (
            client.eval(script(call["script"]).text, len(call["keys"]), *call["keys"], *call["argv"]) == call["reply"]
        )


def test_vectors_cover_scripts_and_refusals() -> None:
    """The vectors have calls of every script, and refusals."""
    assert {call["script"] for call in VECTORS["calls"]} == set(NAMES)
    assert {call["error"] for call in VECTORS["calls"] if "error" in call} == {
        "NEXUS_STALE", "NEXUS_ID_TAKEN", "NEXUS_NO_LAW", "NEXUS_INVALID_MIN_RATE", "NEXUS_NEEDS_KEYS",
    }  # fmt: skip


def test_their_messages_are_messages() -> None:
    """The messages of the vectors are messages."""
    messages = [decode(call["message"]) for call in VECTORS["calls"] if "message" in call]
    assert {type(message) for message in messages} == {CapacitySignal, LoadReport}
    example = next(call for call in VECTORS["calls"] if call["note"] == "the protocol's example: the signal")
    answer = json.loads(example["answer"])
    shown = ("recommended_rate", "backpressure_level", "current_load")
    assert tuple(answer[name] for name in shown) == (100, 2, 95)

"""The messages of the protocol over HTTP: signal, report, leave."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from nexus_redis.messages import CapacitySignal, FlowControl
from tests.harness.support import eventually
from tests.server.served import JSON, Served, kind_of, problem


def report(served: Served, **said: Any) -> dict[str, Any]:
    """Report as the consumer es-1, and return the answer."""
    answer = served.post("/v1/report", {"consumer_id": "es", "instance_id": "es-1", **said})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_example_of_the_protocol(served: Served) -> None:
    """A consumer of capacity 400 at load 95 answers a request for 10,000/s with 100/s, level 2, load 95."""
    assert report(served, load=95, capacity=400)["rate"] == 100
    signal = CapacitySignal(producer_id="filebeat-1", consumer_id="es", requested_rate=10_000)
    answer = served.client.post("/v1/signal", content=signal.to_json(), headers=JSON)
    flow = FlowControl.from_json(answer.content)
    assert (flow.recommended_rate, flow.backpressure_level, flow.current_load) == (100, 2, 95)


def test_msgpack_both_ways(served: Served) -> None:
    """A body in msgpack is understood, and the answer is msgpack where the caller asks for it."""
    report(served, load=95, capacity=400)
    signal = CapacitySignal(producer_id="filebeat-1", consumer_id="es", requested_rate=10_000)
    kind = {"content-type": "application/msgpack", "accept": "application/msgpack"}
    answer = served.client.post("/v1/signal", content=signal.to_msgpack(), headers=kind)
    assert answer.headers["content-type"] == "application/msgpack"
    assert FlowControl.from_msgpack(answer.content).recommended_rate == 100
    assert msgpack.unpackb(answer.content)["action"] == "FlowControl"


def test_a_signal_claims_and_leave_returns(served: Served) -> None:
    """A producer that speaks the protocol itself claims by its number, is never charged twice, and hands back."""
    served.put("pay", rate=1_000, burst=1)
    claim = {
        "producer_id": "p", "consumer_id": "pay", "requested_rate": 100, "tokens": 20, "incarnation": "a", "seq": 1,
    }  # fmt: skip
    first = served.post("/v1/signal", claim).json()
    assert first["granted"] > 0
    assert served.post("/v1/signal", claim).json()["granted"] == first["granted"]
    assert served.get("/v1/budgets/pay").json()["granted_total"] == first["granted_total"]
    said = {"consumer_id": "pay", "producer_id": "p", "incarnation": "a", "unused": first["granted"]}
    assert served.post("/v1/leave", said).json() == {"left": True, "returned": first["granted"]}
    assert served.get("/v1/budgets/pay").json()["producer_count"] == 0


def test_a_consumer_leaves(served: Served) -> None:
    """A consumer that leaves adds nothing any more, and to leave again changes nothing."""
    report(served, load=50, capacity=400)
    said = {"consumer_id": "es", "instance_id": "es-1"}
    assert served.post("/v1/leave", said).json()["left"] is True
    assert served.post("/v1/leave", said).json()["left"] is False
    assert served.get("/v1/budgets/es").json()["consumer_count"] == 0


def test_a_report_that_came_too_soon(served: Served) -> None:
    """The answer says whether a report was counted."""
    work = {"queue_depth": 5, "queue_limit": 100, "done": 10, "interval_ms": 60_000}
    assert report(served, **work)["kept"] is True
    assert eventually(lambda: not report(served, **work | {"done": 11})["kept"])


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("/v1/signal", {"producer_id": "p", "consumer_id": "es"}, "requested_rate"),
        ("/v1/signal", {"producer_id": "p", "consumer_id": "es", "requested_rate": "5"}, "requested_rate"),
        ("/v1/signal", {"producer_id": "p", "consumer_id": "es", "requested_rate": 5, "wieght": 2}, "wieght"),
        ("/v1/report", {"consumer_id": "es", "instance_id": "i", "load": 101}, "load"),
        ("/v1/report", {"consumer_id": "es", "instance_id": "i"}, "load"),
        ("/v1/report", {"consumer_id": "e s", "instance_id": "i", "load": 1}, "consumer_id"),
        ("/v1/leave", {"consumer_id": "es"}, "producer_id"),
    ],
)
def test_a_wrong_field_is_named(served: Served, path: str, fields: Any, field: str) -> None:
    """A message with a wrong field is refused, the problem names the field, and nothing is written."""
    answer = served.post(path, fields)
    assert answer.status_code == 400
    assert problem(answer)["field"] == field
    assert served.get("/v1/budgets").json() == []


def test_a_load_alone_is_refused(served: Served) -> None:
    """A load without a capacity makes no rate where the budget has none."""
    answer = served.post("/v1/report", {"consumer_id": "es", "instance_id": "es-1", "load": 50})
    assert answer.status_code in (400, 409)
    assert problem(answer)["remedy"]


def test_a_signal_to_an_unknown_budget(served: Served) -> None:
    """A misspelled budget is a problem, and no new budget that grants nothing."""
    answer = served.post("/v1/signal", {"producer_id": "p", "consumer_id": "se", "requested_rate": 5})
    assert answer.status_code == 404
    assert kind_of(answer) == "unknown-budget"
    assert served.get("/v1/budgets").json() == []


def test_an_id_of_another_process(served: Served) -> None:
    """A claim under the id of a live producer is refused with the code of the script."""
    served.put("pay", rate=1_000, burst=1)
    claim = {"producer_id": "p", "consumer_id": "pay", "requested_rate": 100, "tokens": 5, "seq": 1}
    assert served.post("/v1/signal", {**claim, "incarnation": "a"}).status_code == 200
    answer = served.post("/v1/signal", {**claim, "incarnation": "b"})
    assert answer.status_code == 409
    assert problem(answer)["code"] == "NEXUS_ID_TAKEN"

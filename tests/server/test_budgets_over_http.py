"""What an operator sees and changes over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from nexus_redis._protocol.json_forms import BudgetJson, BudgetSummaryJson, EventJson, ExplanationJson
from tests.harness.command_line import Shell
from tests.harness.servers import Server
from tests.server.served import Served, kind_of, problem


def test_set_then_unset(served: Served) -> None:
    """A PUT creates a budget or changes it, null takes the operator's value away, and the history says who and why."""
    assert served.put("pay", "launch", rate="100/s", burst="2s").status_code == 201
    answer = served.put("pay", "sale", rate=200)
    assert answer.status_code == 200
    assert answer.json()["rate"] == 200
    settings = answer.json()["settings"]
    assert (settings["rate"]["value"], settings["burst"]["value"]) == (200, 2)
    assert settings["rate"]["why"] == "sale"
    assert "burst" not in served.put("pay", burst=None).json()["settings"]
    history = served.get("/v1/budgets/pay/history").json()
    assert [each["why"] for each in history][-2:] == ["sale", "launch"]
    assert {each["by"] for each in history} == {"operator"}


def test_pause_then_resume(served: Served) -> None:
    """A pause stops the budget, with a reason, and a resume ends it."""
    served.put("pay", rate=100)
    paused = served.post("/v1/budgets/pay/pause", {"seconds": 60, "reason": "deploy", "by": "anna"}).json()
    assert (paused["rate"], paused["is_paused"], paused["pause_reason"]) == (0, True, "deploy")
    assert paused["pause_who"] == "anna"
    assert 0 < paused["paused_for"] <= 60
    assert served.post("/v1/budgets/pay/pause", {}).json()["paused_for"] is None
    assert served.post("/v1/budgets/pay/resume", {}).json()["rate"] == 100


def test_explain(served: Served) -> None:
    """An explanation has sentences, remedies and the history."""
    served.put("pay", rate=100)
    found = served.get("/v1/budgets/pay/explain").json()
    assert found.keys() == ExplanationJson.__annotations__.keys()
    assert found["because"]
    assert found["remedies"]
    assert found["history"][0].keys() == EventJson.__annotations__.keys()


def test_the_list_and_one_budget(served: Served) -> None:
    """The list has all budgets without members, and one budget has its members."""
    for name in ("b", "a"):
        served.put(name, rate=100)
    served.post("/v1/report", {"consumer_id": "a", "instance_id": "i", "load": 50, "capacity": 40})
    served.post("/v1/signal", {"producer_id": "p", "consumer_id": "a", "requested_rate": 5, "incarnation": "i"})
    found = served.get("/v1/budgets").json()
    assert [each["name"] for each in found] == ["a", "b"]
    assert found[0].keys() == BudgetSummaryJson.__annotations__.keys()
    one = served.get("/v1/budgets/a").json()
    assert one.keys() == {*BudgetJson.__annotations__}
    assert [each["id"] for each in one["consumers"]] == ["i"]
    assert [each["id"] for each in one["producers"]] == ["p"]


def test_the_verbs_say_the_same(served: Served, one_server: Server) -> None:
    """`status --json` and the API answer with the same fields."""
    served.put("pay", rate=100)
    with redis.Redis.from_url(one_server.url) as client:
        said = Shell(one_server.url, client)("status", "pay", "--json").json
    assert said.keys() == served.get("/v1/budgets/pay").json().keys()


def test_delete(served: Served) -> None:
    """A deleted budget is gone; to delete it again is 404."""
    served.put("pay", rate=100)
    assert served.client.delete("/v1/budgets/pay").status_code == 204
    again = served.client.delete("/v1/budgets/pay")
    assert again.status_code == 404
    assert kind_of(again) == "unknown-budget"
    assert served.post("/v1/acquire", {"budget": "pay"}).status_code == 404


@pytest.mark.parametrize("path", ["", "/explain", "/history"])
def test_a_budget_that_is_not_there(served: Served, path: str) -> None:
    """A GET of an unknown budget is 404."""
    answer = served.get(f"/v1/budgets/nope{path}")
    assert answer.status_code == 404
    assert problem(answer)["budget"] == "nope"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_nothing_to_pause(served: Served, verb: str) -> None:
    """A pause of an unknown budget is 404, and creates nothing."""
    assert served.post(f"/v1/budgets/nope/{verb}", {}).status_code == 404
    assert served.get("/v1/budgets").json() == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"settings": {}}, "settings"),
        ({"settings": {"rate": "fast"}}, "rate"),
        ({"settings": {"rat": 5}}, "rat"),
        ({"settings": {"rat": None}}, "rat"),
        ({"settings": {"law": "magic"}}, "law"),
        ({"settings": {"rate": 5}, "reason": "x" * 201}, "reason"),
        ({"settings": {"rate": 5}, "by": "a:b"}, "by"),
        ({"settings": {"rate": 5, "min_rate": 6}}, "min_rate"),
        ({}, "settings"),
    ],
)
def test_a_wrong_setting_is_named(served: Served, fields: Any, field: str) -> None:
    """A PUT with a wrong field is refused, the problem names the field, and nothing is written."""
    answer = served.client.put("/v1/budgets/pay", json=fields)
    assert answer.status_code == 400
    assert problem(answer)["field"] == field
    assert served.get("/v1/budgets").json() == []


def test_a_damaged_budget(served: Served, one_server: Server) -> None:
    """A budget that somebody has damaged by hand hides no other one, and its own path says what cannot be read."""
    served.put("good", rate=100)
    served.put("bad", rate=100)
    with redis.Redis.from_url(one_server.url) as client:
        client.hset("nexus:{bad}", "rate_per_s", "much")
    found = {each["name"]: each for each in served.get("/v1/budgets").json()}
    assert found["good"]["rate"] == 100
    assert found["bad"]["damaged"]
    answer = served.get("/v1/budgets/bad")
    assert answer.status_code == 409
    assert problem(answer)["code"] == "NEXUS_DAMAGED"


def test_the_events(served: Served) -> None:
    """The stream begins with all budgets, and goes on when something changes."""
    served.put("pay", rate=100)
    with served.client.stream("GET", "/v1/events", params={"budget": "pay"}) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        lines = stream.iter_lines()
        seen: list[str] = []
        while "event: budget" not in seen:
            seen.append(next(lines))
        served.post("/v1/budgets/pay/pause", {"reason": "deploy"})
        while '"pause_reason":"deploy"' not in seen[-1]:
            seen.append(next(lines))
    assert "event: budgets" in seen


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("application/msgpack", True),
        ("APPLICATION/MSGPACK", True),
        ("application/x-msgpack;q=0.5, application/json;q=0.1", True),
        ("application/json;q=0, application/msgpack", True),
        ("application/msgpack, */*", True),
        ("application/msgpack;q=0", False),
        ("application/msgpack, application/json", False),
        ("application/msgpack;q=0.5, application/*", False),
        ("*/*", False),
        ("text/html", False),
        ("application/msgpack;q=what, ;;q=1", True),
        ("", False),
    ],
)
def test_the_form_of_an_answer(served: Served, accept: str, packed: bool) -> None:
    """An answer has the form that its caller wants most, and that is JSON if the caller does not mind."""
    kind = served.get("/v1/budgets", headers={"accept": accept}).headers["content-type"]
    assert kind == ("application/msgpack" if packed else "application/json")


def test_a_pause_needs_no_body(served: Served) -> None:
    """A pause and its end need no field, so they need no body and no Content-Type."""
    served.put("b", rate=5)
    for verb in ("pause", "resume"):
        assert served.client.post(f"/v1/budgets/b/{verb}").status_code == 200
    assert served.client.post("/v1/try").json()["field"] == "budget"


@pytest.mark.parametrize("seconds", [-1, 1e9, "10m"])
def test_the_length_of_a_pause(served: Served, seconds: Any) -> None:
    """A pause of another length than a pause may have names the field as the caller wrote it."""
    served.put("b", rate=5)
    found = problem(served.post("/v1/budgets/b/pause", {"seconds": seconds}))
    assert found["status"] == 400
    assert found["field"] == "seconds"
    assert "86,400" in found["remedy"]

"""Tokens over HTTP: acquire, try, deadlines, fair parts, callers that go away, and Idempotency-Key."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from tests.harness.servers import Server
from tests.harness.support import eventually, join
from tests.server.served import Served, kind_of, problem


def test_tokens_at_hand(served: Served) -> None:
    """An acquire is answered with a grant, and with the headers that tell the rate."""
    served.put("pay", rate="100/s", burst=1)
    answer = served.post("/v1/acquire", {"budget": "pay", "cost": 5})
    assert answer.status_code == 200
    assert answer.json() | {"waited_ms": 0} == {
        "granted": True, "budget": "pay", "cost": 5, "waited_ms": 0, "degraded": False,
    }  # fmt: skip
    assert answer.headers["ratelimit-policy"] == '"pay";q=100;w=1'
    assert answer.headers["ratelimit"].startswith('"pay";r=')


def test_a_deadline_passes(served: Served) -> None:
    """Beyond the deadline the answer is 429 with Retry-After, and no token was taken."""
    served.put("slow", rate="1/h")
    assert served.post("/v1/acquire", {"budget": "slow"}).status_code == 200
    answer = served.post("/v1/acquire", {"budget": "slow", "timeout_ms": 30})
    assert answer.status_code == 429
    assert kind_of(answer) == "quota-exceeded"
    found = problem(answer)
    assert (found["budget"], found["violated-policies"]) == ("slow", ["slow"])
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ratelimit"].startswith('"slow";r=0')
    assert served.get("/v1/budgets/slow").json()["granted_total"] == 1


def test_a_try_is_denied_at_once(served: Served) -> None:
    """A try without a token at hand is a 429, and says when to come back."""
    served.put("slow", rate="1/h")
    assert served.post("/v1/try", {"budget": "slow"}).status_code == 200
    answer = served.post("/v1/try", {"budget": "slow"})
    assert answer.status_code == 429
    assert problem(answer)["retry_after_ms"] > 0


def test_a_paused_budget_is_503(served: Served) -> None:
    """A budget that is paused is short itself, so the answer is 503 with the reason."""
    served.put("pay", rate="100/s")
    served.post("/v1/budgets/pay/pause", {"reason": "deploy"})
    answer = served.post("/v1/try", {"budget": "pay"})
    assert answer.status_code == 503
    assert kind_of(answer) == "temporary-reduced-capacity"
    assert problem(answer)["reason"] == "paused"


def test_an_unknown_budget(served: Served) -> None:
    """A misspelled budget is 404, and is not created."""
    answer = served.post("/v1/acquire", {"budget": "nope"})
    assert answer.status_code == 404
    assert kind_of(answer) == "unknown-budget"
    assert served.get("/v1/budgets").json() == []


def test_a_budget_of_a_key(served: Served) -> None:
    """The budget of a key begins with its first use, and its name in a header is that of its parent."""
    served.put("stripe", rate="100/s", burst=1)
    answer = served.post("/v1/acquire", {"budget": "stripe", "key": "Zoe & Co"})
    assert answer.status_code == 200
    assert answer.json()["budget"].startswith("stripe/")
    assert "stripe/" not in answer.headers["ratelimit"]
    assert served.post("/v1/acquire", {"budget": "stripe/cust-42"}).json()["budget"] == "stripe/cust-42"
    assert served.get("/v1/budgets/stripe%2Fcust-42").status_code == 200
    assert served.get("/v1/budgets/stripe", params={"key": "Zoe & Co"}).status_code == 200


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"budget": "pay", "cost": 0}, "cost"),
        ({"budget": "pay", "cost": True}, "cost"),
        ({"budget": "pay", "cost": "1"}, "cost"),
        ({"budget": "p ay"}, "budget"),
        ({"cost": 1}, "budget"),
        ({"budget": "pay", "timeout_ms": -1}, "timeout_ms"),
        ({"budget": "pay", "timeout": 1}, "timeout"),
        ({"budget": "pay", "weight": 0}, "weight"),
        ({"budget": "pay", "priority": "urgent"}, "priority"),
        ({"budget": "pay", "key": ""}, "key"),
    ],
)
def test_a_wrong_field_is_named(served: Served, fields: Any, field: str) -> None:
    """A request with a wrong field is 400, and the problem names the field."""
    served.put("pay", rate="100/s")
    answer = served.post("/v1/acquire", fields)
    assert answer.status_code == 400
    assert problem(answer)["field"] == field


def test_a_caller_that_goes_away(served: Served) -> None:
    """A caller that closes its connection gives its place back, and the tokens go to the next one."""
    served.put("slow", rate="1/h")
    served.post("/v1/acquire", {"budget": "slow"})
    waiting = [served.begin("/v1/acquire", b'{"budget":"slow"}') for _ in range(3)]
    assert eventually(lambda: len(served.service.waiting) == 3)
    for connection in waiting:
        connection.close()
    assert eventually(lambda: len(served.service.waiting) == 0)
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(served.post("/v1/acquire", {"budget": "slow"}).status_code))
    thread.start()
    assert eventually(lambda: len(served.service.waiting) == 1)
    served.put("slow", rate="100/s")
    join(thread)
    assert answers == [200]
    assert served.get("/v1/budgets/slow").json()["granted_total"] <= 27


def test_a_stop_answers_who_waits(one_server: Server) -> None:
    """A server that stops answers those that wait with 503, and hands its tokens back."""
    with Served(one_server.url) as served:
        served.put("slow", rate="1/h")
        served.post("/v1/acquire", {"budget": "slow"})
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda: answers.append(served.post("/v1/acquire", {"budget": "slow"})))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(served.service.waiting) == 3)
        served.stop()
        join(*threads)
        assert [answer.status_code for answer in answers] == [503] * 3
        assert {kind_of(answer) for answer in answers} == {"stopping"}
        assert all("retry-after" in answer.headers for answer in answers)
    with Served(one_server.url) as again:
        assert again.get("/v1/budgets/slow").json()["producer_count"] == 0


def test_weights_inside_one_server(served: Served) -> None:
    """Programs of one host share by weight: Redis sees one producer, and the one of weight 3 gets three times more."""
    served.put("pay", rate="1/h")
    served.post("/v1/acquire", {"budget": "pay"})
    order: list[str] = []

    def wait(who: str, connection: socket.socket) -> None:
        connection.recv(12)
        order.append(who)

    def call(who: str, weight: float, count: int) -> None:
        body = f'{{"budget":"pay","producer_id":"{who}","weight":{weight}}}'.encode()
        for _ in range(count):
            threads.append(threading.Thread(target=wait, args=(who, served.begin("/v1/acquire", body))))
            threads[-1].start()

    threads: list[threading.Thread] = []
    call("light", 1, 40)
    assert eventually(lambda: len(served.service.waiting) == 40)
    call("heavy", 3, 40)
    assert eventually(lambda: len(served.service.waiting) == 80)
    served.put("pay", rate="40/s")
    join(*threads)
    assert served.get("/v1/budgets/pay").json()["producer_count"] == 1
    first = order[:40]
    assert 24 <= first.count("heavy") <= 36, first


def test_a_key_takes_tokens_once(served: Served) -> None:
    """A request that is sent again with its Idempotency-Key gets the first answer, and no second token."""
    served.put("pay", rate="100/s", burst=1)
    key = {"idempotency-key": "order-7"}
    first = served.post("/v1/acquire", {"budget": "pay", "cost": 7}, headers=key)
    again = served.post("/v1/acquire", {"budget": "pay", "cost": 7}, headers=key)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    same = served.post("/v1/acquire", {"cost": 7.0, "budget": "pay", "weight": 1, "key": None}, headers=key)
    assert first.json() == same.json()


@pytest.mark.parametrize(
    ("path", "fields"),
    [("acquire", {"budget": "pay", "cost": 8}), ("acquire", {"budget": "mail", "cost": 7}),
     ("acquire", {"budget": "pay", "key": "cust-42", "cost": 7}), ("try", {"budget": "pay", "cost": 7})],
)  # fmt: skip
def test_a_key_of_another_request(served: Served, path: str, fields: dict[str, object]) -> None:
    """A key that was used for another cost, budget or operation takes no token."""
    for name in ("pay", "mail"):
        served.put(name, rate="100/s", burst=1)
    key = {"idempotency-key": "order-9"}
    served.post("/v1/acquire", {"budget": "pay", "cost": 7}, headers=key)
    other = served.post(f"/v1/{path}", fields, headers=key)
    assert other.status_code == 422
    assert kind_of(other) == "idempotency-key-reused"


def test_a_key_holds_on_another_server(one_server: Server, served: Served) -> None:
    """The key of a request is known to every server of the namespace."""
    served.put("pay", rate="100/s", burst=1)
    key = {"idempotency-key": "order-8"}
    first = served.post("/v1/try", {"budget": "pay"}, headers=key)
    with Served(one_server.url) as other:
        assert other.post("/v1/try", {"budget": "pay"}, headers=key).json() == first.json()


def test_a_key_in_use_is_409(served: Served) -> None:
    """While the first request waits, a second one with its key is told so; a denied one frees the key."""
    served.put("slow", rate="1/h")
    served.post("/v1/acquire", {"budget": "slow"})
    connection = served.begin("/v1/acquire", b'{"budget":"slow"}', "Idempotency-Key: k\r\n")
    assert eventually(lambda: len(served.service.waiting) == 1)
    answer = served.post("/v1/acquire", {"budget": "slow"}, headers={"idempotency-key": "k"})
    assert answer.status_code == 409
    assert kind_of(answer) == "request-in-progress"
    connection.close()
    assert eventually(lambda: not served.service.waiting)

    def is_free() -> bool:
        fields = {"budget": "slow", "timeout_ms": 1}
        return served.post("/v1/acquire", fields, headers={"idempotency-key": "k"}).status_code == 429

    assert eventually(is_free)


def test_too_many_waiters(one_server: Server) -> None:
    """Beyond the limit of waiters a caller is answered at once."""
    from nexus_redis.server import Limits

    with Served(one_server.url, limits=Limits(waiters=2)) as served:
        served.put("slow", rate="1/h")
        served.post("/v1/acquire", {"budget": "slow"})
        for _ in range(2):
            served.begin("/v1/acquire", b'{"budget":"slow"}')
        assert eventually(lambda: len(served.service.waiting) == 2)
        answer = served.post("/v1/acquire", {"budget": "slow"})
        assert answer.status_code == 503
        assert kind_of(answer) == "too-many-waiters"


def test_a_key_sent_at_once(served: Served) -> None:
    """Of many requests with one key at the same time, one takes tokens, and the others get its answer or 409."""
    served.put("pay", rate="1000/h", burst=3600)
    answers: list[int] = []

    def send() -> None:
        fields = {"budget": "pay", "cost": 3}
        answers.append(served.post("/v1/acquire", fields, headers={"idempotency-key": "k"}).status_code)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    join(*threads)
    assert set(answers) <= {200, 409}
    assert 200 in answers
    line = served.service.tokens.line_of("pay")
    assert line.budget._session.ledger.spent == 3_000_000


def test_callers_over_two_servers(one_server: Server, served: Served) -> None:
    """Two servers are two producers of one budget, and together they grant what it has and no more."""
    served.put("pay", rate="1/h")
    with Served(one_server.url) as other:
        granted = []

        def take(server: Served) -> None:
            for _ in range(40):
                answer = server.post("/v1/acquire", {"budget": "pay", "timeout_ms": 500})
                if answer.status_code != 200:
                    return
                granted.append(1)

        threads = [threading.Thread(target=take, args=(server,)) for server in (served, other) for _ in range(2)]
        for thread in threads:
            thread.start()
        join(*threads)
    assert len(granted) == 1


def test_waiters_are_in_the_metrics(served: Served) -> None:
    """Callers over HTTP count as waiting, wherever they wait, and later as having waited."""

    def metric(name: str) -> float:
        lines = served.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f'nexus_redis_{name}{{budget="slow"'))

    served.put("slow", rate="1/h")
    served.post("/v1/acquire", {"budget": "slow"})
    before = metric("client_wait_seconds_count")
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(served.post("/v1/acquire", {"budget": "slow"}).status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert eventually(lambda: metric("client_waiting") == 8)
    served.put("slow", rate="1000/s")
    join(*threads)
    assert answers == [200] * 8
    assert metric("client_waiting") == 0
    assert metric("client_wait_seconds_count") - before == 8

"""The server while Redis is away: what goes on, what is told, and that all is well again afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_redis._redis.embedded import ServerProcess
from nexus_redis.server import known_budgets
from tests.harness.servers import binary
from tests.harness.support import eventually, free_port
from tests.server.served import Served, kind_of, problem


@pytest.mark.hurried
@pytest.mark.slow
def test_redis_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known budgets go on with a part of their share, all else says that Redis is away, and a restart ends it."""
    monkeypatch.setattr(known_budgets, "LOOK_EACH", 0.0)  # so that the name is asked for again meanwhile
    program = binary("valkey")
    assert program is not None
    redis = ServerProcess(program, free_port())
    url = f"redis://127.0.0.1:{redis.port}"
    with Served(url) as served:

        def acquire(name: str = "pay") -> Any:
            return served.post("/v1/acquire", {"budget": name, "timeout_ms": 10_000})

        served.put("pay", rate=1_000)
        assert eventually(lambda: all(acquire().status_code == 200 for _ in range(20)))
        redis.stop()
        try:
            assert eventually(lambda: served.get("/readyz").status_code == 503)
            assert served.get("/healthz").status_code == 200

            def is_degraded() -> Any:
                answer = acquire()
                return answer.status_code == 200 and answer.json()["degraded"]

            assert eventually(is_degraded)
            for answer in (acquire("never-seen"), served.get("/v1/budgets/pay"), served.put("pay", rate=5)):
                assert answer.status_code == 503
                assert kind_of(answer) == "temporary-reduced-capacity"
                assert problem(answer)["reason"] == "unavailable"
                assert "retry-after" in answer.headers
            redis = ServerProcess(program, redis.port)
            assert eventually(lambda: served.get("/readyz").status_code == 200)
            served.put("pay", rate=1_000)
            assert eventually(lambda: acquire().json().get("degraded") is False)
        finally:
            redis.stop()

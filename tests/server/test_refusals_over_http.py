"""Troubles that last: what callers are told, and the one line that the log has of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from nexus_redis._redis.embedded import ServerProcess
from nexus_redis.server import health, texts
from nexus_redis.server.access import Access, new_token
from nexus_redis.server.problems import Problem
from tests.harness.logged import logged
from tests.harness.servers import binary
from tests.harness.support import eventually, free_port
from tests.server.served import Served, kind_of, problem


@pytest.fixture
def own() -> Iterator[redis.Redis]:
    """A Redis of the test's own, whose users the test changes."""
    program = binary("valkey")
    assert program is not None
    server = ServerProcess(program, free_port())
    with redis.Redis(port=server.port, decode_responses=True) as client:
        yield client
    server.stop()


def url_of(client: redis.Redis, login: str = "") -> str:
    """The address of that Redis, for a user."""
    return f"redis://{login}127.0.0.1:{client.get_connection_kwargs()['port']}"


def assert_refused(served: Served, code: str) -> None:
    """Every operation says that it is not the caller's fault, and that the caller may try again."""
    calls = (
        served.get("/v1/budgets"), served.put("pay", rate=5), served.post("/v1/acquire", {"budget": "pay"}),
        served.post("/v1/signal", {"producer_id": "p", "consumer_id": "pay", "requested_rate": 1}),
    )  # fmt: skip
    for answer in calls:
        assert answer.status_code == 503
        assert kind_of(answer) == "temporary-reduced-capacity"
        assert problem(answer)["code"] == code
        assert "retry-after" in answer.headers
    assert served.get("/readyz").status_code == 503
    assert served.get("/healthz").status_code == 200


def test_a_password_is_missing(
    own: redis.Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the password of Redis callers get 503, the log has it once, and its end once."""
    monkeypatch.setattr(health, "REMEMBERED", 0.0)
    caplog.set_level(logging.INFO, "nexus_redis")
    own.config_set("requirepass", "secret")
    with Served(url_of(own)) as served:
        assert eventually(lambda: logged(caplog, texts.REDIS_REFUSES))
        for _ in range(3):
            assert_refused(served, "NOAUTH")
        assert len(logged(caplog, texts.REDIS_REFUSES)) == 1
        with redis.Redis(port=own.get_connection_kwargs()["port"], password="secret") as client:  # a test
            client.config_set("requirepass", "")
        assert eventually(lambda: served.get("/readyz").status_code == 200)
        assert eventually(lambda: logged(caplog, texts.REDIS_ACCEPTS, "INFO"))
        assert served.put("pay", rate=5).status_code == 201


def test_a_right_is_missing(own: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    """A user of Redis that may run no scripts is named by the code NOPERM, and the server is not ready."""
    own.acl_setuser(
        "weak", enabled=True, passwords=["+x"], commands=["+@all", "-evalsha", "-eval"], keys=["*"], channels=["*"]
    )
    with Served(url_of(own, "weak:x@")) as served:
        assert eventually(lambda: served.get("/readyz").status_code == 503)
        answer = served.put("pay", rate=5)
        assert answer.status_code == 503
        assert problem(answer)["code"] == "NOPERM"
        assert len(logged(caplog, texts.REDIS_REFUSES)) == 1


def test_the_tokens_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with the file, the tokens that were read stay valid, and each change of state is one line."""
    caplog.set_level(logging.INFO, "nexus_redis")
    file = tmp_path / "tokens"
    token, line = new_token("anna", ["operator"], ["*"])
    access, header = (file.write_text(line), Access(file))[1], f"Bearer {token}".encode()

    def look() -> str:
        access._looks_at = 0.0
        return access.caller(header).name

    for change in (lambda: file.write_bytes(b"\xff\xfe" + line.encode()), lambda: file.write_text("a b"), file.unlink):
        change()
        assert [look() for _ in range(5)] == ["anna"] * 5
    assert len(logged(caplog, texts.TOKENS_KEPT)) == 3
    file.write_text("# nobody")
    with pytest.raises(Problem):
        look()
    assert len(logged(caplog, texts.TOKENS_READ, "INFO")) == 1

"""Who may call the server: tokens, roles, budget patterns, hosts, origins, and limits on requests."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from nexus_redis.errors import InvalidSetting
from nexus_redis.server import Limits, ServerOptions, run
from nexus_redis.server.access import Access, new_token, parsed
from tests.harness.servers import Server
from tests.harness.support import HOST, PATIENCE, eventually
from tests.server.served import JSON, Served, kind_of, problem

ROLES = {"reader": "observer", "shop": "producer", "es": "consumer", "anna": "operator"}


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, dict[str, str]]:
    """A file of tokens, one for each role, and the headers of each."""
    file, headers = tmp_path / "tokens", {}
    lines = ["# name, hash, roles, budgets"]
    for name, role in ROLES.items():
        token, line = new_token(name, [role], ["pay", "pay/*"] if name == "shop" else ["*"])
        lines.append(line)
        headers[name] = {"authorization": f"Bearer {token}"}
    file.write_text("\n".join(lines))
    headers["file"] = {"path": str(file)}
    return headers


CALLS: list[tuple[str, str, Any, str]] = [
    ("GET", "/v1/budgets", None, "reader"),
    ("GET", "/v1/budgets/pay", None, "reader"),
    ("GET", "/v1/budgets/pay/explain", None, "reader"),
    ("GET", "/v1/budgets/pay/history", None, "reader"),
    ("POST", "/v1/try", {"budget": "pay"}, "shop"),
    ("POST", "/v1/acquire", {"budget": "pay"}, "shop"),
    ("POST", "/v1/signal", {"producer_id": "p", "consumer_id": "pay", "requested_rate": 1}, "shop"),
    ("POST", "/v1/leave", {"producer_id": "p", "consumer_id": "pay"}, "shop"),
    ("POST", "/v1/report", {"consumer_id": "pay", "instance_id": "i", "load": 1, "capacity": 400}, "es"),
    ("POST", "/v1/leave", {"instance_id": "i", "consumer_id": "pay"}, "es"),
    ("PUT", "/v1/budgets/pay", {"settings": {"rate": 100}}, "anna"),
    ("POST", "/v1/budgets/pay/pause", {"seconds": 0}, "anna"),
    ("POST", "/v1/budgets/pay/resume", {}, "anna"),
]


def test_each_role_has_its_calls(one_server: Server, tokens: dict[str, Any]) -> None:
    """A token may do what its role says, an operator everything, and all others get 403."""
    with Served(one_server.url, tokens=Path(tokens["file"]["path"])) as served:
        request = served.client.request
        assert request("PUT", "/v1/budgets/pay", json=CALLS[-3][2], headers=tokens["anna"]).status_code == 201
        for method, path, fields, allowed in CALLS:
            for name in ROLES:
                answer = request(method, path, json=fields, headers=tokens[name])
                is_allowed = name in (allowed, "anna")
                assert (answer.status_code != 403) is is_allowed, (method, path, name)
                if not is_allowed:
                    assert kind_of(answer) == "not-allowed"


def test_no_token_no_answer(one_server: Server, tokens: dict[str, Any]) -> None:
    """Without a valid token every operation is 401, health checks are answered, and the page is shown."""
    with Served(one_server.url, tokens=Path(tokens["file"]["path"])) as served:
        for method, path, fields, _ in [*CALLS, ("GET", "/v1/events", None, ""), ("GET", "/v1/whoami", None, "")]:
            for given in ({}, {"authorization": "Bearer nxr_wrong"}, {"authorization": "Basic YTpi"}):
                answer = served.client.request(method, path, json=fields, headers=given)
                assert answer.status_code == 401, (path, given)
                assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert served.get(path).status_code == 200, path


def test_a_pattern_of_budgets(one_server: Server, tokens: dict[str, Any]) -> None:
    """A token works for its budgets only, and the list shows only these."""
    with Served(one_server.url, tokens=Path(tokens["file"]["path"])) as served:
        for name in ("pay", "other"):
            answer = served.client.put(f"/v1/budgets/{name}", json={"settings": {"rate": 100}}, headers=tokens["anna"])
            assert answer.status_code == 201
        for name, status in (("pay", 200), ("pay/cust-1", 200), ("other", 403)):
            assert served.post("/v1/try", {"budget": name}, headers=tokens["shop"]).status_code in (status, 429)
        assert served.post("/v1/try", {"budget": "other"}, headers=tokens["shop"]).status_code == 403


def test_the_history_names_the_token(one_server: Server, tokens: dict[str, Any]) -> None:
    """Whatever a caller says of itself, the history has the name of its token."""
    with Served(one_server.url, tokens=Path(tokens["file"]["path"])) as served:
        said = {"settings": {"rate": 100}, "by": "somebody"}
        served.client.put("/v1/budgets/pay", json=said, headers=tokens["anna"])
        history = served.get("/v1/budgets/pay/history", headers=tokens["anna"]).json()
        assert {each["who"] for each in history} == {"anna"}


def test_whoami(one_server: Server, tokens: dict[str, Any], served: Served) -> None:
    """A page learns what its token may do, and whether it needs one."""
    with Served(one_server.url, tokens=Path(tokens["file"]["path"])) as guarded:
        found = guarded.get("/v1/whoami", headers=tokens["shop"]).json()
        assert found == {"name": "shop", "roles": ["producer"], "budgets": ["pay", "pay/*"], "needs_token": True}
    assert served.get("/v1/whoami").json()["needs_token"] is False


def test_a_line_that_is_removed(tmp_path: Path) -> None:
    """A token ends when its line is removed, and a file that cannot be read ends none."""
    file = tmp_path / "tokens"
    token, line = new_token("anna", ["operator"], ["*"])
    file.write_text(line)
    access = Access(file)
    header = f"Bearer {token}".encode()
    assert access.caller(header).name == "anna"
    file.write_text("what is this")
    access._looks_at = 0.0
    assert access.caller(header).name == "anna"
    file.write_text("")
    access._looks_at = 0.0
    with pytest.raises(Exception, match="token"):
        access.caller(header)


@pytest.mark.parametrize("line", ["anna", "anna sha256:12 operator *", f"a sha256:{'0' * 64} king *"])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    """A file with a line that is not one is refused, and the error names the line."""
    with pytest.raises(InvalidSetting) as refused:
        parsed(f"# comment\n\n{line}\n", tmp_path / "tokens")
    assert "tokens:3" in refused.value.value


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_an_open_address_needs_tokens(host: str, tokens: dict[str, Any]) -> None:
    """The server refuses an address that others can reach, unless it has tokens."""
    with pytest.raises(InvalidSetting):
        run.check(ServerOptions(host=host))
    run.check(ServerOptions(host=host, tokens=Path(tokens["file"]["path"])))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:1", 200),
        ("LOCALHOST", 200),
        ("192.0.2.7:8080", 200),
        ("[2001:db8::1]", 200),
        ("[::1]evil", 421),
        ("localhost:evil.com", 421),
        ("192.0.2.7.evil.example", 421),
        ("1.evil.example:80", 421),
        ("evil.example", 421),
        ("", 421),
    ],
)
def test_the_host_must_be_ours(served: Served, host: str, status: int) -> None:
    """A name that an attacker points at this address is refused; an address is no name."""
    answer = served.get("/v1/budgets", headers={"host": host})
    assert answer.status_code == status
    if status != 200:
        assert kind_of(answer) == "wrong-host"


def test_another_host_may_be_allowed(one_server: Server) -> None:
    """An operator may name further hosts."""
    with Served(one_server.url, hosts=("nexus.internal",)) as served:
        assert served.get("/v1/budgets", headers={"host": "nexus.internal:8080"}).status_code == 200
        assert served.get("/v1/budgets", headers={"host": "x.internal"}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"origin": "http://localhost"}, 201),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost"}, 201),
        ({"sec-fetch-site": "none"}, 201),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:9"}, 403),
    ],
)
def test_pages_of_others_change_nothing(served: Served, headers: dict[str, str], status: int) -> None:
    """A page of another site cannot have a browser change anything, and reads nothing without CORS."""
    fields = {"settings": {"rate": 5}}
    answer = served.client.put("/v1/budgets/b", json=fields, headers={"host": "localhost", **headers})
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers
    if status == 403:
        assert kind_of(answer) == "cross-site-request"


def test_an_allowed_origin(one_server: Server) -> None:
    """An operator may allow the pages of an origin, and a browser's preflight is answered for it alone."""
    with Served(one_server.url, origins=("https://ops.example",)) as served:
        origin = {"origin": "https://ops.example"}
        answer = served.client.put("/v1/budgets/b", json={"settings": {"rate": 5}}, headers=origin)
        assert answer.status_code == 201
        assert answer.headers["access-control-allow-origin"] == "https://ops.example"
        preflight = served.client.options("/v1/budgets/b", headers=origin)
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        other = served.client.options("/v1/budgets/b", headers={"origin": "https://evil.example"})
        assert "access-control-allow-methods" not in other.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_form_is_refused(served: Served, kind: str) -> None:
    """A body of a type that a web form can send is 415."""
    answer = served.client.post("/v1/try", content=b'{"budget":"pay"}', headers={"content-type": kind})
    assert answer.status_code == 415
    assert kind_of(answer) == "wrong-content-type"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"budget":"a","budget":"b"}',
        b'{"cost":NaN,"budget":"a"}',
        b"\xff",
        b"{" * 2_000,
        b'"a"',
        b"1e400",
    ],
)
def test_the_json_is_strict(served: Served, body: bytes) -> None:
    """A body that is not one strict JSON object is 400."""
    answer = served.client.post("/v1/try", content=body, headers=JSON)
    assert answer.status_code == 400
    assert kind_of(answer) == "invalid-request"
    assert "CapacitySignal" not in problem(answer)["detail"]


def test_a_body_beyond_the_limit(served: Served) -> None:
    """A large body is 413, whether its length was stated or not."""
    large = b'{"budget":"' + b"a" * 70_000 + b'"}'
    for content in (large, iter([large])):
        answer = served.client.post("/v1/try", content=content, headers=JSON)
        assert answer.status_code == 413
        assert kind_of(answer) == "body-too-large"


def test_what_is_not_there(served: Served) -> None:
    """An unknown path is 404, and a wrong method 405 with the right ones."""
    assert kind_of(served.get("/v1/nothing")) == "unknown-path"
    assert kind_of(served.get("/static/../../../etc/passwd")) == "unknown-path"
    answer = served.get("/v1/acquire")
    assert answer.status_code == 405
    assert kind_of(answer) == "wrong-method"
    assert answer.headers["allow"] == "POST"
    assert set(served.post("/v1/budgets/pay", {}).headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}
    assert problem(served.get("/v1/budgets/a%00b"))["status"] == 400


def test_an_unknown_parameter(served: Served) -> None:
    """A misspelled parameter is refused before anything is done, so it never leads to another budget."""
    for name in ("b", "b%2Fk"):
        served.put(name, rate=5)
    calls: list[tuple[str, str, Any]] = [
        ("DELETE", "/v1/budgets/b?keys=k", None),
        ("PUT", "/v1/budgets/b?Key=k", {"settings": {"rate": 7}}),
        ("POST", "/v1/budgets/b/pause?ky=k", {}),
        ("GET", "/v1/budgets?key=k", None),
        ("POST", "/v1/try?key=k", {"budget": "b"}),
        ("GET", "/v1/events?budgets=b", None),
        ("DELETE", "/v1/budgets/b?", None),
    ]
    for method, path, fields in calls:
        answer = served.client.request(method, path, json=fields)
        if path.endswith("?"):
            assert answer.status_code == 204
        else:
            assert kind_of(answer) == "invalid-request", path
            assert served.get("/v1/budgets/b").json()["rate"] == 5


def raw(served: Served, data: bytes) -> bytes:
    """Send bytes on a connection, and return all that comes until its end."""
    with socket.create_connection((HOST, served.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def test_a_header_beyond_the_limit(served: Served) -> None:
    """A header that is too long ends the connection, in one part or in many."""
    line = b"X-Long: " + b"a" * 20_000 + b"\r\n"
    answer = raw(served, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + line)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_slow_header_is_cut_off(one_server: Server) -> None:
    """Clients that never end their header lose the connection, and others are served meanwhile."""
    with Served(one_server.url, limits=Limits(receive_s=0.2)) as served:
        slow = [socket.create_connection((HOST, served.port)) for _ in range(50)]
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        assert served.get("/healthz").status_code == 200
        for connection in slow:
            connection.settimeout(PATIENCE)
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
            connection.close()


def test_a_slow_body_is_cut_off(one_server: Server) -> None:
    """A body that does not come is 408."""
    with Served(one_server.url, limits=Limits(receive_s=0.1)) as served:
        head = b"POST /v1/try HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n"
        with socket.create_connection((HOST, served.port), timeout=PATIENCE) as connection:
            connection.sendall(head + b'\r\n{"bud')
            assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")


def test_too_many_connections(one_server: Server) -> None:
    """Beyond the limit of connections a new one is refused, and those before go on."""
    with Served(one_server.url, limits=Limits(connections=3)) as served:
        assert served.get("/healthz").status_code == 200
        port = served.port
        held = [socket.create_connection((HOST, port)) for _ in range(2)]
        assert eventually(lambda: len(served.server.server_state.connections) == 3)
        with socket.create_connection((HOST, port), timeout=PATIENCE) as fourth:
            assert fourth.recv(100).startswith(b"HTTP/1.1 503 ")
        assert served.get("/healthz").status_code == 200
        for connection in held:
            connection.close()


def test_a_unix_socket(one_server: Server, tmp_path: Path) -> None:
    """The server listens on a unix socket that others of its group can use, and removes it at the end."""
    path = tmp_path / "nexus.sock"
    with Served(one_server.url, socket=path) as served:
        assert path.stat().st_mode & 0o777 == 0o660
        assert served.get("/readyz").status_code == 200
    assert not path.exists()


def test_the_port_is_taken(served: Served, one_server: Server) -> None:
    """A port in use is named, with a remedy."""
    port = served.port
    with pytest.raises(InvalidSetting) as refused, Served(one_server.url, port=port):
        """Never comes here."""
    assert str(port) in refused.value.value


def test_every_answer_is_guarded(served: Served) -> None:
    """Every answer keeps browsers from guessing its type, and pages allow no script but their own."""
    for path in ("/v1/budgets", "/nothing", "/docs", "/healthz"):
        headers = served.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    policy = served.get("/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_events_of_ones_own_budgets(one_server: Server, tokens: dict[str, Any]) -> None:
    """The stream of a token has only the budgets that the token may see."""
    file = Path(tokens["file"]["path"])
    token, line = new_token("narrow", ["observer"], ["pay"])
    file.write_text(f"{file.read_text()}\n{line}\n")
    narrow = {"authorization": f"Bearer {token}"}
    with Served(one_server.url, tokens=file) as served:
        for name in ("other", "pay"):
            served.client.put(f"/v1/budgets/{name}", json={"settings": {"rate": 5}}, headers=tokens["anna"])
        assert [each["name"] for each in served.get("/v1/budgets", headers=narrow).json()] == ["pay"]
        assert served.get("/v1/events?budget=other", headers=narrow).status_code == 403
        with served.client.stream("GET", "/v1/events", headers=narrow) as stream:
            data = next(line for line in stream.iter_lines() if line.startswith("data:") and '"name":"pay"' in line)
        assert "other" not in data
        assert served.get("/metrics", headers=narrow).status_code == 403
        page = served.get("/metrics", headers=tokens["reader"])
        assert 'nexus_redis_rate_tokens_per_second{budget="other"} 5.0' in page.text


def test_a_stream_ends_with_its_token(one_server: Server, tokens: dict[str, Any]) -> None:
    """A caller whose line is removed reads no further events, and cannot begin again."""
    file = Path(tokens["file"]["path"])
    with Served(one_server.url, tokens=file) as served:
        with served.client.stream("GET", "/v1/events", headers=tokens["reader"]) as stream:
            lines = stream.iter_lines()
            assert any(line.startswith("data:") for line in lines)
            file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("reader")))
            assert sum(len(line) for line in lines) >= 0  # until its end
        assert served.get("/v1/events", headers=tokens["reader"]).status_code == 401


def test_answers_are_not_held_back(served: Served) -> None:
    """The socket names its protocol, so that each connection sends its answers at once (TCP_NODELAY)."""
    assert served.socket.proto == socket.IPPROTO_TCP

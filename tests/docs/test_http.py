"""The clients of docs/http.md in other languages, against a running server."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nexus_redis.server.access import new_token
from nexus_redis.server.problems import KINDS
from tests.harness.servers import Server
from tests.harness.support import HOST, LONG_PATIENCE, PATIENCE, free_port, is_missing
from tests.server.served import Served

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "http.md"
CLIENTS = ROOT / "examples" / "http"
Client = Callable[..., subprocess.CompletedProcess[str]]
BUILDS = {  # the compilers of what is not run from its source; Go keeps what it compiled in a cache of its own
    "go": ["go", "build", "-o", "{to}", str(CLIENTS / "client.go")],
    "rust": ["rustc", "--edition", "2021", "-D", "warnings", "-o", "{to}", str(CLIENTS / "client.rs")],
}
PROGRAMS = {"go": "go", "node": "node", "rust": "rustc"}

pytestmark = [pytest.mark.xdist_group("http clients"), pytest.mark.slow]  # one worker compiles them


@pytest.fixture(scope="session", params=PROGRAMS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs a client, compiled if need be."""
    language = request.param
    if is_missing(PROGRAMS[language]):
        pytest.skip(f"{PROGRAMS[language]} is not installed")
    if language == "node":
        return ["node", str(CLIENTS / "client.mjs")]
    to = tmp_path_factory.mktemp("client") / language
    build = [word.format(to=to) for word in BUILDS[language]]
    done = subprocess.run(build, capture_output=True, text=True, timeout=LONG_PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return [str(to)]


@pytest.fixture
def client(program: list[str]) -> Client:
    """Run the client with an address, perhaps a token, and its arguments."""

    def ran(address: str, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "NEXUS_HTTP": address} | ({"NEXUS_TOKEN": token} if token else {})
        return subprocess.run(
            [*program, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    return ran


def test_a_client_takes_tokens(one_server: Server, client: Client, tmp_path: Path) -> None:
    """A client takes a token before each call, with its bearer token."""
    token, line = new_token("shop", ["producer"], ["stripe"])
    operator, other = new_token("anna", ["operator"], ["*"])
    (tmp_path / "tokens").write_text(f"{line}\n{other}\n")
    with Served(one_server.url, tokens=tmp_path / "tokens") as served:
        served.client.headers["authorization"] = f"Bearer {operator}"
        served.put("stripe", rate=1000)
        done = client(served.address, "stripe", "3", token=token)
        granted = served.get("/v1/budgets/stripe").json()["granted_total"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["call 1", "call 2", "call 3"]
    assert granted >= 3


def test_an_address_may_end_with_a_slash(one_server: Server, client: Client) -> None:
    """A client takes the address of the server with a slash at its end, too."""
    with Served(one_server.url) as served:
        served.put("stripe", rate=1000)
        done = client(f"{served.address}/", "stripe", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "call 1\n", "")


@pytest.mark.parametrize("arguments", [(), ("stripe",), ("stripe", "many")])
def test_a_client_needs_its_arguments(client: Client, arguments: tuple[str, ...]) -> None:
    """A client without a budget or a number of calls ends with one line, which says what to give."""
    done = client(f"http://{HOST}:1", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "stripe 3" in done.stderr


def test_a_client_obeys_retry_after(one_server: Server, client: Client) -> None:
    """A client that gets no tokens asks again when the server says so, and no sooner."""
    with Served(one_server.url, wait_s=0.01) as served:
        served.put("stripe", rate=1000)
        assert served.post("/v1/budgets/stripe/pause", {"seconds": 2}).status_code == 200
        done = client(served.address, "stripe", "1")
        denied = sum(each["count"] for each in served.service.denials.of("stripe"))
    assert (done.returncode, done.stdout) == (0, "call 1\n")
    assert "Asking again in " in done.stderr
    assert "paused" in done.stderr
    assert 1 <= denied <= 3  # a client in a hurry is denied hundreds of times


def test_a_client_says_what_is_wrong(one_server: Server, client: Client) -> None:
    """A client ends with a sentence when its budget does not exist, and when no server answers."""
    with Served(one_server.url) as served:
        done = client(served.address, "strip", "1")
        problem = served.post("/v1/acquire", {"budget": "strip"}).json()
    assert (done.returncode, done.stdout) == (1, "")
    assert problem["detail"] in done.stderr
    address = f"http://{HOST}:{free_port()}"
    done = client(address, "stripe", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"server at {address} does not answer: " in done.stderr


def test_the_page_shows_the_clients() -> None:
    """The page shows each client as it is in its file."""
    shown = dict(
        re.findall(r'^```\w+ title="examples/http/([\w.]+)"\n(.*?)^```', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    )
    assert shown == {path.name: path.read_text() for path in CLIENTS.iterdir()}


def test_the_page_lists_all_problems() -> None:
    """The page lists each kind of problem with its status and its remedy."""
    rows = {f"| {kind.status} | `{name}` | {kind.remedy} |" for name, kind in KINDS.items()}
    assert rows - set(PAGE.read_text().splitlines()) == set()

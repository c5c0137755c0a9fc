"""What brings it all up: docker-compose.yml, the Containerfile, the systemd unit and `make serve`.

Without an engine for containers each command of theirs runs here. Only addresses, ports and paths differ.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from nexus_redis import Nexus
from nexus_redis._redis.embedded import HOST
from nexus_redis.server.run import STOP_SECONDS
from tests.harness.servers import Server, launch
from tests.harness.support import LONG_PATIENCE, PATIENCE, eventually, free_port, is_missing, patient
from tests.server.served import Served

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
STATE = "/var/lib/nexus-redis"  # where a container has its tokens
pytestmark = pytest.mark.slow
PROGRAMS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def read(path: Path) -> dict[str, Any]:
    """A YAML file."""
    found: dict[str, Any] = YAML(typ="safe").load(path)
    return found


def services() -> dict[str, Any]:
    """The services of the compose file."""
    found: dict[str, Any] = read(COMPOSE)["services"]
    return found


def started(command: list[str], here: dict[str, str], **environment: str) -> subprocess.Popen[str]:
    """Run a command of a container with what is here in the place of what is there."""

    def translated(text: str) -> str:
        for there, place in here.items():
            text = text.replace(there, place)
        return text

    given = {name: translated(str(value)) for name, value in environment.items()}
    if "NEXUS_REDIS_URL" in given:
        given["NEXUS_REDIS_URL"] = patient(given["NEXUS_REDIS_URL"])
    return subprocess.Popen(
        [translated(word) for word in command], env={**os.environ, "PATH": PROGRAMS, "PYTHONPATH": str(ROOT), **given},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    """What a process printed, if it ended well."""
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    return out


def stopped(process: subprocess.Popen[str]) -> None:
    """End a process as an engine does."""
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, -signal.SIGTERM), error
    assert "Traceback" not in error


def checked(path: Path) -> tuple[int, str]:
    """By the compose schema, with no network: exit code and what it says."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_compose_file_is_one(tmp_path: Path) -> None:
    """The compose file is a valid one, and the check finds a misspelled word in it."""
    code, said = checked(COMPOSE)
    assert code == 0, said
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("restart:", "restrat:"))
    assert "restrat" in checked(wrong)[1]


def test_compose_publishes_on_this_host_only() -> None:
    """Each published port is one of this host alone, and each file that a service mounts is there."""
    known = services()
    ports = [port for service in known.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert [port for port in ports if not port.startswith(f"{HOST}:")] == []
    mounted = [volume.split(":")[0] for service in known.values() for volume in service.get("volumes", ())]
    assert [path for path in mounted if path.startswith(".") and not (ROOT / path).is_dir()] == []


def test_the_server_of_compose_is_healthy() -> None:
    """The Redis of the compose file starts with its options and is healthy."""
    service = services()["redis"]
    program, *options = service["command"]
    assert program == "redis-server"
    assert service["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    process = launch("valkey", *options)
    server = Server("valkey", process.port)
    try:
        assert server.client().ping()
        assert "noeviction" in str(server.client().config_get("maxmemory-policy"))
    finally:
        server.close()
        process.stop()


def test_each_example_of_compose_runs(one_server: Server) -> None:
    """The consumer and the producers of the compose file run, and leave when they are stopped."""
    listens = f"{HOST}:{free_port()}"
    here = {
        "redis:6379": f"{HOST}:{one_server.port}", "consumer:9000": listens, "0.0.0.0:9000": listens,
        "/examples/": f"{ROOT}/examples/",
    }  # fmt: skip
    known = services()
    consumer, producer = known["consumer"], known["producer"]
    replicas = producer["deploy"]["replicas"]
    running = [started(consumer["command"], here, **consumer["environment"])]
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("indexer")
        # Producers that come first say, once, that nobody reports yet.
        assert eventually(lambda: len(budget.snapshot().consumers) == 1)
        running += [started(producer["command"], here, **producer["environment"]) for _ in range(replicas)]

        def is_at_work() -> bool:
            now = budget.snapshot()
            return now.granted_total > 100 and (len(now.consumers), now.producer_count) == (1, replicas)

        try:
            assert eventually(is_at_work)
        finally:
            for process in reversed(running):
                stopped(process)
        after = budget.snapshot()
        assert (after.consumer_count, after.producer_count, after.last_consumer_end) == (0, 0, "left")


def test_the_tokens_of_compose_open_its_server(one_server: Server, tmp_path: Path) -> None:
    """The service `tokens` makes tokens once, and the server of the compose file lets in who has one."""
    known, port = services(), free_port()
    here = {STATE: str(tmp_path), "redis:6379": f"{HOST}:{one_server.port}", "0.0.0.0": HOST}
    made = finished(started(known["tokens"]["command"], here))
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert not any(files[name].strip() in made for name in ("operator", "prometheus"))  # a log keeps no token
    assert finished(started(known["tokens"]["command"], here)) == ""
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
    assert {path.name: oct(path.stat().st_mode)[-3:] for path in tmp_path.iterdir()} == {
        "tokens": "600", "operator": "600", "prometheus": "444",
    }  # fmt: skip

    service = known["server"]
    server = started([*service["command"], "--port", str(port)], here, **service["environment"])
    scrape = read(DEPLOY / "prometheus" / "compose.yml")["scrape_configs"][0]
    token = Path(scrape["authorization"]["credentials_file"].replace(STATE, str(tmp_path))).read_text().strip()
    [target] = scrape["static_configs"][0]["targets"]
    try:
        assert server.stdout is not None
        assert server.stdout.readline()
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=PATIENCE, verify=False) as client:  # noqa: S501  # no TLS here
            assert client.get("/").status_code == 200
            assert client.get("/v1/budgets").status_code == 401
            allowed = {"authorization": f"Bearer {token}"}
            assert client.get("/metrics", headers={**allowed, "host": target}).status_code == 200
            body = {"settings": {"rate": 5}}
            assert client.put("/v1/budgets/pay", json=body, headers=allowed).status_code == 403
            allowed = {"authorization": f"Bearer {files['operator'].strip()}"}
            assert client.put("/v1/budgets/pay", json=body, headers=allowed).status_code == 201
    finally:
        stopped(server)


def test_compose_scrapes_as_prometheus_yml_says() -> None:
    """The Prometheus of the compose file differs from `prometheus.yml` in its token only."""
    plain, composed = (read(DEPLOY / "prometheus" / name) for name in ("prometheus.yml", "compose.yml"))
    del composed["scrape_configs"][0]["authorization"]
    assert composed == plain


# --- the Containerfile


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Containerfile in their order."""
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in found]


def command_of(name: str) -> list[str]:
    """The command of the last instruction of a name that is written as JSON."""
    rest = [rest for each, rest in instructions() if each == name][-1]
    found: list[str] = json.loads(rest[rest.index("[") :])
    return found


def test_the_image_has_all_that_it_needs(tmp_path: Path) -> None:
    """What the Containerfile copies is enough to build the package, and its server is not root."""
    copied = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    for *sources, to in copied:
        for source in sources:
            target = tmp_path / (source if to == "./" else to)
            (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, target)
    [install] = [rest for name, rest in instructions() if name == "RUN" and " install " in rest and "pip" in rest]
    wanted = shlex.split(install)[-1]
    assert wanted.startswith("/src[")
    build = ["-m", "pip", "install", "--quiet", "--dry-run", "--no-index", "--no-build-isolation"]
    done = subprocess.run(
        [sys.executable, *build, wanted.replace("/src", str(tmp_path))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    user = [rest for name, rest in instructions() if name == "USER"]
    assert len(user) == 1
    assert user[0] not in ("root", "0")


def test_the_image_knows_its_health(one_server: Server) -> None:
    """The health check ends with 0 while the server answers, and not when it does not."""
    program, *words = command_of("HEALTHCHECK")
    assert program == "python"

    def check(port: int) -> int:
        command = [sys.executable, *(word.replace(":8080", f":{port}") for word in words)]
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode

    with Served(one_server.url) as served:
        assert check(served.port) == 0
    assert check(free_port()) != 0


def test_the_command_of_the_image_serves(one_server: Server, tmp_path: Path) -> None:
    """The command of the image starts a server where tokens are, and says what is missing where there are none."""
    command = [*command_of("CMD"), "--port", "0"]
    here = {STATE: str(tmp_path)}
    without = started(command, here, NEXUS_REDIS_URL=one_server.url)
    _, error = without.communicate(timeout=PATIENCE)
    assert without.returncode == 2
    assert str(tmp_path) in error
    (tmp_path / "tokens").write_text("# none yet\n")
    server = started(command, here, NEXUS_REDIS_URL=one_server.url)
    assert server.stdout is not None
    assert "http://0.0.0.0:" in server.stdout.readline()
    stopped(server)


# --- the systemd unit


def test_the_unit_runs_a_sidecar(one_server: Server, tmp_path: Path) -> None:
    """The unit's command serves on its socket, systemd knows all its words, and waits longer than the server needs."""
    text = (DEPLOY / "systemd" / "nexus-redis.service").read_text()
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names of options as they are written
    unit.read_string(text)
    service = unit["Service"]
    assert int(service["TimeoutStopSec"]) > STOP_SECONDS + 1
    assert service["DynamicUser"] == "yes"
    assert service["ProtectSystem"] == "strict"
    program, *words = shlex.split(service["ExecStart"])
    folder = f"/run/{service['RuntimeDirectory']}"
    server = started(["nexus-redis", *words], {folder: str(tmp_path)}, NEXUS_REDIS_URL=one_server.url)
    assert server.stdout is not None
    assert str(tmp_path) in server.stdout.readline()
    transport = httpx.HTTPTransport(uds=str(tmp_path / "http.sock"), verify=False)  # no TLS here
    with httpx.Client(transport=transport) as client:
        assert client.get("http://localhost/readyz", timeout=PATIENCE).status_code == 200
    stopped(server)
    assert list(tmp_path.iterdir()) == []

    if not is_missing("systemd-analyze"):  # no package of the matrix has it
        copy = tmp_path / "nexus-redis.service"
        copy.write_text(text.replace(program, sys.executable))
        verify = ["systemd-analyze", "verify", "--man=no", str(copy)]
        done = subprocess.run(verify, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (done.returncode, re.findall(r".*nexus-redis\.service.*", done.stderr)) == (0, [])


# --- make serve


def test_make_serve_shows_a_fleet_at_work() -> None:
    """`make serve` brings a server, a consumer, producers and callers, and Ctrl-C ends them all."""
    command = ["make", "-s", "-o", ".venv/serve.stamp", f"BIN={Path(sys.executable).parent}", "serve"]
    process = subprocess.Popen(
        [*command, f"ARGS=--port 0 --downstream {HOST}:{free_port()}"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        with httpx.Client(base_url=address, timeout=LONG_PATIENCE, verify=False) as client:  # noqa: S501  # no TLS here

            def is_at_work() -> bool:
                found = {each["name"]: each for each in client.get("/v1/budgets").json()}
                return {"indexer", "stripe"} <= set(found) and (
                    found["indexer"]["producer_count"] == 3
                    and found["indexer"]["consumer_count"] == 1
                    and all(found[name]["granted_total"] > 10 for name in ("indexer", "stripe"))
                )

            assert eventually(is_at_work)
            assert client.get("/").status_code == 200
    finally:
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert "their tokens are back" in out
    assert "Traceback" not in error

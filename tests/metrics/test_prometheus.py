"""A real Prometheus scrapes the real server with the configuration that we ship, and evaluates what Grafana asks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from nexus_redis import Nexus
from nexus_redis.metrics import CATALOGUE
from tests.harness.servers import Server
from tests.harness.support import HOST, PATIENCE, eventually, free_port, is_missing
from tests.metrics.reading import DEPLOY
from tests.server.served import Served

PROMETHEUS: Final = DEPLOY / "prometheus"
DASHBOARD: Final = json.loads((DEPLOY / "grafana" / "dashboards" / "nexus-redis.json").read_text())
needs_promtool = pytest.mark.skipif(is_missing("promtool"), reason="promtool is not installed (apt: prometheus)")
needs_prometheus = pytest.mark.skipif(is_missing("prometheus"), reason="prometheus is not installed (apt: prometheus)")


class Scraper:
    """A Prometheus that runs."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://{HOST}:{port}", timeout=PATIENCE)

    def is_ready(self) -> bool:
        """Whether it has started."""
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str, **query: str) -> Any:
        """What its API answers."""
        answer = self._client.get(f"/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", f"{query}: {answer.get('error')}"
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """The samples of an expression now."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def scraper(folder: Path, target: str) -> Iterator[Scraper]:
    """Run Prometheus with our configuration: with another target, and a tenth of a second for a quarter of a minute."""
    for path in PROMETHEUS.glob("*.yml"):
        shutil.copy(path, folder)
    config = folder / "prometheus.yml"
    config.write_text(config.read_text().replace("server:8080", target).replace("15s", "100ms"))
    port = free_port()
    command = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    found = Scraper(port)
    try:
        assert eventually(lambda: found.is_ready() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield found
    finally:
        found.close()
        process.kill()
        process.wait(PATIENCE)


def expressions() -> list[str]:
    """What Grafana asks for, with its variables filled in as it does when a person looks at everything."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    assert len(found) > 30
    return [_filled(each) for each in found]


def _filled(expression: str) -> str:
    for variable, value in {"$__rate_interval": "1m", "$job": ".*", "$budget": ".*"}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def recorded() -> list[str]:
    """The names of the recording rules."""
    return re.findall(r"record: (\S+)", (PROMETHEUS / "rules.yml").read_text())


def traffic(served: Served) -> Callable[[], None]:
    """Return what makes the server do a little of everything."""

    def some() -> None:
        for key in (None, "cust-1"):
            asked = {"budget": "stripe", "cost": 1} | ({"key": key} if key else {})
            assert served.post("/v1/acquire", asked).status_code == 200
        assert served.post("/v1/try", {"budget": "mail", "cost": 1}).status_code in (200, 429)

    return some


@pytest.mark.slow
@needs_prometheus
def test_each_expression_has_data(one_server: Server, tmp_path: Path) -> None:
    """Each rule, and each expression of the dashboard, is evaluated without an error and has data."""
    with Nexus.from_url(one_server.url) as nexus, nexus.budget("es").consumer(capacity=400, interval=60) as consumer:
        consumer.report(load=95)
        nexus.budget("stripe").configure(rate=1_000)
        nexus.budget("mail").configure(rate="1/day")
        nexus.budget("stripe", key="cust-1").acquire()
        with Served(one_server.url) as served, scraper(tmp_path, f"{HOST}:{served.port}") as prometheus:
            act = traffic(served)
            for expression in [*recorded(), *expressions()]:
                assert eventually(lambda: (act(), prometheus.query(expression))[1]), expression  # noqa: B023  # now
            rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
            assert {rule["health"] for rule in rules} == {"ok"}
            assert len(rules) == 9 + 13
            [target] = prometheus.get("targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            # What a person reads in the dashboard, as numbers:
            [rate] = prometheus.query('nexus_redis_rate_tokens_per_second{budget="es"}')
            assert float(rate["value"][1]) == 100
            firing = {each["labels"]["alertname"] for each in prometheus.get("alerts")["alerts"]}
            assert firing <= {"NexusRedisAcquiresDenied"}


@needs_promtool
@pytest.mark.parametrize(
    "check", [("check", "rules", "rules.yml", "alerts.yml"), ("check", "config", "prometheus.yml"),
              ("test", "rules", "tests.yml")], ids=" ".join,
)  # fmt: skip
def test_promtool_accepts_the_rules(check: tuple[str, ...]) -> None:
    """Promtool finds no fault in the configuration and the rules, and their tests pass."""
    done = subprocess.run(
        ["promtool", *check], cwd=PROMETHEUS, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test() -> None:
    """Each alert has a test in which it fires."""
    named = set(re.findall(r"alert: (\S+)", (PROMETHEUS / "alerts.yml").read_text()))
    fires = set(re.findall(r"alertname: (\S+)\n *exp_alerts:\n", (PROMETHEUS / "tests.yml").read_text()))
    assert named == fires


def test_the_dashboard_is_one_grafana_takes() -> None:
    """Panels have places of their own that do not overlap, each with a title, and use the chosen data source."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, panel["title"]
        assert max(x for x, _ in mine) < 24
        cells |= mine
        assert panel["title"]
        if panel["type"] != "row":
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource", "job", "budget"}


def test_the_dashboard_shows_every_metric() -> None:
    """No metric of the catalogue is missing on the dashboard, be it by a recording rule."""
    shown = " ".join(expressions()) + (PROMETHEUS / "rules.yml").read_text()
    assert [metric.name for metric in CATALOGUE if metric.name not in shown] == []

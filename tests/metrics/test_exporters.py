"""The same metrics reach Prometheus, Datadog and OpenTelemetry, by the same names and with the same values."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import prometheus_client
import pytest
from datadog.dogstatsd.base import DogStatsd
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Sum
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_parsed
from prometheus_client.parser import text_string_to_metric_families as parsed
from prometheus_client.registry import CollectorRegistry

from nexus_redis import Nexus
from nexus_redis.asyncio import Nexus as AsyncNexus
from nexus_redis.metrics import CATALOGUE, NexusCollector, exposition
from nexus_redis.metrics.catalogue import PARTS, Metric
from nexus_redis.metrics.datadog import Emitter
from nexus_redis.metrics.otel import observe
from tests.harness.faces import LoopInAThread
from tests.harness.servers import Server
from tests.harness.support import HOST, PATIENCE, eventually
from tests.metrics.reading import Reading, collector

Packets = dict[str, list[tuple[float, str, frozenset[str]]]]


@pytest.fixture
def busy(one_server: Server) -> Iterator[Nexus]:
    """A Nexus that has done something of everything, on a budget of its own and on one with keys."""
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate=1_000)
        assert eventually(lambda: (budget.acquire(), nexus._scheduler.subscriptions.lag is not None)[1])
        nexus.budget("stripe", key="cust-1").acquire()
        nexus.budget("mail", rate="1/day").acquire()
        assert not nexus.budget("mail").try_acquire()
        with nexus.budget("es").consumer(capacity=10, interval=60) as consumer:
            consumer.report(load=50)
            yield nexus


class Agent:
    """A Datadog agent, as far as its socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self._socket.settimeout(PATIENCE)
        host, port = self._socket.getsockname()
        self.statsd = DogStatsd(host=host, port=port, disable_telemetry=True)

    def received(self) -> Packets:
        """All that has come so far, by name: value, type and tags. UDP on one host is there when it is sent."""
        found: Packets = defaultdict(list)
        self.statsd.gauge("end", 1)
        while "end" not in found:
            for line in self._socket.recv(65_536).decode().splitlines():
                name, _, rest = line.partition(":")
                value, kind, *more = rest.split("|")
                tags = [part.removeprefix("#") for part in more if part.startswith("#")]
                found[name].append((float(value), kind, frozenset(",".join(tags).split(",")) - {""}))
        del found["end"]
        return found

    def close(self) -> None:
        """End."""
        self.statsd.close_socket()
        self._socket.close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent that reads what is sent."""
    agent = Agent()
    yield agent
    agent.close()


def dotted(metric: Metric) -> set[str]:
    """The names of a metric where a histogram is counters."""
    return {f"{metric.dotted}.{part}" for part in PARTS} if metric.kind == "histogram" else {metric.dotted}


def test_every_metric_is_in_every_exporter(busy: Nexus, agent: Agent) -> None:
    """Each metric of the catalogue has a value in Prometheus, in Datadog and in OpenTelemetry."""
    names = {metric.name: dotted(metric) for metric in CATALOGUE}
    scraped = {family.name for family in NexusCollector(busy, fleet=True).collect() if family.samples}
    # Nothing was admitted by the outage mode, which is a zero, and no message came.
    assert {name.removesuffix("_total") for name in names} == scraped
    Emitter(busy, agent.statsd, fleet=True).send()
    Emitter(busy, agent.statsd, fleet=True).send()
    all_dotted = set().union(*names.values())
    first = {"nexus_redis.granted_tokens_total"}  # what was granted before the first look is no news
    assert agent.received().keys() == all_dotted - first
    reader = InMemoryMetricReader()
    observe(busy, MeterProvider([reader]), fleet=True)
    assert collected(reader).keys() == all_dotted


def collected(reader: InMemoryMetricReader) -> dict[str, Any]:
    """What the SDK has collected, by name."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if list(metric.data.data_points)
    }


def test_the_values_agree(busy: Nexus, agent: Agent) -> None:
    """A counter and a gauge have the same value in all three."""
    seen = Reading(NexusCollector(busy).collect())
    acquires = seen("client_acquires_total", budget="stripe") or -1.0
    held = seen("client_held_tokens", budget="es") or 0.0
    Emitter(busy, agent.statsd).send()
    packets = agent.received()
    assert (acquires, "c", frozenset({"budget:stripe"})) in packets["nexus_redis.client_acquires_total"]
    assert (held, "g", frozenset({"budget:es"})) in packets["nexus_redis.client_held_tokens"]
    # A tag of Datadog has no star.
    assert (1.0, "c", frozenset({"budget:stripe/_"})) in packets["nexus_redis.client_acquires_total"]
    reader = InMemoryMetricReader()
    observe(busy, MeterProvider([reader]))
    found = collected(reader)
    counter, gauge = found["nexus_redis.client_acquires_total"].data, found["nexus_redis.client_held_tokens"].data
    assert isinstance(counter, Sum)
    assert isinstance(gauge, Gauge)
    assert counter.is_monotonic
    assert {(point.attributes or {})["budget"]: point.value for point in counter.data_points}["stripe"] == acquires
    assert {(point.attributes or {})["budget"]: point.value for point in gauge.data_points}["es"] == held


def test_datadog_gets_what_was_added(busy: Nexus, agent: Agent) -> None:
    """A counter is sent as what was added since it was last sent, also the fleet's, and buckets add up."""
    emitter = Emitter(busy, agent.statsd, fleet=True)
    emitter.send()
    agent.received()
    budget = busy.budget("mail")
    assert not budget.try_acquire()
    busy.budget("new", rate=10).acquire()
    emitter.send()
    packets = agent.received()
    [denied] = [value for value, _, tags in packets["nexus_redis.client_denied_total"] if "budget:mail" in tags]
    assert denied == 1
    granted = {tag: value for value, _, tags in packets["nexus_redis.granted_tokens_total"] for tag in tags}
    assert (granted["budget:mail"], granted["budget:new"] >= 1) == (0, True)
    buckets = {
        tag: value
        for value, kind, tags in packets["nexus_redis.client_wait_seconds.bucket"]
        if "budget:new" in tags and kind == "c"
        for tag in tags - {"budget:new"}
    }
    assert buckets["le:inf"] == 1
    assert max(buckets.values()) == 1


def test_the_emitter_sends_by_itself(busy: Nexus, agent: Agent) -> None:
    """A thread sends at each interval, and once more at the end."""
    with Emitter(busy, agent.statsd, interval=0.01):
        assert eventually(lambda: "nexus_redis.up" in agent.received())
    assert "nexus_redis.up" in agent.received()
    assert not agent.received()


def test_an_agent_that_is_gone_harms_nobody(busy: Nexus) -> None:
    """Nobody listens on the agent's port: nothing is raised, and the process goes on."""
    with Emitter(busy, DogStatsd(host=HOST, port=9, disable_telemetry=True), interval=0.01) as emitter:
        emitter.send()
    assert busy.budget("stripe").acquire()


def test_one_collection_is_one_look(busy: Nexus) -> None:
    """All instruments of a collection share one look at Redis, and the next collection has a new one."""
    looks: list[object] = []
    drive = busy._reports.drive

    def noted(plan: Any) -> Any:
        looks.append(plan)
        return drive(plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(busy._reports, "drive", noted)
        reader = InMemoryMetricReader()
        observe(busy, MeterProvider([reader]), fleet=True)
        assert not looks
        for count in (1, 2, 3):
            reader.collect()
            assert len(looks) == count


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"])
def test_the_page_can_be_parsed(loop: LoopInAThread, nexus: AsyncNexus, accept: str) -> None:
    """The page is what its content type says, in the format that was asked for."""
    loop.run(lambda: nexus.budget("stripe", rate=10).acquire())
    body, kind = loop.run(lambda: exposition(nexus, accept=accept, labels={"worker": "7"}))
    is_open = "openmetrics" in accept
    assert kind.split(";")[0] == ("application/openmetrics-text" if is_open else "text/plain")
    parse: Any = openmetrics_parsed if is_open else parsed
    found = list(parse(body.decode()))
    assert {family.name: family.type for family in found} == {
        metric.name.removesuffix("_total"): metric.kind for metric in CATALOGUE
    }
    assert Reading(found)("client_acquires_total", budget="stripe", worker="7") == 1
    assert all(family.documentation for family in found)


def test_one_of_many_workers_shows_the_fleet(loop: LoopInAThread, nexus: AsyncNexus) -> None:
    """Without `client` the page has only what is the same in all workers: nothing that one process counts."""
    loop.run(lambda: nexus.budget("stripe", rate=10).acquire())
    loop.run(lambda: nexus.budget("stripe", key="a").acquire())
    body, _ = loop.run(lambda: exposition(nexus, client=False))
    found = Reading(parsed(body.decode()))
    assert found.budgets("granted_tokens_total") == {"stripe"}
    assert found.budgets("rate_tokens_per_second") == {"stripe", "stripe/*"}
    assert not any("_client_" in name for name, _ in found.all)


def test_a_registry_takes_the_collector(busy: Nexus) -> None:
    """A registry of prometheus_client takes the collector, and refuses a second one without labels of its own."""
    registry = CollectorRegistry()
    registry.register(collector(busy))
    page = prometheus_client.generate_latest(registry).decode()
    assert Reading(parsed(page))("client_denied_total", budget="mail", reason="rate") in (1, None)
    with pytest.raises(ValueError, match="nexus_redis_up"):
        registry.register(collector(busy))


@pytest.mark.parametrize(
    ("module", "library"),
    [("datadog", "datadog"), ("otel", "opentelemetry"), ("prometheus", "prometheus_client")],
)
def test_a_missing_library_is_named(module: str, library: str) -> None:
    """An exporter without its library says what to install, and the others do without it."""
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "import nexus_redis.metrics as metrics\n"
        f"try: import nexus_redis.metrics.{module}\n"
        f"except ImportError as error: assert error.library == {library!r}\n"
        "else: sys.exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)

"""The write queues of Elasticsearch, as a fake of its statistics tells them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus_redis.asyncio import Nexus
from nexus_redis.errors import InvalidSetting
from nexus_redis.server.proxy import ProxyOptions, elasticsearch, texts
from tests.harness.servers import Server
from tests.harness.support import run
from tests.server.proxied import OK, Proxied, Visit, proxied, serving

# --- the write queues of Elasticsearch


def nodes(**pools: dict[str, Any]) -> bytes:
    """The statistics of nodes as Elasticsearch 7 and later give them."""
    found = {f"id-{name}": {"name": name, "thread_pool": {"write": pool}} for name, pool in pools.items()}
    return json.dumps({"nodes": found}).encode()


class FakeElasticsearch:
    """An upstream that also answers for its nodes."""

    def __init__(self, site: Proxied) -> None:
        self.pools = {
            "node-1": {"threads": 4, "queue": 20, "active": 4, "rejected": 0, "largest": 4, "completed": 100},
            "node 2": {"threads": 4, "queue": 0, "active": 0, "rejected": 0, "largest": 4, "completed": 100},
        }
        self.is_away = False
        site.upstream.handle = self.handle

    async def handle(self, visit: Visit) -> None:
        await visit.body()
        if self.is_away:
            await visit.send(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n{}")
        elif "/_nodes/stats" in visit.head.line:
            await self._send(visit, nodes(**self.pools))
        elif "/_nodes/thread_pool" in visit.head.line:
            limits: dict[str, dict[str, Any]] = {
                name: {"type": "fixed", "size": 4, "queue_size": 200} for name in self.pools
            }
            await self._send(visit, nodes(**limits))
        else:
            await visit.send(OK)

    async def _send(self, visit: Visit, body: bytes) -> None:
        await visit.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


async def until_seen(site: Proxied, **expected: dict[str, float]) -> None:
    """Wait until the consumers of the budget report these fields, and there are no others."""
    while True:
        found = await site.nexus.budget("es").snapshot()
        rows = {each.id: each.fields for each in found.consumers if each.is_live}
        if rows.keys() == expected.keys() and all(
            float(rows[name].get(field, -1)) == value for name in rows for field, value in expected[name].items()
        ):
            return


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look as often as the loop turns."""
    monkeypatch.setattr(elasticsearch, "EACH", 0.01)


@pytest.mark.usefixtures("fast")
def test_write_queues(one_server: Server) -> None:
    """Each node is a consumer that reports its write queue, and the proxy does not report beside them."""

    async def main() -> None:
        async with proxied(one_server, rate=None, stats="elasticsearch") as site:
            fake = FakeElasticsearch(site)
            limits = {"queue_limit": 200.0, "done": 0.0, "errors": 0.0}
            first = {"queue_depth": 20.0, "in_flight": 4.0} | limits
            second = {"queue_depth": 0.0, "in_flight": 0.0} | limits
            await until_seen(site, **{"elasticsearch.node-1": first, "elasticsearch.node_2": second})
            fake.pools["node-1"] |= {"queue": 5, "completed": 130, "rejected": 7}
            changed = first | {"queue_depth": 5.0, "done": 30.0, "errors": 7.0}
            await until_seen(site, **{"elasticsearch.node-1": changed, "elasticsearch.node_2": second})
            del fake.pools["node 2"]
            await until_seen(site, **{"elasticsearch.node-1": changed})
            assert (await site.nexus.budget("es").snapshot()).consumers[0].law == "drain"
            assert (await site.ask()).status == 200

    run(main())


@pytest.mark.usefixtures("fast")
def test_one_proxy_reports(one_server: Server) -> None:
    """Of two proxies one reports the nodes, and the other takes over when it stops."""

    async def main() -> None:
        async with proxied(one_server, rate=None, stats="elasticsearch") as site:
            fake = FakeElasticsearch(site)
            del fake.pools["node 2"]
            async with (
                Nexus.from_url(one_server.url) as other,
                serving(other, site.upstream, rate=None, stats="elasticsearch"),
            ):
                await until_seen(site, **{"elasticsearch.node-1": {"queue_depth": 20.0}})
                assert site.proxy._queues is not None
                await site.proxy._queues.stop()
                fake.pools["node-1"]["queue"] = 3
                await until_seen(site, **{"elasticsearch.node-1": {"queue_depth": 3.0}})

    run(main())


@pytest.mark.usefixtures("fast")
def test_unreadable_queues(one_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Nodes whose queue cannot be read any more leave, and come back; the log says both once."""
    caplog.set_level("INFO")

    async def main() -> None:
        async with proxied(one_server, rate=None, stats="elasticsearch") as site:
            fake = FakeElasticsearch(site)
            del fake.pools["node 2"]
            await until_seen(site, **{"elasticsearch.node-1": {"queue_depth": 20.0}})
            fake.is_away = True
            await until_seen(site)
            fake.is_away = False
            await until_seen(site, **{"elasticsearch.node-1": {"queue_depth": 20.0}})

    run(main())
    known = (texts.STATS_AWAY, texts.STATS_READ, texts.STATS_BACK)
    ours = [record.msg for record in caplog.records if record.msg in known]
    assert ours[-3:] == [texts.STATS_READ, texts.STATS_AWAY, texts.STATS_BACK]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("rate", "so"), [(None, texts.NO_RATE), (1_000, texts.FIXED_RATE)])
def test_never_readable(one_server: Server, caplog: pytest.LogCaptureFixture, rate: int | None, so: str) -> None:
    """Where the queue cannot be read from the start, the log says so once, and what makes the rate meanwhile."""

    async def main() -> None:
        async with proxied(one_server, rate=rate, stats="elasticsearch") as site:
            site.upstream.answering(b"HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n")
            queues = site.proxy._queues
            await site.until(lambda: queues is not None and queues._failures > elasticsearch.PATIENCE + 1)

    run(main())
    [line] = [record for record in caplog.records if record.msg == texts.STATS_AWAY]
    assert so in line.getMessage()
    assert texts.status(401) in line.getMessage()


def test_worth_of_a_task() -> None:
    """A task is worth the tokens granted for each completed task, and both may begin at 0 again."""
    worth = elasticsearch.Worth()
    assert [worth.note(*totals) for totals in ((500, 7), (1_500, 12), (2_500, 17))] == [1.0, 200.0, 200.0]
    assert worth.note(1_000, 5) == pytest.approx(200)
    for total in range(1, 200):
        latest = worth.note(1_000 + 100 * total, 5 + 100 * total)
    assert latest == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("document", [None, [], {}, {"nodes": []}, {"nodes": {"a": {}}}, {"nodes": {"a": {"name": 1}}}])
def test_other_documents(document: Any) -> None:
    """What is not the statistics of nodes is refused as such."""
    with pytest.raises(ValueError, match="node"):
        elasticsearch.pools_of(document)


def test_unbounded_queue() -> None:
    """A queue without a limit has none."""
    assert elasticsearch.sizes_of(json.loads(nodes(a={"queue_size": -1}, b={"queue_size": 10_000}))) == {"b": 10_000}


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("line", "sent"),
    [("elastic:pa ss:é\n", "Basic ZWxhc3RpYzpwYSBzczrDqQ=="), ("ApiKey VnVhQ2ZH==", "ApiKey VnVhQ2ZH==")],
)
def test_credentials(one_server: Server, tmp_path: Path, line: str, sent: str) -> None:
    """The statistics are asked for with the credentials of a file, and nothing else is."""
    path = tmp_path / "credentials"
    path.write_text(line, encoding="utf-8")

    async def main() -> None:
        async with proxied(one_server, rate=None, stats="elasticsearch", stats_credentials=path) as site:
            FakeElasticsearch(site)
            await site.until(lambda: len(site.upstream.heads) > 2)
            assert (await site.ask()).status == 200
            for head in site.upstream.heads:
                assert head.all("authorization") == ([sent] if "/_nodes" in head.line else [])

    run(main())


@pytest.mark.parametrize(("line", "stats"), [("no colon", True), ("", True), ("a:b\nc:d", True), ("a:b", False)])
def test_wrong_credentials(tmp_path: Path, line: str, stats: bool) -> None:
    """A file without credentials, or credentials for nothing, fail the start, and are not shown."""
    path = tmp_path / "credentials"
    path.write_text(line)
    with pytest.raises(InvalidSetting) as caught:
        ProxyOptions(
            upstream="http://es", budget="es", stats="elasticsearch" if stats else None, stats_credentials=path
        )
    assert caught.value.field == "stats_credentials"
    assert not line or line not in str(caught.value)
    with pytest.raises(InvalidSetting):
        ProxyOptions(upstream="http://es", budget="es", stats="elasticsearch", stats_credentials=tmp_path / "none")

"""The stream behind the page, read as the page reads it: everything first, then what has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import pytest
import redis

from nexus_redis import Nexus
from nexus_redis import asyncio as aio
from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._redis.embedded import ServerProcess
from nexus_redis.errors import NexusError
from nexus_redis.server.live.looks import Look
from nexus_redis.server.live.watcher import Watcher
from tests.harness.servers import Server, binary
from tests.harness.support import PATIENCE, free_port, run

NEVER = 3600.0  # an interval: only a nudge has the watcher look again
SOON = 0.01
Event = tuple[str, dict[str, Any]]


class Stream:
    """The events of one subscriber, and what a page makes of them."""

    def __init__(self, watcher: Watcher, budget: str | None = None, only: str = "") -> None:
        self.parts = watcher.stream(budget, lambda name: name.startswith(only))
        self.events: list[Event] = []
        self.budgets: dict[str, dict[str, Any]] = {}
        self.consumers: dict[str, dict[str, Any]] = {}
        self.producers: dict[str, dict[str, Any]] = {}
        self.detail: dict[str, Any] = {}
        self.trouble = ""

    async def until(self, is_so: Callable[[], object]) -> None:
        """Read until it holds, for a minute at most."""
        async with asyncio.timeout(PATIENCE):
            while not is_so():
                for name, data in events_of(await anext(self.parts)):
                    self.events.append((name, data))
                    self._take(name, data)

    def _take(self, name: str, data: dict[str, Any]) -> None:
        match name:
            case "budgets":
                take(self.budgets, data["budgets"], "name", data["gone"], is_whole=data["is_whole"])
            case "budget":
                self.detail.update(data)
                take(self.consumers, data["consumers"], "id", data["gone_consumers"], is_whole=data["is_whole"])
                take(self.producers, data["producers"], "id", data["gone_producers"], is_whole=data["is_whole"])
            case "trouble":
                self.trouble = data["text"]


def take(rows: dict[str, Any], changed: list[dict[str, Any]], key: str, gone: list[str], *, is_whole: bool) -> None:
    """Apply an event to the rows of a page."""
    if is_whole:
        rows.clear()
    for row in changed:
        rows.setdefault(row[key], {}).update(row)
    for name in gone:
        del rows[name]


def events_of(part: bytes) -> list[Event]:
    """The events in a part of a stream."""
    found = []
    for block in part.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def watching(url: str, main: Callable[[Watcher, aio.Nexus], Coroutine[Any, Any, None]], interval: float) -> None:
    """Run `main` beside a watcher."""

    async def body() -> None:
        async with aio.Nexus.from_url(url) as nexus:
            watcher = Watcher(nexus, interval=interval)
            await watcher.start()
            try:
                await main(watcher, nexus)
            finally:
                await watcher.stop()

    run(body())


def claim(client: redis.Redis, budget: str, producers: list[str], rate: float = 10) -> None:
    """Have producers claim once, as processes elsewhere would."""
    keys = BudgetKeys("nexus", budget)
    pipeline = client.pipeline(transaction=False)
    for number, name in enumerate(producers):
        micro = int(rate * 1e6)
        call = calls.claim(keys, name, calls.Claim(requested_rate=micro, tokens=1_000_000, incarnation=f"i{number}"))
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    client.script_load(call.script.text)
    pipeline.execute()


def configure(server: Server, **settings: Any) -> None:
    """Open budgets with a rate, by name."""
    with Nexus.from_url(server.url) as nexus:
        for name, rate in settings.items():
            nexus.budget(name).configure(rate=rate)


def test_only_changes_are_sent(one_server: Server) -> None:
    """The first event has every budget, and a later one only the fields that changed."""
    configure(one_server, quiet=5, busy=100)

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        stream = Stream(watcher)
        await stream.until(lambda: stream.budgets)
        assert {name: row["rate"] for name, row in stream.budgets.items()} == {"busy": 100, "quiet": 5}
        await nexus.budget("busy").configure(rate=40)
        watcher.changed()
        await stream.until(lambda: stream.budgets["busy"]["rate"] == 40)
        name, data = stream.events[-1]
        assert (name, data["is_whole"]) == ("budgets", False)
        assert [row["name"] for row in data["budgets"]] == ["busy"]
        assert "level" not in data["budgets"][0]
        assert stream.budgets["busy"]["settings"]["rate"]["value"] == 40

    watching(one_server.url, main, NEVER)


def test_a_change_is_seen_at_once(one_server: Server) -> None:
    """After `changed`, a pause is sent without waiting for the next look."""
    configure(one_server, api=100)

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        stream = Stream(watcher, "api")
        await stream.until(lambda: stream.detail and stream.budgets)
        await nexus.budget("api").pause(300, reason="deploy")
        watcher.changed()
        await stream.until(lambda: stream.budgets["api"]["is_paused"] and stream.detail["budget"]["is_paused"])
        assert stream.detail["budget"]["pause_reason"] == "deploy"
        assert stream.budgets["api"]["paused_until"] > stream.detail["at"]
        assert stream.detail["history"][0]["why"] == "deploy"
        assert any("deploy" in sentence for sentence in stream.detail["because"])

    watching(one_server.url, main, NEVER)


def test_a_slow_reader_gets_the_sum(one_server: Server) -> None:
    """A subscriber that did not read for some looks gets all that changed meanwhile in one event."""
    configure(one_server, a=1, b=1)

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        slow, fast = Stream(watcher), Stream(watcher)
        await slow.until(lambda: slow.budgets)
        await nexus.budget("a").configure(rate=7)
        await fast.until(lambda: fast.budgets and fast.budgets["a"]["rate"] == 7)
        await nexus.budget("b").configure(rate=7)
        await fast.until(lambda: fast.budgets["b"]["rate"] == 7)
        await slow.until(lambda: slow.budgets["a"]["rate"] == 7)
        assert slow.budgets["b"]["rate"] == 7

    watching(one_server.url, main, SOON)


def test_only_allowed_budgets_are_sent(one_server: Server) -> None:
    """A subscriber sees the budgets of its own pattern, and hears of no other that goes."""
    configure(one_server, mine=1, mine2=1, other=1)

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        stream = Stream(watcher, "other", only="mine")
        await stream.until(lambda: stream.budgets)
        assert set(stream.budgets) == {"mine", "mine2"}
        await nexus.budget("other").delete()
        await nexus.budget("mine2").delete()
        await stream.until(lambda: set(stream.budgets) == {"mine"})
        assert "other" not in json.dumps(stream.events)

    watching(one_server.url, main, SOON)


def test_one_budget_with_its_members(one_server: Server) -> None:
    """A subscriber of a budget gets its past, its consumers, its producers, and why."""

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        budget = nexus.budget("es", rate=1000)
        async with budget.consumer("es-1", capacity=400) as consumer, budget.producer("fb-1", weight=2) as producer:
            await consumer.report(load=95, queue_depth=30, queue_limit=100)
            await producer.signal(10_000)
            stream = Stream(watcher, "es")
            await stream.until(lambda: stream.producers and stream.consumers)
            assert stream.consumers["es-1"]["rate"] == 100
            assert stream.consumers["es-1"]["reported"]["queue_depth"] == 30
            assert stream.consumers["es-1"]["is_live"]
            assert stream.producers["fb-1"]["weight"] == 2
            assert stream.producers["fb-1"]["demand"] > 0
            assert any("es-1" in sentence for sentence in stream.detail["because"])
            assert stream.detail["remedies"]
            series = next(data for name, data in stream.events if name == "series")
            assert len({len(column) for column in series.values()}) == 1
            await stream.until(lambda: stream.budgets.get("es", {}).get("granted_per_s") is not None)
        await stream.until(lambda: not stream.producers and not stream.consumers)

    watching(one_server.url, main, SOON)


def test_all_of_a_crowd_are_read(one_server: Server) -> None:
    """More producers than one answer of the script holds are all there, each once."""
    configure(one_server, crowd=5000)
    names = [f"p{number}" for number in range(1_300)]
    claim(one_server.client(), "crowd", names)

    async def main(watcher: Watcher, _: aio.Nexus) -> None:
        stream = Stream(watcher, "crowd")
        await stream.until(lambda: stream.producers)
        assert set(stream.producers) == set(names)
        assert stream.detail["budget"]["producer_count"] == 1_300

    watching(one_server.url, main, NEVER)


def test_denials_and_waiters_of_the_server(one_server: Server) -> None:
    """The server's own counts are shown: callers that it denied, and those that wait, for its producer and by id."""
    configure(one_server, api=1)
    claim(one_server.client(), "api", ["elsewhere"])

    async def main() -> None:
        denied = [{"producer_id": "web-1", "reason": "contended", "count": 3}]
        async with aio.Nexus.from_url(one_server.url) as nexus:
            watcher = Watcher(nexus, denials=lambda _: denied, waiting=lambda _: {"web-1": 1, "web-2": 4})
            producer = nexus.budget("api").producer("server-1")
            await producer.try_acquire()
            await watcher.start()
            stream = Stream(watcher, "api")
            await stream.until(lambda: stream.producers)
            assert stream.detail["denials"] == denied
            waiting = [(row["producer_id"], row["count"]) for row in stream.detail["waiting"]]
            assert waiting == [("web-2", 4), ("web-1", 1)]
            assert stream.producers["server-1"]["waiting"] == 5
            assert "waiting" not in stream.producers["elsewhere"]
            await watcher.stop()

    run(main())


def test_a_budget_may_come_and_go(one_server: Server) -> None:
    """A budget that does not exist is null; it is whole when it appears, and null again when it is deleted."""

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        stream = Stream(watcher, "new")
        await stream.until(lambda: stream.detail)
        assert stream.detail["budget"] is None
        await nexus.budget("new").configure(rate=3)
        await stream.until(lambda: stream.detail["budget"])
        assert stream.detail["is_whole"]
        await nexus.budget("new").delete()
        await stream.until(lambda: stream.detail["budget"] is None and "new" not in stream.budgets)

    watching(one_server.url, main, SOON)


def test_damage_hides_no_other_budget(one_server: Server) -> None:
    """A budget that a person has damaged says so, in the list and by itself."""
    configure(one_server, good=1, bad=1)
    one_server.client().hset("nexus:{bad}", "rate_per_s", "much")

    async def main(watcher: Watcher, _: aio.Nexus) -> None:
        stream = Stream(watcher, "bad")
        await stream.until(lambda: stream.detail and stream.budgets)
        assert "repair bad" in stream.budgets["bad"]["damaged"][0]
        assert stream.detail["budget"]["damaged"]
        assert stream.budgets["good"]["rate"] == 1
        assert not stream.trouble

    watching(one_server.url, main, NEVER)


@pytest.mark.hurried
def test_redis_may_go_and_come_back() -> None:
    """While Redis is away subscribers are told why, once until it is back; then they go on by themselves."""
    program = binary("valkey")
    assert program is not None
    redis_server = ServerProcess(program, free_port())
    url = f"redis://127.0.0.1:{redis_server.port}"

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        nonlocal redis_server
        await nexus.budget("api").configure(rate=3)
        stream = Stream(watcher, "api")
        await stream.until(lambda: stream.detail)
        redis_server.stop()
        await stream.until(lambda: stream.trouble)
        assert str(redis_server.port) in stream.trouble
        redis_server = ServerProcess(program, redis_server.port)
        await stream.until(lambda: not stream.trouble and stream.detail["budget"] is None)
        await nexus.budget("api").configure(rate=4)
        await stream.until(lambda: stream.budgets.get("api", {}).get("rate") == 4)
        told = [bool(data["text"]) for name, data in stream.events if name == "trouble"]
        assert told == [True, False] * (len(told) // 2)  # a busy machine may make more than one outage of it

    try:
        watching(url, main, SOON)
    finally:
        redis_server.stop()


def test_what_nobody_watches_is_not_read(one_server: Server) -> None:
    """A budget is read with members as long as one subscriber is left, and all streams end with the watcher."""
    configure(one_server, api=1)

    async def main(watcher: Watcher, _: aio.Nexus) -> None:
        first, second = Stream(watcher, "api"), Stream(watcher, "api")
        async with aclosing(second.parts):
            async with aclosing(first.parts):
                await first.until(lambda: first.detail)
                await second.until(lambda: second.detail)
            assert watcher._details
        assert not watcher._details
        rest = Stream(watcher)
        await rest.until(lambda: rest.budgets)
        await watcher.stop()
        async with asyncio.timeout(PATIENCE):
            assert [part async for part in rest.parts] == []

    watching(one_server.url, main, NEVER)


def test_a_bug_does_not_end_the_looks(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is told to subscribers, and the next look is made all the same."""
    configure(one_server, api=1)

    async def main(watcher: Watcher, _: aio.Nexus) -> None:
        stream = Stream(watcher)
        await stream.until(lambda: stream.budgets)
        good = watcher._looks._look

        async def broken() -> Any:
            raise KeyError("planted")

        monkeypatch.setattr(watcher._looks, "_look", broken)
        await stream.until(lambda: stream.trouble)
        monkeypatch.setattr(watcher._looks, "_look", good)
        await stream.until(lambda: not stream.trouble)

    watching(one_server.url, main, SOON)


def test_an_outage_is_a_gap(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis does not answer, the past has one sample in which nothing is known, and no load without consumers."""
    configure(one_server, api=1)

    async def main(watcher: Watcher, nexus: aio.Nexus) -> None:
        async def down(_: Any) -> Any:
            raise NexusError("planted")

        stream = Stream(watcher, "api")
        await stream.until(lambda: stream.detail)
        with monkeypatch.context() as patch:
            patch.setattr(nexus, "_drive", down)
            await stream.until(lambda: stream.trouble)
        await stream.until(lambda: not stream.trouble and stream.events[-1][0] == "budget")
        later = Stream(watcher, "api")
        await later.until(lambda: later.detail)
        series = next(data for name, data in later.events if name == "series")
        assert series["rate"].count(None) == 1
        assert series["rate"][-1] == 1
        assert series["level"].index(None) == series["rate"].index(None)
        assert set(series["load"]) == {None}
        assert later.budgets["api"]["load"] is None

    watching(one_server.url, main, SOON)


def test_a_swallowed_end_ends_the_looks(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher stops even if a look takes its cancellation for a timeout, as redis-py can."""

    async def main(watcher: Watcher, _: aio.Nexus) -> None:
        stream = Stream(watcher)
        await stream.until(lambda: stream.events)
        is_looking = asyncio.Event()

        async def deaf() -> Any:
            is_looking.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return Look(0.0)

        monkeypatch.setattr(watcher._looks, "_look", deaf)
        watcher.changed()
        async with asyncio.timeout(PATIENCE):
            await is_looking.wait()
            await watcher.stop()

    watching(one_server.url, main, NEVER)

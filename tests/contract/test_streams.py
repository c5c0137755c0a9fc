"""What a group of a stream has really not read, whatever was deleted, trimmed or set: against the stream itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import ResponseError

from nexus_redis._core import sources
from nexus_redis._core.sources import COUNTED_EACH, StreamSource
from tests.harness.servers import Server

KEY, GROUP = "orders", "index"


class World:
    """A stream, its group, who looks at it, and what is true."""

    def __init__(self, server: Server, limit: int = 1000) -> None:
        self.client: Any = server.client()
        self.client.delete(KEY)
        self.source = StreamSource(KEY, GROUP, limit)
        self.acked = 0
        self.is_disturbed = False  # what is done cannot be told from what is there any more
        self.done = 0.0
        self.client.xgroup_create(KEY, GROUP, id="0", mkstream=True)
        self.ask()  # Redis 6.2 says nothing of what was before

    # what happens

    def add(self, n: int) -> None:
        for i in range(n):
            self.client.xadd(KEY, {"n": i})

    def read(self, n: int) -> None:
        self.client.xreadgroup(GROUP, "worker", {KEY: ">"}, count=n)

    def read_without_ack(self, n: int) -> None:
        found = self.client.xreadgroup(GROUP, "worker", {KEY: ">"}, count=n, noack=True)
        self.acked += sum(len(entries) for _, entries in found)

    def ack(self, n: int) -> None:
        pending = self.client.xpending_range(KEY, GROUP, "-", "+", n)
        self.acked += self.client.xack(KEY, GROUP, *(each["message_id"] for each in pending)) if pending else 0

    def ack_and_delete(self, n: int) -> None:
        pending = [each["message_id"] for each in self.client.xpending_range(KEY, GROUP, "-", "+", n)]
        if pending:
            self.acked += self.client.xack(KEY, GROUP, *pending)
            self.delete(pending)

    def delete_unread(self, n: int) -> None:
        self.delete(self.unread()[n % 3 :: 2][:n])

    def delete_the_last(self, n: int) -> None:
        self.delete(self.unread()[-n:])

    def delete_read(self, n: int) -> None:
        self.delete([each for each, _ in self.client.xrange(KEY, "-", self.last(), n)])

    def delete(self, ids: list[Any]) -> None:
        self.is_disturbed = True
        if ids:
            self.client.xdel(KEY, *ids)

    def trim(self, n: int) -> None:
        self.is_disturbed = True
        self.client.xtrim(KEY, maxlen=2 * n, approximate=False)

    def set_to_the_beginning(self, _n: int) -> None:
        self.set("0")

    def set_to_the_end(self, _n: int) -> None:
        self.set("$")

    def set_to_one_of_them(self, n: int) -> None:
        there = self.client.xrange(KEY)
        if there:
            self.set(there[n % len(there)][0])

    def set(self, to: Any) -> None:
        self.is_disturbed = True
        self.client.xgroup_setid(KEY, GROUP, to)

    def begin_anew(self, _n: int) -> None:
        self.is_disturbed = True
        self.client.xgroup_destroy(KEY, GROUP)
        self.client.xgroup_create(KEY, GROUP, id="0")

    # what is true, and what is said

    def last(self) -> Any:
        return self.client.xinfo_groups(KEY)[0]["last-delivered-id"]

    def unread(self) -> list[Any]:
        last = self.last()
        return [
            each for each, _ in self.client.xrange(KEY, b"(" + (last if isinstance(last, bytes) else last.encode()))
        ]

    def ask(self) -> dict[str, float]:
        (command,) = self.source.look()
        return self.source.see([command.decode(self.client.execute_command(*command.args))])

    def look(self, _n: int = 0) -> None:
        said = self.ask()
        assert said["queue_depth"] == len(self.unread())
        assert said["in_flight"] == self.client.xpending(KEY, GROUP)["pending"]
        assert said["done"] >= self.done
        self.done = said["done"]
        if not self.is_disturbed:
            assert said["done"] == self.acked


@contextmanager
def counting(near: int, most: int = 10_000) -> Iterator[None]:
    """So that few entries are many."""
    before = sources.NEAR, sources.COUNT_MOST
    sources.NEAR, sources.COUNT_MOST = near, most  # type: ignore[misc]
    try:
        yield
    finally:
        sources.NEAR, sources.COUNT_MOST = before  # type: ignore[misc]


ACTS = [
    "add", "add", "add", "read", "read", "read", "ack", "ack", "look", "look", "look", "ack_and_delete",
    "delete_unread", "delete_the_last", "delete_read", "trim", "read_without_ack", "set_to_the_beginning",
    "set_to_the_end", "set_to_one_of_them", "begin_anew",
]  # fmt: skip


@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(1, 8)), max_size=40), near=st.sampled_from([0, 1, 3]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_depth_is_what_is_unread(server: Server, acts: list[tuple[str, int]], near: int) -> None:
    """The depth is the number of entries that are really unread, whatever happens."""
    with counting(near):
        world = World(server)
        for act, n in acts:
            getattr(world, act)(n)
        world.look()


@given(acts=st.lists(st.tuples(st.sampled_from(["add", "read", "ack", "look"]), st.integers(1, 8)), max_size=30))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_acknowledged_entries_are_done(server: Server, acts: list[tuple[str, int]]) -> None:
    """Where nothing is deleted, the entries that were acknowledged are done."""
    with counting(1):
        world = World(server)
        for act, n in acts:
            getattr(world, act)(n)
        assert not world.is_disturbed
        world.look()


@pytest.mark.parametrize("removed", ["deleted", "trimmed"])
def test_a_wrong_lag_is_corrected_once(server: Server, removed: str) -> None:
    """A lag that stays wrong is corrected, and not counted each time."""
    with counting(5):
        world = World(server)
        world.add(100)
        world.read(20)
        world.ack(20)
        if removed == "deleted":
            world.delete(world.unread()[:30])
        else:
            world.trim(25)
        world.read(10)  # past what was removed
        world.look()
        can_tell = "entries-added" in world.client.xinfo_stream(KEY)  # Redis 6.2 cannot
        for _ in range(5):
            world.add(3)
            world.read(2)
            world.ack(2)
            (command,) = world.source.look()
            answer = command.decode(world.client.execute_command(*command.args))
            assert (answer.counted == sources.UNKNOWN) == can_tell  # nobody has counted
            assert world.source.see([answer])["queue_depth"] == len(world.unread())


def test_an_invented_number_is_found_out(server: Server) -> None:
    """A number that somebody made up is found out within some looks."""
    with counting(2):
        world = World(server)
        world.add(40)
        world.read(10)
        world.look()
        world.add(5)
        world.read(5)
        world.look()
        with suppress(ResponseError):  # Redis 6.2 has no such number
            world.client.execute_command("XGROUP", "SETID", KEY, GROUP, world.unread()[0], "ENTRIESREAD", 20)
        for _ in range(COUNTED_EACH + 1):
            said = world.ask()
        assert said["queue_depth"] == len(world.unread())


@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(1, 8)), max_size=40), most=st.sampled_from([1, 3, 7]))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_slow_count_is_known_in_the_end(server: Server, acts: list[tuple[str, int]], most: int) -> None:
    """A queue that takes many looks to count is known in the end."""
    with counting(0, most=most):
        world = World(server)
        for act, n in acts:
            if act == "look":
                world.ask()
            else:
                getattr(world, act)(n)
        for _ in range(len(world.unread()) // most + 2):
            said = world.ask()
        unread = len(world.unread())
        assert said["queue_depth"] == unread or (unread > said["queue_depth"] >= world.source.limit)  # enough for 6.2


@pytest.mark.parametrize("removed", ["before", "while"])
def test_a_long_queue_is_counted_in_parts(server: Server, removed: str) -> None:
    """A long queue of which entries were removed is counted in parts while it moves."""
    with counting(2, most=10):
        world = World(server)
        world.add(300)
        world.read(50)
        world.ack(50)
        if removed == "while":
            for _ in range(30):
                world.ask()
            assert world.ask()["queue_depth"] == 250
        world.delete(world.unread()[100:180])
        for _ in range(30):
            world.add(3)
            world.read(2)
            world.ack(2)
            said = world.ask()
        assert said["queue_depth"] == len(world.unread())


def test_the_cost_of_a_look_is_bounded(server: Server) -> None:
    """The cost of a look at a queue is bounded, and a long queue is never taken for a short one."""
    with counting(2, most=10):
        world = World(server, limit=8)
        world.add(60)
        world.read(20)
        for _ in range(3):
            said = world.ask()
            assert 10 <= said["queue_depth"] <= 40
            world.delete(world.unread()[3:5])
            world.read(3)

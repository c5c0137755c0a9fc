"""Threads, forks, signals, cancellation and the end of the interpreter: no token is lost or doubled, and none hangs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from nexus_redis import AcquireTimeout, Nexus
from nexus_redis._values.parse import MICRO
from nexus_redis.asyncio import Nexus as AsyncNexus
from nexus_redis.asyncio import Producer
from tests.harness.accounting import granted_by, spent
from tests.harness.chaos import Proxy
from tests.harness.faces import account_of
from tests.harness.servers import Server
from tests.harness.support import PATIENCE, eventually, in_thread, join, run

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Python 3.12 and later


@pytest.fixture
def server(one_server: Server) -> Server:
    """What is about processes is seen on one server."""
    return one_server


def forked(body: Callable[[], Any]) -> Callable[[], Any]:
    """Run `body` in a forked child; call what is returned to get its result."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = {"result": body()}
        except BaseException as error:  # noqa: BLE001  # told to the parent
            result = {"error": repr(error)}
        os.write(theirs, json.dumps(result).encode())
        os._exit(0)
    os.close(theirs)

    def wait() -> Any:
        with os.fdopen(ours, "rb") as pipe:
            said = json.loads(in_thread(pipe.read) or b"{}")
        os.waitpid(pid, 0)
        assert "result" in said, said
        return said["result"]

    return wait


# --- threads


def test_64_threads_on_one_producer_count_exactly(server: Server) -> None:
    """64 threads on one producer count exactly."""
    with Nexus.from_url(server.url) as nexus:
        producer = nexus.budget("stripe", rate=2000).producer("web")
        stop = threading.Event()
        counts: list[float] = []

        def work(number: int) -> None:
            count, cost = 0.0, 1 + number % 3
            while not stop.is_set():
                try:
                    if number % 4 == 0:
                        count += cost if producer.try_acquire(cost) else 0
                    else:
                        producer.acquire(cost, timeout=0.05 if number % 4 == 1 else 3)
                        count += cost
                except AcquireTimeout:
                    pass
            counts.append(count)

        threads = [threading.Thread(target=work, args=[number]) for number in range(64)]
        for thread in threads:
            thread.start()
        account = account_of(producer)
        assert eventually(lambda: account.ledger.used > 1000 * MICRO)
        stop.set()
        join(*threads)
        assert len(counts) == 64
        assert account.ledger.used == sum(counts) * MICRO
        producer.close()
        assert not account.ledger.waiters
        assert spent(account) == granted_by(server)


# --- forks


def test_8_forked_workers_keep_the_accounts(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The accounts balance for 8 forked workers with one literal id."""
    with Nexus.from_url(server.url) as nexus:
        producer = nexus.budget("stripe", rate=1000).producer("web")
        for _ in range(20):
            producer.acquire()
        (ready, say_ready), (gate, keep_shut) = os.pipe(), os.pipe()

        def work() -> tuple[str, int]:
            os.close(keep_shut)
            for _ in range(50):
                producer.acquire()
            os.write(say_ready, b".")
            os.read(gate, 1)  # until the parent has closed the other end: who closes leaves its name to the next
            producer.close()
            account = account_of(producer)
            assert account.ledger.used == 50 * MICRO
            return account.id, spent(account)

        children = [forked(work) for _ in range(8)]
        for _ in range(50):
            producer.acquire()
        for _ in children:
            assert in_thread(lambda: os.read(ready, 1)) == b"."
        os.close(keep_shut)
        told = [child() for child in children]
        for _ in range(20):
            producer.acquire()
        producer.close()
        ids = [account_of(producer).id, *(name for name, _ in told)]
        assert len(set(ids)) > 1  # 9, unless one stood still for so long that its name was another's in the meantime
        assert all(name == "web" or name.startswith("web.") for name in ids)
        assert spent(account_of(producer)) + sum(spent for _, spent in told) == granted_by(server)


def test_a_budget_from_before_a_fork(
    server: Server,
) -> None:
    """A budget that was made before the fork and is used after it is one producer in each child."""
    with Nexus.from_url(server.url) as nexus:
        budget = nexus.budget("stripe", rate=1000)

        def work() -> tuple[str, int]:
            for _ in range(30):
                budget.acquire()
            nexus.close()
            return account_of(budget).id, spent(account_of(budget))

        told = [child() for child in [forked(work) for _ in range(4)]]
        assert len({name for name, _ in told}) == 4
        assert sum(tokens for _, tokens in told) == granted_by(server)


@pytest.mark.parametrize("kind", [Nexus, AsyncNexus])
def test_each_nexus_begins_again_in_a_child(
    server: Server, kind: type[Nexus | AsyncNexus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each nexus begins again in a forked child, although other ones are closed or broken."""

    async def used(nexus: Nexus | AsyncNexus) -> None:
        granted = nexus.budget("stripe", rate=1000).acquire(20)
        if isinstance(granted, Awaitable):
            await granted

    async def close(nexus: Nexus | AsyncNexus) -> None:
        closed = nexus.close()
        if closed is not None:
            await closed

    async def main() -> tuple[int, list[int]]:
        closed, broken, *others = [kind.from_url(url) for url in ["embedded://", server.url, *[server.url] * 6]]
        for nexus in (closed, broken, *others):
            await used(nexus)
        await close(closed)
        monkeypatch.setattr(broken, "_after_fork", lambda: 1 / 0)
        child = forked(lambda: [account_of(nexus.budget("stripe")).ledger.used for nexus in (broken, *others)])
        broken_used, *used_there = await asyncio.to_thread(child)
        for nexus in (broken, *others):
            await close(nexus)
        return broken_used, used_there

    assert run(main()) == (20 * MICRO, [0] * 6)


def test_a_fork_in_the_middle_of_an_acquire(server: Server) -> None:
    """A fork in the middle of an acquire leaves each side its own tokens."""
    with Nexus.from_url(server.url) as nexus:
        producer = nexus.budget("stripe", rate=50).producer("web")
        producer.acquire()
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(bool(producer.acquire(10))))
        thread.start()
        assert eventually(lambda: bool(account_of(producer).ledger.waiters))

        def work() -> tuple[int, int]:
            assert not account_of(producer).ledger.waiters
            producer.acquire()
            producer.close()
            return account_of(producer).ledger.used, spent(account_of(producer))

        child = forked(work)
        join(thread)
        assert done == [True]
        used, granted = child()
        assert used == MICRO
        producer.close()
        assert granted + spent(account_of(producer)) == granted_by(server)


def test_a_fork_of_an_event_loop_starts_again(server: Server) -> None:
    """A forked child of an event loop starts again, and the parent's connection lives on."""

    async def main() -> None:
        async with AsyncNexus.from_url(server.url) as nexus:
            budget = nexus.budget("stripe", rate=1000)

            async def connected() -> int:
                return len(await nexus._connections.client().client_list())

            before = await connected()
            for _ in range(20):
                await budget.acquire()

            def work() -> int:
                asyncio._set_running_loop(None)  # as after the fork of a server's worker

                async def child() -> int:
                    for _ in range(20):
                        await budget.acquire()
                    await nexus.close()
                    return spent(account_of(budget))

                return run(child())

            child = forked(work)
            for _ in range(50):
                await budget.acquire()
            granted = await asyncio.to_thread(child)
            connections = await connected() - before
            await Producer(nexus, budget._session, budget._settings).close()
            assert granted + spent(account_of(budget)) == granted_by(server)
            assert connections < 10

    run(main())


# --- cancellation


@pytest.mark.parametrize("cost", [1, 40])
def test_a_cancelled_acquire_loses_nothing(server: Server, cost: int) -> None:
    """An acquire that is cancelled at any moment loses no tokens and counts none twice."""

    async def main() -> None:
        async with AsyncNexus.from_url(server.url) as nexus:
            producer = nexus.budget("stripe", rate=5000).producer("web")
            account, got = account_of(producer), 0
            for steps in range(80):
                task = asyncio.create_task(producer.acquire(cost))
                for _ in range(steps % 40):
                    await asyncio.sleep(0)
                if steps >= 40:
                    await asyncio.sleep(0.0003 * (steps - 40))
                task.cancel()
                try:
                    await task
                    got += cost
                except asyncio.CancelledError:
                    pass
                spent(account)
                assert not account.ledger.waiters
                assert account.ledger.used == got * MICRO
            await producer.close()
            assert spent(account) == granted_by(server)

    run(main())


def test_served_and_cancelled_takes_nothing(server: Server) -> None:
    """A caller that is served and cancelled in the same moment takes no tokens."""

    async def main() -> None:
        async with AsyncNexus.from_url(server.url) as nexus:
            producer = nexus.budget("stripe", rate=5000).producer("web")
            account = account_of(producer)
            task, receive, moments = asyncio.create_task(producer.acquire(30)), account._take, 0

            def cancel_as_it_is_served(*of: Any) -> None:
                nonlocal moments
                receive(*of)
                if account.ledger.used:
                    moments += 1
                    task.cancel()

            account._take = cancel_as_it_is_served
            with pytest.raises(asyncio.CancelledError):
                await task
            assert moments == 1
            assert account.ledger.used == 0
            assert account.ledger.held >= 30 * MICRO
            await producer.close()
            assert spent(account) == granted_by(server)

    run(main())


def test_a_cancelled_close_closes_sockets(server: Server) -> None:
    """A close that is cancelled still closes its sockets."""

    async def main() -> None:
        with Proxy(server.port) as proxy:
            nexus = AsyncNexus.from_url(proxy.url)
            await nexus.budget("stripe", rate=500).acquire()
            proxy.is_black_hole = True
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(nexus.close(), 0.02)
            assert not [c for c in nexus._connections.client().connection_pool._available_connections if c.is_connected]

    run(main())


def test_a_cancelled_look_ends(server: Server) -> None:
    """A task that asks Redis again and again ends when it is cancelled, wherever it is, even inside redis-py."""

    async def main() -> None:
        async with AsyncNexus.from_url(server.url) as nexus:

            async def look() -> None:
                while True:
                    await nexus.budgets()

            for turns in range(60):
                task = asyncio.create_task(look())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task], timeout=PATIENCE)
                assert task.cancelled(), turns

    run(main())


@pytest.mark.hurried  # the close waits for an answer that never comes
def test_a_swallowed_cancellation_ends_the_loop(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop ends when it is cancelled, even if the client took the cancellation for a timeout."""

    async def main() -> None:
        begun = asyncio.Event()

        async def swallow(_: Any, jobs: Any) -> list[Any]:
            is_first = not begun.is_set()
            begun.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if not is_first:
                    raise
            return [TimeoutError("as redis-py may say")] * len(jobs)

        monkeypatch.setattr("nexus_redis._drivers.tasks.perform_async", swallow)
        nexus = AsyncNexus.from_url(server.url)
        waiting = asyncio.create_task(nexus.budget("stripe", rate=500).acquire())
        await begun.wait()
        loop = nexus._loop._task
        assert loop
        loop.cancel()
        await asyncio.wait([loop], timeout=PATIENCE)
        assert loop.cancelled()
        waiting.cancel()
        monkeypatch.undo()
        await nexus.close()

    run(main())


def test_close_after_cancelled_tasks(server: Server) -> None:
    """A close after all tasks were cancelled still hands the tokens back."""

    async def main() -> None:
        nexus = AsyncNexus.from_url(server.url)
        producer = nexus.budget("stripe", rate=500).producer("web")
        await producer.acquire()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        assert not nexus._loop.scheduler.is_waiting  # for a call whose task was cancelled before it began
        await nexus.close()

    run(main())
    assert granted_by(server) == MICRO


# --- signals


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """A process that a shell put in the background ignores SIGINT, and its children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_a_wait_and_takes_nothing(server: Server) -> None:
    """Ctrl-C ends a wait and takes no tokens."""
    with Nexus.from_url(server.url) as nexus:
        budget = nexus.budget("stripe", rate=0)
        account = account_of(budget)

        def press() -> None:
            if eventually(lambda: account.ledger.waiters):
                os.kill(os.getpid(), signal.SIGINT)

        for timeout in (None, PATIENCE):
            presses = threading.Thread(target=press)
            presses.start()
            with pytest.raises(KeyboardInterrupt):
                budget.acquire(timeout=timeout)
            join(presses)
        assert not account.ledger.waiters
        assert account.ledger.used == 0
        spent(account)


CLOSES_IN_A_HANDLER = """
import signal, sys, nexus_redis
nexus = nexus_redis.Nexus.from_url(sys.argv[1])
producer = nexus.budget("stripe", rate=100_000_000).producer("web")
def stop(number, frame):
    nexus.close()
    print("closed", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
for _ in range(1000):
    producer.acquire()
print("ready", flush=True)
while True:
    producer.acquire()
"""


@pytest.mark.hurried  # the thread that holds the lock can't hand anything back: close() gives up on that
def test_a_handler_may_close_in_an_acquire(server: Server) -> None:
    """A handler may close the nexus in the middle of an acquire."""
    nexus = Nexus.from_url(server.url)
    budget = nexus.budget("stripe", rate=1000)
    budget.acquire()

    def interrupted() -> None:
        with nexus._loop.lock:  # as the acquire has it that a signal interrupts
            nexus.close()

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    join(thread)
    assert eventually(lambda: not nexus._loop.is_running)
    assert budget._session.ledger.held == 0


def test_close_in_a_signal_handler(server: Server) -> None:
    """A nexus may be closed in a signal handler."""
    child = subprocess.Popen([sys.executable, "-c", CLOSES_IN_A_HANDLER, server.url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    try:
        assert in_thread(child.stdout.readline) == "closed\n"
        assert child.wait(PATIENCE) == 0
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


# --- the end


ENDS = """
import sys, nexus_redis
nexus = nexus_redis.Nexus.from_url(sys.argv[1])
producer = nexus.budget("stripe", rate=100).producer("web")
consumer = nexus.budget("stripe").consumer("es-1", capacity=100)
consumer.report(load=0)
producer.acquire()
{end}
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError"])
def test_exit_hands_everything_back(server: Server, end: str) -> None:
    """At the end of the interpreter all tokens are handed back."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDS.format(end=end), server.url],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == {"": 0, "sys.exit(3)": 3}.get(end, 1)
    assert "nexus_redis" not in done.stderr.replace("import sys, nexus_redis", "")
    client: Any = server.client(decode_responses=True)
    assert [key for key in client.keys("*") if "web" in key or "es-1" in key] == []
    assert client.hget("nexus:{stripe}", "last_consumer_end") == "left"


def test_a_loop_without_close_is_silent(server: Server) -> None:
    """A loop that ends without `close` writes nothing to stderr."""
    code = """
import asyncio, sys
from nexus_redis.asyncio import Nexus
async def main():
    nexus = Nexus.from_url(sys.argv[1])
    await nexus.budget("stripe", rate=100).acquire()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, server.url], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

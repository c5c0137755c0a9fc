"""How a Nexus ends when nobody closes it in order: in a handler, forgotten, with its loop, in a child."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

import nexus_redis
import nexus_redis.asyncio
from nexus_redis import Nexus
from nexus_redis._values import log_texts
from nexus_redis.errors import Closed, NexusError, NoThread, ReentrantCall
from tests.harness.logged import logged
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, PATIENCE, eventually, in_thread, join, run

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Python 3.12 and later


@pytest.fixture
def server(one_server: Server) -> Server:
    """What is about processes is seen on one server."""
    return one_server


@pytest.fixture
def nexus(server: Server) -> Iterator[Nexus]:
    """One with a budget that is in use."""
    with Nexus.from_url(server.url) as nexus:
        nexus.budget("stripe", rate=1000).acquire()
        yield nexus


def ours() -> set[threading.Thread]:
    """Our threads that run now, for a comparison with those of before."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("nexus-redis")}


def members(server: Server) -> list[bytes]:
    """The keys of the producers and consumers that Redis knows."""
    with server.client() as client:
        hashes = client.scan_iter("*r:*", _type="hash")
        return [key for key in hashes if b":producer:" in key or b":consumer:" in key]


# --- in a signal handler

CALLS: dict[str, Callable[[Nexus], Any]] = {
    "acquire": lambda nexus: nexus.budget("stripe").acquire(),
    "acquire of another cost": lambda nexus: nexus.budget("stripe").acquire(1.5),
    "acquire with a timeout of 0": lambda nexus: nexus.budget("stripe").acquire(2.5, timeout=0),
    "try_acquire": lambda nexus: nexus.budget("stripe").try_acquire(1.5),
    "acquire of several": lambda nexus: nexus.acquire({nexus.budget("stripe"): 1.5}),
    "reserve": lambda nexus: nexus.budget("stripe").reserve(1.5).__enter__(),
    "pace": lambda nexus: next(nexus.budget("stripe").pace([1], cost=1.5)),
    "signal": lambda nexus: nexus.budget("stripe").signal(10),
    "pause": lambda nexus: nexus.budget("stripe").pause(1),
    "watch": lambda nexus: nexus.budget("stripe").consumer().watch(depth=lambda: 0, limit=1),
    "report": lambda nexus: nexus.budget("stripe").consumer().report(load=1, capacity=1),
    "enter a consumer": lambda nexus: nexus.budget("stripe").consumer().__enter__(),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_interrupting_call_says_what_to_do(nexus: Nexus, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that interrupts another call of its thread raises an error that says what to do."""
    budget = nexus.budget("stripe")
    monkeypatch.setattr(budget._session, "spend", lambda *_: True)  # there are tokens in hand
    nexus._scheduler.clock, budget._clock = (
        (lambda: 1e9),
        (lambda: 1e9),
    )  # what lies on the tray needs no lock: it is too old

    def interrupted() -> None:
        with nexus._loop.lock, pytest.raises(ReentrantCall):
            CALLS[call](nexus)
        assert not budget._session.ledger.waiters

    in_thread(interrupted)


def test_a_reentrant_call_says_what_to_do(nexus: Nexus) -> None:
    """A call to Redis that interrupts another call of its own thread is refused, and the error says what to do."""

    def plan() -> Any:
        with pytest.raises(ReentrantCall):
            nexus.budget("stripe").snapshot()
        yield from ()

    in_thread(lambda: nexus._drive(plan()))
    assert nexus.budget("stripe").snapshot().name == "stripe"


def test_close_in_a_handler_waits(nexus: Nexus, server: Server) -> None:
    """A close in a signal handler waits: what the handler closes leaves Redis when the interrupted call has ended."""
    before = ours()
    budget = nexus.budget("stripe")
    producer, consumer = budget.producer(), budget.consumer()
    producer.acquire()
    consumer.report(load=1, capacity=100)
    assert len(members(server)) == 3

    def interrupted() -> None:
        for each in (producer, consumer):
            with nexus._loop.lock:
                each.close()
        assert eventually(lambda: len(members(server)) == 1)
        with nexus._loop.lock:
            nexus.close()
            assert len(members(server)) == 1
            with pytest.raises(nexus_redis.Closed):
                nexus.budgets()

    in_thread(interrupted)
    assert eventually(lambda: not members(server))
    assert eventually(lambda: not ours() & before)


def test_close_does_not_wait_for_a_stuck_lock(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` does not wait for a lock that nobody gives back."""
    monkeypatch.setattr("nexus_redis._drivers.threaded.STOP_PATIENCE", 0.01)
    lock, is_held, let_go = nexus._loop.lock, threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            let_go.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert is_held.wait(PATIENCE)
    in_thread(nexus.close)
    assert nexus._loop.is_running
    let_go.set()
    assert eventually(lambda: not nexus._loop.is_running)


def test_second_close_waits(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `close` waits for the first one in another thread."""
    monkeypatch.setattr("nexus_redis._drivers.threaded.STOP_PATIENCE", PATIENCE)
    is_closing, is_awaited, order = threading.Event(), threading.Event(), list[str]()
    await_end = nexus._loop.await_end

    def stop(_: Exception) -> bool:
        is_closing.set()
        return is_awaited.wait(PATIENCE)

    def awaiting() -> None:
        is_awaited.set()
        await_end()

    monkeypatch.setattr(nexus._loop, "stop", stop)
    monkeypatch.setattr(nexus._loop, "await_end", awaiting)
    monkeypatch.setattr(nexus._connections, "close", lambda: order.append("first"))
    first = threading.Thread(target=nexus.close)
    first.start()
    assert is_closing.wait(PATIENCE)
    in_thread(nexus.close)
    order.append("second")
    join(first)
    monkeypatch.undo()
    nexus._loop.end(Closed("nexus"), nexus._connections.close)
    assert order == ["first", "second"]


def test_close_interrupts_close(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `close` that has interrupted another one in the same thread does not wait for it."""
    stop = nexus._loop.stop

    def interrupted(error: NexusError) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(nexus._loop._ended, "wait", pytest.fail)
            nexus.close()
        return stop(error)

    monkeypatch.setattr(nexus._loop, "_ended", SimpleNamespace(wait=None, set=nexus._loop._ended.set))
    monkeypatch.setattr(nexus._loop, "stop", interrupted)
    in_thread(nexus.close)


def test_second_close_waits_async(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second `close` waits for the first one in another task."""
    order: list[str] = []

    async def check() -> None:
        nexus = nexus_redis.asyncio.Nexus.from_url(server.url)
        await nexus.budget("stripe", rate=1000).acquire()
        is_closing, may_end, close = asyncio.Event(), asyncio.Event(), nexus._connections.close

        async def slowly() -> None:
            is_closing.set()
            await may_end.wait()
            order.append("first")
            await close()

        async def again() -> None:
            await nexus.close()
            order.append("second")

        monkeypatch.setattr(nexus._connections, "close", slowly)
        first = asyncio.create_task(nexus.close())
        await is_closing.wait()
        second = asyncio.create_task(again())
        asyncio.get_running_loop().call_soon(may_end.set)  # after the first step of the second task
        await asyncio.gather(first, second)

    run(check())
    assert order == ["first", "second"]


def test_closed_is_refused(server: Server) -> None:
    """A Nexus, a producer or a consumer that is closed cannot be entered or started. Work may still end."""
    nexus = Nexus.from_url(server.url)
    budget = nexus.budget("stripe", rate=1000)
    producer, consumer = budget.producer(), budget.consumer()
    for each in (producer, consumer):
        each.close()
    with consumer.work():
        pass
    for call in (producer.__enter__, consumer.start):
        with pytest.raises(Closed):
            call()
    other = budget.consumer()
    nexus.close()
    with pytest.raises(Closed):
        nexus.__enter__()
    with pytest.raises(Closed):
        other.start()


def test_closed_is_refused_async(server: Server) -> None:
    """An async Nexus, a producer or a consumer that is closed cannot be entered or started. Work may still end."""

    async def check() -> None:
        nexus = nexus_redis.asyncio.Nexus.from_url(server.url)
        budget = nexus.budget("stripe", rate=1000)
        producer, consumer = budget.producer(), budget.consumer()
        for each in (producer, consumer):
            await each.close()
        async with consumer.work():
            pass
        with pytest.raises(Closed):
            await producer.__aenter__()
        with pytest.raises(Closed):
            consumer.start()
        other = budget.consumer()
        await nexus.close()
        with pytest.raises(Closed):
            await nexus.__aenter__()
        with pytest.raises(Closed):
            other.start()

    run(check())


IN_A_HANDLER = """
import signal, sys, nexus_redis
nexus = nexus_redis.Nexus.from_url(sys.argv[1])
budget = nexus.budget("stripe", rate=100_000_000)
{handler}
print("ready", flush=True)
costs = [1.5, 2.5]  # no two of one cost in a row: nothing lies on a tray, so the lock is held most of the time
try:
    while True:
        for cost in costs:
            budget.acquire(cost)
except nexus_redis.Closed:
    print("closed", flush=True)
"""
CLOSES = "signal.signal(signal.SIGTERM, lambda *_: nexus.close())"
ACQUIRES = """
seen = set()
def acquire(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one after the other
    try:
        budget.acquire()
        seen.add("served")
    except nexus_redis.ReentrantCall:
        seen.add("refused")
    if len(seen) == 2:
        raise nexus_redis.Closed("nexus")
    signal.signal(signal.SIGTERM, acquire)
signal.signal(signal.SIGTERM, acquire)
"""


@pytest.fixture
def handling(server: Server) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """`handling(code)` is a process in a loop of acquires, with a handler for SIGTERM."""
    children: list[subprocess.Popen[bytes]] = []

    def start(handler: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", IN_A_HANDLER.format(handler=handler), server.url]
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert children[-1].stdout is not None
        assert children[-1].stdout.readline() == b"ready\n"
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait(PATIENCE)
        assert child.stdout is not None
        child.stdout.close()


def said_by(child: subprocess.Popen[bytes]) -> bytes:
    """The rest of what it prints."""
    assert child.stdout is not None
    return in_thread(child.stdout.read)


def test_close_may_be_the_handler_of_sigterm(
    server: Server, handling: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """`close` as the handler of SIGTERM ends the loop of acquires, and tokens are handed back."""
    children = [handling(CLOSES) for _ in range(4)]
    for child in children:
        child.send_signal(signal.SIGTERM)
    assert [said_by(child) for child in children] == [b"closed\n"] * 4
    assert [child.wait(PATIENCE) for child in children] == [0] * 4
    assert not members(server)


def test_acquire_in_a_handler_never_hangs(
    handling: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    """An acquire in a handler is served or refused, and never hangs."""
    child = handling(ACQUIRES)

    def interrupt() -> bool:
        child.send_signal(signal.SIGTERM)
        return child.poll() is not None

    assert eventually(interrupt)
    assert said_by(child) == b"closed\n"


class Interrupted(RuntimeError):
    """What a handler raises to end a wait."""


def acquires(budget: Any) -> bool:
    """Whether an acquire comes back with its tokens."""
    try:
        budget.acquire(1.5)
    except Interrupted:
        return False
    return True


def at_any_line(
    of: str, nexus: Nexus, monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], object]
) -> Iterator[bool]:
    """Interrupt acquires while the loop pauses, each at the next line of a part of it, until none has so many lines.

    Yields whether the acquire came back with its tokens.
    """
    budget, owner = nexus.budget("stripe"), nexus._loop if of == "wait" else nexus._scheduler
    part, seen, last, is_served = getattr(owner, of), 0, 0, True

    def trace(_frame: Any, event: str, _: Any) -> Any:
        nonlocal seen
        seen += event == "line"
        if seen == last and event == "line":
            sys.settrace(None)
            interrupt()
        return trace

    def traced(*given: Any) -> Any:
        is_ours = threading.current_thread().name == "in-thread"
        if is_ours and not seen:
            sys.settrace(trace)
        try:
            return part(*given)
        finally:
            if is_ours:
                sys.settrace(None)

    def is_reached() -> bool:
        """Whether there was such a line; a part of an acquire differs with what the loop does meanwhile."""
        nonlocal seen, is_served
        for _ in range(50):
            assert eventually(lambda: (bell := nexus._loop._bell) is not None and not bell.is_set)
            seen = 0
            is_served = in_thread(lambda: acquires(budget))
            if seen >= last:
                return True
        return False

    monkeypatch.setattr(owner, of, traced)
    while is_reached():
        if last:
            yield is_served
        last += 1
    assert last > (3 if of == "wait" else 1)  # of `_wake` more are run only while the loop pauses


def test_a_handler_may_acquire_at_any_line(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that acquires at any line of a wait is served."""
    budget = nexus.budget("stripe")  # the second is served after the one that it interrupts
    assert all(at_any_line("wait", nexus, monkeypatch, lambda: budget.acquire(2.5)))


@pytest.mark.parametrize("part", ["wait", "_wake"])
def test_a_handler_may_raise_at_any_line(nexus: Nexus, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """What a handler raises at any line ends the acquire."""

    def end() -> None:
        raise Interrupted

    assert not any(at_any_line(part, nexus, monkeypatch, end))


# --- forgotten


def test_a_forgotten_nexus_leaves(server: Server) -> None:
    """A nexus that nobody refers to ends its threads and leaves."""
    before = ours()

    def use_and_forget() -> None:
        nexus = Nexus.from_url(server.url)
        budget = nexus.budget("stripe", rate=1000)
        push = nexus._loop.push
        assert push is not None
        assert eventually(lambda: budget.acquire(1.5) is not None and push.is_running)
        budget.consumer().report(load=1, capacity=100)
        assert len(members(server)) >= 2

    with server.client() as client:
        clients = {each["id"] for each in client.client_list()}
        for _ in range(3):
            use_and_forget()
        gc.collect()
        assert eventually(lambda: not members(server))
        assert eventually(lambda: not ours() - before)
        assert eventually(lambda: not {each["id"] for each in client.client_list()} - clients)


def test_a_forgotten_async_nexus_leaves(server: Server) -> None:
    """An async nexus that nobody refers to ends its tasks and leaves."""
    before = ours()

    async def use_and_forget() -> None:
        nexus = nexus_redis.asyncio.Nexus.from_url(server.url)
        budget = nexus.budget("stripe", rate=1000)
        await budget.acquire()
        await budget.consumer().report(load=1, capacity=100)
        assert len(members(server)) == 2

    async def main() -> None:
        await use_and_forget()
        gc.collect()
        await asyncio.sleep(0)  # now the task that closes it has begun
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=PATIENCE)
        assert await asyncio.to_thread(eventually, lambda: not ours() - before)

    run(main())
    assert not members(server)


def test_a_budget_keeps_its_nexus(server: Server) -> None:
    """A budget keeps the nexus that it came from alive."""
    budget = Nexus.from_url(server.url).budget("stripe", rate=1000)
    budget.acquire()
    gc.collect()
    assert budget.acquire(1.5)
    assert len(members(server)) == 1
    budget._nexus.close()


# --- with its loop


def test_an_async_consumer_leaves_with_its_loop(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """An async consumer leaves when its loop is closed, and a warning says so."""
    before = ours()

    async def main() -> Any:
        nexus = nexus_redis.asyncio.Nexus.from_url(server.url)
        consumer = nexus.budget("stripe").consumer(capacity=100)
        await consumer.report(load=1)
        return consumer

    consumer = run(main())
    assert eventually(lambda: not ours() - before)
    assert not members(server)
    with server.client() as client:
        assert client.hget("nexus:{stripe}", "last_consumer_end") == b"left"
    assert len(logged(caplog, log_texts.LOOP_ABANDONED)) == 1
    with pytest.raises(nexus_redis.Closed):
        run(consumer.report(load=1))


# --- in a child


def take_and_report(budget: nexus_redis.Budget) -> str:
    """What a child does with a budget, and does not close."""
    budget.acquire(timeout=PATIENCE)
    budget.consumer(capacity=100).report(load=1)
    return budget.id


async def _take_and_report(budget: nexus_redis.asyncio.Budget) -> None:
    await budget.acquire(timeout=PATIENCE)
    await budget.consumer(capacity=100).report(load=1)


def take_and_report_async(budget: nexus_redis.asyncio.Budget) -> None:
    """The same in an event loop, which is left open."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_take_and_report(budget))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_a_child_that_ends_hands_back_and_leaves(nexus: Nexus, server: Server, start: str) -> None:
    """A child that ends hands its tokens back and leaves."""
    budget = nexus.budget("stripe")
    context: Any = multiprocessing.get_context(start)
    child = context.Process(target=take_and_report, args=[budget])
    child.start()
    child.join(LONG_PATIENCE)
    assert child.exitcode == 0
    assert len(members(server)) == 1
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        names = {pool.submit(take_and_report, budget).result(LONG_PATIENCE) for _ in range(4)}
        assert budget.id not in names
    assert len(members(server)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_an_async_budget_is_handed_to_a_child(server: Server, start: str) -> None:
    """An async budget is handed to a child process, whose consumers leave when it ends."""
    budget = nexus_redis.asyncio.Nexus.from_url(server.url).budget("stripe", rate=1000)
    context: Any = multiprocessing.get_context(start)
    child = context.Process(target=take_and_report_async, args=[budget])
    child.start()
    child.join(LONG_PATIENCE)
    assert child.exitcode == 0
    assert [key for key in members(server) if b":consumer:" in key] == []


# --- without threads


NO_MORE = "can't start new thread"  # as Python says


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a container's limit on processes, and at the end of the interpreter from Python 3.12 on."""

    def refuse(*_args: object, **_given: object) -> None:
        raise RuntimeError(NO_MORE)

    monkeypatch.setattr(threading, "_start_new_thread", refuse, raising=False)
    monkeypatch.setattr(threading, "_start_joinable_thread", refuse, raising=False)


@pytest.mark.usefixtures("no_threads")
def test_without_a_thread_an_acquire_says_so(server: Server) -> None:
    """Where the system gives no thread, an acquire says so, and `close` does not raise."""
    nexus = Nexus.from_url(server.url)
    budget = nexus.budget("stripe", rate=1000)
    calls: list[Callable[[], Any]] = [
        budget.acquire,
        budget.try_acquire,
        lambda: budget.signal(1),
        lambda: budget.consumer().report(load=1),
    ]
    for call in calls:
        with pytest.raises(NoThread) as raised:
            call()
        assert raised.value.cause == NO_MORE
    assert not budget._session.ledger.waiters
    budget.producer().close()
    nexus.close()


@pytest.mark.usefixtures("no_threads")
def test_an_async_nexus_lives_without_a_thread(server: Server) -> None:
    """An async nexus that gets no thread acquires, refuses reports and closes."""

    async def main() -> None:
        async with nexus_redis.asyncio.Nexus.from_url(server.url) as nexus:
            budget = nexus.budget("stripe", rate=1000)
            await budget.acquire()
            with pytest.raises(NoThread):
                await budget.consumer().report(load=1)

    run(main())
    assert not members(server)


def test_close_needs_no_further_thread(nexus: Nexus, server: Server, request: pytest.FixtureRequest) -> None:
    """A nexus whose thread runs is closed where the system gives no other thread."""
    request.getfixturevalue("no_threads")
    nexus.close()
    assert not members(server)

"""The async driver: one task that runs a scheduler's loop, and plans that run in the caller's task."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import redis
import redis.asyncio

from nexus_redis._core.loop import Loop, deliver, serve
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.session import Session
from nexus_redis._core.waiter import NEVER, CallerPlan, Waiter
from nexus_redis._drivers.threaded import STOP_PATIENCE, LoopThread
from nexus_redis._drivers.turns import Turns
from nexus_redis._protocol.plans import Done, Outcome, Pause, Plan, step
from nexus_redis._redis.execute import perform_async
from nexus_redis._redis.faults import failed
from nexus_redis._redis.pubsub import PushTask
from nexus_redis._runtime.locks import Lock
from nexus_redis._values import log_texts
from nexus_redis._values.log import log
from nexus_redis.errors import NexusError, NoLoop, WrongLoop

T = TypeVar("T")

LOOK_AGAIN: Final = 0.005  # seconds between two looks whether a thread has ended, which takes less than a second

_ending: set[asyncio.Task[None]] = set()  # a loop refers to its tasks weakly
_inherited: list[PushTask] = []  # of parent processes, whose epoll has their sockets: never touched, never collected


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running loop of asyncio. Raise `NoLoop`, which says what to do under trio, where there is none."""
    running = asyncio._get_running_loop()
    if running is None:
        raise NoLoop
    return running


class LoopTask:
    """A scheduler and the task that serves it, in the event loop that first used it; and the thread that reports."""

    def __init__(self, client: Callable[[], redis.asyncio.Redis], server: str, reports: LoopThread) -> None:
        self._client, self._reports = client, reports
        reports.is_abandoned = self._has_ended
        self.push: PushTask | None = None
        self._begin()
        self.scheduler = Scheduler(time.monotonic, self._wake, server)

    def _begin(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._loops: list[asyncio.AbstractEventLoop] = []  # this loop, and those in which consumers were used
        self.thread = 0  # the thread of `loop`: to compare threads is the fastest way to know the loop
        self._changed: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[list[Outcome]]] = set()
        self._turns = Turns(self._time)

    def _has_ended(self) -> bool:
        """Return whether all loops in which it was used are closed: no task can close the Nexus any more."""
        return bool(self._loops) and all(loop.is_closed() for loop in self._loops)

    def note_use(self) -> None:
        """Note a use in the running loop, if there is one: consumers report from a thread, so any loop may use them."""
        running = asyncio._get_running_loop()
        if running is not None and running not in self._loops:
            self._loops = [*(loop for loop in self._loops if not loop.is_closed()), running]

    def _time(self) -> float:
        return self.scheduler.clock()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    def after_fork(self) -> None:
        """Begin again in a forked child: the parent's loop and threads do not exist."""
        self._begin()
        self.scheduler.after_fork()
        self._reports.after_fork()
        if self.push is not None:
            _inherited.append(self.push)
            self.listen(self.push.connect)

    def listen(self, connect: Callable[[], redis.asyncio.Redis]) -> None:
        """Listen for drops of rates, by a connection and a task of their own."""
        self.push = PushTask(connect, self.scheduler.subscriptions)
        self.scheduler.subscriptions.changed = self.push.changed

    def bind(self) -> None:
        """Bind this object to the running loop at the first use. Raise `WrongLoop` in another loop later."""
        running = running_loop()
        if self.loop is running:
            return
        if self.loop is not None:
            raise WrongLoop(self.loop, running)
        self.loop, self._changed, self.thread = running, asyncio.Event(), threading.get_ident()
        self.note_use()

    def ensure_running(self) -> None:
        """Start the task if there is none."""
        if self._task is None or self._task.done():
            assert self.loop is not None
            self._task = self.loop.create_task(self._run(), name="nexus-redis")

    @property
    def turn_ends(self) -> float:
        """Return when a caller that has not waited meanwhile must `give_way`."""
        return NEVER if self.loop is None else self._turns.end(self.loop)

    async def give_way(self) -> None:
        """Let the other tasks of the loop have their turn."""
        if self.loop is not None:
            await self._turns.give_way(self.loop)

    @property
    def entry(self) -> AbstractContextManager[None]:
        """Return a lock that does nothing: this loop runs in one thread."""
        return nullcontext()

    async def take_turn(self) -> None:
        """Let other tasks have their turn if this caller's turn is over. Raise `WrongLoop` in another loop."""
        self.bind()
        if self.scheduler.clock() >= self.turn_ends:
            await self.give_way()

    async def run(self, plan: CallerPlan[T]) -> T:
        """Run a caller's plan in the caller's task."""
        await self.take_turn()
        try:
            while True:
                try:
                    found = next(plan)  # and not `step`: most plans end here, and a `Done` each takes time
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                self.ensure_running()
                assert self.loop is not None
                future: asyncio.Future[None] = self.loop.create_future()
                found.waiter.wake = partial(_settle, future)
                if found.waiter.is_settled:
                    _settle(future)
                await self.wait(future, found.seconds)
        except BaseException:
            plan.close()  # a caller that was cancelled leaves nothing behind
            raise

    async def leave(self, session: Session, error: NexusError) -> None:
        """Have one session leave for good; return when Redis knows it."""
        now = self.scheduler.clock()
        leaver, gone = Waiter(0, now), running_loop().create_future()
        leaver.wake = partial(_settle, gone)
        session.leave(error, now, leaver)
        if not session.server.is_out:  # else its leases expire by themselves
            await self.wait(gone, STOP_PATIENCE)

    async def wait(self, future: asyncio.Future[None], seconds: float | None = None) -> None:
        """Wait until a future is done, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await future

    async def drive(self, plan: Plan[T]) -> T:
        """Run a plan to its end in this task."""
        outcomes: list[Outcome] | None = None
        while True:
            found = step(plan, outcomes)
            if isinstance(found, Done):
                result: T = found.result
                return result
            if isinstance(found, Pause):
                await asyncio.sleep(found.seconds)
                outcomes = []
            else:
                outcomes = await perform_async(self._client, found)

    async def stop(self, error: NexusError) -> None:
        """Have every session leave and the loop end after the calls in flight. Callers that wait get `error`."""
        self.scheduler.close(error)
        if self.loop is running_loop():
            await self._end_task()
            if self.push is not None:
                await self.push.stop()
        await self._stop_reports(error)

    async def _stop_reports(self, error: NexusError) -> None:
        """Have the reporting thread end, and wait for it without an executor: the system may give no more threads."""
        if not self._reports.is_running:
            return
        with self._reports.lock:
            self._reports.scheduler.close(error)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_PATIENCE):
                while self._reports.is_running:  # noqa: ASYNC110  # a thread sets no event of this loop when it ends
                    await asyncio.sleep(LOOK_AGAIN)

    def forget(self, end: Callable[[], Coroutine[Any, Any, None]], let_go: Callable[[], None]) -> None:
        """End the task, in its loop, and the reporting thread: their Nexus was collected, in any thread."""
        loop = self.loop
        if loop is not None and self._task is not None and not loop.is_closed():
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_begin_in, loop, end)
                if loop.is_running():
                    return
        self._reports.forget(let_go)

    async def _end_task(self) -> None:
        """Wait until the task has ended. Begin it again if it was cancelled, as all are when `asyncio.run` ends."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_PATIENCE):
                    while self._task is not None:
                        await asyncio.wait([self._task])
                        if not self._task.cancelled():
                            return
                        self._task = asyncio.create_task(self._run(), name="nexus-redis")
        finally:
            if self._task is not None:
                self._task.cancel()
            for call in self._calls:
                call.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._serve()
                return
            except asyncio.CancelledError:
                self.scheduler.reclaim()  # the event loop may be about to end: later callers must start the task again
                raise
            except Exception:
                log.exception(log_texts.LOOP_BUG)
                await asyncio.sleep(1.0)

    async def _serve(self) -> None:
        plan = serve(self.scheduler)
        assert self._changed is not None
        assert self.loop is not None
        while True:
            self._changed.clear()
            found = step(plan, None)
            if isinstance(found, Done):
                return
            if isinstance(found, Exchange):
                call = self.loop.create_task(perform_async(self._client, found.jobs), name="nexus-redis-call")
                self._calls.add(call)
                call.add_done_callback(partial(self._on_done, found))
            elif not found.seconds:
                await asyncio.sleep(0)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if found.seconds == NEVER else found.seconds):
                        await self._changed.wait()

    def _on_done(self, exchange: Exchange, call: asyncio.Task[list[Outcome]]) -> None:
        """Take the outcomes of a batch. Where its task was cancelled, Redis may have executed it or not."""
        self._calls.discard(call)
        if call.cancelled() or call.exception() is not None:
            outcomes: list[Outcome] = [failed(ConnectionError("cancelled"))] * len(exchange.jobs)
        else:
            outcomes = call.result()
        self._deliver(deliver(self.scheduler, exchange, outcomes))

    def _deliver(self, steps: Loop) -> None:
        """Deliver a slice, and the next in the next turn of the event loop: not in a task, which may be cancelled."""
        assert self.loop is not None
        if next(steps, None) is not None:
            self.loop.call_soon(self._deliver, steps)


class TasksOfThread:
    """The loop of a thread, for use by tasks of an event loop: an async Nexus reports from a thread."""

    def __init__(self, home: LoopTask, thread: LoopThread) -> None:
        self._home, self._thread, self.scheduler = home, thread, thread.scheduler
        self.ensure_running, self.end = thread.ensure_running, thread.end

    @property
    def entry(self) -> Lock:
        """Return the thread's lock, and note a use in the running event loop."""
        self._home.note_use()
        return self._thread.lock

    async def run(self, plan: CallerPlan[T]) -> T:
        """Run a caller's plan in the caller's task, under the thread's lock, which it gives away while it waits."""
        lock, loop = self.entry, running_loop()
        try:
            while True:
                with lock:
                    found = step(plan, None)
                    if isinstance(found, Done):
                        result: T = found.result
                        return result
                    self.ensure_running()
                    future: asyncio.Future[None] = loop.create_future()
                    found.waiter.wake = partial(_settle_from_thread, loop, future)
                    if found.waiter.is_settled:
                        _settle(future)
                await self._home.wait(future, found.seconds)
        except BaseException:
            with lock:
                plan.close()
            raise

    def drive(self, plan: Plan[T]) -> T:
        """Run a plan to its end in the thread of the caller, which may be any. It does not use the event loop."""
        return self._thread.drive(plan)

    async def leave(self, session: Session, error: NexusError) -> None:
        """Have one session leave for good; return when Redis knows it."""
        loop, now = running_loop(), self.scheduler.clock()
        leaver, gone = Waiter(0, now), loop.create_future()
        leaver.wake = partial(_settle_from_thread, loop, gone)
        with self._thread.lock:
            session.leave(error, now, leaver)
        if not session.server.is_out:  # else its last report expires by itself
            await self._home.wait(gone, STOP_PATIENCE)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _settle_from_thread(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop is closed, and its callers with it
        loop.call_soon_threadsafe(_settle, future)


def _begin_in(loop: asyncio.AbstractEventLoop, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
    task = loop.create_task(end(), name="nexus-redis-close")
    _ending.add(task)
    task.add_done_callback(_ending.discard)


class Drivers(NamedTuple):
    """The drivers of a Nexus. `nexus_redis.testing` replaces them by drivers with a clock of their own."""

    thread: Callable[[Callable[[], redis.Redis], str], LoopThread] = LoopThread
    task: Callable[[Callable[[], redis.asyncio.Redis], str, LoopThread], LoopTask] = LoopTask

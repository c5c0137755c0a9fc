"""A clock that a test moves: hours of a budget's life in milliseconds, with the real scripts on a real server.

Nothing in the core reads the time: a scheduler is given its clock, and a script its instant (`at_us`). So a Nexus lives
by another clock when its driver does:

    LoopThread   a thread runs the loop and sleeps until the next session is due; scripts use the server's time
    SteppedLoop  the caller that waits runs the loop, and moves the clock to when the next session is due; scripts are
                 given that time

Time stands still while code runs, and goes on while a caller waits: in `acquire`, in `clock.advance`, in `await
clock.sleep`. Everything due on the way is done at its time, by all the Nexuses on the clock, which may so stand for a
fleet. The clock has no thread, so one thread, or the tasks of one event loop, do the same in each run.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from asyncio import sleep as give_way  # imported by name: a test may replace the modules' own `sleep` by this clock's
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from time import sleep
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import redis
import redis.asyncio

from nexus_redis._api.nexus import NexusBase
from nexus_redis._core.loop import Loop, deliver, run_until_pause, serve
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.waiter import NEVER
from nexus_redis._drivers.tasks import Drivers, LoopTask
from nexus_redis._drivers.threaded import LoopThread
from nexus_redis._protocol.plans import Call, Job, Outcome, Plan, drive
from nexus_redis._redis.execute import perform
from nexus_redis._runtime.locks import Latch, LazyLock, Lock, new_lock
from nexus_redis._values import error_texts
from nexus_redis.errors import InvalidSetting, NexusError

T = TypeVar("T")
Bells = list[tuple[float, asyncio.Future[None]]]  # for each task that waits: until when, and what wakes it

START: Final = 1_000.0  # the schedulers' time at the clock's zero; a host's monotonic clock is never at 0 either
START_US: Final = 1_800_000_000_000_000  # the scripts' time at the clock's zero
TURNS: Final = 10  # turns that ready tasks and threads get before time goes on
A_TURN: Final = 5e-5  # seconds of a thread's turn: about the shortest sleep of an operating system


class ManualClock:
    """Time for a test. It goes on by `advance` and `sleep`, and by itself while a caller waits for tokens.

    `with ManualClock() as clock:` has every Nexus that is made in the block live by this clock until the Nexus ends.

    At 10/s the 36,001st `acquire` is served when `now` is about 3,600, after a few real seconds. An hour of
    `advance(3600)` in which no caller waits takes no time at all. A caller that waits without a timeout for longer than
    `patience` seconds gets an AssertionError: to wait for tokens that will not come would never end, and costs a call a
    second.

    A batch of calls takes `round_trip` seconds: `ManualClock(round_trip=0.2)` puts Redis on another continent.
    """

    def __init__(self, *, patience: float = 3_600.0, round_trip: float = 0.0) -> None:
        self.patience, self.round_trip = patience, round_trip
        self._at = START
        self._lock: Lock = new_lock()
        self._loops: list[SteppedLoop] = []
        self._bells: dict[asyncio.AbstractEventLoop, Bells] = {}
        self._movers: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._before: list[Drivers] = []
        self._threads: set[int] = set()  # the threads that have ever waited
        self._events: list[Latch] = []  # the events that threads wait for
        self._departures = 0  # how many waits have ended
        self._mover_of_threads = threading.Lock()

    def __enter__(self) -> Self:
        self._before.append(NexusBase._drivers)
        NexusBase._drivers = self._drivers
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        NexusBase._drivers = self._before.pop()

    @property
    def now(self) -> float:
        """Return the seconds since the clock was made."""
        return round(self._at - START, 6)

    def advance(self, seconds: float) -> None:
        """Let time pass. Everything due meanwhile is done at its time. Tasks use `await clock.sleep(seconds)`."""
        until = self._at + _checked(seconds)
        while self._step(until):
            sleep(0)  # a turn for threads that were served meanwhile

    async def sleep(self, seconds: float) -> None:
        """Let time pass in async code. Tasks that are served meanwhile have their turn before time goes on."""
        await self._pass(asyncio.get_running_loop().create_future(), _checked(seconds))

    def __repr__(self) -> str:
        return f"<ManualClock at {self.now:g} s: {len(self._loops)} loops>"

    def _hopeless(self) -> AssertionError:
        return AssertionError(error_texts.not_served(self.patience))

    # --- for the loops

    @property
    def _drivers(self) -> Drivers:
        """Return drivers by which a Nexus lives by this clock."""
        return Drivers(
            lambda client, server: SteppedLoop(self, client, server),
            lambda _client, _server, reports: SteppedTask(self, reports),
        )

    def _stamped(self, job: Job) -> Job:
        """Return the job with the clock's time: the first argument of every script is its instant."""
        return self._instant(job) if isinstance(job, Call) else job

    def _instant(self, call: Call[Any]) -> Call[Any]:
        return replace(call, args=(START_US + round((self._at - START) * 1e6), *call.args[1:]))

    def _step(self, until: float) -> bool:
        """Run the next loop that is due by `until`. Return False where there is none; then it is `until`."""
        with self._lock:
            loop = min(self._loops, key=lambda each: each.due, default=None)
            due = NEVER if loop is None else max(loop.due, self._at)
            if loop is None or due > until:
                self._at = max(self._at, until) if until < NEVER else self._at
                return False
            self._at = due
            loop.run_due()
            return True

    def _wait(self, event: Latch, seconds: float | None) -> bool:
        until = self._at + (self.patience if seconds is None else seconds)
        self._threads.add(threading.get_ident())
        self._events.append(event)
        try:
            while not event.is_set and self._move_for_threads(event, until):
                pass
            if seconds is None and not event.is_set:
                raise self._hopeless()
        finally:
            self._events.remove(event)
            self._departures += 1
        return event.is_set

    def _move_for_threads(self, event: Latch, until: float) -> bool:
        """Move the clock, in one of the threads that wait, for all of them. Return False when its own time is over."""
        if not self._mover_of_threads.acquire(timeout=A_TURN):
            return True
        try:
            return event.is_set or not self._is_quiet() or self._step(until)
        finally:
            self._mover_of_threads.release()

    def _is_quiet(self) -> bool:
        """Return whether all threads that were served wait again, as far as can be seen: time may go on."""
        departures = self._departures
        for _ in range(TURNS if len(self._threads) > 1 else 0):
            sleep(A_TURN)
            if departures != self._departures or any(each.is_set for each in self._events):
                return False
        return True

    async def _pass(self, future: asyncio.Future[None], seconds: float | None) -> None:
        """Wait until a future is done or the time is over. One task of each loop moves the clock for the others."""
        loop = asyncio.get_running_loop()
        entry = (NEVER if seconds is None else self._at + seconds), loop.create_future()
        bell = entry[1]
        bells = self._bells.setdefault(loop, [])
        bells.append(entry)
        if loop not in self._movers or self._movers[loop].done():  # it has ended, or was cancelled with all tasks
            self._movers[loop] = loop.create_task(self._move_for_tasks(bells), name="nexus-redis-clock")
        try:
            await asyncio.wait((future, bell), return_when=asyncio.FIRST_COMPLETED)
            if bell.done():
                bell.result()
        finally:
            bells.remove(entry)
            self._departures += 1
            bell.cancel()

    def _is_shared(self) -> bool:
        """Return whether tasks of more than one event loop wait."""
        return sum(map(bool, list(self._bells.values()))) > 1

    async def _move_for_tasks(self, bells: Bells) -> None:
        began = self._at
        while bells:
            departures = self._departures
            for _ in range(TURNS):
                await give_way(A_TURN if self._is_shared() else 0)  # loops of other threads need time of their own
            if self._departures != departures:  # a task was served
                began = self._at
            elif bells:
                try:
                    self._move_to(min(until for until, _ in bells), began, bells)
                except Exception as error:  # noqa: BLE001  # every task that waits must raise it
                    for _, bell in bells:
                        if not bell.done():
                            bell.set_exception(error)

    def _move_to(self, until: float, began: float, bells: Bells) -> None:
        if self._step(began + self.patience if until == NEVER else until):
            return
        if until == NEVER:
            raise self._hopeless()
        for end, bell in bells:
            if end <= self._at and not bell.done():
                bell.set_result(None)


def _checked(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidSetting("seconds", seconds, error_texts.TIME_GOES_BACK)
    return seconds


class SteppedLoop(LoopThread):
    """A scheduler whose loop is run by the callers that wait. Its lock is the clock's."""

    def __init__(self, clock: ManualClock, client: Callable[[], redis.Redis], server: str) -> None:
        self._clock, self._client, self.round_trip = clock, client, clock.round_trip
        self.scheduler = Scheduler(lambda: clock._at, lambda: None, server, LazyLock)
        self._begin()

    def _new_lock(self) -> Lock:
        return self._clock._lock

    def _begin(self) -> None:
        self._plan: Loop | None = None
        self._is_inside = False
        self._mail: list[tuple[float, int, Exchange, list[Outcome] | None]] = []  # on its way to Redis, or back
        self._count = 0
        if self not in self._clock._loops:
            self._clock._loops.append(self)

    def after_fork(self) -> None:
        self.scheduler.after_fork()
        self._begin()

    @property
    def due(self) -> float:
        """Return when the loop must be run."""
        if self._is_inside:
            return NEVER
        return min(self.scheduler.asleep_until, self._mail[0][0] if self._mail else NEVER)

    @property
    def is_running(self) -> bool:
        """Return whether the loop can be run: until it is stopped."""
        return self in self._clock._loops

    def ensure_running(self) -> None:
        """Do nothing: the callers that wait run the loop."""

    def listen(self, connect: Callable[[], redis.Redis]) -> None:
        """Do nothing: messages would make runs non-deterministic. Claims say the same, a little later."""

    def run_due(self) -> None:
        """Run the loop for everything that is due now."""
        if self._plan is None:
            self._plan = serve(self.scheduler)
        self._is_inside = True
        is_over = True
        try:
            self._carry()
            is_over = run_until_pause(self._plan, self._send) is None
        finally:
            self._is_inside = False
            if is_over:  # also after a bug
                self._plan = None
                self._clock._loops.remove(self)

    def _send(self, exchange: Exchange) -> list[Outcome] | None:
        """Return the outcomes of a batch now, or None and deliver them after a round trip."""
        if not self.round_trip:
            return self._perform(exchange.jobs)
        self._post(exchange, None)
        return None

    def _perform(self, jobs: Sequence[Job]) -> list[Outcome]:
        return perform(self._client, [self._clock._stamped(job) for job in jobs])

    def _post(self, exchange: Exchange, outcomes: list[Outcome] | None) -> None:
        self._count += 1
        heapq.heappush(self._mail, (self._clock._at + self.round_trip / 2, self._count, exchange, outcomes))

    def _carry(self) -> None:
        """Perform the batches that have come to Redis by now, and deliver the outcomes that have come back."""
        while self._mail and self._mail[0][0] <= self._clock._at:
            _, _, exchange, outcomes = heapq.heappop(self._mail)
            if outcomes is None:
                self._post(exchange, self._perform(exchange.jobs))
            else:
                for _ in deliver(self.scheduler, exchange, outcomes):
                    pass

    def wait(self, event: Latch, seconds: float | None = None) -> bool:
        return self._clock._wait(event, seconds)

    def drive(self, plan: Plan[T]) -> T:
        return drive(plan, self._perform, self._clock.advance)

    def stop(self, error: NexusError) -> bool:
        with self.lock:
            self.scheduler.close(error)
            if self.is_running and not self._is_inside:
                self.run_due()
        return True

    def forget(self, then: Callable[[], None]) -> None:
        """Do nothing: a Nexus that is dropped on a clock vanishes like a killed process."""


class SteppedTask(LoopTask):
    """The same for the async face: one stepped loop, with the consumers' client, serves producers and consumers."""

    def __init__(self, clock: ManualClock, reports: LoopThread) -> None:
        self._clock, self._stepped = clock, reports
        self.scheduler = reports.scheduler
        self._begin()

    def after_fork(self) -> None:
        self._begin()
        self._stepped.after_fork()

    def ensure_running(self) -> None:
        """Do nothing: the tasks that wait run the loop."""

    def listen(self, connect: Callable[[], redis.asyncio.Redis]) -> None:
        """Do nothing, as in a `SteppedLoop`."""

    async def wait(self, future: asyncio.Future[None], seconds: float | None = None) -> None:
        await self._clock._pass(future, seconds)

    async def drive(self, plan: Plan[T]) -> T:
        return self._stepped.drive(plan)

    async def stop(self, error: NexusError) -> None:
        self._stepped.stop(error)

    def forget(self, end: Callable[[], Coroutine[Any, Any, None]], let_go: Callable[[], None]) -> None:
        """Do nothing, as in a `SteppedLoop`."""

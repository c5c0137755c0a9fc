"""A clock that a test moves: hours of a budget's life in milliseconds, with the real scripts on a real server.

Nothing in the core asks what time it is: a hub is given its clock, a script its instant (`at_us`). So a Nexus runs by
another clock when what drives it does:

    LoopThread   a thread runs the hub's loop and sleeps until the next is due; scripts take the server's time
    SteppedLoop  whoever waits runs it, and moves the clock to where the next is due; scripts are told that time

Time stands still while code runs and goes on while somebody waits: in `acquire`, in `clock.advance`, in `await
clock.sleep`. All that is due on the way is done at its time, by all the Nexuses on the clock, which so may stand for a
fleet. There is no thread, so what one thread, or the tasks of one event loop, do is the same each time.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from asyncio import sleep as give_way  # by these names: a test may put this clock's in the place of the modules' own
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
Bells = list[tuple[float, asyncio.Future[None]]]  # until when each task waits

START: Final = 1_000.0  # the hubs' time at the clock's zero; a host's monotonic clock is never at 0 either
START_US: Final = 1_800_000_000_000_000  # the scripts' time at the clock's zero
TURNS: Final = 10  # that tasks and threads which are ready get before time goes on
A_TURN: Final = 5e-5  # seconds, of a thread: the operating system's least, more or less


class ManualClock:
    """Time for a test. It goes on when told to (`advance`, `sleep`), and by itself while somebody waits for tokens.

    `with ManualClock() as clock:` has each Nexus that is made in the block, whoever makes it, live by it, to its end.

    At 10/s the 36,001st `acquire` is served when `now` is about 3,600, after a few real seconds; an hour of
    `advance(3600)` in which nobody waits takes no time at all. Who waits without a timeout for longer than `patience`
    seconds gets an AssertionError: waiting for what will not come would never end, and costs a call a second.

    A batch of calls takes `round_trip` seconds: `ManualClock(round_trip=0.2)` has Redis on another continent.
    """

    def __init__(self, *, patience: float = 3_600.0, round_trip: float = 0.0) -> None:
        self.patience, self.round_trip = patience, round_trip
        self._at = START
        self._lock: Lock = new_lock()
        self._loops: list[SteppedLoop] = []
        self._bells: dict[asyncio.AbstractEventLoop, Bells] = {}
        self._hands: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        self._before: list[Drivers] = []
        self._threads: set[int] = set()  # that have ever waited
        self._events: list[Latch] = []  # that are waited for
        self._departures = 0  # of those who waited
        self._hand_of_threads = threading.Lock()

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
        """Seconds since the clock was made."""
        return round(self._at - START, 6)

    def advance(self, seconds: float) -> None:
        """Let so much time pass; what is due meanwhile is done at its time. Tasks: `await clock.sleep(seconds)`."""
        until = self._at + _checked(seconds)
        while self._step(until):
            sleep(0)  # threads that were served meanwhile get a chance

    async def sleep(self, seconds: float) -> None:
        """The same in async code: tasks that are served meanwhile get their turn before time goes on."""
        await self._pass(asyncio.get_running_loop().create_future(), _checked(seconds))

    def __repr__(self) -> str:
        return f"<ManualClock at {self.now:g} s: {len(self._loops)} loops>"

    def _hopeless(self) -> AssertionError:
        return AssertionError(error_texts.not_served(self.patience))

    # --- for the loops

    @property
    def _drivers(self) -> Drivers:
        """What a Nexus has its hubs driven by, to live by this clock."""
        return Drivers(
            lambda client, server: SteppedLoop(self, client, server),
            lambda _client, _server, reports: SteppedTask(self, reports),
        )

    def _stamped(self, job: Job) -> Job:
        """The call at the clock's time: every script is told the instant first."""
        return self._instant(job) if isinstance(job, Call) else job

    def _instant(self, call: Call[Any]) -> Call[Any]:
        return replace(call, args=(START_US + round((self._at - START) * 1e6), *call.args[1:]))

    def _step(self, until: float) -> bool:
        """Run what is due next, if that is by `until`; False when it is `until` and nothing is due any more."""
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
            while not event.is_set and self._go_on_by_hand(event, until):
                pass
            if seconds is None and not event.is_set:
                raise self._hopeless()
        finally:
            self._events.remove(event)
            self._departures += 1
        return event.is_set

    def _go_on_by_hand(self, event: Latch, until: float) -> bool:
        """One of the threads that wait, the hand, moves the clock for all; False when its own time is over."""
        if not self._hand_of_threads.acquire(timeout=A_TURN):
            return True
        try:
            return event.is_set or not self._is_quiet() or self._step(until)
        finally:
            self._hand_of_threads.release()

    def _is_quiet(self) -> bool:
        """Whoever was served has gone on and come back, as far as one can see: time may go on."""
        departures = self._departures
        for _ in range(TURNS if len(self._threads) > 1 else 0):
            sleep(A_TURN)
            if departures != self._departures or any(each.is_set for each in self._events):
                return False
        return True

    async def _pass(self, future: asyncio.Future[None], seconds: float | None) -> None:
        """Until it is done or so many seconds have passed. One task, the hand, moves the clock for all of its loop."""
        loop = asyncio.get_running_loop()
        entry = (NEVER if seconds is None else self._at + seconds), loop.create_future()
        bell = entry[1]
        bells = self._bells.setdefault(loop, [])
        bells.append(entry)
        if loop not in self._hands or self._hands[loop].done():  # done, or cancelled with all tasks
            self._hands[loop] = loop.create_task(self._go_on(bells), name="nexus-redis-clock")
        try:
            await asyncio.wait((future, bell), return_when=asyncio.FIRST_COMPLETED)
            if bell.done():
                bell.result()
        finally:
            bells.remove(entry)
            self._departures += 1
            bell.cancel()

    def _is_shared(self) -> bool:
        """Whether tasks of more than one event loop wait."""
        return sum(map(bool, list(self._bells.values()))) > 1

    async def _go_on(self, bells: Bells) -> None:
        began = self._at
        while bells:
            departures = self._departures
            for _ in range(TURNS):
                await give_way(A_TURN if self._is_shared() else 0)  # loops of other threads need time of their own
            if self._departures != departures:  # somebody was served
                began = self._at
            elif bells:
                try:
                    self._go_on_to(min(until for until, _ in bells), began, bells)
                except Exception as error:  # noqa: BLE001  # whoever waits must be told
                    for _, bell in bells:
                        if not bell.done():
                            bell.set_exception(error)

    def _go_on_to(self, until: float, began: float, bells: Bells) -> None:
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
    """A hub whose loop is run by who waits, with the clock's lock for its lock."""

    def __init__(self, clock: ManualClock, client: Callable[[], redis.Redis], server: str) -> None:
        self._clock, self._client, self.round_trip = clock, client, clock.round_trip
        self.scheduler = Scheduler(lambda: clock._at, lambda: None, server, LazyLock)
        self._begin()

    def _new_lock(self) -> Lock:
        return self._clock._lock

    def _begin(self) -> None:
        self._plan: Loop | None = None
        self._is_in_it = False
        self._mail: list[tuple[float, int, Exchange, list[Outcome] | None]] = []  # on its way to Redis, or back
        self._count = 0
        if self not in self._clock._loops:
            self._clock._loops.append(self)

    def after_fork(self) -> None:
        self.scheduler.after_fork()
        self._begin()

    @property
    def due(self) -> float:
        """When it must be run."""
        if self._is_in_it:
            return NEVER
        return min(self.scheduler.asleep_until, self._mail[0][0] if self._mail else NEVER)

    @property
    def is_running(self) -> bool:
        """Whether it can be run: until it is stopped."""
        return self in self._clock._loops

    def ensure_running(self) -> None:
        """It always can."""

    def listen(self, connect: Callable[[], redis.Redis]) -> None:
        """It does not: what comes between two of its steps would be different each time. Claims tell."""

    def run_due(self) -> None:
        """All that is due now."""
        if self._plan is None:
            self._plan = serve(self.scheduler)
        self._is_in_it = True
        is_over = True
        try:
            self._carry()
            is_over = run_until_pause(self._plan, self._send) is None
        finally:
            self._is_in_it = False
            if is_over:  # also after a bug
                self._plan = None
                self._clock._loops.remove(self)

    def _send(self, exchange: Exchange) -> list[Outcome] | None:
        """What comes of it, at once or after a round trip."""
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
        """What has come to Redis by now is done there, what has come back is delivered."""
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
            if self.is_running and not self._is_in_it:
                self.run_due()
        return True

    def forget(self, then: Callable[[], None]) -> None:
        """It goes on: who drops a Nexus on a clock has it vanish, as a process that is killed."""


class SteppedTask(LoopTask):
    """The same for the async shell: one stepped loop, with the reporters' client, serves producers and consumers."""

    def __init__(self, clock: ManualClock, reports: LoopThread) -> None:
        self._clock, self._stepped = clock, reports
        self.scheduler = reports.scheduler
        self._begin()

    def after_fork(self) -> None:
        self._begin()
        self._stepped.after_fork()

    def ensure_running(self) -> None:
        """Whoever waits runs it."""

    def listen(self, connect: Callable[[], redis.asyncio.Redis]) -> None:
        """Nor does this."""

    async def wait(self, future: asyncio.Future[None], seconds: float | None = None) -> None:
        await self._clock._pass(future, seconds)

    async def drive(self, plan: Plan[T]) -> T:
        return self._stepped.drive(plan)

    async def stop(self, error: NexusError) -> None:
        self._stepped.stop(error)

    def forget(self, end: Callable[[], Coroutine[Any, Any, None]], let_go: Callable[[], None]) -> None:
        """It goes on, as that of a sync Nexus."""

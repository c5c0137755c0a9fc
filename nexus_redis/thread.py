"""The sync driver: one thread that runs a hub's loop, and plans that run in the caller's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Final, TypeVar

import redis

from nexus_redis.calls import Job, Outcome
from nexus_redis.errors import NexusError
from nexus_redis.exchange import MOST_OUT, Exchange
from nexus_redis.hub import BUG_PAUSE, NEVER, Hub, Pause, Step, deliver, refill
from nexus_redis.logs import log
from nexus_redis.push import PushThread
from nexus_redis.waiter import Waiter
from nexus_redis.wire import perform

T = TypeVar("T")

ENDS_WITHIN: Final = 0.05  # seconds, of a thread that has nothing more to do; others end by themselves
RESTS: Final = 60.0  # seconds until a thread that nobody needs ends
STOP_PATIENCE: Final = 1.5  # seconds that close() waits: more than a connect takes, less than a shutdown's grace


class Line(Waiter):
    """A thread that waits."""

    __slots__ = ("event",)

    def __init__(self, cost: int, since: float, *, whole: bool = False) -> None:
        super().__init__(cost, since, whole=whole)
        self.event = threading.Event()

    def wake(self) -> None:
        self.event.set()


class LoopThread:
    """A hub, its lock and the thread that serves it; that starts with the first need and dies with the process."""

    def __init__(self, client: Callable[[], redis.Redis], server: str) -> None:
        self._client = client
        self.age = 0.0
        self.push: PushThread | None = None
        self._begin()
        self.hub = Hub(time.monotonic, self._wake, server)
        self.hub.aside = self._aside

    def _begin(self) -> None:
        # Reentrant, for close() in a signal handler: the thread that it interrupts may be the one that holds the lock.
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._free = threading.Condition(self.lock)  # for threads that neither lead nor carry
        self._plan: Step | None = None
        self._over = threading.Event()
        self._is_led = False
        self._threads: set[threading.Thread] = set()
        self._resting = 0

    def _wake(self) -> None:
        self._changed.notify_all()

    def _aside(self, make: Callable[[], list[Job]], then: Callable[[list[Job]], None]) -> None:
        lock = self.lock

        def run() -> None:
            made = make()
            with lock:
                then(made)

        try:
            threading.Thread(target=run, name="nexus-redis-watch", daemon=True).start()
        except RuntimeError:  # the interpreter is about to end, or may have no more threads
            then([])

    def after_fork(self) -> None:
        """In the child: the parent's thread does not exist, its lock may be held for ever."""
        self._begin()
        self.hub.after_fork()
        if self.push is not None:
            self.push.abandon()
            self.listen(self.push.connect)

    def listen(self, connect: Callable[[], redis.Redis]) -> None:
        """Hear of drops as they are decided, by a connection and a thread of their own."""
        self.push = PushThread(connect, self.hub.channels, self.lock)
        self.hub.channels.changed = self.push.changed

    @property
    def is_running(self) -> bool:
        """Whether a thread is there that runs the loop, or will when its batch is answered."""
        return not self._over.is_set() and any(each.is_alive() for each in self._threads)

    def ensure_running(self) -> None:
        """Start a thread if none is there; call with the lock held."""
        if not self.is_running:
            self._plan, self._over = refill(self.hub), threading.Event()
            self._is_led, self._resting, self._threads = False, 0, set()
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="nexus-redis", daemon=True)
        thread.start()
        self._threads.add(thread)

    def wait(self, event: threading.Event, seconds: float | None = None) -> bool:
        """Until it is set; False where the time was over before."""
        return event.wait(seconds)

    def drive(self, plan: Generator[list[Job] | Pause, list[Outcome], T]) -> T:
        """Run a plan to its end in the caller's thread."""
        return drive(plan, self._client())

    def stop(self, error: NexusError) -> None:
        """Every member leaves, the loop ends after what is in flight; who waits gets `error`."""
        with self.lock:
            self.hub.close(error)
            threads, over = self._threads - {threading.current_thread()}, self._over
        if threads:
            over.wait(STOP_PATIENCE)
            for thread in threads:
                thread.join(ENDS_WITHIN)
        if self.push is not None:
            self.push.stop()

    # --- the threads
    #
    # One of them leads: it runs the hub's loop. When that has a batch to carry, the leader carries it, and one that
    # rests, or a new one, leads meanwhile. So the loop goes on, however long an answer takes, and a batch is sent by
    # the thread that made it.

    def _run(self) -> None:
        over, is_needed = self._over, True
        with self.lock:
            while is_needed and not over.is_set():
                try:
                    is_needed = self._work()
                except Exception:
                    log.exception("the refill loop met a bug; it goes on in a second")
                    self._plan = refill(self.hub)
                    self._changed.wait(BUG_PAUSE)
            self._threads.discard(threading.current_thread())

    def _work(self) -> bool:
        """Lead until there is a batch, and carry it; or rest. False: this thread is not needed any more."""
        if self._is_led:
            self._resting += 1
            is_called = self._free.wait(RESTS)
            self._resting -= 1
            return is_called or not self._is_led
        exchange = self._lead()
        if exchange is None:
            self._over.set()
            self._free.notify_all()
            return False
        self._let_another_lead()
        self.lock.release()
        try:
            outcomes = perform(self._client, exchange.jobs)
        finally:
            self.lock.acquire()
        for _ in deliver(self.hub, exchange, outcomes):
            self._give_way()
        return True

    def _lead(self) -> Exchange | None:
        """Run the loop until it has a batch; None when it is over."""
        self._is_led = True
        try:
            while True:
                assert self._plan is not None
                step = next(self._plan, None)
                self.age = time.monotonic()
                if not isinstance(step, Pause):
                    return step
                if step.seconds:
                    self._changed.wait(None if step.seconds == NEVER else step.seconds)
                else:
                    self._give_way()
        finally:
            self._is_led = False

    def _let_another_lead(self) -> None:
        if self._resting:
            self._free.notify()
        elif len(self._threads) <= MOST_OUT:
            with suppress(RuntimeError):  # no more threads are to be had: this one leads again when it has its answer
                self._start()

    def _give_way(self) -> None:
        self.lock.release()
        time.sleep(0)  # a condition's wait(0) would take the lock again before another thread could run
        self.lock.acquire()


def drive(plan: Generator[list[Job] | Pause, list[Outcome], T], client: redis.Redis) -> T:
    """Run a plan to its end in this thread."""
    outcomes: list[Outcome] | None = None
    while True:
        try:
            step = plan.send(outcomes)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            outcomes = []
        else:
            outcomes = perform(lambda: client, step)

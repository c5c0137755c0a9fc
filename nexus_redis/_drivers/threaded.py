"""The sync driver: threads that run a scheduler's loop and carry its batches, and plans run in the caller's thread.

One of the threads leads: it runs the loop. When the loop has a batch to carry, the leader carries the batch. Another
thread, which rests or is started for this, leads meanwhile. So the loop goes on however long an answer takes, and a
batch is sent by the thread that made it. Near Redis there are two threads: one carries a batch while the other waits
until the next session is due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import redis

from nexus_redis._core.loop import Loop, deliver, serve
from nexus_redis._core.round_trips import MOST_OUT, Exchange
from nexus_redis._core.scheduler import BUG_PAUSE, Made, Scheduler
from nexus_redis._core.session import Session
from nexus_redis._core.waiter import NEVER, CallerPlan, Waiter, do_nothing
from nexus_redis._protocol.plans import Done, Plan, drive, step
from nexus_redis._redis.execute import perform
from nexus_redis._redis.pubsub import PushThread
from nexus_redis._runtime.locks import Latch, LazyLock, Lock, MadeAtFirstUse, new_lock, park
from nexus_redis._runtime.process_end import note_start
from nexus_redis._values import log_texts
from nexus_redis._values.log import log
from nexus_redis.errors import Closed, NexusError, NoThread, ReentrantCall

T = TypeVar("T")

ENDS_WITHIN: Final = 0.05  # seconds in which a thread with nothing more to do ends; the others end by themselves
RESTS: Final = 60.0  # seconds until a thread that is not needed ends
STOP_PATIENCE: Final = 1.5  # seconds that close() waits: more than a connect takes, less than a shutdown's grace


class LoopThread:
    """A scheduler, its lock and its threads. The threads start with the first need and die with the process."""

    # Reentrant, so that a signal handler finds out that the thread which it interrupted holds the lock: see `entry`.
    lock = MadeAtFirstUse[Lock](lambda it: it._new_lock())
    _free = MadeAtFirstUse[threading.Condition](lambda it: threading.Condition(it.lock))  # for the threads that rest
    _over = MadeAtFirstUse[Latch](lambda _: Latch())  # the loop has ended
    _ended = MadeAtFirstUse[Latch](lambda _: Latch())  # `end` has done all that it does

    turn_ends: Final = NEVER  # a caller's turn has no end: threads need not give way

    _driving = MadeAtFirstUse[set[int]](lambda _: set())  # the threads in which a plan runs

    def __init__(self, client: Callable[[], redis.Redis], server: str) -> None:
        self._client = client
        self.is_abandoned: Callable[[], bool] = lambda: False  # no caller can use or close it any more
        self.push: PushThread | None = None
        self._ender = 0  # the thread that runs `end`, or has run it
        self._begin()
        self.scheduler = Scheduler(time.monotonic, self._wake, server, LazyLock)
        self.scheduler.make_elsewhere = self._make_elsewhere

    def _begin(self) -> None:
        LoopThread.lock.forget(self)
        LoopThread._free.forget(self)
        LoopThread._over.forget(self)
        LoopThread._driving.forget(self)
        self._threads: set[threading.Thread] = set()
        self._plan: Loop | None = None
        self._is_led = False
        self._resting = 0
        self._bell: Latch | None = None  # of the leader, while it pauses

    def _new_lock(self) -> Lock:
        return new_lock()

    def _wake(self) -> None:
        # Not a condition: that would swallow what a signal handler raises in the caller's thread.
        if self._bell is not None:
            self._bell.set()

    def _make_elsewhere(self, make: Callable[[], Made], then: Callable[[Made], None]) -> None:
        lock = self.lock

        def run() -> None:
            made = make()
            if self.lock is not lock:
                park()
            with lock:
                then(made)

        try:
            threading.Thread(target=run, name="nexus-redis-watch", daemon=True).start()
        except RuntimeError:  # the interpreter is about to end, or may have no more threads
            then(None)

    def after_fork(self) -> None:
        """Begin again in a forked child: the parent's threads do not exist, and its lock may be held forever."""
        if self._ender:
            self._ended.set()  # what the parent had begun to end has ended here
        self._begin()
        self.scheduler.after_fork()
        if self.push is not None:
            self.push.abandon()
            self.listen(self.push.connect)

    def listen(self, connect: Callable[[], redis.Redis]) -> None:
        """Listen for drops of rates, by a connection and a thread of their own."""
        self.push = PushThread(connect, self.scheduler.subscriptions, lambda: self.lock)
        self.scheduler.subscriptions.changed = self.push.changed

    @property
    def is_running(self) -> bool:
        """Return whether there is a thread that runs the loop, or will run it when its batch is answered."""
        return self._plan is not None and not self._over.is_set and any(each.is_alive() for each in self._threads)

    def ensure_running(self) -> None:
        """Start a thread if there is none. Call this with the lock held."""
        if not self.is_running:
            LoopThread._over.forget(self)
            self._plan, self._is_led, self._resting, self._threads = serve(self.scheduler), False, 0, set()
            try:
                self._start()
            except RuntimeError as error:  # at a limit of the system, or at the end of the interpreter
                self._plan = None
                raise NoThread(str(error)) from error
            note_start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="nexus-redis", daemon=True)
        thread.start()
        self._threads.add(thread)

    def run(self, plan: CallerPlan[T]) -> T:
        """Run a caller's plan in the caller's thread: under the lock, which it gives away while it waits."""
        lock = self.entry
        try:
            while True:
                with lock:
                    try:
                        found = next(plan)  # and not `step`: most plans end here, and a `Done` each takes time
                    except StopIteration as end:
                        return end.value  # type: ignore[no-any-return]
                    self.ensure_running()
                    bell = Latch()
                    found.waiter.wake = bell.set
                    if found.waiter.is_settled:
                        bell.set()
                self.wait(bell, found.seconds)
        except BaseException:
            with lock:
                plan.close()  # a caller that was interrupted leaves nothing behind
            raise

    def wait(self, event: Latch, seconds: float | None = None) -> bool:
        """Wait until an event is set; return False where the time was over before."""
        return event.wait(seconds)

    def drive(self, plan: Plan[T]) -> T:
        """Run a plan to its end in the caller's thread."""
        me = threading.get_ident()
        if me in self._driving:
            raise ReentrantCall
        self._driving.add(me)
        try:
            return drive(plan, lambda jobs: perform(self._client, jobs), time.sleep)
        finally:
            self._driving.discard(me)

    @property
    def entry(self) -> Lock:
        """Return the lock, for a call from outside. Raise `ReentrantCall` where this thread has the lock already."""
        lock = self.lock
        if lock._is_owned():
            raise ReentrantCall
        return lock

    @property
    def is_inside(self) -> bool:
        """Return whether this thread is inside another call, which a signal handler or a finalizer has interrupted."""
        return self.lock._is_owned() or threading.get_ident() in self._driving

    def end(self, error: NexusError, then: Callable[[], None] = do_nothing) -> None:
        """Stop, then call `then`: now, or in another thread as soon as the call that was interrupted has ended."""
        self._ender = threading.get_ident()
        if self.stop(error):
            then()
            self._ended.set()
        else:
            self._ender = 0
            self._later(lambda: self.end(error, then))

    def await_end(self) -> None:
        """Wait until `end` is done in another thread, for a limited time. Do not wait in the thread that it needs."""
        if self._ender != threading.get_ident() and not self.is_inside:
            self._ended.wait(STOP_PATIENCE)

    def _later(self, do: Callable[[], None]) -> None:
        """Have `do` called by another thread, for which the interpreter waits at its end."""
        with suppress(RuntimeError):  # the system gives no thread: leases and reports end by themselves
            threading.Thread(target=do, name="nexus-redis-close").start()

    def leave(self, session: Session, error: NexusError) -> None:
        """Have one session leave for good; return when Redis knows it.

        Where this thread is inside another call, a new thread does it as soon as that call has ended.
        """
        if self.is_inside or not self.lock.acquire(timeout=STOP_PATIENCE):
            self._later(lambda: self.leave(session, error))
            return
        try:
            now, gone = self.scheduler.clock(), Latch()
            leaver = Waiter(0, now)
            leaver.wake = gone.set
            session.leave(error, now, leaver)
        finally:
            self.lock.release()
        if not session.server.is_out:  # else leases and reports expire by themselves
            self.wait(gone, STOP_PATIENCE)

    def forget(self, then: Callable[[], None]) -> None:
        """End the loop in another thread: its Nexus was collected, in any thread and at any moment."""
        if self.is_running:
            with suppress(RuntimeError):
                ending = threading.Thread(target=self.end, args=(Closed("nexus"), then), name="nexus-redis-close")
                ending.daemon = True
                ending.start()

    def stop(self, error: NexusError) -> bool:
        """Have every session leave and the loop end after the calls in flight. Callers that wait get `error`.

        Return False where nothing was done: this thread is inside another call, or the lock is held by a thread that
        cannot go on.
        """
        if self.is_inside or not self.lock.acquire(timeout=STOP_PATIENCE):
            return False
        try:
            self.scheduler.close(error)
            threads, over = self._threads - {threading.current_thread()}, self._over
            listening = self.push.end() if self.push is not None else None
        finally:
            self.lock.release()
        if threads:
            over.wait(STOP_PATIENCE)
            for thread in threads:
                thread.join(ENDS_WITHIN)
        if listening is not None and listening is not threading.current_thread():
            listening.join(STOP_PATIENCE)
        return True

    # --- the threads

    def _run(self) -> None:
        over, is_needed = self._over, True
        with self.lock:
            while is_needed and not over.is_set:
                try:
                    is_needed = self._work(over)
                except Exception:
                    log.exception(log_texts.LOOP_BUG)
                    self._plan = serve(self.scheduler)
                    self._pause(BUG_PAUSE, Latch())
            self._threads.discard(threading.current_thread())

    def _work(self, over: Latch) -> bool:
        """Lead until there is a batch and carry it, or rest. Return False where this thread is not needed any more."""
        if self._is_led:
            lock = self.lock
            self._resting += 1
            is_called = self._free.wait(RESTS)
            if self.lock is not lock:
                park()
            self._resting -= 1
            return is_called or not self._is_led
        exchange = self._lead()
        if exchange is None:
            over.set()
            self._free.notify_all()
            if self.is_abandoned():
                self._client().close()
            return False
        self._let_another_lead()
        with self._unlocked():
            outcomes = perform(self._client, exchange.jobs)
        for _ in deliver(self.scheduler, exchange, outcomes):
            self._give_way()
        return True

    def _lead(self) -> Exchange | None:
        """Run the loop until it has a batch, and return the batch; None where the loop is over."""
        self._is_led = True
        try:
            while True:
                if not self.scheduler.is_closing and self.is_abandoned():
                    log.warning(log_texts.LOOP_ABANDONED)
                    self.scheduler.close(Closed("nexus"))
                assert self._plan is not None
                found = step(self._plan, None)
                if isinstance(found, Done):
                    return None
                if isinstance(found, Exchange):
                    return found
                if found.seconds:
                    self._bell = Latch()
                    self._pause(None if found.seconds == NEVER else found.seconds, self._bell)
                else:
                    self._give_way()
        finally:
            self._is_led = False

    def _let_another_lead(self) -> None:
        if self._resting:
            self._free.notify()
        elif len(self._threads) <= MOST_OUT:
            with suppress(
                RuntimeError
            ):  # the system gives no more threads: this one leads again when it has its answer
                self._start()

    def _pause(self, seconds: float | None, bell: Latch) -> None:
        with self._unlocked():
            bell.wait(seconds)

    def _give_way(self) -> None:
        with self._unlocked():
            time.sleep(0)  # a condition's wait(0) would take the lock again before another thread could run

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Give the lock away for a while. In a forked child, the lock is another one afterwards: see `park`."""
        lock = self.lock
        lock.release()
        try:
            yield
        finally:
            if self.lock is not lock:
                park()
            lock.acquire()


def run_plan(plan: Plan[T], client: redis.Redis) -> T:
    """Run a plan to its end in this thread, with the caller's client."""
    return drive(plan, lambda jobs: perform(lambda: client, jobs), time.sleep)

"""Hear of drops of a rate, and of rises from 0, when they are decided, on one connection for all budgets of a Nexus.

The script that changes a rate publishes it on the budget's channel (`push` in lua/lib/rate.lua). A producer learns of
the change with its next claim anyway, a refresh later. A producer that listens reacts at once: it stops spending tokens
that were meant for the old rate, or, if the rate was 0, it claims for the callers that wait.

    claim, report, configure, leave  --PUBLISH nexus:{stripe}:flow-->  PushThread or PushTask  -->  the ledger

Listening only makes reactions faster. A message takes tokens away and never gives any, so a message that is lost, late
or forged costs nothing but time. A process that may not subscribe, or whose connection breaks, goes by the answers to
its claims, and the log says so once, at level INFO. A message names the birth of its budget, because a channel belongs
to no database.

A channel is subscribed to from a producer's second claim (a process that takes one token and ends needs no channel)
until the producer leaves. Without channels, there is no connection, no thread and no task. A broken connection is made
again. After a silence the server must answer a question; otherwise a connection that a firewall has forgotten would
listen forever.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

import redis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from nexus_redis._core.subscriptions import Subscriptions
from nexus_redis._protocol.calls import text
from nexus_redis._redis.execute import raise_if_cancelled
from nexus_redis._runtime.locks import park
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields

ALIVE_EACH: Final = 30.0  # seconds of silence after which the server must answer; firewalls forget a connection later
FIRST_PAUSE: Final = 0.1  # seconds before it tries again, doubled each time
LONGEST_PAUSE: Final = 10.0  # seconds at most; claims ask more often
REFUSED_PAUSE: Final = 60.0  # seconds after a refusal: an operator has to grant the right first
POLLED_EACH: Final = 0.05  # seconds, for a connection that is not a socket (fakeredis)
STOP_PATIENCE: Final = 1.5


class _Listener:
    """The common part of both listeners: whether the server answers, when to try again, and what to log."""

    def __init__(self, channels: Subscriptions) -> None:
        self.subscriptions = channels
        self._failures = 0
        self._has_said = False

    def _begin(self) -> None:
        self.subscribed: set[str] = set()
        self._heard_at = time.monotonic()
        self._is_asked = False
        self._sent_at: float | None = None  # when it has subscribed to a channel that the server has not confirmed yet

    def _changes(self) -> tuple[list[str], list[str]]:
        """Return the channels to subscribe to and to leave, and note that this is done."""
        wanted = set(self.subscriptions.names)
        new, gone = sorted(wanted - self.subscribed), sorted(self.subscribed - wanted)
        self.subscribed = wanted
        return new, gone

    def _ask_after(self) -> str | None:
        """Return, after a silence, a channel to subscribe to again, which the server confirms. Raise if it did not."""
        if time.monotonic() - self._heard_at < ALIVE_EACH:
            return None
        if self._is_asked:
            raise RedisConnectionError(error_texts.LISTENED_IN_VAIN)
        self._heard_at, self._is_asked = time.monotonic(), True
        return next(iter(self.subscribed))

    def _hear(self, message: dict[str, Any]) -> tuple[str, bytes | str] | None:
        """Note that the server is there, and return channel and text of a message, None for anything else."""
        now = time.monotonic()
        self._heard_at, self._is_asked = now, False
        self._failures, self._has_said = 0, False
        if message["type"] == "subscribe" and self._sent_at is not None:
            self.subscriptions.lag, self._sent_at = now - self._sent_at, None
        return (text(message["channel"]), message["data"]) if message["type"] == "message" else None

    def _note_sent(self) -> None:
        """Note when a subscription was sent, whose confirmation shows how late messages are heard."""
        if self._sent_at is None:
            self._sent_at = time.monotonic()

    def _seconds_until_next_try(self, error: Exception) -> float:
        """Log once that this process does not listen, and return the seconds until the next try."""
        if not self._has_said:
            self._has_said = True
            cause = f"{type(error).__name__}: {error}"
            log.info(log_texts.PUSH_UNAVAILABLE, type(error).__name__, error, extra=log_fields(cause=cause))
        if isinstance(error, ResponseError):
            return REFUSED_PAUSE
        self._failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        return float(pause * random.uniform(0.5, 1.0))  # noqa: S311  # spreads retries, guards nothing


class PushThread(_Listener):
    """A listener in a thread, which exists while there is a channel to listen to."""

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        channels: Subscriptions,
        lock: Callable[[], AbstractContextManager[object]],
    ) -> None:
        super().__init__(channels)
        self.connect, self._lock = connect, lock
        self._thread: threading.Thread | None = None
        self._bell: tuple[socket.socket, socket.socket] | None = None  # a byte in it interrupts the listening
        self._is_stopped = self._is_abandoned = False

    @property
    def is_running(self) -> bool:
        """Return whether the thread exists."""
        return self._thread is not None

    def changed(self) -> None:
        """Take note that the channels have changed. The caller holds the lock."""
        if self._thread is None and self._is_wanted:
            self._start()
        elif self._bell is not None:
            with suppress(BlockingIOError):  # it is full, so the thread wakes anyway
                self._bell[1].send(b"!")

    def _start(self) -> None:
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="nexus-redis-push", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the interpreter is about to end, or may have no more threads
            log.debug(log_texts.PUSH_THREAD_NOT_STARTED, error, extra=log_fields(cause=str(error)))
            self._has_ended()

    def _has_ended(self) -> None:
        self._thread = None
        for end in self._bell or ():
            end.close()
        self._bell = None

    def end(self) -> threading.Thread | None:
        """Let the thread close the connection and end, and return it, to be joined. The caller holds the lock."""
        self._is_stopped = True
        self.changed()
        return self._thread

    def abandon(self) -> None:
        """Forget the thread in a forked child, which does not have it, or has it as a greenlet: see `park`."""
        self._is_abandoned = True
        self._has_ended()

    @property
    def _is_wanted(self) -> bool:
        return bool(self.subscriptions.names) and not self._is_stopped

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001  # it only makes reactions faster: callers go on
                if self._is_abandoned:
                    park()
                self._wait(None, self._seconds_until_next_try(error))

    def _is_over(self) -> bool:
        if self._is_abandoned:
            park()
        with self._lock():
            if self._is_wanted:
                return False
            self._has_ended()
            return True

    def _listen(self) -> None:
        """Listen until no channel is left; raise what went wrong."""
        self._begin()
        pubsub = self.connect().pubsub()  # type: ignore[no-untyped-call]  # redis-py
        try:
            while True:
                with self._lock():
                    if not self._is_wanted:
                        return
                    new, gone = self._changes()
                if new:
                    pubsub.subscribe(*new)
                    self._note_sent()
                if gone:
                    pubsub.unsubscribe(*gone)
                if (name := self._ask_after()) is not None:
                    pubsub.subscribe(name)
                    self._note_sent()
                self._wait(pubsub, ALIVE_EACH)
                self._read(pubsub)
        finally:
            pubsub.close()

    def _read(self, pubsub: Any) -> None:
        while pubsub.connection.can_read(timeout=0):
            message = pubsub.get_message(timeout=0)
            heard = self._hear(message) if message is not None else None
            if heard is not None:
                with self._lock():
                    self.subscriptions.deliver(*heard, time.monotonic())

    def _wait(self, pubsub: Any, seconds: float) -> None:
        """Wait until data arrives, the bell rings or the time is over."""
        assert self._bell is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell[0], selectors.EVENT_READ)
            if pubsub is not None:
                connected = getattr(pubsub.connection, "_sock", None)  # kombu finds it there, too
                if isinstance(connected, socket.socket):
                    selector.register(connected, selectors.EVENT_READ)
                else:
                    seconds = POLLED_EACH
            selector.select(seconds)
        with suppress(BlockingIOError):
            self._bell[0].recv(4096)


class PushTask(_Listener):
    """A listener in a task of the running loop, which exists while there is a channel to listen to."""

    def __init__(self, connect: Callable[[], redis.asyncio.Redis], channels: Subscriptions) -> None:
        super().__init__(channels)
        self.connect = connect
        self._task: asyncio.Task[None] | None = None
        self._bell: asyncio.Event | None = None
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """Return whether the task exists."""
        return self._task is not None and not self._task.done()

    def changed(self) -> None:
        """Take note that the channels have changed. The caller is in the loop."""
        if not self.is_running and self._is_wanted:
            self._bell = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(self._bell), name="nexus-redis-push")
        elif self._bell is not None:
            self._bell.set()

    async def stop(self) -> None:
        """Close the connection and end the task."""
        self._is_stopped = True
        self.changed()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_PATIENCE)
            self._task.cancel()

    @property
    def _is_wanted(self) -> bool:
        return bool(self.subscriptions.names) and not self._is_stopped

    async def _run(self, bell: asyncio.Event) -> None:
        while self._is_wanted:
            try:
                await self._listen(bell)
            except Exception as error:  # noqa: BLE001  # it only makes reactions faster: callers go on
                raise_if_cancelled()
                pause = self._seconds_until_next_try(error)
                bell.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await bell.wait()

    async def _listen(self, bell: asyncio.Event) -> None:
        self._begin()
        pubsub = self.connect().pubsub()
        reading: asyncio.Task[Any] | None = None
        ringing: asyncio.Task[Any] | None = None
        try:
            while self._is_wanted:
                bell.clear()
                new, gone = self._changes()
                if new:
                    await pubsub.subscribe(*new)
                    self._note_sent()
                if gone:
                    await pubsub.unsubscribe(*gone)
                if (name := self._ask_after()) is not None:
                    await pubsub.subscribe(name)
                    self._note_sent()
                raise_if_cancelled()
                reading = reading or asyncio.create_task(pubsub.get_message(timeout=ALIVE_EACH))
                ringing = ringing or asyncio.create_task(bell.wait())
                await asyncio.wait((reading, ringing), return_when=asyncio.FIRST_COMPLETED)
                if ringing.done():
                    ringing = None
                if reading.done():
                    message, reading = reading.result(), None
                    heard = self._hear(message) if message is not None else None
                    if heard is not None:
                        self.subscriptions.deliver(*heard, time.monotonic())
        finally:
            tasks = [task for task in (reading, ringing) if task is not None]
            for task in tasks:
                task.cancel()
            with suppress(TimeoutError):  # redis-py may take this cancellation for a timeout of its own
                async with asyncio.timeout(STOP_PATIENCE):
                    await asyncio.gather(*tasks, return_exceptions=True)
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py

"""Operating-system signals, taken so that none interrupts a statement: by a thread, or noted until it is safe to end.

An exception from a signal handler may come between a read and the assignment of what was read, which is then lost. So
SIGINT, SIGTERM and SIGHUP (and those that a command of `run` may handle) are blocked in all threads, and one thread
takes them and calls a function. For example, a `Nexus` that this function closes wakes the main thread, which waits for
tokens. A signal that was ignored from the start, as under nohup, stays ignored.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Final, Self

from nexus_redis.cli.exit_codes import SIGNALLED

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORWARDED: Final = (*ENDING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)  # those that a command may handle
FROM_THE_KERNEL: Final = 0x80  # SI_KERNEL on Linux: a key on a terminal, which its whole foreground group receives
LONGEST_EFFECT: Final = 3.0  # seconds: a Nexus returns its tokens, or gives them up, in less

Listener = Callable[[int, bool], None]  # (number of the signal, whether a key on the terminal sent it)


class ReceivedSignals:
    """The signals so far: `first` is the number of the first one, `wakeup` a descriptor that it makes readable."""

    def __init__(self, taken: set[signal.Signals]) -> None:
        self.first = 0
        self.wakeup, self._wake = os.pipe()
        self._taken, self._lock = taken, threading.Lock()
        self._has_effect = threading.Event()
        self._listener: Listener = lambda _number, _is_key: None

    def listen(self, listener: Listener) -> int:
        """Call `listener` for each signal from now on; return the number of the first one before, or 0."""
        with self._lock:
            self._listener = listener
            return self.first

    def serve(self) -> None:
        """Take signals forever."""
        while True:
            number, is_key = self._next()
            with self._lock:
                listener = self._listener
                if not self.first:
                    self.first = number
                    os.write(self._wake, b"!")
            listener(number, is_key)
            self._has_effect.set()

    def exit_code(self) -> int:
        """Return the exit code of the first signal, once the listener has returned."""
        self._has_effect.wait(LONGEST_EFFECT)
        return SIGNALLED + self.first

    def _next(self) -> tuple[int, bool]:
        if hasattr(signal, "sigwaitinfo"):  # macOS lacks it, so there a key reaches a command twice
            info = signal.sigwaitinfo(self._taken)
            return info.si_signo, info.si_code == FROM_THE_KERNEL
        return int(signal.sigwait(self._taken)), False


def receive_signals(of: Iterable[signal.Signals] = ENDING) -> ReceivedSignals:
    """Take these signals until the process ends. Call it before any thread starts, as threads inherit the mask."""
    taken = {each for each in of if signal.getsignal(each) != signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    received = ReceivedSignals(taken)
    if taken:
        threading.Thread(target=received.serve, name="signals", daemon=True).start()
    return received


class Interruption:
    """SIGTERM and Ctrl-C, noted by a handler and looked at between calls, so that the budget is deleted before the end.

    An exception from a signal handler may come in a `__del__`, where Python drops it.
    """

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> Self:
        self._before = {each: signal.signal(each, self._note) for each in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.number = self.number or number

    def check(self) -> None:
        """End the verb if a signal has come."""
        if self.number:
            import typer  # here, since `run` does without it

            raise typer.Exit(SIGNALLED + self.number)

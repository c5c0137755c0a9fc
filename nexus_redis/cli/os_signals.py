"""Signals for verbs that wait and pass things on: taken one at a time by a thread, never in the middle of a statement.

An exception out of a signal handler may come between a read and the assignment of what was read, and swallow it. So
SIGINT, SIGTERM and SIGHUP (and others that a command may have a meaning for) are blocked in all threads, and one thread
takes them and says what happens: a Nexus that is closed there wakes whoever waits for tokens in the main thread. One
that was ignored from the start (nohup) stays so.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OF_A_COMMAND: Final = (*ENDING, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)  # what it may have a meaning for
FROM_THE_KERNEL: Final = 0x80  # SI_KERNEL on Linux: a key on the terminal, which its whole foreground group has got
LONGEST_EFFECT: Final = 3.0  # seconds: a Nexus hands back what it holds, or gives that up, in less


class Signals:
    """What has come: `first` is the first one's number, `wakeup` a descriptor that is readable from then on."""

    def __init__(self, taken: set[signal.Signals]) -> None:
        self.first = 0
        self.wakeup, self._wake = os.pipe()
        self._taken, self._lock = taken, threading.Lock()
        self._is_heard = threading.Event()
        self._hears: Callable[[int, bool], None] = lambda _number, _is_key: None

    def hear(self, of: Callable[[int, bool], None]) -> int:
        """Call `of(number, is_key)` for each from now on; the first one that came before, or 0."""
        with self._lock:
            self._hears = of
            return self.first

    def serve(self) -> None:
        """Take them, for ever."""
        while True:
            number, is_key = self._next()
            with self._lock:
                hears = self._hears
                if not self.first:
                    self.first = number
                    os.write(self._wake, b"!")
            hears(number, is_key)
            self._is_heard.set()

    def exit_code(self) -> int:
        """What to end with, once the first one has had its effect."""
        self._is_heard.wait(LONGEST_EFFECT)
        return 128 + self.first

    def _next(self) -> tuple[int, bool]:
        if hasattr(signal, "sigwaitinfo"):  # not on macOS, where a key is passed on once more
            came = signal.sigwaitinfo(self._taken)
            return came.si_signo, came.si_code == FROM_THE_KERNEL
        return int(signal.sigwait(self._taken)), False


def signals(of: Iterable[signal.Signals] = ENDING) -> Signals:
    """Take the signals that end a program, until it does; start no thread before."""
    taken = {each for each in of if signal.getsignal(each) != signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    found = Signals(taken)
    if taken:
        threading.Thread(target=found.serve, name="signals", daemon=True).start()
    return found

"""Run a command as a child that has the streams of this process and gets its signals."""

import os
import signal
import sys
import threading
from typing import Final

from nexus_redis._values.formatting import printable
from nexus_redis.cli.os_signals import Signals

CANNOT_RUN, NOT_FOUND = 126, 127  # as the shell has them
OURS: Final = [signal.SIGPIPE, *([signal.SIGXFSZ] if hasattr(signal, "SIGXFSZ") else [])]  # Python ignores them


def spawn(command: list[str], come: Signals) -> int:
    """Run the command to its end, and return its exit code as a shell would."""
    lock = threading.Lock()
    child = 0

    def forward(number: int, is_key: bool) -> None:
        # A key on the terminal has reached the command already; twice would mean something else to many.
        with lock:
            if child and not is_key:
                os.kill(child, number)

    with lock:
        early = come.hear(forward)
        try:
            child = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], setsigdef=OURS)
        except OSError as error:
            print(f"nexus-redis: {printable(command[0])}: {error.strerror}", file=sys.stderr)
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        if early:  # it came while there was nothing to pass it on to
            os.kill(child, early)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with lock:  # from here on the number may be another process'
        _, status = os.waitpid(child, 0)
        child = 0
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code

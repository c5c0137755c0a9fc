"""Run the command of `run` as a child process that has the streams of this process and gets its signals."""

import os
import signal
import threading
from typing import Final

from nexus_redis.cli import texts
from nexus_redis.cli.exit_codes import CANNOT_EXECUTE, NOT_FOUND, SIGNALLED
from nexus_redis.cli.os_signals import ReceivedSignals
from nexus_redis.cli.output import print_error

# Python ignores these two; the command gets their defaults.
IGNORED_BY_PYTHON: Final = [signal.SIGPIPE, *([signal.SIGXFSZ] if hasattr(signal, "SIGXFSZ") else [])]


def run_command(command: list[str], received: ReceivedSignals) -> int:
    """Run the command to its end, and return its exit code as a shell would."""
    lock = threading.Lock()
    child = 0

    def forward(number: int, is_key: bool) -> None:
        # A key on the terminal has reached the command already, and many commands treat a second one differently.
        with lock:
            if child and not is_key:
                os.kill(child, number)

    with lock:
        early = received.listen(forward)
        try:
            child = os.posix_spawnp(command[0], command, os.environ, setsigmask=[], setsigdef=IGNORED_BY_PYTHON)
        except OSError as error:
            print_error(texts.command_failed(command[0], error.strerror or ""))
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_EXECUTE
        if early:  # it came before there was a child to forward it to
            os.kill(child, early)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with lock:  # after waitpid, the number may belong to another process
        _, status = os.waitpid(child, 0)
        child = 0
    code = os.waitstatus_to_exitcode(status)
    return SIGNALLED - code if code < 0 else code

"""Measure the processor time of a verb of the command line: `python -m benchmarks.start [TIMES]`.

It is the user and system time of the command and of the processes that it starts: the least and the median of TIMES
runs, beside a Python that does nothing. The Redis is a private one. The tests check what a verb imports
(`tests/cli/test_verbs.py`), and this benchmark shows how much time that takes on a machine.
"""

from __future__ import annotations

import os
import statistics
import sys

from nexus_redis._redis.embedded import acquire

TIMES = 15
VERBS = (
    "signal stripe --rate 5",
    "run stripe -- true",
    "run stripe --key cust-42 -- true",
    "pace stripe",
    "status stripe",
    "set stripe --rate 1M/s",
    "report stripe --load 5 --capacity 1M",
    "--help",
)


def cpu_of(words: tuple[str, ...], environment: dict[str, str]) -> float:
    """Return the seconds of one run, with its children."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    streams = [(os.POSIX_SPAWN_DUP2, nowhere, stream) for stream in (0, 1, 2)]
    child = os.posix_spawn(sys.executable, (sys.executable, *words), environment, file_actions=streams)
    os.close(nowhere)
    _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print a line for each verb."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else TIMES
    server = acquire("embedded://")
    try:
        environment = {**os.environ, "NEXUS_REDIS_URL": server.start().url}
        cpu_of(("-m", "nexus_redis", "set", "stripe", "--rate", "1000000"), environment)
        print(f"{'':34}  {'least':>7}  {'median':>7}")
        for words in (("-c", "pass"), *(("-m", "nexus_redis", *verb.split()) for verb in VERBS)):
            took = [cpu_of(words, environment) for _ in range(times)]
            name = "python -c pass" if words[0] == "-c" else " ".join(words[2:])
            print(f"{name:34}  {min(took):5.3f} s  {statistics.median(took):5.3f} s")
    finally:
        server.stop()


if __name__ == "__main__":
    main()

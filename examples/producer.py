"""A producer: it sends as many records as the budget of the fleet allows. Start several, and they share the budget.

    python examples/producer.py --to 127.0.0.1:9000

Without the coordinator, each producer would have to guess a rate.
"""

import argparse
import os
import signal
import socket
import sys
import time

from nexus_redis import Nexus


def ship(to: str, seconds: float) -> int:
    """Send for so many seconds, and return the number of records sent."""
    host, port = to.rsplit(":", 1)
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL")) as nexus:
        budget = nexus.budget("indexer")
        ends = time.monotonic() + seconds
        downstream = _connected(host, int(port))
        sent = 0
        while time.monotonic() < ends:
            budget.acquire()
            try:
                downstream.sendall(f"record {sent}\n".encode())
                sent += 1
            except OSError:  # the consumer is away: wait until it is back, then go on
                downstream.close()
                downstream = _connected(host, int(port))
        return sent


def _connected(host: str, port: int, patience: float = 3600.0) -> socket.socket:
    gives_up = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError:
            if time.monotonic() > gives_up:
                raise
            time.sleep(0.2)


def at_stop(*_: object) -> None:
    """Exit at SIGTERM (`docker stop` sends it) through the ends of the with-blocks, which return the unused tokens."""
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, at_stop)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default=os.environ.get("DOWNSTREAM", "127.0.0.1:9000"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    print(f"sent {ship(arguments.to, arguments.seconds)}")

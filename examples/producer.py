"""A producer: sends as many records as the fleet's budget lets it. Start several; they share.

    python examples/producer.py --to 127.0.0.1:9000

Without the coordinator it would have to guess a rate, and so would every other one.
"""

import argparse
import itertools
import os
import socket
import time

from nexus_redis import Nexus


def ship(to: str, seconds: float) -> int:
    """Send for so long; how many records went."""
    host, port = to.rsplit(":", 1)
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL")) as nexus, _connected(host, int(port)) as downstream:
        budget = nexus.budget("indexer")
        ends = time.monotonic() + seconds
        sent = 0
        for record in itertools.count():
            if time.monotonic() > ends:
                break
            budget.acquire()
            downstream.sendall(f"record {record}\n".encode())
            sent += 1
        return sent


def _connected(host: str, port: int, patience: float = 30.0) -> socket.socket:
    gives_up = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError:
            if time.monotonic() > gives_up:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default=os.environ.get("DOWNSTREAM", "127.0.0.1:9000"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    print(f"sent {ship(arguments.to, arguments.seconds)}")

"""Who gets how much of 200/s: weights divide what is short, a class goes before those below it.

python examples/weights.py                          # NEXUS_REDIS_URL, else a server of its own

    checkout   priority high, wants 20/s     gets what it wants, before all others
    web        weight 2, wants all it can    gets two thirds of the rest: some 110/s
    mobile     weight 1, likewise            gets one third: some 55/s
    nightly    priority low, likewise        gets what nobody above it wants; here the 5 % that a class always keeps

Shares are weighted max-min: what one does not want is divided among the others, so asking for more than one needs
gains nothing. Each is a thread here; on other hosts it would be the same.
"""

import argparse
import os
import threading
import time

from nexus_redis import Budget, Nexus, Producer

RATE = 200


def loop(producer: Producer, seconds: float, pause: float, done: dict[str, int], name: str) -> None:
    """Send as fast as it may; `pause` seconds between two make a modest one."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        producer.acquire()
        done[name] += 1
        if pause:
            time.sleep(pause)


def fleet(budget: Budget) -> dict[str, tuple[Producer, float]]:
    """Four producers, and how long each rests between two records."""
    return {
        "checkout": (budget.producer(priority="high"), 1 / 20),
        "web": (budget.producer(weight=2), 0),
        "mobile": (budget.producer(weight=1), 0),
        "nightly": (budget.producer(priority="low"), 0),
    }


def main(seconds: float) -> None:
    """Let them compete, and count."""
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        producers = fleet(nexus.budget("search", rate=RATE))
        done = dict.fromkeys(producers, 0)
        threads = [
            threading.Thread(target=loop, args=(producer, seconds, pause, done, name))
            for name, (producer, pause) in producers.items()
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        for name, count in done.items():
            print(f"{name:10} {count / took:6.1f}/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    main(parser.parse_args().seconds)

"""The shares of four producers in 200/s: a higher class is served first, and weights divide the rest.

python examples/weights.py                          # uses NEXUS_REDIS_URL, else a server of its own

    checkout   priority high, wants 20/s       gets its 20/s, before all others
    web        weight 2, wants all it can get  gets two thirds of the rest: some 110/s
    mobile     weight 1, wants all it can get  gets one third of the rest: some 55/s
    nightly    priority low, wants all         gets what higher classes leave, here the 5 % that each class keeps

Shares are weighted max-min: the tokens that one producer does not want are divided among the others, so a producer
gains nothing by asking for more than it needs. Each producer is a thread here; on other hosts it would be the same.
"""

import argparse
import os
import threading
import time

from nexus_redis import Budget, Nexus, Producer

RATE = 200


def loop(producer: Producer, seconds: float, pause: float, done: dict[str, int], name: str) -> None:
    """Send as fast as the budget allows, with `pause` seconds between two records."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        producer.acquire()
        done[name] += 1
        if pause:
            time.sleep(pause)


def fleet(budget: Budget) -> dict[str, tuple[Producer, float]]:
    """Return four producers, each with its pause between two records."""
    return {
        "checkout": (budget.producer(priority="high"), 1 / 20),
        "web": (budget.producer(weight=2), 0),
        "mobile": (budget.producer(weight=1), 0),
        "nightly": (budget.producer(priority="low"), 0),
    }


def main(seconds: float) -> None:
    """Let the producers compete, and print the rate of each."""
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

"""A limit that nobody has to guess: two consumers report their load, and the producer's rate follows them.

python examples/adaptive.py                         # uses NEXUS_REDIS_URL, else a server of its own

Both consumers take records from one queue, at 200 records a second each. After half of the time they get four times
slower. No rate is written anywhere: it follows from the consumers' reports (how full the queue is, how much gets done).
"""

import argparse
import os
import queue
import threading
import time

from nexus_redis import Budget, Nexus

FAST, SLOW = 200, 50  # records per second of one consumer
CONSUMERS = 2
BATCH = 10
intake: "queue.Queue[int]" = queue.Queue(maxsize=500)


def consume(budget: Budget, seconds: float) -> None:
    """Take batches from the queue. The consumer sends a report each quarter of a second by itself."""
    began = time.monotonic()
    with budget.consumer() as consumer:
        # A consumer with its own queue says `consumer.watch(intake)`. These share one, and each reports its part of it.
        consumer.watch(depth=lambda: intake.qsize() / CONSUMERS, limit=intake.maxsize / CONSUMERS)
        while (elapsed := time.monotonic() - began) < seconds:
            batch = _batch()
            if batch:
                with consumer.work(len(batch)):
                    time.sleep(len(batch) / (SLOW if elapsed > seconds / 2 else FAST))


def _batch() -> list[int]:
    batch: list[int] = []
    try:
        batch.append(intake.get(timeout=0.1))
        while len(batch) < BATCH:
            batch.append(intake.get_nowait())
    except queue.Empty:
        pass
    return batch


def main(seconds: float) -> None:
    """Produce as fast as the budget allows, and print the rate each second."""
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        index = nexus.budget("index")
        threads = [threading.Thread(target=consume, args=(index, seconds)) for _ in range(CONSUMERS)]
        for thread in threads:
            thread.start()
        began, shown, sent, dropped = time.monotonic(), 0, 0, 0
        while (elapsed := time.monotonic() - began) < seconds - 1:
            index.acquire()
            try:
                intake.put_nowait(sent)
                sent += 1
            except queue.Full:
                dropped += 1
            if index.flow and elapsed >= shown:
                shown += 1
                print(f"{elapsed:4.1f} s  {index.flow.budget_rate:6.1f}/s, {intake.qsize():3} wait", flush=True)
        for thread in threads:
            thread.join()
        print(f"sent {sent}, dropped {dropped}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    main(parser.parse_args().seconds)

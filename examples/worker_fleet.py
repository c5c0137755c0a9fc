"""Three worker processes, each with a queue to which work is pushed in turn: one is killed, and the rate follows.

python examples/worker_fleet.py                     # uses NEXUS_REDIS_URL, else a server of its own

Each worker reports its own queue and how much work it does. `combine="spread"` says that work is pushed to the workers:
the fullest worker decides, because the sender cannot choose which worker takes the work. A killed worker reports no
more, and two seconds later its rate is taken out of the budget. The work in its queue is lost. Keep work that must not
be lost in a broker, as examples/stream_pipeline.py does.
"""

import argparse
import multiprocessing
import multiprocessing.queues
import os
import queue
import time
from typing import Any

from nexus_redis import Nexus

SPEED = 100  # records per second of one worker
BATCH = 10
FLEET = multiprocessing.get_context("spawn")


def work(url: str, name: str, records: "multiprocessing.queues.Queue[int]") -> None:
    """Run one worker: it takes batches and works on them, and its consumer counts."""
    with Nexus.from_url(url) as nexus, nexus.budget("workers").consumer(name, capacity=SPEED) as consumer:
        consumer.watch(records)
        while (batch := _batch(records)) is not None:
            with consumer.work(len(batch)):
                time.sleep(len(batch) / SPEED)


def _batch(records: Any) -> list[int] | None:
    """Return up to BATCH records that are there, or None at the end."""
    batch = [records.get()]
    while len(batch) < BATCH and batch[-1] is not None:
        try:
            batch.append(records.get_nowait())
        except queue.Empty:
            break
    return None if None in batch else batch


def produce(nexus: Nexus, queues: "dict[str, Any]", alive: Any, seconds: float) -> tuple[float, int, int]:
    """Push to the live workers in turn. Return the budget's rate at the end, and the records sent and dropped."""
    budget = nexus.budget("workers")
    ends, sent, dropped = time.monotonic() + seconds, 0, 0
    while time.monotonic() < ends:
        for name, records in queues.items():
            if alive(name):
                budget.acquire()
                try:
                    records.put_nowait(sent)
                    sent += 1
                except queue.Full:
                    dropped += 1
    return budget.snapshot().rate, sent, dropped


def main(seconds: float, workers: int = 3) -> None:
    """Run half of the time with all workers, and the other half without the first one."""
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        nexus.budget("workers", combine="spread")
        queues = {f"w{i}": FLEET.Queue(maxsize=100) for i in range(workers)}
        fleet = {name: FLEET.Process(target=work, args=(nexus.url, name, queues[name])) for name in queues}
        for process in fleet.values():
            process.start()
        while len(nexus.budget("workers").snapshot().consumers) < workers:
            time.sleep(0.1)
        for what in ("all at work", "one killed"):
            rate, sent, dropped = produce(nexus, queues, lambda name: fleet[name].is_alive(), seconds / 2)
            live = [each.id for each in nexus.budget("workers").snapshot().consumers if each.is_live]
            print(f"{what}: {rate:.1f}/s for {', '.join(sorted(live))}; sent {sent}, dropped {dropped}", flush=True)
            if what == "all at work":
                fleet["w0"].kill()
                fleet["w0"].join()
                queues["w0"].cancel_join_thread()  # it has no reader any more
        for name, process in fleet.items():
            if process.is_alive():
                queues[name].put(None)
                process.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    main(parser.parse_args().seconds)

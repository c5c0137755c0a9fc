"""The downstream: an indexer service that takes records from producers and passes them to its workers.

There is a thread for each producer, which reads, and one for each worker, which serves it; the intake queue is between
them. This code does not know whether the run is coordinated: it tells the reporter about the work in either case.
"""

import threading
import time
from array import array
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

from nexus_redis.demo.intake import Intake
from nexus_redis.demo.measure import capacity, overlap, peak_memory, percentile
from nexus_redis.demo.pace import Coordination, Reporter, reporter
from nexus_redis.demo.wire import Parent, listen, receive, send

BATCH_SECONDS = 0.05  # of a worker's time: much shorter than the queue, much longer than a commit
BATCH_FIRST = 8  # before a worker's speed is known
BATCH_MOST = 500
SAMPLE_SECONDS = 0.2


class WorkerLink:
    """A thread's work for one worker: send it a batch, and wait until that is indexed."""

    def __init__(self, connection: Connection) -> None:
        self.indexed = 0
        self.is_slow = False
        self.by_producer: Counter[int] = Counter()
        self.latencies = array("d")
        self.idle: list[tuple[float, float]] = []
        self.acknowledged: list[tuple[float, int]] = []
        self._connection = connection

    def serve(self, intake: Intake, report: Reporter) -> None:
        size = BATCH_FIRST
        while (taken := intake.take(size)).records:
            self.idle.append((taken.idle_from, taken.idle_until))
            count = len(taken.records)
            with report.work(count):
                send(self._connection, [line for _, _, line in taken.records])
                indexed_at, seconds, self.is_slow = receive(self._connection)
            size = max(1, min(BATCH_MOST, 2 * size, round(BATCH_SECONDS * count / seconds)))
            self.indexed += count
            self.acknowledged.append((indexed_at, count))
            self.latencies.extend([indexed_at - read_at for _, read_at, _ in taken.records])
            self.by_producer.update(producer for producer, _, _ in taken.records)
        self.idle.append((taken.idle_from, taken.idle_until))
        self._connection.close()


def take_in(connection: Connection, producer: int, intake: Intake) -> None:
    while True:
        try:
            records = receive(connection)
        except EOFError:
            return
        intake.offer([(producer, read_at, line) for read_at, line in records])


def admit(producers: int, workers: int) -> tuple[dict[int, Connection], dict[int, Connection]]:
    """Return the connections of all producers and workers, when all have connected."""
    arrived: dict[str, dict[int, Connection]] = {"producer": {}, "worker": {}}
    with listen() as listener:
        for _ in range(producers + workers):
            connection = listener.accept()
            role, number = receive(connection)
            arrived[role][number] = connection
    return arrived["producer"], arrived["worker"]


def show(parent: Parent, intake: Intake, links: list[WorkerLink], is_over: threading.Event) -> None:
    has_shown_all = False
    while not has_shown_all:
        has_shown_all = is_over.wait(SAMPLE_SECONDS)
        parent.tell(
            "sample",
            received=intake.received,
            lost=intake.lost,
            depth=intake.depth(),
            indexed=[link.indexed for link in links],
            slow=[link.is_slow for link in links],
        )


def figures(
    settings: dict[str, Any], starts_at: float, ended_at: float, intake: Intake, links: list[WorkerLink]
) -> dict[str, Any]:
    counted_from, counted_to = starts_at + settings["warm_up"], starts_at + settings["seconds"]
    span = counted_to - counted_from
    latencies = [latency for link in links for latency in link.latencies]
    idle = [overlap(link.idle, counted_from, counted_to) for link in links]
    done = [sum(n for at, n in link.acknowledged if counted_from <= at < counted_to) for link in links]
    by_producer = sum((link.by_producer for link in links), Counter[int]())
    return {
        "received": intake.received,
        "lost": intake.lost,
        "queue_peak": intake.peak,
        "rate": sum(done) / span,
        "capacity": capacity(done, [span - each for each in idle]),
        "busy": 1 - sum(idle) / (span * len(links)),
        "latency_p50": percentile(latencies, 50),
        "latency_p99": percentile(latencies, 99),
        "by_producer": [by_producer[number] for number in range(settings["producers"])],
        "drained_after": ended_at - counted_to,
        "memory": peak_memory(),
    }


def main() -> None:
    parent = Parent()
    settings = parent.settings
    intake = Intake(settings["queue_limit"], is_patient=settings["is_patient"])
    producers, workers = admit(settings["producers"], settings["workers"])
    links = [WorkerLink(workers[number]) for number in sorted(workers)]
    coordination = Coordination.from_settings(settings["coordination"])
    is_over = threading.Event()
    with reporter(coordination, depth=intake.depth, limit=intake.limit) as report:
        readers = [threading.Thread(target=take_in, args=(c, number, intake)) for number, c in producers.items()]
        servers = [threading.Thread(target=link.serve, args=(intake, report)) for link in links]
        starts_at = parent.wait_for_start()
        for thread in [*readers, *servers]:
            thread.start()
        display = threading.Thread(target=show, args=(parent, intake, links, is_over))
        display.start()
        if intake.is_patient:  # a calibration is over; the data in the sockets would take seconds to drain
            time.sleep(max(0.0, starts_at + settings["seconds"] - time.monotonic()))
            parent.tell("result", **figures(settings, starts_at, time.monotonic(), intake, links))
        for thread in readers:
            thread.join()
        intake.close()
        for thread in servers:
            thread.join()
        is_over.set()
        display.join()
    if not intake.is_patient:
        parent.tell("result", **figures(settings, starts_at, time.monotonic(), intake, links))


if __name__ == "__main__":
    main()

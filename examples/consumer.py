"""A consumer: it puts lines from a socket into a bounded queue, works on them, and reports its load.

    python examples/consumer.py --listen 127.0.0.1:9000         # then start examples/producer.py, once or more often

In every 20 seconds it is slow for the last ten. Watch the producers follow with `nexus-redis status indexer`.
"""

import argparse
import os
import queue
import signal
import socketserver
import sys
import threading
import time

from nexus_redis import Nexus

FAST, SLOW = 1000, 300  # records per second
BATCH = 20


class Records(socketserver.StreamRequestHandler):
    """The connection of one producer. A full queue drops records, as a log shipper does."""

    def handle(self) -> None:
        for line in self.rfile:
            try:
                self.server.records.put_nowait(line)  # type: ignore[attr-defined]  # set in serve()
            except queue.Full:
                self.server.dropped += 1  # type: ignore[attr-defined]  # likewise


def serve(listen: str, seconds: float) -> tuple[int, int]:
    """Run for so many seconds, and return the numbers of records done and dropped."""
    host, port = listen.rsplit(":", 1)
    records: queue.Queue[bytes] = queue.Queue(maxsize=1000)
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    with (
        Nexus.from_url(os.environ.get("NEXUS_REDIS_URL")) as nexus,
        socketserver.ThreadingTCPServer((host, int(port)), Records) as server,
        nexus.budget("indexer").consumer() as consumer,
    ):
        server.records, server.dropped = records, 0  # type: ignore[attr-defined]  # the handlers share these
        consumer.watch(records)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done, began = 0, time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            batch = _batch(records)
            with consumer.work(len(batch)):
                time.sleep(len(batch) / (SLOW if elapsed % 20 > 10 else FAST))
            done += len(batch)
        server.shutdown()
        return done, server.dropped  # type: ignore[attr-defined]  # likewise


def _batch(records: "queue.Queue[bytes]") -> list[bytes]:
    batch: list[bytes] = []
    try:
        batch.append(records.get(timeout=0.1))
        while len(batch) < BATCH:
            batch.append(records.get_nowait())
    except queue.Empty:
        pass
    return batch


def at_stop(*_: object) -> None:
    """Exit at SIGTERM (`docker stop` sends it) through the ends of the with-blocks, which withdraw this consumer."""
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, at_stop)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default=os.environ.get("LISTEN", "127.0.0.1:9000"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    print("done {}, dropped {}".format(*serve(arguments.listen, arguments.seconds)))

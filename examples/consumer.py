"""A consumer: lines from a socket into a bounded queue, worked off as fast as it can; it says how it fares, no more.

    python examples/consumer.py --listen 127.0.0.1:9000         # then examples/producer.py, as often as you like

Every ten seconds it gets slow for ten: watch the producers follow (`nexus-redis status indexer`).
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
    """One producer's connection; a full queue drops, as a log shipper does."""

    def handle(self) -> None:
        for line in self.rfile:
            try:
                self.server.records.put_nowait(line)  # type: ignore[attr-defined]  # ours, see serve()
            except queue.Full:
                self.server.dropped += 1  # type: ignore[attr-defined]  # likewise


def serve(listen: str, seconds: float) -> tuple[int, int]:
    """Run so long; records done and dropped."""
    host, port = listen.rsplit(":", 1)
    records: queue.Queue[bytes] = queue.Queue(maxsize=1000)
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    socketserver.ThreadingTCPServer.daemon_threads = True
    with (
        Nexus.from_url(os.environ.get("NEXUS_REDIS_URL")) as nexus,
        socketserver.ThreadingTCPServer((host, int(port)), Records) as server,
        nexus.budget("indexer").consumer() as consumer,
    ):
        server.records, server.dropped = records, 0  # type: ignore[attr-defined]  # what the handlers share
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
    """SIGTERM, as `docker stop` sends it: leave by the ends of the with-blocks, which withdraw this consumer."""
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, at_stop)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default=os.environ.get("LISTEN", "127.0.0.1:9000"))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    print("done {}, dropped {}".format(*serve(arguments.listen, arguments.seconds)))

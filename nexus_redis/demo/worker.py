"""One worker process. It takes a batch from the service, indexes it, and confirms it."""

import time

from nexus_redis.demo.index import REPLICAS, REPLICAS_WHEN_SLOW, LineIndex
from nexus_redis.demo.measure import peak_memory
from nexus_redis.demo.wire import Parent, connect, receive, send


def main() -> None:
    parent = Parent()
    number = parent.settings["number"]
    slow_from, slow_until = parent.settings["slow"] or (0.0, 0.0)  # seconds of the run
    index = LineIndex(f"index-{number}.db")
    connection = connect("worker", number)
    starts_at = parent.wait_for_start()
    while True:
        try:
            lines = receive(connection)
        except EOFError:
            break
        begun_at = time.monotonic()
        is_slow = slow_from <= begun_at - starts_at < slow_until
        index.add(lines, replicas=REPLICAS_WHEN_SLOW if is_slow else REPLICAS)
        indexed_at = time.monotonic()
        send(connection, [indexed_at, indexed_at - begun_at, is_slow])
    parent.tell("result", indexed=index.count(), memory=peak_memory())
    index.close()


if __name__ == "__main__":
    main()

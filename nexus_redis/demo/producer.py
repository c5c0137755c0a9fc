"""One producer process: reads lines, keeps its own pace, asks the shared one, sends.

Its own pace is what it would like to send: all of them together three times what the workers can take.
"""

import time
from itertools import islice
from pathlib import Path

from nexus_redis.demo.lines import endless_lines
from nexus_redis.demo.pace import Meeting, pacer
from nexus_redis.demo.wire import Parent, connect, send

LOT_SECONDS = 0.02  # a sender that wakes up more often works for the scheduler
LOT_MOST = 20


def main() -> None:
    parent = Parent()
    settings = parent.settings
    number, parts, rate = settings["number"], settings["producers"], settings["rate"]
    lines = endless_lines([Path(name) for name in settings["files"]], number, parts)
    lot = LOT_MOST if rate is None else max(1, min(LOT_MOST, round(rate * LOT_SECONDS)))
    period = 0.0 if rate is None else lot / rate
    connection = connect("producer", number)
    sent = 0
    with pacer(Meeting.from_settings(settings["meeting"])) as pace:
        starts_at = parent.wait_for_start()
        ends_at = starts_at + settings["seconds"]
        due = starts_at + period * number / parts  # not all in step
        while (now := time.monotonic()) < ends_at:
            if now < due:
                time.sleep(min(due, ends_at) - now)
                continue
            records = [(time.monotonic(), line) for line in islice(lines, lot)]
            if not pace.acquire(lot, timeout=max(0.001, ends_at - time.monotonic())):
                break  # the run is over; these lines stay where they are, in the file
            send(connection, records)
            sent += lot
            due = max(due + period, time.monotonic() - period)  # late: go on from here, not faster
    connection.close()
    parent.tell("result", sent=sent)


if __name__ == "__main__":
    main()

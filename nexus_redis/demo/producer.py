"""One producer process. It reads lines, keeps its own pace, asks for the shared one, and sends.

Its own pace is the rate at which it would like to send. All producers together would like to send three times what the
workers can take.
"""

import time
from itertools import islice
from pathlib import Path

from nexus_redis.demo.lines import endless_lines
from nexus_redis.demo.pace import Coordination, pacer
from nexus_redis.demo.wire import Parent, connect, send

LOT_SECONDS = 0.02  # seconds of lines at once; a sender that wakes up more often mostly costs scheduling
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
    with pacer(Coordination.from_settings(settings["coordination"])) as pace:
        starts_at = parent.wait_for_start()
        ends_at = starts_at + settings["seconds"]
        due = starts_at + period * number / parts  # so that the producers do not send in step
        while (now := time.monotonic()) < ends_at:
            if now < due:
                time.sleep(min(due, ends_at) - now)
                continue
            records = [(time.monotonic(), line) for line in islice(lines, lot)]
            if not pace.acquire(lot, timeout=max(0.001, ends_at - time.monotonic())):
                break  # the run is over, and these lines are not sent
            send(connection, records)
            sent += lot
            due = max(due + period, time.monotonic() - period)  # if late, go on from here, but not faster
    connection.close()
    parent.tell("result", sent=sent)


if __name__ == "__main__":
    main()

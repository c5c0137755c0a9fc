"""An API that takes 50 requests a second from all its clients: four processes share that, and none gets a 429.

python examples/fixed_limit.py                      # uses NEXUS_REDIS_URL, else a server of its own

The API is a local fake that counts. Like most APIs, it admits a burst of one second's requests. A budget grants at most
its rate times (the window + 0.75 s), however many processes ask: its bucket holds 0.25 s of the rate, and tokens of a
lease may be spent up to 0.5 s late.
"""

import argparse
import http.client
import multiprocessing
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nexus_redis import Nexus

RATE = 50  # requests per second
told = {200: 0, 429: 0}


class Api(BaseHTTPRequestHandler):
    """An API that answers 429 when its bucket is empty."""

    lock, room, at = threading.Lock(), float(RATE), time.monotonic()

    def do_GET(self) -> None:
        cls = type(self)
        with cls.lock:
            now = time.monotonic()
            cls.room, cls.at = min(RATE, cls.room + RATE * (now - cls.at)), now
            status = 200 if cls.room >= 1 else 429
            cls.room -= status == 200
            told[status] += 1
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def work(url: str, port: int, seconds: float) -> None:
    """Run one process of the fleet. It knows the name of the limit, and nothing about the other processes."""
    with Nexus.from_url(url) as nexus:
        api = nexus.budget("api", rate=f"{RATE}/s")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            api.acquire()
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/")
            connection.getresponse()
            connection.close()


def main(seconds: float, processes: int = 4) -> None:
    """Run the fleet, and print how many answers of each status it got."""
    with Nexus.from_url(os.environ.get("NEXUS_REDIS_URL", "embedded://")) as nexus:
        api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        threading.Thread(target=api.serve_forever, daemon=True).start()
        fleet = multiprocessing.get_context("spawn")
        workers = [fleet.Process(target=work, args=(nexus.url, api.server_port, seconds)) for _ in range(processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(f"{told[200]} answers, {told[429]} x 429")
        api.server_close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    main(parser.parse_args().seconds)

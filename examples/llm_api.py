"""An LLM API that limits requests and tokens per minute: twenty processes use the whole limit, and none gets a 429.

python examples/llm_api.py                          # uses NEXUS_REDIS_URL, else a server of its own

The API is a local fake. The number of tokens of an answer is known only afterwards: reserve an estimate first, and
settle the true number then.
"""

import argparse
import http.client
import multiprocessing
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from nexus_redis import Nexus

REQUESTS, TOKENS = 3_000, 600_000  # per minute
ESTIMATE = 300  # tokens of a call: those of its prompt, and the `max_tokens` that it asks for
BURST = 2  # seconds of the limits that the fake admits at once: far less than a minute


room = {"requests": REQUESTS / 60 * BURST, "tokens": TOKENS / 60 * BURST}
told = {200: 0, 429: 0}


class Api(BaseHTTPRequestHandler):
    """An API that takes a while to answer, and answers 429 where one of the limits is exceeded."""

    lock, at = threading.Lock(), time.monotonic()

    def do_POST(self) -> None:
        used = random.randint(50, 400)
        status = self.admit(used)
        time.sleep(random.uniform(0.05, 0.3))
        self.send_response(status)
        self.send_header("x-tokens-used", str(used))
        self.end_headers()

    @classmethod
    def admit(cls, used: int) -> int:
        """Return the status: 200 if both buckets have room for the call."""
        with cls.lock:
            now = time.monotonic()
            for name, limit in (("requests", REQUESTS), ("tokens", TOKENS)):
                room[name] = min(limit / 60 * BURST, room[name] + limit / 60 * (now - cls.at))
            cls.at = now
            status = 200 if room["requests"] >= 1 and room["tokens"] >= used else 429
            if status == 200:
                room["requests"] -= 1
                room["tokens"] -= used
            told[status] += 1
            return status

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def work(url: str, port: int, seconds: float) -> None:
    """Run one process of the fleet."""
    with Nexus.from_url(url) as nexus:
        requests = nexus.budget("llm.requests", rate=f"{REQUESTS}/min")
        tokens = nexus.budget("llm.tokens", rate=f"{TOKENS}/min")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            requests.acquire()
            with tokens.reserve(ESTIMATE) as reservation:
                api = http.client.HTTPConnection("127.0.0.1", port)
                api.request("POST", "/v1/chat")
                answer = api.getresponse()
                reservation.settle(int(answer.headers["x-tokens-used"]))
                api.close()


def main(seconds: float, processes: int = 20) -> None:
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

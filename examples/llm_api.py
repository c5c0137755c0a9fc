"""Twenty processes, one LLM API that limits requests and tokens per minute: all of it is used, and not one 429.

python examples/llm_api.py                          # NEXUS_REDIS_URL, else a server of its own

The API is a local fake. How many tokens an answer takes is known only afterwards: reserve an estimate, settle the
truth.
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
ESTIMATE = 300  # tokens of a call; its prompt and the `max_tokens` that it asks for
BURST = 2  # seconds: the fake lets no more than this go at once, far less than a minute's worth


room = {"requests": REQUESTS / 60 * BURST, "tokens": TOKENS / 60 * BURST}
told = {200: 0, 429: 0}


class Api(BaseHTTPRequestHandler):
    """Answers in a while; 429 where either limit is passed."""

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
        """The status, by two buckets."""
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
        """Nothing."""


def work(url: str, port: int, seconds: float) -> None:
    """One process of the fleet."""
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
    """Run the fleet and say what the API told it."""
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

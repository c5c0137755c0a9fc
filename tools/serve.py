"""`make serve`: a server with its page, and a fleet that gives it something to show, on a Redis of their own.

    embedded Redis <-- server :8080 <-- two callers over HTTP, of `stripe`
                   <-- consumer <-- three producers, of `indexer`

Ctrl-C ends them all, those that ask before those that answer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from nexus_redis import Nexus

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENCE = 30.0  # seconds for a process that was told to end


@contextmanager
def running(url: str, *command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program until the block ends. Ctrl-C reaches only this process, which ends the others in order."""
    environment = {**os.environ, "NEXUS_REDIS_URL": url}
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, text=True, start_new_session=True, **options
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def send(address: str, method: str, fields: dict[str, Any]) -> None:
    """Send fields as JSON."""
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(address, json.dumps(fields).encode(), headers, method=method)).close()  # noqa: S310  # our own server


def call(server: str, who: str, stop: threading.Event) -> None:
    """Take tokens over HTTP until the end."""
    while not stop.is_set():
        try:
            send(f"{server}/v1/acquire", "POST", {"budget": "stripe", "producer_id": who, "timeout_ms": 1000})
        except urllib.error.HTTPError as problem:
            stop.wait(float(problem.headers.get("Retry-After") or 1))
        except OSError:  # the server is away
            stop.wait(1)


def main() -> None:
    """Run everything until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--downstream", default="127.0.0.1:9000")
    given = parser.parse_args()
    ended, stop = threading.Event(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with ExitStack() as stack:
        nexus = stack.enter_context(Nexus.from_url("embedded://"))
        assert nexus.url is not None
        server = stack.enter_context(
            running(nexus.url, "-m", "nexus_redis", "serve", "--port", str(given.port), stdout=subprocess.PIPE)
        )
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:  # it has said why
            sys.exit(server.wait(PATIENCE))
        print(line, end="", flush=True)
        address = next(word for word in line.split() if word.startswith("http"))
        send(f"{address}/v1/budgets/stripe", "PUT", {"settings": {"rate": "20/s"}, "reason": "a demo"})
        stack.enter_context(
            running(nexus.url, str(EXAMPLES / "consumer.py"), "--listen", given.downstream, stdout=subprocess.DEVNULL)
        )
        for _ in range(3):
            producer = [str(EXAMPLES / "producer.py"), "--to", given.downstream]
            stack.enter_context(running(nexus.url, *producer, stdout=subprocess.DEVNULL))
        stack.callback(stop.set)
        for who in ("shop", "backup"):
            threading.Thread(target=call, args=(address, who, stop), daemon=True).start()
        while not ended.wait(0.5):
            if server.poll() is not None:
                sys.exit(server.returncode)
    print("All processes have ended, and their tokens are back.")


if __name__ == "__main__":
    main()

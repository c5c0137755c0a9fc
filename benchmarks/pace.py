"""Four shells that pipe through one budget: is the sum the limit? `python -m benchmarks.pace [SECONDS]`.

The figures on `pace` in the docs were measured with it. It starts a server of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time

from nexus_redis._redis.embedded import acquire

SHELLS, SETTLING = 4, 3.0
PACE = (sys.executable, "-m", "nexus_redis", "pace", "shared")


def measured(url: str, rate: float, unit: str, seconds: float) -> list[float]:
    """Return what each shell passes per second, once it runs."""
    environment = {**os.environ, "NEXUS_REDIS_URL": url}
    set_rate = (sys.executable, "-m", "nexus_redis", "set", "shared", "--rate", str(rate))
    subprocess.run(set_rate, env=environment, check=True, stdout=subprocess.DEVNULL)
    passed = [0] * SHELLS
    with tempfile.NamedTemporaryFile() as source:
        source.write(os.urandom(1 << 20) * 16 if unit == "bytes" else b"1234567\n" * 1_000_000)
        source.flush()
        feeds = [
            subprocess.Popen(("sh", "-c", f"while cat {source.name}; do :; done"), stdout=subprocess.PIPE)
            for _ in range(SHELLS)
        ]
        shells = [
            subprocess.Popen((*PACE, "--cost", unit), stdin=feed.stdout, stdout=subprocess.PIPE, env=environment)
            for feed in feeds
        ]

        def read(number: int) -> None:
            out = shells[number].stdout
            assert out
            while part := os.read(out.fileno(), 1 << 20):
                passed[number] += len(part) if unit == "bytes" else part.count(b"\n")

        for number, feed in enumerate(feeds):
            assert feed.stdout
            feed.stdout.close()
            threading.Thread(target=read, args=(number,), daemon=True).start()
        time.sleep(SETTLING)
        before, since = list(passed), time.monotonic()
        time.sleep(seconds)
        rates = [(now - then) / (time.monotonic() - since) for now, then in zip(passed, before, strict=True)]
        for process in (*shells, *feeds):
            process.terminate()
            process.wait()
    return rates


def main() -> None:
    """Print both measurements of the docs."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    server = acquire("embedded://").start()
    for rate, unit in ((2_000, "lines"), (100_000_000, "bytes")):
        rates = measured(server.url, rate, unit, seconds)
        print(f"{unit}: {sum(rates):,.0f}/s of {rate:,}/s over {seconds:g} s; each {[round(each) for each in rates]}")
    server.stop()


if __name__ == "__main__":
    main()

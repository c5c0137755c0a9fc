"""Measure the HTTP server: requests a second, callers that wait, and clients that attack by being slow.

    python -m benchmarks.server                     # all of it, some two minutes; needs wrk (Debian's package)
    python -m benchmarks.server rates --seconds 5

- `rates`: requests a second and latencies of acquire, try and signal, with one and two workers, beside the same server
  answering the same bytes to everything. wrk sends from 16 connections, in one thread of the same machine.
- `waiters`: what 1,000 and 10,000 callers that wait cost: memory of the process for each, the latency of a try on
  another budget meanwhile, and how much of the rate is used when the budget opens.
- `attack`: the latency of a try while clients send a byte of a header now and then, on many connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil

from nexus_redis.server import ServerOptions, run
from nexus_redis.server.sending import send_whole
from tests.harness.servers import launch

BODIES: Final = {
    "acquire": {"budget": "fast"},
    "try": {"budget": "fast"},
    "signal": {"producer_id": "filebeat-1", "consumer_id": "fast", "requested_rate": 10_000},
}
ANSWER: Final = b'{"granted":true,"budget":"fast","cost":1,"waited_ms":0.031,"degraded":false}'
HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"ratelimit-policy", b'"fast";q=1000000;w=1'),
    (b"ratelimit", b'"fast";r=1000000;t=1'),
]
CONNECTIONS: Final = 16
TRIES: Final = 500


class Constant:
    """The same server, which answers the same bytes to every request."""

    limits = ServerOptions().limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        await receive()
        await send_whole(send, 200, HEADERS, ANSWER)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("what", nargs="*", choices=["rates", "waiters", "attack", []], default=[])
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--constant", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.constant:
        serve_constant()
        return
    raise_limit()
    redis = launch("valkey")
    try:
        url = f"redis://127.0.0.1:{redis.port}"
        if not given.what or "rates" in given.what:
            rates(url, given.seconds)
        if not given.what or "waiters" in given.what:
            for count in (1_000, 10_000):
                asyncio.run(waiters(url, count))
        if not given.what or "attack" in given.what:
            asyncio.run(attack(url))
    finally:
        redis.stop()


def serve_constant() -> None:
    """Serve the constant answer; the address is the first line."""
    options = ServerOptions(port=0)
    with run.bound(options) as found:
        print(run.address_of(options, found), flush=True)
        run.serve(Constant(), options, found)


@contextmanager
def serving(*words: str) -> Iterator[tuple[str, int]]:
    """Start a server, and yield its address and the number of its process."""
    command = [sys.executable, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield next(word for word in line.split() if word.startswith("http")), process.pid
        finally:
            process.terminate()


def product(url: str, workers: int = 1) -> tuple[str, ...]:
    """Return the words that start the product."""
    return "-m", "nexus_redis", "serve", "--port", "0", "--url", url, "--workers", str(workers)


def set_rate(address: str, name: str, rate: float | str) -> None:
    """Set the rate of a budget, when the server answers."""
    for _ in range(100):
        try:
            if httpx.put(f"{address}/v1/budgets/{name}", json={"settings": {"rate": rate}}).status_code < 300:
                return
        except httpx.TransportError:
            """It has not begun to listen."""
        time.sleep(0.1)
    raise SystemExit(f"no answer from {address}")


def rates(url: str, seconds: int) -> None:
    """Print the rates and latencies of the operations, and of the floor."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    print(f"{'requests from 16 connections':34} {'per s':>8} {'p50 ms':>8} {'p99 ms':>8}  of the floor")
    with serving("-m", "benchmarks.server", "--constant") as (address, _):
        floor = load(f"{address}/v1/acquire", "acquire", seconds)
    row("the same bytes, 1 process", floor, floor[0])
    for workers in (1, 2):
        with serving(*product(url, workers)) as (address, _):
            set_rate(address, "fast", 1_000_000)
            for what in BODIES:
                load(f"{address}/v1/{what}", what, 1)
                row(f"{what}, {workers} process{'es' * (workers > 1)}",
                    load(f"{address}/v1/{what}", what, seconds), floor[0])  # fmt: skip


def load(address: str, what: str, seconds: int) -> tuple[float, float, float]:
    """Return requests a second, and the median and the 99th percentile of the latency in milliseconds."""
    body, kind = json.dumps(BODIES[what]), "wrk.headers['Content-Type'] = 'application/json'"
    script = f"wrk.method = 'POST'\nwrk.body = '{body}'\n{kind}"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", "--latency", "-s", file.name, address]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    found = [re.search(pattern, said) for pattern in (r"Requests/sec:\s+([\d.]+)", r" 50%\s+(\S+)", r" 99%\s+(\S+)")]
    per_s, median, high = (match[1] if match else "0" for match in found)
    return float(per_s), in_ms(median), in_ms(high)


def in_ms(text: str) -> float:
    """Return a time of wrk in milliseconds."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]  # wrk's own format
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def row(what: str, found: tuple[float, float, float], floor: float) -> None:
    """Print one line."""
    print(f"{what:34} {found[0]:8,.0f} {found[1]:8.2f} {found[2]:8.2f}  {found[0] / floor:.2f}", flush=True)


async def waiters(url: str, count: int) -> None:
    """Have callers wait for a budget that is slow, look at what they cost, and open it."""
    with serving(*product(url)) as (address, pid):
        name = f"slow{count}"
        set_rate(address, name, "1/h")
        set_rate(address, "fast", 1_000_000)
        await ask(address, "acquire", {"budget": name})
        process = psutil.Process(pid)
        before = process.memory_info().rss
        body = {"budget": name, "timeout_ms": 120_000}
        waiting = [asyncio.create_task(ask(address, "acquire", body)) for _ in range(count)]
        for _ in range(600):
            await asyncio.sleep(0.1)
            if len(process.net_connections()) > count:
                break
        await asyncio.sleep(2)
        each = (process.memory_info().rss - before) / count
        high = await tries(address)
        rate = count / 4
        set_rate(address, name, rate)
        began = time.monotonic()
        ends = sorted(end - began for end in await asyncio.gather(*waiting))
    print(
        f"{count:6,} wait: {each / 1024:.1f} kB each, p99 of a try on another budget {high:.1f} ms, then at "
        f"{rate:,.0f}/s the last is served after {ends[-1]:.2f} s ({count / rate:.0f} s is all of the rate)",
        flush=True,
    )


async def attack(url: str, count: int = 2_000) -> None:
    """Have clients send their header a byte at a time, and look at how others are served."""
    with serving(*product(url)) as (address, _):
        set_rate(address, "fast", 1_000_000)
        calm = await tries(address)
        slow = [asyncio.create_task(dawdle(address)) for _ in range(count)]
        await asyncio.sleep(3)
        high = await tries(address)
        ended = await asyncio.gather(*slow)
    held = max(ended)
    print(f"{count:6,} slow clients: p99 of a try {calm:.1f} ms before, {high:.1f} ms meanwhile; each is cut off after "
          f"{min(ended):.1f} to {held:.1f} s")  # fmt: skip


async def dawdle(address: str) -> float:
    """Send a header slowly until the server ends the connection, and return after how many seconds it did."""
    reader, writer = await asyncio.open_connection(*where(address))
    began = time.monotonic()
    writer.write(b"POST /v1/try HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    ended = asyncio.create_task(reader.read())
    while not ended.done():
        writer.write(b"a")
        await asyncio.wait([ended], timeout=1)
    writer.close()
    return time.monotonic() - began


async def tries(address: str) -> float:
    """Return the 99th percentile of the latency of tries one after the other, in milliseconds."""
    reader, writer = await asyncio.open_connection(*where(address))
    took = []
    for _ in range(TRIES):
        began = time.monotonic()
        await exchange(reader, writer, "try", {"budget": "fast"})
        took.append((time.monotonic() - began) * 1e3)
    writer.close()
    return sorted(took)[int(0.99 * TRIES)]


async def ask(address: str, what: str, fields: dict[str, Any]) -> float:
    """Send one request on a connection of its own, and return when it was answered."""
    reader, writer = await asyncio.open_connection(*where(address))
    await exchange(reader, writer, what, fields)
    writer.close()
    return time.monotonic()


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str, fields: dict[str, Any]
) -> None:
    """Send a request, and read its answer, which must be 200."""
    body = json.dumps(fields).encode()
    head = (
        f"POST /v1/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in answer[:15], answer
    length = re.search(rb"content-length: (\d+)", answer)
    await reader.readexactly(int(length[1]) if length else 0)


def where(address: str) -> tuple[str, int]:
    """Return the host and the port of an address."""
    parts = urlsplit(address)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def raise_limit() -> None:
    """Allow as many open files as the system does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    assert Path("benchmarks").exists(), "run it in the folder of the repository"
    main()

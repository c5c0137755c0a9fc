"""Measure what the proxy adds to a request, and whether 1 GB passes in flat memory: `python -m benchmarks.proxy`.

    direct      client --> upstream
    bare        client --> uvicorn and aiohttp, which pass on whatever comes --> upstream
    proxy       client --> the proxy, with a budget that never runs out --> upstream

Client, upstream, bare and proxy are processes of their own. The first table has the time of requests that one client
sends one after the other on a kept connection, the three ways in turn in each round. The second one has the bytes per
second of one large body, and the resident memory of the proxy before it and at its peak.

    python -m benchmarks.proxy                       # 5 rounds of 1,000 requests, and 1 GiB each way
    python -m benchmarks.proxy --rounds 1 --mib 64   # does it work?
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import multiprocessing
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final, Self

import aiohttp
import psutil
import uvicorn

from benchmarks.harness import Figure, Table
from nexus_redis._redis.embedded import acquire
from nexus_redis.asyncio import Nexus
from nexus_redis.server.connection import Connection
from nexus_redis.server.options import Limits
from nexus_redis.server.proxy import Proxy, ProxyOptions

HOST: Final = "127.0.0.1"
MIB: Final = 1 << 20
CHUNK: Final = bytes(65_536)
REQUESTS: Final = 1_000
UNLIMITED: Final = 1e9
LINES: Final = b'{"index": {}}\n{"text": "a line of a log, as long as many of them are"}\n'


# --- the servers, each in a process of its own


def run_upstream(ready: Pipe) -> None:
    """Answer GET /SIZE with so many bytes, and any body with its length."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                taken = await _body(reader, head)
                size = int(head.split()[1].lstrip(b"/") or 2) if head.startswith(b"get") else taken
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for at in range(0, size, len(CHUNK)):
                    writer.write(CHUNK[: size - at])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, HOST, 0, limit=1 << 18)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


async def _body(reader: asyncio.StreamReader, head: bytes) -> int:
    """Read a body, and return 2 for the answer's length."""
    if b"content-length: " in head:
        left = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while left:
            left -= len(await reader.read(min(left, 1 << 18)))
    return 2


class Bare:
    """The least that passes a request on with the same libraries."""

    limits = Limits()

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle the lifespan, or a request."""
        if scope["type"] == "lifespan":
            await receive()
            self._session = aiohttp.ClientSession(auto_decompress=False)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._session.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert self._session is not None
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"] if name != b"host"]
        async with self._session.request(scope["method"], self._upstream + scope["path"], headers=headers) as found:
            await send({"type": "http.response.start", "status": found.status, "headers": found.raw_headers})
            async for part in found.content.iter_any():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def run_bare(ready: Pipe, upstream: str) -> None:
    """Pass requests on, and nothing else."""
    asyncio.run(_serve(Bare(upstream), ready))


def run_proxy(ready: Pipe, upstream: str, redis: str, cost: str) -> None:
    """Run the proxy with a budget that never runs out."""

    async def main() -> None:
        async with Nexus.from_url(redis) as nexus:
            options = ProxyOptions(upstream=upstream, budget=f"bench-{cost}", rate=UNLIMITED, cost=cost)
            await _serve(Proxy(nexus, options), ready)

    asyncio.run(main())


async def _serve(app: Any, ready: Pipe) -> None:
    config = uvicorn.Config(
        app, host=HOST, port=0, http=Connection, ws="none", lifespan="on", log_level="error", access_log=False,
        server_header=False, date_header=False, proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    ready.send(server.servers[0].sockets[0].getsockname()[1])
    await running


@contextmanager
def started(run: Callable[..., None], *given: str) -> Iterator[tuple[int, int]]:
    """Start a server; yields its port and its process id."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run, args=(theirs, *given), daemon=True)
    process.start()
    try:
        assert process.pid is not None
        yield ours.recv(), process.pid
    finally:
        process.terminate()
        process.join()


# --- the client


def times_of(port: int, requests: int) -> list[float]:
    """Send requests one after the other; returns the milliseconds of each, sorted."""
    client = http.client.HTTPConnection(HOST, port)
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        client.request("GET", "/2")
        client.getresponse().read()
        took.append((time.perf_counter() - began) * 1e3)
    client.close()
    return sorted(took)


def overhead(ports: dict[str, int], rounds: int) -> Table:
    """Measure all ways in turn."""
    found: dict[str, list[list[float]]] = {name: [] for name in ports}
    for port in ports.values():
        times_of(port, 200)  # to warm up
    for _ in range(rounds):
        for name, port in ports.items():
            found[name].append(times_of(port, REQUESTS))
    table = Table("A request, and what is added to it", "In milliseconds. Added: to the direct request of that round.")
    for name, times in found.items():
        added = [
            statistics.median(mine) - statistics.median(direct)
            for mine, direct in zip(times, found["direct"], strict=True)
        ]
        table.rows.append({
            "": name,
            "p50 ms": Figure.of([each[len(each) // 2] for each in times]),
            "p99 ms": Figure.of([each[len(each) * 99 // 100] for each in times]),
            "added p50 ms": Figure.of(added) if name != "direct" else "",
        })  # fmt: skip
    return table


class Peak:
    """The resident memory of a process while a body passes, in MiB."""

    def __init__(self, pid: int) -> None:
        self._process, self._is_over = psutil.Process(pid), threading.Event()
        self.before = self.peak = self._now()
        self._thread = threading.Thread(target=self._look)

    def _now(self) -> float:
        return float(self._process.memory_info().rss / MIB)

    def _look(self) -> None:
        while not self._is_over.wait(0.02):
            self.peak = max(self.peak, self._now())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()


def stream(port: int, size: int, way: str, part: bytes) -> None:
    """Send a body of about `size` bytes up, or ask for one."""
    with socket.create_connection((HOST, port)) as client:
        if way == "down":
            client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % size)
            got = 0
            while data := client.recv(1 << 18):
                got += len(data)
            assert got > size, f"{got} bytes of {size} came"
            return
        count = size // len(part)
        client.sendall(
            b"POST /_bulk HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (count * len(part))
        )
        for _ in range(count):
            client.sendall(part)
        answer = b"".join(iter(lambda: client.recv(1 << 18), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]


def streams(upstream: str, redis: str, size: int) -> Table:
    """Measure one large body each way, and up with each cost."""
    table = Table(f"One body of {size // MIB:,} MiB", "Memory is the proxy's resident memory, in MiB.")
    for cost, way in (("requests", "down"), ("requests", "up"), ("bytes", "up"), ("lines", "up")):
        part = LINES * (len(CHUNK) // len(LINES)) if cost == "lines" else CHUNK
        with started(run_proxy, upstream, redis, cost) as (port, pid):
            stream(port, 8 * MIB, way, part)  # to warm up
            with Peak(pid) as memory:
                began = time.perf_counter()
                stream(port, size, way, part)
                took = time.perf_counter() - began
        table.rows.append({
            "": f"{way}, cost={cost}", "MB/s": size / 1e6 / took, "memory before": memory.before, "peak": memory.peak,
            "more": memory.peak - memory.before,
        })  # fmt: skip
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each way is measured (default: 5)")
    parser.add_argument("--mib", type=int, default=1024, help="the size of the large body (default: 1024)")
    given = parser.parse_args()
    redis = acquire("embedded://")
    try:
        address = redis.start().url
        with started(run_upstream) as (port, _):
            upstream = f"http://{HOST}:{port}"
            with (
                started(run_bare, upstream) as (bare, _),
                started(run_proxy, upstream, address, "requests") as (proxy, _),
            ):
                overhead({"direct": port, "bare": bare, "proxy": proxy}, given.rounds).show()
            streams(upstream, address, given.mib * MIB).show()
    finally:
        redis.stop()


if __name__ == "__main__":
    main()

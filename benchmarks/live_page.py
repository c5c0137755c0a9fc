"""Measure the live page in a real browser: `python -m benchmarks.live_page`.

2,000 producers of one budget change their demand and their share each second. A page shows them, and this says how long
its frames and its tasks take, how many bytes a second the stream has, and how long it takes from a pause by the API
until the page shows it. The same is measured with 1 producer, and for the list of 1,000 budgets. Server, Redis, browser
and load share the machine. An idle page draws 60 frames a second, one each 16.7 ms.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from playwright.sync_api import Page, sync_playwright

from nexus_redis import Nexus
from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from tests.harness.servers import launch
from tests.server.browsing import ARGUMENTS, CHROMIUM

PAUSES: Final = 10
BATCH: Final = 200  # claims that are sent at once
RECORD: Final = """() => {
    const seen = window.seen = {frames: [], tasks: []};
    let last = performance.now();
    const frame = (now) => { seen.frames.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    new PerformanceObserver((list) => list.getEntries().forEach((task) => seen.tasks.push(task.duration)))
        .observe({entryTypes: ["longtask"]});
}"""
CHANGE: Final = """async ([path, body, word]) => {
    const state = document.querySelector(".state");
    const began = performance.now();
    fetch(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    while (state.textContent !== word) await new Promise(requestAnimationFrame);
    return performance.now() - began;
}"""


def crowd(client: redis.Redis, budget: str, count: int, is_over: threading.Event) -> None:
    """Have `count` producers claim once a second, each time with another demand."""
    keys, names = BudgetKeys("nexus", budget), [f"filebeat-{n}" for n in range(count)]
    client.script_load(calls.claim(keys, "x", calls.Claim()).script.text)
    for seq in itertools.count(1):
        began = time.monotonic()
        for at in range(0, count, BATCH):
            pipeline = client.pipeline(transaction=False)
            for n, name in enumerate(names[at : at + BATCH], at):
                demand = int((20 + (7 * n + 13 * seq) % 50) * 1e6)
                ask = calls.Claim(tokens=5_000_000, requested_rate=demand, incarnation="bench", seq=seq)
                call = calls.claim(keys, name, ask)
                pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
                # In a crowd, the scripts write a producer's hash less than once a second. This is the worst case.
                pipeline.hset(keys.producer(name), mapping={"demand_per_s": demand // 10**6, "share_per_s": seq % 40})
            pipeline.execute()
        if is_over.wait(max(0.0, 1 - (time.monotonic() - began))):
            return


@contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` in a thread beside the block."""
    is_over = threading.Event()
    thread = threading.Thread(target=work, args=(is_over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(60)


@contextmanager
def serving(url: str) -> Iterator[str]:
    """Run `nexus-redis serve` in a process of its own, and yield its address."""
    command = [sys.executable, "-m", "nexus_redis", "serve", "--port", "0", "--url", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield next(word for word in line.split() if word.startswith("http")).rstrip("./")
    finally:
        process.terminate()
        process.wait(60)


def bytes_per_s(address: str, last: str, seconds: float) -> tuple[float, float]:
    """Return the size of the first events of a stream, up to the first one called `last`, and the bytes/s after it."""
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310  # an address of our own
        first, line = 0, b""
        while line != f"event: {last}\n".encode():
            line = answer.readline()
            first += len(line)
        first += len(answer.readline()) + len(answer.readline())  # its id and its data
        began, size = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            size += len(answer.readline())
        return first, size / (time.monotonic() - began)


def frames(page: Page, seconds: float) -> dict[str, float]:
    """Watch the page, and return what its frames and long tasks took, in milliseconds."""
    page.evaluate(RECORD)
    page.wait_for_timeout(1000 * seconds)
    seen: dict[str, list[float]] = page.evaluate("window.seen")
    taken = sorted(seen["frames"][1:])
    return {
        "frames_per_s": len(taken) / seconds, "frame_p50_ms": statistics.median(taken),
        "frame_p99_ms": taken[int(0.99 * len(taken))], "frame_most_ms": taken[-1],
        "long_tasks": len(seen["tasks"]), "long_task_most_ms": max(seen["tasks"], default=0.0),
    }  # fmt: skip


def pauses(page: Page, budget: str) -> dict[str, float]:
    """Return the milliseconds from a pause, sent by the page itself, until the page shows it."""
    taken = []
    for n in range(PAUSES):
        for act, word in (("pause", "Paused"), ("resume", page.locator(".state").inner_text())):
            body = {"reason": f"benchmark {n}"} | ({"seconds": None} if act == "pause" else {})
            taken.append(page.evaluate(CHANGE, [f"/v1/budgets/{budget}/{act}", body, word]))
            page.wait_for_timeout(300)
    return {"shown_p50_ms": statistics.median(taken), "shown_most_ms": max(taken)}


def say(subject: str, figures: dict[str, Any]) -> None:
    """Print a line."""
    print(f"{subject:22}", "  ".join(f"{name} {value:,.1f}" for name, value in figures.items()), flush=True)


def main(seconds: float) -> None:
    """Measure and print."""
    redis_server = launch("valkey")
    url = f"redis://127.0.0.1:{redis_server.port}"
    client = redis.Redis(port=redis_server.port)
    try:
        with Nexus.from_url(url) as nexus, serving(url) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            for count in (1, 2000):
                budget = f"crowd-{count}"
                nexus.budget(budget).configure(rate=50_000)
                with beside(lambda over, b=budget, n=count: crowd(client, b, n, over)):  # type: ignore[misc]
                    page = browser.new_page(viewport={"width": 1280, "height": 900})
                    page.goto(f"{address}/#/budget/{budget}")
                    page.get_by_role("rowheader", name="filebeat-", exact=False).first.wait_for()
                    page.wait_for_timeout(3000)
                    figures: dict[str, Any] = frames(page, seconds)
                    whole, stream = bytes_per_s(f"{address}/v1/events?budget={budget}", "budget", seconds)
                    figures |= {"whole_kB": whole / 1000, "stream_kB_per_s": stream / 1000, **pauses(page, budget)}
                    say(f"{count} producers", figures)
                    page.close()
            for n in range(1000):
                nexus.budget(f"api-{n}").configure(rate=100 + n)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address)
            page.get_by_text("budgets, none in trouble").wait_for()
            figures = frames(page, seconds)
            whole, stream = bytes_per_s(f"{address}/v1/events", "budgets", seconds)
            say("1,000 budgets", figures | {"whole_kB": whole / 1000, "stream_kB_per_s": stream / 1000})
            browser.close()
    finally:
        redis_server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each page is watched")
    main(parser.parse_args().seconds)

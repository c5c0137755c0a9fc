"""Take the screenshots of docs/page.md from the running product: `python -m tools.screenshots [SECONDS]`.

A server on an embedded Redis serves a small fleet, and Chromium looks at its page. The figures are those of the fleet
at that moment, so two runs differ in digits. What is shown, and how large, is the same.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn
from playwright.async_api import Browser, Page, async_playwright, expect

from nexus_redis._values import identity
from nexus_redis.asyncio import Budget, Nexus
from nexus_redis.server import Application, ServerOptions, run
from nexus_redis.server.access import OPERATOR, new_token

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
CHROMIUM: Final = "/usr/bin/chromium"
ARGUMENTS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
)  # fmt: skip
WIDE: Final = {"width": 1200, "height": 700}
PHONE: Final = {"width": 360, "height": 640}
SECONDS: Final = 100.0  # that the fleet works before the first picture, so that the charts have something to show

# What the consumers report, one after the other.
CALM: Final = (35, 48, 55, 62, 71, 78, 84, 79, 66, 50)
HARD: Final = (40, 52, 66, 83, 91, 96, 93, 85, 70, 55)
FULL: Final = (100, 100, 98)

# What an operator does while the fleet works.
DONE: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("PUT", "/elasticsearch", {"settings": {"rate": "2000/s"}, "reason": "two nodes are rebuilt until four"}),
    ("PUT", "/model-tokens", {"settings": {"burst": 5}, "reason": "batches of the night"}),
    ("POST", "/stripe/pause", {"seconds": None, "reason": "429 with Retry-After: incident 4211"}),
)


async def produce(budget: Budget, name: str, weight: float) -> None:
    """Take tokens as fast as they come."""
    async with budget.producer(name, weight=weight) as producer:
        while True:
            await producer.acquire(2)


async def consume(budget: Budget, name: str, capacity: float, loads: Sequence[float]) -> None:
    """Report one load after the other, for three seconds each, again and again."""
    async with budget.consumer(name, capacity=capacity) as consumer:
        for load in itertools.cycle(loads):
            await consumer.report(load=load, queue_depth=load * 2, queue_limit=200)
            await asyncio.sleep(3)


@asynccontextmanager
async def fleet(url: str) -> AsyncIterator[None]:
    """Run the processes of a fleet as tasks."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        nexus = await stack.enter_async_context(Nexus.from_url(url))
        search, stripe = nexus.budget("elasticsearch", rate="3000/s"), nexus.budget("stripe", rate="100/s")
        mail, model = nexus.budget("mail", rate="10/s"), nexus.budget("model-tokens", rate="6000/min")
        work = [produce(search, f"filebeat-{number}", weight=1 + number % 3) for number in range(1, 13)]
        work += [consume(search, f"es-{n}", 800, loads) for n, loads in enumerate((CALM, HARD, CALM[3:]), 1)]
        work += [produce(stripe, f"checkout-{number}", weight=1) for number in range(1, 4)]
        work += [produce(model, "summaries", weight=1), produce(mail, "newsletter", weight=1)]
        work += [consume(mail, "smtp-1", 50, FULL)]
        running = [tasks.create_task(each) for each in work]
        await nexus.budget("backfill").configure(rate="500/s")
        yield
        for task in running:
            task.cancel()


@asynccontextmanager
async def served(url: str, tokens: Path) -> AsyncIterator[str]:
    """Serve the product on a free port, and yield the address."""
    options = ServerOptions(url=url, port=0, tokens=tokens)
    with run.bound(options) as bound:
        server = uvicorn.Server(run.config(Application(options), options))
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        yield run.address_of(options, bound)
        server.should_exit = True
        await serving


class Camera:
    """A browser that looks at the server with an operator's token."""

    def __init__(self, browser: Browser, address: str, token: str) -> None:
        self._browser, self._address, self._token = browser, address, token

    async def open(self, size: dict[str, int], scheme: str) -> Page:
        """Open the page in a window of its own."""
        options: dict[str, Any] = {"viewport": size, "color_scheme": scheme, "locale": "en-GB", "timezone_id": "UTC"}
        page = await self._browser.new_page(**options)
        await page.add_init_script(f"sessionStorage.setItem('nexus-redis token', '{self._token}')")
        await page.goto(self._address)
        await expect(page.get_by_role("link", name="elasticsearch")).to_be_visible()
        await expect(page.get_by_role("button", name="Signed in as anna")).to_be_visible()
        return page

    async def take(self, page: Page, name: str) -> None:
        """Write one picture."""
        path = IMAGES / f"page-{name}.png"
        await page.mouse.move(0, 0)
        await page.screenshot(path=path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


async def main(seconds: float, tokens: Path, token: str) -> None:
    """Take all pictures, with an operator's token of a file."""
    async with AsyncExitStack() as stack:
        nexus = await stack.enter_async_context(Nexus.from_url("embedded://"))
        address = await stack.enter_async_context(served(nexus.url, tokens))
        await stack.enter_async_context(fleet(nexus.url))
        await asyncio.sleep(seconds / 2)
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}) as client:
            for method, path, fields in DONE:
                (await client.request(method, f"{address}/v1/budgets{path}", json=fields)).raise_for_status()
        await asyncio.sleep(seconds / 2)
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        camera = Camera(browser, address, token)
        for scheme in ("light", "dark"):
            page = await camera.open(WIDE, scheme)
            await camera.take(page, f"list-{scheme}")
            await page.get_by_role("link", name="elasticsearch").click()
            await expect(page.get_by_role("row", name="filebeat-12")).to_be_visible()
            await expect(page.locator("canvas")).to_have_count(2)
            await camera.take(page, f"budget-{scheme}")
        page = await camera.open(PHONE, "light")
        await camera.take(page, "phone")
        await page.get_by_role("link", name="model-tokens").click()
        await page.get_by_role("button", name="Pause…").click()
        await page.get_by_label("Reason").fill("The provider asks us to wait")
        await camera.take(page, "phone-pause")
        await browser.close()


if __name__ == "__main__":
    # The history names the user and the host of a change: those of this machine say nothing to a reader.
    os.environ["SUDO_USER"] = "deploy"
    identity._hostname = lambda: "app1"
    its_token, its_line = new_token("anna", [OPERATOR], ["*"])
    with tempfile.TemporaryDirectory() as folder:
        its_file = Path(folder, "tokens")
        its_file.write_text(its_line)
        asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS, its_file, its_token))

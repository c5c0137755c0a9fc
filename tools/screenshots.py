"""Take the screenshots of docs/page.md from the running product: `python -m tools.screenshots`.

A server on an embedded Redis serves a small fleet, and Chromium looks at its page. The figures are those of the fleet
at that moment, so two runs differ in digits. What is shown, and how large, is the same.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import uvicorn
from playwright.async_api import Browser, Page, async_playwright, expect

from nexus_redis.asyncio import Budget, Nexus
from nexus_redis.server import Application, ServerOptions, run

IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
CHROMIUM: Final = "/usr/bin/chromium"
ARGUMENTS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
)  # fmt: skip
WIDE: Final = {"width": 1280, "height": 860}
PHONE: Final = {"width": 360, "height": 720}
SECONDS: Final = 40.0  # that the fleet works before the first picture, so that the charts have something to show


async def produce(budget: Budget, name: str, weight: float) -> None:
    """Take tokens as fast as they come."""
    async with budget.producer(name, weight=weight) as producer:
        while True:
            await producer.acquire(5)


async def consume(budget: Budget, name: str, capacity: float, loads: Sequence[float]) -> None:
    """Report one load after the other, for three seconds each, again and again."""
    async with budget.consumer(name, capacity=capacity) as consumer:
        while True:
            for load in loads:
                await consumer.report(load=load, queue_depth=load * 2, queue_limit=200)
                await asyncio.sleep(3)


@asynccontextmanager
async def fleet(url: str) -> AsyncIterator[None]:
    """Run the processes of a fleet as tasks: five budgets, of which one is paused and one has lost its consumers."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        nexus = await stack.enter_async_context(Nexus.from_url(url))
        search, stripe = nexus.budget("elasticsearch", rate="2000/s"), nexus.budget("stripe", rate="100/s")
        mail, model = nexus.budget("mail", rate="10/s"), nexus.budget("model-tokens", rate="6000/min", burst=5)
        work = [produce(search, f"filebeat-{number}", weight=1 + number % 3) for number in range(1, 13)]
        work += [consume(search, f"es-{n}", 800, loads) for n, loads in enumerate(LOADS, 1)]
        work += [produce(stripe, f"checkout-{number}", weight=1) for number in range(1, 4)]
        work += [produce(model, "summaries", weight=1), produce(mail, "newsletter", weight=1)]
        work += [consume(mail, "smtp-1", 50, [100, 100, 97])]
        running = [tasks.create_task(each) for each in work]
        await nexus.budget("backfill", rate="500/s").configure(rate="500/s")
        await stripe.pause(reason="429 with Retry-After: provider incident 4211")
        yield
        for task in running:
            task.cancel()


LOADS: Final = ([35, 48, 55, 62, 71, 78, 84, 79, 66], [40, 52, 58, 66, 75, 83, 88, 81, 70], [30, 41, 47, 55, 60, 68])


@asynccontextmanager
async def served(url: str) -> AsyncIterator[str]:
    """Serve the product on a free port, and yield the address."""
    options = ServerOptions(url=url, port=0)
    with run.bound(options) as bound:
        server = uvicorn.Server(run.config(Application(options), options))
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        yield run.address_of(options, bound)
        server.should_exit = True
        await serving


async def opened(browser: Browser, address: str, size: dict[str, int], scheme: str) -> Page:
    """Open the page in a window of its own."""
    page = await browser.new_page(viewport=size, color_scheme=scheme, timezone_id="UTC", locale="en-GB")  # type: ignore[arg-type]  # playwright's TypedDict and Literal
    await page.goto(address)
    await expect(page.get_by_role("link", name="elasticsearch")).to_be_visible()
    return page


async def take(page: Page, name: str) -> None:
    """Write one picture."""
    path = IMAGES / f"page-{name}.png"
    await page.mouse.move(0, 0)
    await page.screenshot(path=path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


async def main(seconds: float) -> None:
    """Take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        nexus = await stack.enter_async_context(Nexus.from_url("embedded://"))
        address = await stack.enter_async_context(served(nexus.url))
        await stack.enter_async_context(fleet(nexus.url))
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        await asyncio.sleep(seconds)
        for scheme in ("light", "dark"):
            page = await opened(browser, address, WIDE, scheme)
            await take(page, f"list-{scheme}")
            await page.get_by_role("link", name="elasticsearch").click()
            await expect(page.get_by_role("row", name="filebeat-12")).to_be_visible()
            await expect(page.locator("canvas").first).to_be_visible()
            await take(page, f"budget-{scheme}")
        await page.goto(f"{address}/#/budget/model-tokens")
        await page.get_by_role("button", name="Pause…").click()
        await page.get_by_label("Reason").fill("The provider asks us to wait")
        await take(page, "pause")
        phone = await opened(browser, address, PHONE, "light")
        await take(phone, "phone")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))

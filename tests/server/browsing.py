"""A real browser for the tests of the page, and a crowd for it to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from playwright.sync_api import Browser, Page, expect, sync_playwright

from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from tests.harness.support import PATIENCE

CHROMIUM: Final = Path("/usr/bin/chromium")
ARGUMENTS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
)  # fmt: skip
NO_BROWSER: Final = pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium: apt-get install chromium")
GROUP: Final = pytest.mark.xdist_group("page")  # one worker after the other has a browser, so the machine has one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium, once for a module: other tests of this worker want an event loop of their own."""
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Open an empty tab. An error of a script, and a message of the content security policy, fails the test."""
    yield from opened(browser)


def opened(browser: Browser, **options: Any) -> Iterator[Page]:
    """Open a tab with these options of `new_context`."""
    context = browser.new_context(locale="en-GB", **options)
    context.set_default_timeout(PATIENCE * 1000)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if is_fault(said.text) else None)
    yield page
    context.close()
    assert errors == []


def is_fault(text: str) -> bool:
    """Tell what the page should never say. That a request failed is said by Chromium itself."""
    return "Content Security Policy" in text or "Content-Security-Policy" in text


def row(page: Page, name: str) -> Any:
    """The row of a budget or a member, whose header cell has exactly this name."""
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))


def shown(page: Page, term: str) -> Any:
    """The figure of a budget that has this heading."""
    return page.locator("dl > div").filter(has=page.get_by_role("term").get_by_text(term, exact=True)).locator("dd")


def claim(client: redis.Redis, budget: str, producers: Iterable[str], rate: float = 10) -> None:
    """Have producers claim once, as processes elsewhere would."""
    keys = BudgetKeys("nexus", budget)
    pipeline = client.pipeline(transaction=False)
    ask = calls.Claim(requested_rate=int(rate * 1e6), tokens=1_000_000, incarnation="there")
    for name in producers:
        call = calls.claim(keys, name, ask)
        pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
    client.script_load(call.script.text)
    pipeline.execute()

"""The page for everybody: what axe finds, in both themes, on a phone and on a wide screen."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from nexus_redis import Nexus
from tests.harness.servers import Server
from tests.server.browsing import GROUP, NO_BROWSER, claim, opened, row, shown
from tests.server.served import Served

pytestmark = [GROUP, NO_BROWSER]
RULES = {"resultTypes": ["violations"]}


def faults(page: Page) -> list[Any]:
    """What axe calls serious or critical, each with the elements."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [
        (each["id"], [node["html"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def is_wider_than_the_window(page: Page) -> bool:
    """Whether the page itself can be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    browser: Browser, served: Served, one_server: Server, scheme: str, width: int
) -> None:
    """Both views and a dialog have no serious fault of access, and no page is wider than its window."""
    with Nexus.from_url(one_server.url) as nexus:
        search, name = nexus.budget("elasticsearch", rate=2000), "a-budget-with-quite-a-long-name-that-does-not-fit"
        served.put(name, rate=10)
        served.post(f"/v1/budgets/{name}/pause", {"seconds": None, "reason": "a reason of some length"})
        claim(one_server.client(), "elasticsearch", [f"filebeat-{n}" for n in range(40)], rate=100)
        with search.consumer("es-1", capacity=400) as consumer:
            consumer.report(load=95)
            for page in opened(browser, viewport={"width": width, "height": 800}, color_scheme=scheme):
                page.goto(served.address)
                expect(row(page, "elasticsearch")).to_contain_text("Nearly full")
                assert faults(page) == []
                assert not is_wider_than_the_window(page)
                page.get_by_role("link", name="elasticsearch").click()
                expect(shown(page, "Producers")).to_have_text("40")
                expect(page.locator("canvas")).to_have_count(2)
                assert faults(page) == []
                assert not is_wider_than_the_window(page)
                page.get_by_role("button", name="Change rate", exact=True).click()
                expect(page.get_by_role("dialog")).to_be_visible()
                assert faults(page) == []

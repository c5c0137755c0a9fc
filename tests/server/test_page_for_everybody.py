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
    """What axe finds, each with the elements."""
    found = Axe().run(page, options=RULES).response["violations"]
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def is_wider_than_the_window(page: Page) -> bool:
    """Whether the page itself can be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, served: Served, one_server: Server, scheme: str, width: int) -> None:
    """Both views and a dialog have no fault of access, and no page is wider than its window."""
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


@pytest.mark.parametrize("width", [320, 701, 900, 1024, 1280])
def test_nothing_is_out_of_sight(browser: Browser, served: Served, one_server: Server, width: int) -> None:
    """At each width the list fits into the window with level, load and reason, and all of a producer can be reached."""
    served.put("tenant", rate=10)
    long = served.client.put(
        "/v1/budgets/tenant", params={"key": "k" * 99}, json={"settings": {"rate": 1}, "reason": "x"}
    )
    name = long.json()["name"]
    assert served.client.post(
        "/v1/budgets/tenant/pause", params={"key": "k" * 99}, json={"seconds": None, "reason": "provider window " * 12}
    ).is_success
    claim(one_server.client(), "tenant", ["filebeat-1"])
    for page in opened(browser, viewport={"width": width, "height": 800}):
        page.goto(served.address)
        expect(row(page, name)).to_contain_text("Paused")
        assert not is_wider_than_the_window(page)
        for column in ("level", "load", "reason"):
            expect(row(page, name).locator(f".cell-{column}")).to_be_in_viewport()
        page.get_by_role("link", name="tenant", exact=True).click()
        for column in ("demand", "held", "waiting"):
            cell = row(page, "filebeat-1").locator(f".cell-{column}")
            cell.scroll_into_view_if_needed()
            expect(cell).to_be_in_viewport()
        tops = page.locator(".plot").evaluate_all("(plots) => plots.map((each) => each.getBoundingClientRect().top)")
        assert width < 1000 or tops[0] == tops[1]
        assert not is_wider_than_the_window(page)
